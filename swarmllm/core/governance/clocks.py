"""The node's own clock for reviews: time that it has itself seen go by.

It counts on a clock that only goes forward while the machine is up, and goes on counting over a
restart of the node as long as the machine was not started anew meanwhile (its boot has an id). Over
a restart of the machine nothing is counted. No wall clock and no date in a record has a part in it,
so setting a clock, or dating a record back, shortens no review.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Uptime:
    """Where the node's clock stands: `boot` is the id of the machine's boot (empty: not known), and
    `at_zero` the seconds since then where `now` is 0."""

    boot: bytes = b""
    at_zero: float = 0.0

    def at(self, now: float) -> float:
        return self.at_zero + now

    def since(self, boot: bytes, at: float, now: float) -> float:
        """Seconds that have gone by since an earlier life of the node wrote down this reading; 0 if
        that cannot be known."""
        if not self.boot or boot != self.boot:
            return 0.0
        return max(0.0, self.at(now) - at)


@dataclass(slots=True)
class Stopwatch:
    """Seconds counted so far, and since when it runs (infinite: it does not)."""

    counted_s: float = 0.0
    runs_since: float = math.inf

    @property
    def runs(self) -> bool:
        return self.runs_since < math.inf

    def start(self, now: float) -> None:
        """From now on; one that runs goes on."""
        self.runs_since = min(self.runs_since, now)

    def read(self, now: float) -> float:
        return self.counted_s + (max(0.0, now - self.runs_since) if self.runs else 0.0)

    def ends_at(self, seconds: float) -> float:
        """When it will have counted so many; infinite while it stands still."""
        return self.runs_since + max(0.0, seconds - self.counted_s) if self.runs else math.inf

    def has_counted(self, seconds: float, now: float) -> bool:
        """Whether it has come so far: at `ends_at` it has, whatever rounding does to `read`."""
        return now >= self.ends_at(seconds) if self.runs else self.counted_s >= seconds
