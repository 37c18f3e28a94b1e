"""The budget of an agent: a share of the experts' time, and nothing while a user waits.

A token bucket in seconds. It fills by the chartered share of every second, up to `FULL_S`; what the
agent's own answers take is paid from it. While an answer of a user is written, and for a moment
afterwards, the agent asks nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

FULL_S: Final = 120.0  # What can be saved up: some answers in a row.
QUIET_S: Final = 5.0  # After a user's answer: people ask on.


@dataclass(slots=True)
class Budget:
    """`share` of the time, 0 to 1. Users are the numbers of the answers that are written for them,
    which the node bounds."""

    share: float = 0.0
    left_s: float = FULL_S / 2
    _users: set[int] = field(default_factory=set)
    _filled_at: float | None = None
    _quiet_at: float = -math.inf

    def fill(self, now: float) -> None:
        if self._filled_at is not None:
            self.left_s = min(FULL_S, self.left_s + self.share * max(0.0, now - self._filled_at))
        self._filled_at = now

    def spend(self, seconds: float) -> None:
        """May go below zero, and then takes as long to be paid back."""
        self.left_s -= max(0.0, seconds)

    def user_came(self, request: int) -> None:
        self._users.add(request)

    def user_left(self, request: int, now: float) -> None:
        if request in self._users:
            self._users.remove(request)
            self._quiet_at = now + QUIET_S

    def may_ask(self, now: float) -> bool:
        return self.share > 0 and not self._users and now >= self._quiet_at and self.left_s > 0
