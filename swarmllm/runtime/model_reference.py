"""Model references: what `--model` takes, parsed.

| text | means |
|---|---|
| `auto` | `smollm2` if it is on this machine or may be fetched, else `llama3-demo:prose` |
| `FILE.gguf` | a file of the owner's; of a split model, its first part |
| `hf:OWNER/REPO/FILE.gguf`, `hf:OWNER/REPO:QUANT` | a file of the Hugging Face hub |
| `smollm2`, `smollm2:NAME` | the model that swarmllm fetches by itself, or a specialist of it |
| `llama3-demo:NAME` (`demo:NAME`) | a bundled tiny expert over LLaMA-3's vocabulary |
| `none` | no model: a client |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

AUTO: Final = "auto"
NONE: Final = "none"
SMOLLM2: Final = "smollm2"
DEMO: Final = "llama3-demo"
DEMO_USUAL: Final = "prose"  # Its texts most resemble what people try first.
HUB: Final = "hf:"
EXPECTED: Final = (
    "auto, smollm2, smollm2:NAME, hf:OWNER/REPO/FILE.gguf, hf:OWNER/REPO:QUANT, llama3-demo:NAME, "
    "none or the path of a GGUF file"
)
SHARED: Final = (
    "a model that every machine finds by this name: smollm2, smollm2:NAME,"
    " hf:OWNER/REPO/FILE.gguf, hf:OWNER/REPO:QUANT or llama3-demo:NAME"
)
PATH_BYTES_MAX: Final = 4096  # Linux' PATH_MAX.

_SHORT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
# The hub's own rule for names of owners and repositories.
_REPO: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_HUB: Final = re.compile(
    rf"(?P<repo>{_REPO}/{_REPO})(?:/(?P<file>[^\0\\:]+\.gguf)|:(?P<quant>[A-Za-z0-9._-]{{1,32}}))"
)


class NotAReference(ValueError):
    """`expected` ends the sentence "... is not ..."."""

    def __init__(self, expected: str) -> None:
        super().__init__(expected)
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Auto:
    def __str__(self) -> str:
        return AUTO


@dataclass(frozen=True, slots=True)
class NoModel:
    def __str__(self) -> str:
        return NONE


@dataclass(frozen=True, slots=True)
class OwnFile:
    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class HubModel:
    """Either `file` (a path within the repository) or `quant` (such as Q4_K_M) is given."""

    repo: str
    file: str = ""
    quant: str = ""

    def __str__(self) -> str:
        return f"{HUB}{self.repo}/{self.file}" if self.file else f"{HUB}{self.repo}:{self.quant}"


@dataclass(frozen=True, slots=True)
class SmolLM2:
    """The base model, or `specialist` of it."""

    specialist: str = ""

    def __str__(self) -> str:
        return f"{SMOLLM2}:{self.specialist}" if self.specialist else SMOLLM2


@dataclass(frozen=True, slots=True)
class DemoExpert:
    name: str

    def __str__(self) -> str:
        return f"{DEMO}:{self.name}"


Reference = Auto | NoModel | OwnFile | HubModel | SmolLM2 | DemoExpert


def parse_reference(text: str) -> Reference:
    """The reference that `text` spells; `str` of it spells it again, absolute. NotAReference for
    what can be none.

    Words and prefixes come first: a file called `smollm2` is written `./smollm2`. Whether a file,
    an expert or a repository of that name exists is not looked at.
    """
    if not text or "\0" in text:
        raise NotAReference(EXPECTED)
    kind, colon, rest = text.partition(":")
    match kind, colon, rest:
        case "auto", "", "":
            return Auto()
        case "none", "", "":
            return NoModel()
        case "smollm2", "", "":
            return SmolLM2()
        case "smollm2", ":", name:
            return SmolLM2(_short_name(kind, name))
        case (("demo" | "llama3-demo"), "", ""):
            return DemoExpert(DEMO_USUAL)
        case (("demo" | "llama3-demo"), ":", name):
            return DemoExpert(_short_name(kind, name))
        case "hf", ":", name:
            return _hub_model(name)
        case _:
            return OwnFile(_own_path(text))


def parse_shared(text: str) -> HubModel | SmolLM2 | DemoExpert:
    """The reference of a model that every machine finds by this name. NotAReference for any other,
    the paths of files included."""
    reference = parse_reference(text)
    if not isinstance(reference, HubModel | SmolLM2 | DemoExpert):
        raise NotAReference(SHARED)
    return reference


def _short_name(kind: str, name: str) -> str:
    if _SHORT_NAME.fullmatch(name) is None:
        raise NotAReference(f"{kind}:NAME with NAME in small letters, digits, - and _")
    return name


def _hub_model(text: str) -> HubModel:
    found = _HUB.fullmatch(text)
    steps = (found["file"] or "").split("/") if found else []
    if found is None or any(step in {".", ".."} for step in steps) or "" in steps[:-1]:
        raise NotAReference("hf:OWNER/REPO/FILE.gguf or hf:OWNER/REPO:QUANT (QUANT such as Q4_K_M)")
    if ".." in found["repo"] or "--" in found["repo"]:
        raise NotAReference("hf:OWNER/REPO with names as the hub has them, without .. and --")
    return HubModel(found["repo"], found["file"] or "", found["quant"] or "")


def _own_path(text: str) -> Path:
    if len(text.encode(errors="surrogateescape")) > PATH_BYTES_MAX:
        raise NotAReference(f"the path of a GGUF file: at most {PATH_BYTES_MAX} bytes are one")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise NotAReference("a path whose home folder can be found") from error
    try:
        return path.absolute()
    except FileNotFoundError as error:
        raise NotAReference("a path from / on, and the current folder was removed") from error
