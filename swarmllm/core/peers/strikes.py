"""Strikes: protocol breaches are counted for each peer, and the third refuses it
(protocols/strikes.md)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from swarmllm.messages import PeerId

STRIKES_MAX: Final = 3  # Broken protocol this often, then refusal.
# Long enough to make floods dear, short enough to forgive a bug that was mended.
REFUSE_S: Final = 600.0
# Peers with strikes; the one whose last strike is oldest is forgotten first.
OFFENDERS_MAX: Final = 1024
KNOCK_EVERY_S: Final = 60.0  # Between two lines in the log about one refused peer that dials again.


class Strikes:
    """Strikes are forgotten `refuse_for_s` after the last one, and so is a refusal. Reconnecting
    changes nothing."""

    def __init__(self, strikes_max: int = STRIKES_MAX, refuse_for_s: float = REFUSE_S) -> None:
        self.strikes_max, self.refuse_for_s = strikes_max, refuse_for_s
        self._counts: OrderedDict[PeerId, tuple[int, float]] = OrderedDict()
        # When the log last said that a refused peer dials; bounded by `_counts`.
        self._knocks: dict[PeerId, float] = {}

    def add(self, peer: PeerId, now: float) -> int:
        """One more against the peer; how many there are now."""
        count = self._count(peer, now) + 1
        self._counts[peer] = (count, now)
        self._counts.move_to_end(peer)
        while len(self._counts) > OFFENDERS_MAX:
            forgotten, _ = self._counts.popitem(last=False)
            self._knocks.pop(forgotten, None)
        return count

    def refuses(self, peer: PeerId, now: float) -> bool:
        return self._count(peer, now) >= self.strikes_max

    def knocks(self, peer: PeerId, now: float) -> float | None:
        """A refused peer is here again: for how much longer it is refused, in seconds, if the log
        has not said so lately."""
        if peer not in self._counts or now - self._knocks.get(peer, -KNOCK_EVERY_S) < KNOCK_EVERY_S:
            return None
        self._knocks[peer] = now
        return self._counts[peer][1] + self.refuse_for_s - now

    def _count(self, peer: PeerId, now: float) -> int:
        count, at = self._counts.get(peer, (0, now))
        return count if now - at < self.refuse_for_s else 0
