"""The number of threads for each batch, found while working: all that are allowed, or fewer where
that is quicker.

Threads of one batch wait for each other hundreds of times, so one that loses its core to another
program holds up all: with two threads on two cores that others used too, a step took four times as
long as with one. And reading the weights, which is most of a step of one session, may keep no more
than one core busy. Neither can be known beforehand, and both change; so now and then one batch is
computed with half as many threads, or twice as many, and what is quicker is kept. Batches of like
size share what is known. None of this reads a clock: what a batch took is told.

Waiting threads spin for 300,000 turns (libgomp's default), some milliseconds, before they sleep, so
they are awake still when the next batch comes. Threads that slept after 1,000 turns cost a tenth of
the speed with 8 and 16 sessions, even with 100,000 some per cent: a core that a thread has left is
given to others, and the thread wakes on the core of the one that it should help. The price is paid
where others want the cores as much: there spinning threads hold the core that the awaited one
needs, and a batch takes ten times as long. It must be noticed at once, and one thread spins for
nobody.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

FIRST_STEPS: Final = 10  # Batches before the first trial.
TRIAL_STEPS: Final = 32  # Batches between two trials, at least,
TRIAL_S: Final = 10.0  # and seconds of computing, unless the last one changed something.
TRIAL_LENGTH: Final = 3  # Batches of a trial,
HOPELESS: Final = 1.3  # of which one that takes so much longer is enough.
BETTER: Final = 0.85  # Quicker by less is the machine's noise.
WORSE: Final = 1.5  # Slower by this than at the last trial: something has changed, try soon.
SUDDEN: Final = 2.0  # Slower by this, so many batches in a row: try at once. Threads that spin for
SUDDEN_STEPS: Final = 6  # each other on a machine that has become busy take ten times as long.
KEPT: Final = 15  # Batches whose median says how long one takes: a few may have been disturbed.


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
        self._size(rows).took(rows, seconds)

    def _size(self, rows: int) -> _Size:
        return self._sizes.setdefault(rows.bit_length(), _Size(self._most))


class _Size:
    """What is known of batches of one size: `usual` threads, unlike `next` during a trial."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.usual = self.next = most
        self._steps = 0
        self._seconds = TRIAL_S  # The first trial waits for steps alone.
        self._lately: deque[float] = deque(maxlen=KEPT)  # Seconds per row, with the usual threads,
        self._trial: list[float] = []  # and in the trial under way.
        self._before = 0.0  # Their median at the last trial. 0: there was none.
        self._up = False  # Where the next trial goes.

    def took(self, rows: int, seconds: float) -> None:
        if self.next != self.usual:
            self._trial.append(seconds / rows)
            self._look()
            return
        self._lately.append(seconds / rows)
        self._steps += 1
        self._seconds += seconds
        if self._before and self._steps >= SUDDEN_STEPS:
            newest = [*self._lately][-SUDDEN_STEPS:]
            if min(newest) > SUDDEN * self._before:
                self._lately.clear()
                self._lately.extend(newest)
                self._begin()
                return
        if self._steps < (TRIAL_STEPS if self._before else FIRST_STEPS):
            return
        has_changed = bool(self._before) and median(self._lately) > WORSE * self._before
        self._steps = 0
        if has_changed or self._seconds >= TRIAL_S:
            self._begin()

    def _begin(self) -> None:
        self._steps, self._seconds, self._before = 0, 0.0, median(self._lately)
        fewer, more = max(1, self.usual // 2), min(self._most, 2 * self.usual)
        self._up = (not self._up and more > self.usual) or fewer == self.usual
        self.next, self._trial = (more if self._up else fewer), []

    def _look(self) -> None:
        if self._trial[-1] > HOPELESS * self._before:
            self.next = self.usual
        elif len(self._trial) == TRIAL_LENGTH:
            if median(self._trial) < BETTER * self._before:
                self.usual, self._before, self._seconds = self.next, median(self._trial), TRIAL_S
                self._lately.clear()
            self.next = self.usual
