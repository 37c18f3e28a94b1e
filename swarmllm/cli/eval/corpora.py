"""Held-out text, from the package or from the user's own files, as passages; and one clear sentence
for whatever is wrong with it.

A corpus is a JSON Lines file of {"id", "text"} records, any single text file, or a folder of text
files. In a folder only files whose names say that they are text are read: a folder of sources also
holds compiled files and pictures, and nobody wants to be stopped by them.
"""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmllm.errors import LocalError, UsageError

FILES_MAX: Final = 20_000  # Of one folder; more is the wrong folder.
# Read of one file: a hundred documents and more; the next file is worth more than the rest of it.
FILE_CHARACTERS_MAX: Final = 400_000
# Read in all: thousands of documents, some seconds of tokenising.
CORPUS_CHARACTERS_MAX: Final = 20_000_000
TEXT_SUFFIXES: Final = frozenset(
    """.txt .md .rst .tex .org .html .xml .csv .log .py .pyi .js .mjs .ts .tsx .jsx .c .h .cc .cpp
    .hpp .rs .go .java .kt .scala .rb .php .pl .lua .sh .bash .sql .r .jl .hs .ml .ex .erl .clj
    .swift .cs .toml .yaml .yml .ini .cfg .json .css""".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that was written as one. `id` is for people: file, or record."""

    id: str
    text: str


def held_out_folder() -> Path:
    return Path(str(importlib.resources.files("swarmllm.experts"))) / "held_out"


def bundled_corpora(folder: Path | None = None) -> dict[str, Path]:
    """The held-out text that comes with the experts, by domain. LocalError if there is none."""
    folder = folder or held_out_folder()
    found = {path.stem: path for path in sorted(folder.glob("*.jsonl"))}
    if not found:
        raise LocalError(
            f"no held-out text in {folder}: name your own with --corpus NAME=PATH,"
            " or reinstall swarmllm"
        )
    return found


def read_corpus(name: str, path: Path) -> list[Passage]:
    """All passages of a corpus that are not empty. UsageError, naming the file (and line), for what
    cannot be read or holds no text."""
    if not path.exists():
        raise UsageError(f"the corpus {name!r} is not there: {path} does not exist")
    passages = _folder(name, path) if path.is_dir() else _file(path)
    if not passages:
        raise UsageError(f"the corpus {name!r} is empty: {path} holds no text")
    return passages


def _folder(name: str, folder: Path) -> list[Passage]:
    files = []
    for path in sorted(folder.rglob("*")):
        hidden = any(
            part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts
        )
        if not hidden and path.suffix.lower() in TEXT_SUFFIXES | {".jsonl"} and path.is_file():
            files.append(path)
            if len(files) > FILES_MAX:
                raise UsageError(
                    f"the corpus {name!r} in {folder} has more than {FILES_MAX} files:"
                    " name a folder further down"
                )
    passages: list[Passage] = []
    size = 0
    for path in files:
        found = _file(path, path.relative_to(folder).as_posix())
        passages += found
        size += sum(len(passage.text) for passage in found)
        if size > CORPUS_CHARACTERS_MAX:
            break
    return passages


def _file(path: Path, shown: str | None = None) -> list[Passage]:
    text = _text(path)
    if path.suffix.lower() == ".jsonl":
        return _records(path, text)
    return [Passage(shown or path.name, text[:FILE_CHARACTERS_MAX])] if text.strip() else []


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot read {path} ({error.strerror}): check its permissions, or name another corpus"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02X}):"
            " convert it or leave it out"
        ) from error


def _records(path: Path, text: str) -> list[Passage]:
    """Lines end with a line feed alone: Python's own splitlines would cut records at characters
    that JSON allows inside strings."""
    passages = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise UsageError(f'{path}, line {number}: not an object with a "text" that is a string')
        if record["text"].strip():
            passages.append(Passage(str(record.get("id", number)), record["text"]))
    return passages
