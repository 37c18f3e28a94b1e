"""The event queue of virtual time. A simulated hour costs as long as its events, however far apart
they are.

Events of one moment happen in the order in which they were planned, so that one seed gives one run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final

# Events without time going by: a loop that makes no progress, and no world is that busy.
STANDSTILL_MAX: Final = 200_000


class EventQueue:
    """`now` is in seconds and starts at 0."""

    __slots__ = ("_heap", "_planned", "done", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.done = 0
        """Events that have happened."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, when: float, action: Callable[..., None], *args: Any) -> None:
        """Plan `action(*args)`; what lies in the past happens now."""
        self._planned += 1
        heapq.heappush(
            self._heap, (when if when > self.now else self.now, self._planned, action, args)
        )

    def after(self, delay_s: float, action: Callable[..., None], *args: Any) -> None:
        self._planned += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._planned, action, args))

    def run_until(self, when: float, is_done: Callable[[], bool] | None = None) -> None:
        """Let everything happen up to and including `when`, or until `is_done` says so after an
        event."""
        heap, pop = self._heap, heapq.heappop
        standing = 0
        while heap and heap[0][0] <= when:
            at, _, action, args = pop(heap)
            if at > self.now:
                self.now = at
                standing = 0
            else:
                standing += 1
                assert standing < STANDSTILL_MAX, (
                    f"{standing} events at {at} s: {action} makes no progress"
                )
            self.done += 1
            action(*args)
            if is_done is not None and is_done():
                return
        self.now = max(self.now, when)
