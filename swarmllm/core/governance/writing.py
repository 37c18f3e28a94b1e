"""Writing down: what governance knows goes to the disk and the ledger before it takes effect.

One write is under way at a time; what changes meanwhile goes with the next one. A write is done
when the store has it and every entry of the ledger that belongs to it is recorded. What could not
be written is tried again after a second, and until then nothing new is put into force.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.effects import AppendToLedger, Commit, NodeEffect, RecordKept
from swarmllm.core.governance.outcome import Target
from swarmllm.core.governance.state_file import (
    SLOTS_MAX,
    STATE_KEY,
    InForce,
    Saved,
    pack,
    pack_case,
    slot_key,
)
from swarmllm.core.ledger.entry import LedgerEntry

RETRY_S: Final = 1.0
NO_LEDGER: Final = "its ledger cannot be written; `swarmllm status` says why"


@dataclass(slots=True)
class Write:
    """One write: what of it is still to be confirmed, and what takes effect once all is. `cases`
    are those that are on disk by it, `slots` the places that its state names, `checks` the offers
    by hand that it answers."""

    number: int
    values: tuple[tuple[str, bytes], ...]
    in_force: Mapping[Target, InForce]
    cases: frozenset[bytes]
    slots: frozenset[int]
    checks: list[int]
    stored: bool = False
    entries: dict[int, LedgerEntry] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)

    @property
    def is_done(self) -> bool:
        return self.stored and not self.entries


class Writing:
    """`waits_for_ledger`: False where there is none, in tests of other things."""

    def __init__(self, slots: Sequence[bytes] = (), *, waits_for_ledger: bool = True) -> None:
        self.slots = list(slots)
        # Places that the state on disk names: values are written before the state, so whoever is
        # killed between must find there what it names.
        self._named = _taken(slots)
        self.is_due = False
        self.retry_at = math.inf
        self._waits_for_ledger = waits_for_ledger
        self._digests: dict[bytes, bytes] = {}  # Of the cases, as they are on disk.
        self._now: Write | None = None
        self._number = 0
        self._entries: list[LedgerEntry] = []
        self._checks: list[int] = []  # Offers by hand that the next write answers.
        self._kept: list[RecordKept] = []
        self._fault = ""  # Why something could not be written, the last time.

    @property
    def is_behind(self) -> bool:
        """Whether something is still to be written."""
        return self.is_due or self._now is not None

    @property
    def fault(self) -> str:
        """Why the disk does not have the write that is under way; empty if it may have it. Of the
        ledger, the ledger tells."""
        write = self._now
        return self._fault if write is not None and write.number in write.failed else ""

    def with_entry(self, entry: LedgerEntry) -> None:
        """The next write waits for this entry of the ledger."""
        self._entries.append(entry)
        self.is_due = True

    def known(self, id: bytes, digest: bytes) -> None:
        """This case is on disk, as a former life of the node left it."""
        self._digests[id] = digest

    def answer(self, check: int) -> None:
        """Whoever offered something by hand hears when all that is known now is on disk."""
        self._checks.append(check)

    def kept(self) -> list[RecordKept]:
        """The answers that can be given by now, each once. Nobody waits for what cannot be
        written."""
        write = self._now
        is_stuck = write is not None and bool(
            write.failed if self.is_due else write.number in write.failed
        )
        if is_stuck or (not self.is_due and (write is None or write.stored)):
            self.answer_all(self._fault if is_stuck else "")
        elif write is not None and not self.is_due:
            write.checks += self._checks
            self._checks = []
        kept, self._kept = self._kept, []
        return kept

    def answer_all(self, fault: str) -> None:
        """Whoever waits for the next write hears now: it is on disk, or is not for this reason."""
        self._kept += [RecordKept(check, fault) for check in self._checks]
        self._checks = []

    def begin(
        self,
        digests: Mapping[bytes, bytes],
        records_of: Callable[[bytes], Sequence[bytes]],
        saved: Callable[[tuple[bytes, ...]], Saved],
    ) -> list[NodeEffect]:
        """Order the next write, if one is due and none is under way. `digests` are those of all
        cases by id; `saved` makes the state for these slots."""
        if not self.is_due or self._now is not None:
            return []
        self.is_due, self.retry_at = False, math.inf
        values: list[tuple[str, bytes]] = []
        for slot, id in enumerate(self.slots):
            if id and id not in digests:
                self.slots[slot] = b""
                self._digests.pop(id, None)
        for id, digest in digests.items():
            if self._digests.get(id) != digest:
                values.append((slot_key(self._slot(id)), pack_case(records_of(id))))
        state = saved(tuple(self.slots))
        self._number += 1
        write = Write(
            self._number,
            (*values, (STATE_KEY, pack(state))),
            state.in_force,
            frozenset(digests),
            _taken(state.slots),
            self._checks,
        )
        self._checks = []
        for entry in self._entries:
            self._number += 1
            write.entries[self._number] = entry
        self._entries = []
        self._now = write
        self._digests = dict(digests)
        return self._orders(write, {write.number, *write.entries})

    def _orders(self, write: Write, numbers: Collection[int]) -> list[NodeEffect]:
        appended: list[NodeEffect] = [
            AppendToLedger(entry, number)
            for number, entry in write.entries.items()
            if number in numbers
        ]
        if not self._waits_for_ledger:
            write.entries.clear()
        stored = [Commit(write.number, write.values)] if write.number in numbers else []
        return [*appended, *stored]

    def confirmed(self, number: int, ok: bool, now: float, fault: str = "") -> Write | None:
        """The store has the values, or the ledger the entry, that was ordered with this number
        (`ok`), or could not take it, for this reason. The write that is done by this, if one is."""
        write = self._now
        if write is None or (number != write.number and number not in write.entries):
            return None
        if not ok:
            write.failed.add(number)
            self.retry_at = min(self.retry_at, now + RETRY_S)
            self._fault = fault or NO_LEDGER
            if number == write.number:
                self._answer(write, fault)
            return None
        if number == write.number:
            write.stored = True
            self._answer(write, "")
        else:
            del write.entries[number]
        if not write.is_done:
            return None
        self._now, self.retry_at = None, math.inf
        self._named = write.slots
        return write

    def _answer(self, write: Write, fault: str) -> None:
        self._kept += [RecordKept(check, fault) for check in write.checks]
        write.checks = []

    def again(self) -> list[NodeEffect]:
        """What could not be written is ordered once more, and nothing else."""
        self.retry_at = math.inf
        if self._now is None:
            return []
        failed, self._now.failed = self._now.failed, set()
        return self._orders(self._now, failed)

    def _slot(self, id: bytes) -> int:
        if id in self.slots:
            return self.slots.index(id)
        for slot, held in enumerate(self.slots):
            if not held and slot not in self._named:
                self.slots[slot] = id
                return slot
        assert len(self.slots) < SLOTS_MAX, "the book is bounded by fewer cases"
        self.slots.append(id)
        return len(self.slots) - 1


def _taken(slots: Sequence[bytes]) -> frozenset[int]:
    return frozenset(slot for slot, id in enumerate(slots) if id)
