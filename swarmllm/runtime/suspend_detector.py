"""Detects that this process was suspended, by a jump of a clock that also counts sleep. It cannot
feel that it was stopped; it can only see that the clock went on without it.

SIGSTOP, a machine that swaps or is overloaded, a laptop's lid: whoever was away may have missed an
order to halt, and everything that lay ready when it happened goes on at once. So the clock is
looked at before every input, and a few times a second where there is none. The clock is one that
goes on while the machine is asleep, which the one that timers use does not do on Linux.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from swarmllm.core.peers.liveness import SLEPT_S

LOOK_EVERY_S: Final = 0.2  # So an absence of 0.3 to 0.5 s may already count.


def sleepless_clock() -> float:
    """Seconds since some moment, those in which the machine was asleep included where the system
    has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SuspendDetector:
    """To be looked at at least every `LOOK_EVERY_S`."""

    def __init__(self, clock: Callable[[], float] = sleepless_clock) -> None:
        self._clock = clock
        self._seen_at = clock()

    def missed(self) -> bool:
        """Whether more than `SLEPT_S` have gone by since somebody last looked."""
        before, self._seen_at = self._seen_at, self._clock()
        return self._seen_at - before > SLEPT_S
