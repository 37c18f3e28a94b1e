"""Round deadlines: how long a round waits for which expert, in seconds on the caller's clock.

Laws: however many are asked in place of others, no deadline lies further than `ROUND_MAX_S` behind
the round's beginning; an answer brings the deadline nearer and never moves it away.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import (
    FIRST_WAIT,
    LATE_FLOOR,
    LATE_RATIO,
    STRAGGLER_FLOOR,
    STRAGGLER_RATIO,
)
from swarmllm.messages import PeerId

# Without any expert from the start: discovery on a LAN takes 2-3 s, a DHT look-up as long again.
EXPERT_WAIT_S: Final = 10.0
# A round that nobody answers ends the request: the slowest sensible prefill is shorter.
ROUND_MAX_S: Final = 60.0
# How often to look for somebody new when all are asked and silent.
RETRY_S: Final = 0.25


class RoundClock:
    """The deadlines of one round that begins at `now`."""

    def __init__(self, now: float, settings: Settings) -> None:
        self._settings = settings
        self.started_at = now
        self.deadline_at = self._latest_at = now + ROUND_MAX_S
        self.retry_at = now
        self._wait_until: dict[PeerId, float] = {}

    def waits_for(self, peer: PeerId, patience_s: float, now: float) -> None:
        """An expert was asked: its answer is expected within `patience_s`."""
        if not self._wait_until:
            self.deadline_at = now
        self._wait_until[peer] = now + patience_s
        self.deadline_at = min(self._latest_at, max(self.deadline_at, now + patience_s))

    def looked(self, now: float) -> None:
        """Experts were looked for just now; again after a while."""
        self.retry_at = now + RETRY_S

    def extend(self, now: float) -> None:
        """Nobody has answered in time: a little longer, for those who are asked now."""
        self.deadline_at = min(now + 2 * RETRY_S, self._latest_at)

    def answers_missing(self, needed_s: float, now: float) -> None:
        """Somebody has answered, and fewer than are wanted: those still to come get what was
        expected of them (`needed_s`), and more the longer the first one took."""
        elapsed, settings = now - self.started_at, self._settings
        floor_s = elapsed + settings[STRAGGLER_FLOOR]
        wait_s = max(settings[STRAGGLER_RATIO] * elapsed, floor_s, needed_s)
        self.deadline_at = min(self.deadline_at, self.started_at + wait_s)

    def enough_answered(self, now: float) -> None:
        """As many have answered as are wanted; one that weighs much may still be worth a
        wait: a token without it would be worse, a token without end worse still."""
        elapsed, settings = now - self.started_at, self._settings
        wait_s = max(settings[LATE_RATIO] * elapsed, elapsed + settings[LATE_FLOOR])
        self.deadline_at = min(self.deadline_at, self.started_at + wait_s)

    def evidence_awaited(self, peers: Collection[PeerId], now: float) -> None:
        """As many have answered as are wanted before the first token, but these may still change
        what is known of the prompt. They get the time that was set for each of them when it was
        asked, and no more than `FIRST_WAIT`: how quick the others were says nothing about them."""
        until = max((self._wait_until[peer] for peer in peers), default=now)
        self.deadline_at = min(self.deadline_at, now + self._settings[FIRST_WAIT], until)


def gives_up_after_s(
    *, is_first: bool, is_idle: bool, was_asked: bool, is_hopeless: bool, has_hope: bool
) -> float:
    """How long after its beginning a round without any answer ends the request.

    `is_idle`: nobody is known who could be asked, and nobody is waited for. Whoever was there
    (`was_asked`) may be there again, so it gets the whole time. Where all that keeps experts from
    answering is final (`is_hopeless`), only others could help: those who are known and out of reach
    (`has_hope`), and at the beginning any that may be found.
    """
    if is_idle and is_hopeless and not has_hope:
        return EXPERT_WAIT_S if is_first else 0.0
    return EXPERT_WAIT_S if is_idle and not was_asked else ROUND_MAX_S
