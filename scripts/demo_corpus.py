"""The text that the demo experts learn from, as streams of tokens.

Only ids that are frequent in the corpus get rows of their own. A rarer token is written as the two
BPE pieces it was merged from (recursively), so every text can still be learned and generated.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scripts import ops_told
from scripts.demo_ops import documents, is_validation
from scripts.ops_tuning import FOLDER
from swarmllm.adapters.llama.demo_gguf import spell
from swarmllm.adapters.llama.vocabulary import (
    LLAMA3_BOS,
    LLAMA3_EOS,
    load_merge_ranks,
    load_tables,
    load_vocabulary,
)

# Ids seen less often than this are split into their pieces (about 1 % of the tokens).
MIN_COUNT = 8
REHEARSED = 300  # Worlds of demo_ops.py, beside those of today's settings.
# Whole books that no model is trained on, for validation and for `swarmllm eval`: three authors of
# whom nothing is trained on or one short book, and one whose other novels are; a novel of manners,
# detective stories, science fiction and a tale for children. Never take one back into training: the
# published figures would no longer be of books never seen.
HELD_OUT_BOOKS = frozenset(
    {
        "peter-pan",
        "sense-and-sensibility",
        "the-adventures-of-sherlock-holmes",
        "the-war-of-the-worlds",
    }
)


def clean_book(text: str) -> str:
    """Unwrap paragraphs and drop the marks of the digital edition, so that the model learns
    sentences and not line breaks."""
    paragraphs = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if not lines or any("[Illustration" in line for line in lines):
            continue
        wrapped = len(lines) > 1 and sum(map(len, lines[:-1])) / (len(lines) - 1) > 45
        paragraph = (" " if wrapped or len(lines) == 1 else "\n").join(lines).replace("_", "")
        if not re.search(r" {4}|\.{4}", paragraph):  # Tables of contents.
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


@dataclass(frozen=True, slots=True)
class Source:
    """A book, file or simulated swarm: its text to train on and its text to validate with, either
    of which may be empty."""

    name: str
    train: str
    valid: str


def read_prose(corpus: Path) -> Iterator[Source]:
    """Every book; those of HELD_OUT_BOOKS, whole, are the validation text. The last 5 % of the
    others is left out, too: it was the validation text of earlier models, and so they stay
    comparable."""
    for path in sorted(corpus.glob("*.txt")):
        text = clean_book(path.read_text(encoding="utf-8"))
        if path.stem in HELD_OUT_BOOKS:
            yield Source(path.stem, "", text)
        else:
            cut = text.rfind("\n\n", 0, int(len(text) * 0.95))
            yield Source(path.stem, text[:cut], "")


def read_code(_: Path) -> Iterator[Source]:
    """The files of the running interpreter's standard library; one in twenty is validation."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big")
        if re.match(r"(site-packages|encodings|pydoc_data|lib2to3)/", name) or (
            "test" in name and bucket % 3
        ):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if 200 < len(text) < 200_000 and sum(map(str.isascii, text)) > 0.99 * len(text):
            yield Source(name, "", text) if bucket % 20 == 7 else Source(name, text, "")


def read_ops(_: Path) -> Iterator[Source]:
    """The documents of simulated swarms, and those about changes of today's settings; those of one
    swarm are on the same side."""
    for document in documents(worlds=REHEARSED):
        yield _side(f"world-{document.world}", document.text, is_validation(document.world))
    for told in ops_told.documents(FOLDER):
        yield _side(f"tuned-{told.world}", told.text, ops_told.is_validation(told.world))


def _side(name: str, text: str, is_valid: bool) -> Source:
    return Source(name, "", text) if is_valid else Source(name, text, "")


READERS: dict[str, Callable[[Path], Iterator[Source]]] = {
    "prose": read_prose,
    "code": read_code,
    "ops": read_ops,
}


@dataclass
class Corpus:
    """Token streams over dense row numbers (0 is BOS, 1 is EOS), and the vocabulary id of each
    row."""

    active_ids: npt.NDArray[np.int32]
    train: npt.NDArray[np.int32]
    valid: npt.NDArray[np.int32]
    valid_tokens: int  # Before splitting: the unit that perplexity is reported in.


def prepare(domain: str, corpus: Path, cache: Path) -> Corpus:
    """The token streams of a domain, from the cache where there is one. `corpus` is a folder of
    books, for prose."""
    if cache.exists():
        stored = np.load(cache)
        return Corpus(
            stored["active_ids"], stored["train"], stored["valid"], int(stored["valid_tokens"])
        )
    vocabulary = load_vocabulary()
    documents = [
        (vocabulary.tokenize(s.train), vocabulary.tokenize(s.valid))
        for s in READERS[domain](corpus)
    ]
    if not documents:
        raise SystemExit(f"train_demo_experts: no text found in {corpus}")
    ranks = load_merge_ranks()
    tables = load_tables()
    pieces = tables.last_merges()
    counts = Counter(token for train, _ in documents for token in train)
    keep = frozenset(
        {rank for token, rank in ranks.items() if len(token) == 1}
        | {t for t, n in counts.items() if n >= MIN_COUNT}
    )

    written_as = spell(
        {rank: [rank] for rank in ranks.values() if rank in keep or rank not in pieces}, tables
    )
    streams: list[list[int]] = [[], []]
    for document in documents:
        for stream, tokens in zip(streams, document, strict=True):
            if tokens:
                stream += [
                    LLAMA3_BOS,
                    *(part for token in tokens for part in written_as[token]),
                    LLAMA3_EOS,
                ]
    seen = sorted(set(streams[0]) | set(streams[1]) | keep - {LLAMA3_BOS, LLAMA3_EOS})
    active = np.array([LLAMA3_BOS, LLAMA3_EOS, *(t for t in seen if t < LLAMA3_BOS)], np.int32)
    row = {int(token): i for i, token in enumerate(active)}
    train, valid = (np.array([row[t] for t in stream], np.int32) for stream in streams)
    found = Corpus(active, train, valid, sum(len(b) for _, b in documents))
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, **asdict(found))
    return found
