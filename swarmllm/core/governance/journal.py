"""The journal: what was put into force on this node and what was taken back, with the values before
and after, newest last."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

ENTRIES_MAX: Final = 256
"""The oldest go first; the ledger keeps them all."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """`what` names the setting, bounds or phase; `old` and `new` are for people. `proposal` is the
    id of the case that is in force by it, or was; empty for what the charter says. Numbers count
    from 1 and are never used again."""

    number: int
    proposal: bytes
    what: str
    old: str
    new: str
    at_ms: int
    taken_back: str = ""
    """Why; empty for what was put into force."""


class Journal:
    def __init__(self, entries: Iterable[JournalEntry] = (), next_number: int = 1) -> None:
        self._entries = deque(entries, maxlen=ENTRIES_MAX)
        self.next_number = next_number

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        return tuple(self._entries)

    def add(
        self, proposal: bytes, what: str, old: str, new: str, at_ms: int, taken_back: str = ""
    ) -> JournalEntry:
        entry = JournalEntry(self.next_number, proposal, what, old, new, max(0, at_ms), taken_back)
        self.next_number += 1
        self._entries.append(entry)
        return entry

    def last_of(self, what: str) -> JournalEntry | None:
        """What changed this last."""
        return next((one for one in reversed(self._entries) if one.what == what), None)
