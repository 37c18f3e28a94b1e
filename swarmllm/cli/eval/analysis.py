"""One document's scores, looked at in every way at once; the documents are independent, so the
cores share them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.cli.eval import adaptive, methods
from swarmllm.cli.eval.adaptive import Spent
from swarmllm.cli.eval.lists import ListFigures, figures
from swarmllm.cli.eval.score_file import ENTRIES, Scored, load
from swarmllm.cli.eval.texts import Document
from swarmllm.core.decoding.gate import floored
from swarmllm.errors import LocalError

Floats = npt.NDArray[np.float64]

ALONE_MAX: Final = 12  # Fewer documents than this are sooner done than processes are started.
SERIES: Final = ("em", "em_soft_bayes", "uniform", "label_oracle")
"""Methods whose nats are kept token by token, for what happens after a switch."""


@dataclass(frozen=True, slots=True)
class Question:
    """One document and where its scores lie, one path for each expert. `right` gives the expert of
    each domain, if there is one."""

    document: Document
    paths: tuple[Path, ...]
    prompt: int
    vocab_size: int
    right: Mapping[str, int | None]
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """`scored` tokens after the prompt. `nats` in all, by method; `series` by token. `wire`
    float64[4, P, K]: tails, total variation, nats and shift as in `score_file.Scored`, each for P
    probed positions."""

    document: Document
    scored: int
    nats: dict[str, float]
    series: dict[str, Floats]
    sweeps: dict[tuple[str, float, float], float]
    curve: dict[tuple[str, str, float], Spent]
    lists: ListFigures
    wire: Floats
    weights: Floats


def analyse(question: Question) -> Answer:
    """LocalError if a file of scores has gone."""
    scores = [_loaded(path) for path in question.paths]
    document, prompt = question.document, question.prompt
    logprobs = np.stack([scored.logprobs for scored in scores], axis=1)
    found = methods.all_methods(logprobs, prompt, document.segments, question.right)
    weights = floored(methods.learned(logprobs[:prompt]))
    lists = figures(
        [scored.lists[prompt:] for scored in scores],
        document.tokens[prompt:],
        logprobs[prompt:],
        weights,
        question.vocab_size,
        ENTRIES,
    )
    found["geometric"] = lists.geometric - logprobs[prompt:].mean(axis=1)
    rng = np.random.default_rng([question.seed, int(document.digest[:8], 16)])
    return Answer(
        document=document,
        scored=len(logprobs) - prompt,
        nats={name: float(nats.sum()) for name, nats in found.items()},
        series={name: found[name] for name in SERIES if name in found},
        sweeps=methods.sweeps(logprobs, prompt),
        curve=adaptive.curve(
            logprobs, prompt, {"entropy": lists.surprise, "peak": lists.peak}, rng
        ),
        lists=lists,
        wire=np.stack(
            [np.stack([s.tails, s.wire_tv, s.wire_nats, s.target_shift]) for s in scores], axis=2
        ),
        weights=weights,
    )


def _loaded(path: Path) -> Scored:
    scored = load(path)
    if scored is None:
        raise LocalError(
            f"the scores {path} have gone or are damaged: run the same command again,"
            " it computes only these anew"
        )
    return scored


def analyse_all(
    questions: Sequence[Question], workers: int, advance: Callable[[int, int], None]
) -> list[Answer]:
    """In the order of the questions."""
    found = []
    for answer in _answers(questions, workers):
        found.append(answer)
        advance(len(found), len(questions))
    return found


def _answers(questions: Sequence[Question], workers: int) -> Iterator[Answer]:
    if workers < 2 or len(questions) < ALONE_MAX:
        yield from map(analyse, questions)
        return
    # Spawned and not forked: this process has threads. Ctrl-C is for it alone to act on.
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield from pool.map(analyse, questions)
    finally:
        pool.shutdown(cancel_futures=True)
