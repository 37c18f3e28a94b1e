"""The number of threads for each batch, found while working: all that are allowed, or fewer where
that is quicker.

Threads of one batch wait for each other hundreds of times, so one that loses its core to another
program holds up all: with two threads on two cores that others used too, a step took four times as
long as with one. And reading the weights, which is most of a step of one session, may keep no more
than one core busy. Neither can be known beforehand, and both change; so now and then one batch is
computed with half as many threads, or twice as many, and what is quicker is kept. Batches of like
size share what is known. None of this reads a clock: what a batch took is told.
"""

from __future__ import annotations

from typing import Final

TRIAL_STEPS: Final = 32  # Batches between two trials, at least,
TRIAL_S: Final = 10.0  # and seconds of computing, after the first.
BETTER: Final = 0.85  # Quicker by less is the machine's noise.
WORSE: Final = 1.5  # Slower by this than is usual: something has changed, try at once.
FAST, SLOW = 0.3, 0.03  # Weights of the newest batch in what a batch takes now, and usually.


class Threads:
    """`choose` before each batch, `took` after it. `most` is what the owner allows."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[int, _Size] = {}

    def choose(self, rows: int) -> int:
        """Threads for a batch of so many rows."""
        return self._size(rows).next

    def took(self, rows: int, seconds: float) -> None:
        """The batch just chosen for took so long."""
        if seconds > 0:
            self._size(rows).took(seconds / rows)

    def _size(self, rows: int) -> _Size:
        return self._sizes.setdefault(rows.bit_length(), _Size(self._most))


class _Size:
    """What is known of batches of one size: `usual` threads, unlike `next` during a trial."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.usual = self.next = most
        self._steps = 0
        self._seconds = TRIAL_S  # The first trial waits for steps alone.
        self._now = self._before = 0.0  # Seconds per row, lately and usually. 0: not measured.
        self._up = False  # Where the next trial goes.

    def took(self, seconds: float) -> None:
        if self.next != self.usual:
            self._judge(seconds)
            return
        self._now = _smoothed(self._now, seconds, FAST)
        self._before = _smoothed(self._before, seconds, SLOW)
        self._steps += 1
        self._seconds += seconds
        has_changed = self._now > WORSE * self._before
        if self._steps >= TRIAL_STEPS and (has_changed or self._seconds >= TRIAL_S):
            self._try()

    def _try(self) -> None:
        self._steps, self._seconds, self._before = 0, 0.0, self._now
        fewer, more = max(1, self.usual // 2), min(self._most, 2 * self.usual)
        self._up = (not self._up and more > self.usual) or fewer == self.usual
        self.next = more if self._up else fewer

    def _judge(self, seconds: float) -> None:
        if seconds < BETTER * self._now:
            self.usual, self._now, self._before = self.next, seconds, seconds
        self.next = self.usual


def _smoothed(before: float, newest: float, weight: float) -> float:
    return before + (newest - before) * (weight if before else 1.0)
