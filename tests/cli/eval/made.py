"""Experts on paper, whose distributions are known, so that every method's answer can be worked out
beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swarmllm.cli.eval.analysis import Answer, Question, analyse
from swarmllm.cli.eval.plan import Plan
from swarmllm.cli.eval.score_file import Scored, save
from swarmllm.cli.eval.texts import Document
from swarmllm.wire.sparse_encoding import encode_logits

Floats = npt.NDArray[np.float64]

VOCABULARY = 600
HALF = VOCABULARY // 2
PROMPT = 32
RIGHT: Mapping[str, int | None] = {"low": 0, "high": 1}


def plan(**changes: object) -> Plan:
    fields: dict[str, object] = {
        "models": (),
        "corpora": (),
        "documents": 8,
        "tokens": 160,
        "prompt": PROMPT,
        "seed": 1,
        "threads": 1,
        "context": 0,
        "is_quick": False,
        "out": None,
    }
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


def distributions() -> Floats:
    """Two experts, float64[2, V]: each spreads 0.95 over its own half of the vocabulary, unevenly,
    and the rest over the other one."""
    rng = np.random.default_rng(5)
    found = np.empty((2, VOCABULARY))
    for k in range(2):
        own = np.zeros(VOCABULARY, np.bool_)
        own[k * HALF : (k + 1) * HALF] = True
        weights = rng.gamma(0.5, size=VOCABULARY) + 1e-3
        found[k] = np.where(
            own, 0.95 * weights / weights[own].sum(), 0.05 * weights / weights[~own].sum()
        )
    return found


def document(text: str, segments: Sequence[tuple[int, str]], length: int, seed: int) -> Document:
    """Each segment is drawn from the expert of its domain."""
    rng = np.random.default_rng([seed, length])
    probs = distributions()
    tokens: list[int] = []
    for (start, domain), end in zip(segments, [*(s for s, _ in segments[1:]), length], strict=True):
        expert = RIGHT[domain]
        assert expert is not None
        tokens += rng.choice(VOCABULARY, end - start, p=probs[expert]).tolist()
    return Document(text, tuple(tokens), tuple(segments))


def logprobs_of(doc: Document) -> Floats:
    return np.log(distributions()[:, list(doc.tokens)]).T


def answer(doc: Document, folder: Path) -> Answer:
    """As after both experts have read the document."""
    logits = np.log(distributions())
    paths = []
    for k in range(2):
        lists = tuple(encode_logits(logits[k].astype(np.float32), 256, 0) for _ in doc.tokens)
        probes = np.tile(
            np.array([[0.1], [0.001], [0.0001], [0.002]]), (1, -(-len(doc.tokens) // 8))
        )
        path = folder / f"{doc.digest[:16]}-{k}.scores"
        save(path, Scored(logits[k, list(doc.tokens)], lists, *probes))
        paths.append(path)
    return analyse(Question(doc, tuple(paths), PROMPT, VOCABULARY, RIGHT, 1))


def answers(folder: Path, each: int = 4) -> list[Answer]:
    """`each` documents of either domain, and as many that switch twice."""
    found = []
    for i in range(each):
        found.append(answer(document("low", [(0, "low")], 160, i), folder))
        found.append(answer(document("high", [(0, "high")], 160, 100 + i), folder))
        first, second = ("low", "high") if i % 2 else ("high", "low")
        found.append(
            answer(
                document("mixed", [(0, first), (64, second), (112, first)], 160, 200 + i), folder
            )
        )
    return found
