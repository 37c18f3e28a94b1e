"""Incidents: what peers broke of the protocol and what experts refused lately, from counts that
only rise."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 900.0
LOOKS_MAX: Final = 64  # Within the window: the agent looks once a minute, and at each cycle.


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the node started. `refused`: questions of ours that an expert would not answer, without
    those to which it said that it is busy; `replied`: those that were answered."""

    strikes: int = 0
    refused: int = 0
    replied: int = 0


class Incidents:
    def __init__(self) -> None:
        self._looks: deque[tuple[float, Counts]] = deque([(0.0, Counts())], maxlen=LOOKS_MAX)

    def metrics(self, counts: Counts, now: float) -> dict[str, float]:
        """Of the last quarter of an hour. What did not happen is left out, so that a calm swarm's
        observation is short."""
        while len(self._looks) > 1 and self._looks[1][0] <= now - WINDOW_S:
            self._looks.popleft()
        before = self._looks[0][1]
        self._looks.append((now, counts))
        strikes, refused = counts.strikes - before.strikes, counts.refused - before.refused
        found: dict[str, float] = {}
        if strikes > 0:
            found["strikes"] = strikes
        if refused > 0:
            found["refused_share"] = refused / (refused + counts.replied - before.replied)
        return found
