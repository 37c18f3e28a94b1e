"""Exponential backoff: how long to wait before the next attempt.

Each pause is twice the one before, up to a bound, and the first one again after something held for
longer than the pause that would come now. So a peer that is away is asked less and less often, and
one that answers and leaves again at once likewise; but one that was there for a while and was lost
is asked at once, however often that happened before. Node and neighbours that lost each other a few
times, as laptops do, would else find each other a minute later each time, and be out of reach of an
order to stop for as long.
"""

from __future__ import annotations

from typing import Final

FACTOR: Final = 2.0


class Backoff:
    def __init__(self, least_s: float, most_s: float) -> None:
        assert 0 < least_s <= most_s, (least_s, most_s)
        self._least_s, self._most_s = least_s, most_s
        self._next_s = least_s

    def pause_s(self, held_s: float) -> float:
        """The pause to make now, after an attempt that held for `held_s` (0: it failed)."""
        if held_s > self._next_s:
            self._next_s = self._least_s
        pause_s = self._next_s
        self._next_s = min(FACTOR * pause_s, self._most_s)
        return pause_s
