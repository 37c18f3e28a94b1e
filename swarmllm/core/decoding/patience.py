"""Round deadlines: how long a round waits for which expert, in seconds on the caller's clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarmllm.core.decoding.round import Round
from swarmllm.messages import PeerId

# Without any expert from the start: discovery on a LAN takes 2-3 s, a DHT look-up as long again.
EXPERT_WAIT_S: Final = 10.0
# A round that nobody answers ends the request: the slowest sensible prefill is shorter.
ROUND_MAX_S: Final = 60.0
STRAGGLER_RATIO: Final = 3.0  # Once somebody answered, the others get this many times as long.
STRAGGLER_FLOOR_S: Final = 0.25
# Once enough have answered the first round, nobody delays it for longer, whatever it claims to
# need.
FIRST_MAX_S: Final = 10.0
# Once enough have answered, an expert that weighs much gets this many times as long, and at least
# ...
LATE_RATIO: Final = 1.5
# ... so much longer: a token without it would be worse, a token without end worse still.
LATE_FLOOR_S: Final = 0.02


def waits_until(
    current: Round, now: float, needed_s: float, owed: Sequence[PeerId] | None
) -> float:
    """When a round goes on with what is there, now that another one has answered.

    While answers are missing, those still to come get what was expected of them (`needed_s`), and
    more the longer the first one took. `owed` are those who may still change what is known of the
    prompt; None after the first round. They get the time that was set for each of them when it was
    asked: how quick the others were says nothing about them.
    """
    elapsed = now - current.started_at
    if len(current.replies) < current.wanted:
        return current.started_at + max(
            STRAGGLER_RATIO * elapsed, elapsed + STRAGGLER_FLOOR_S, needed_s
        )
    if owed is None:
        return current.started_at + max(LATE_RATIO * elapsed, elapsed + LATE_FLOOR_S)
    return min(now + FIRST_MAX_S, max((current.until[p] for p in owed), default=now))


def gives_up_at(current: Round, was_asked: bool, is_hopeless: bool) -> float:
    """When a round without any answer ends the request.

    Whoever was there (`was_asked`) may be there again, so it gets the whole time. Where all that
    keeps experts from answering is final (`is_hopeless`), only others could help: those who are
    known and out of reach, and at the beginning any that may be found.
    """
    is_idle = not current.has_known and not current.waiting
    if is_idle and is_hopeless and not current.has_hope:
        return current.started_at + (0.0 if current.index else EXPERT_WAIT_S)
    return current.started_at + (EXPERT_WAIT_S if is_idle and not was_asked else ROUND_MAX_S)
