"""A host's disk: two copies of the kill switch's state and its marker, and whatever else is saved.
Writing takes time, and each step is whole or has not happened: a process that is killed between two
of them leaves the first one done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from swarmllm.testing.memory_ledger import MemoryLedger
from swarmllm.testing.world.event_queue import EventQueue

STEP_S: Final = 0.005  # One of the three files, flushed: a cheap solid-state disk.
STEPS: Final = ("first", "second", "genesis")


@dataclass(slots=True)
class Disk:
    """`full`: nothing can be written until it is cleared."""

    first: bytes | None = None
    second: bytes | None = None
    genesis: bytes | None = None
    values: dict[str, bytes] = field(default_factory=dict)
    full: bool = False
    step_s: float = STEP_S
    writes: int = 0
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    harmed: set[str] = field(default_factory=set)
    """The copies that something other than the node has changed or taken away since they were
    written."""

    machine_started: dict[int, float] = field(default_factory=dict)
    """Boot of the machine -> its clock then: what `/proc` tells in life."""

    cleared_at: float = -1.0
    """When it was last full, and is no more."""

    @property
    def is_new(self) -> bool:
        """Whether there is nothing to tell that it ever held a state."""
        return self.first is None and self.second is None and self.genesis is None

    @property
    def is_lost(self) -> bool:
        """Whether it tells that it held a state, and no copy of it is whole."""
        return not self.is_new and {"first", "second"} <= self.harmed

    def write(
        self,
        event_queue: EventQueue,
        data: bytes,
        genesis: bytes,
        is_alive: Callable[[], bool],
        done: Callable[[bool], None],
    ) -> None:
        """All three files one after the other, for as long as `is_alive`; `done` hears whether they
        were written."""
        event_queue.after(self.step_s, self._step, event_queue, 0, data, genesis, is_alive, done)

    def write_now(self, data: bytes, genesis: bytes) -> bool:
        """The same before anything else runs, at boot."""
        if not self.full:
            self.first, self.second, self.genesis = data, data, genesis
            self.harmed.clear()
            self.writes += 1
        return not self.full

    def clear(self, now: float) -> None:
        """There is room again."""
        if self.full:
            self.full, self.cleared_at = False, now

    def harm(self, copy: str, data: bytes | None) -> None:
        """Something other than the node leaves `data` where a copy was."""
        setattr(self, copy, data)
        self.harmed.add(copy)

    def _step(
        self,
        event_queue: EventQueue,
        step: int,
        data: bytes,
        genesis: bytes,
        is_alive: Callable[[], bool],
        done: Callable[[bool], None],
    ) -> None:
        if not is_alive():
            return
        if self.full:
            done(False)
            return
        setattr(self, STEPS[step], genesis if STEPS[step] == "genesis" else data)
        self.harmed.discard(STEPS[step])
        if step + 1 < len(STEPS):
            event_queue.after(
                self.step_s, self._step, event_queue, step + 1, data, genesis, is_alive, done
            )
        else:
            self.writes += 1
            done(True)
