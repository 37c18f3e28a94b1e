"""What an engine's batcher answers, as it crosses the pipe to the worker, and what the peer that
asked is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from swarmllm.messages import NO_HALT_DIGEST, Busy, ExpertReply, Need, Refused, Score, Scores

SCORES, NEED, BUSY, REFUSED = "scores", "need", "busy", "refused"
Answer = tuple[Any, ...]
"""SCORES, order, lists, target_logprobs, queue_us, compute_us; NEED, order, have; BUSY, order,
retry_after_ms; REFUSED, order, code."""

NEWS: Final = 0.1  # By how much the speed must have changed to be worth a message.


def reply_of(kind: str, rest: Sequence[Any], request: Score) -> ExpertReply:
    """The answer of this kind to `request`; `rest` is what stands behind the order."""
    session, round_ = request.session, request.round
    match kind, rest:
        case "scores", [lists, targets, queue_us, compute_us]:
            return Scores(
                session,
                round_,
                request.epoch,
                tuple(lists),
                targets,
                queue_us,
                compute_us,
                NO_HALT_DIGEST,
            )
        case "need", [have]:
            return Need(session, round_, have)
        case "busy", [retry_after_ms]:
            return Busy(session, round_, retry_after_ms)
        case "refused", [code]:
            return Refused(session, round_, code)
        case _:
            raise AssertionError(f"an answer that no batcher gives: {kind!r}")


class LoadNews:
    """Says when the load of an engine has changed so much that its node should hear of it."""

    def __init__(self) -> None:
        self._free, self._rate = -1, 0.0

    def is_worth_telling(self, free: int, rate: float) -> bool:
        """Whether this is news, in which case it counts as told: how many sessions could begin now,
        and tokens/s."""
        if free == self._free and abs(rate - self._rate) <= NEWS * rate:
            return False
        self._free, self._rate = free, rate
        return True
