"""The quality gate: whether a report of `swarmllm eval` speaks for opening a phase.

A phase above 1 lets the ensemble's answers stand for the swarm. So the ensemble must predict
held-out text at least as well as the best single expert does: on mixed text no worse, and on text
of one kind, where one expert is at home, worse by no more than one per cent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from swarmllm.cli.eval.texts import MIXED
from swarmllm.cli.eval.verdicts import CLOSE_SHARE
from swarmllm.errors import UsageError

ENSEMBLE: Final = "em_soft_bayes"  # What a node does.
HOW: Final = "write one with `swarmllm eval --json > FILE`"


def check_quality(data: bytes, file: str) -> None:
    """UsageError, one sentence, unless the report in `data` passes the gate."""
    losses = {
        str(score["text"]): _loss(score, file)
        for score in _scores(data, file)
        if score.get("method") == ENSEMBLE
    }
    if MIXED not in losses:
        raise UsageError(f"{file} has no score of {ENSEMBLE} on {MIXED} text; {HOW}")
    for text, loss in losses.items():
        allowed = 0.0 if text == MIXED else CLOSE_SHARE
        if loss > allowed:
            raise UsageError(
                f"the quality gate is not passed: on {text} text the ensemble is"
                f" {100 * loss:.2f} % worse than the best single expert, by {file}"
            )


def _scores(data: bytes, file: str) -> Iterator[Mapping[str, Any]]:
    try:
        records = [json.loads(line) for line in data.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise UsageError(f"{file} is no report of `swarmllm eval`: it is not JSON; {HOW}") from None
    for record in records:
        if isinstance(record, dict) and record.get("event") == "score":
            yield record


def _loss(score: Mapping[str, Any], file: str) -> float:
    """By what share the ensemble is worse than the best single expert; negative: better."""
    try:
        ours, apart = float(score["nats_per_token"]), float(score["versus_best_single"])
        return apart / (ours - apart)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise UsageError(f"{file} has a damaged score; {HOW}") from None
