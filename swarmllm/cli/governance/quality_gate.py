"""The quality gate: whether a report of `swarmllm eval` speaks for opening a phase.

A phase above 1 lets the ensemble's answers stand for the swarm. So the ensemble must predict
held-out text at least as well as the best single expert does: on mixed text no worse, and on text
of one kind, where one expert is at home, worse by no more than one per cent. Where the charter pins
the held-out text, the report has to be over that text, and over what the usual seed draws of it:
whoever may choose the text can choose one that the ensemble is good at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from swarmllm.cli.eval.plan import SEED
from swarmllm.cli.eval.texts import MIXED
from swarmllm.cli.eval.verdicts import CLOSE_SHARE
from swarmllm.core.governance.held_out import DIGEST_BYTES, HeldOut
from swarmllm.errors import UsageError

ENSEMBLE: Final = "em_soft_bayes"  # What a node does.
HOW: Final = "write one with `swarmllm eval --json > FILE`"


def check_quality(data: bytes, file: str, pinned: HeldOut | None = None) -> None:
    """UsageError, one sentence, unless the report in `data` passes the gate, over the text that is
    pinned, if any is."""
    records = _records(data, file)
    if pinned is not None:
        _check_text(records, file, pinned)
    losses = {
        str(score["text"]): _loss(score, file)
        for score in _of(records, "score")
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


def texts_of(data: bytes, file: str) -> bytes:
    """The digest of the text that a report is over. UsageError if it does not tell."""
    summary = _summary(_records(data, file), file)
    found = str(summary.get("texts"))
    if re.fullmatch(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}", found) is None:
        raise UsageError(f"{file} does not tell which text it is over; {HOW}")
    return bytes.fromhex(found)


def _check_text(records: Sequence[Mapping[str, Any]], file: str, pinned: HeldOut) -> None:
    if not pinned.digest:
        raise UsageError(
            "the charter pins held-out text in a way that this version cannot read; use a newer one"
        )
    summary = _summary(records, file)
    found = str(summary.get("texts"))
    if found != pinned.digest.hex():
        raise UsageError(
            f"{file} is over other text than {pinned.name}, which the charter pins for the quality"
            f" gate: the digest of that is {pinned.digest.hex()}, of this {found[:40]};"
            " `swarmllm eval --corpus` takes the text"
        )
    if summary.get("seed") != SEED:
        raise UsageError(
            f"{file} is over what seed {str(summary.get('seed'))[:20]} draws of {pinned.name}, and"
            f" the quality gate takes what seed {SEED} does; {HOW}"
        )


def _records(data: bytes, file: str) -> list[Mapping[str, Any]]:
    try:
        records = [json.loads(line) for line in data.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise UsageError(f"{file} is no report of `swarmllm eval`: it is not JSON; {HOW}") from None
    return [record for record in records if isinstance(record, dict)]


def _of(records: Sequence[Mapping[str, Any]], event: str) -> Iterator[Mapping[str, Any]]:
    return (record for record in records if record.get("event") == event)


def _summary(records: Sequence[Mapping[str, Any]], file: str) -> Mapping[str, Any]:
    found = next(_of(records, "summary"), None)
    if found is None:
        raise UsageError(f"{file} has no summary at its end, so it was cut short; {HOW}")
    return found


def _loss(score: Mapping[str, Any], file: str) -> float:
    """By what share the ensemble is worse than the best single expert; negative: better."""
    try:
        ours, apart = float(score["nats_per_token"]), float(score["versus_best_single"])
        return apart / (ours - apart)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise UsageError(f"{file} has a damaged score; {HOW}") from None
