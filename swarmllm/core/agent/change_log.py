"""What the self-improvement agent changed, with the old values, so that a halt can take the last of
it back.

Only settings of the table (`core.settings.table`) can be named at all: nothing that concerns keys,
code, files, addresses or the kill switch is among them, so no entry, however it came about, can
revert or change one. A change is taken back at most once: the second halt of an hour does not dig
further into the past.

Taking back is safe to repeat. The driver first writes the old values, then the journal; a crash
between the two only writes them again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final

from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import BY_CODE
from swarmllm.errors import LocalError

CHANGES_MAX: Final = 256
"""Changes remembered; the oldest go first. No halt takes back more than 16, the rest is for people
to read."""


@dataclass(frozen=True, slots=True)
class Change:
    """The agent set `setting` from `old` to `new` at Unix time `at_ms`. Numbers count from 1 and
    are never used again."""

    number: int
    setting: Setting[Any]
    old: int
    new: int
    at_ms: int
    reverted: bool = False


_MAGIC: Final = b"swarmllm-journal-2\n"
_ENTRY_BYTES: Final = 8 + 2 + 8 + 8 + 8 + 1


class Journal:
    """At most `CHANGES_MAX` changes, oldest first."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._next = 1

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(self._changes)

    def record(self, setting: Setting[Any], old: int, new: int, at_ms: int) -> Change:
        """Write down a change before it is made. LocalError for a value outside the setting's
        limits; nothing has changed then."""
        for value in (old, new):
            setting.check(value)
        change = Change(self._next, setting, old, new, max(0, at_ms))
        self._next += 1
        self._changes = [*self._changes, change][-CHANGES_MAX:]
        return change

    def revert_last(self, count: int) -> list[Change]:
        """Those of the last `count` changes that have not been taken back yet, newest first: set
        each to its `old`, in this order.

        They are marked as taken back; save the journal after the settings.
        """
        assert count >= 0
        window = self._changes[len(self._changes) - min(count, len(self._changes)) :]
        taken = [change for change in reversed(window) if not change.reverted]
        numbers = {change.number for change in taken}
        self._changes = [
            replace(one, reverted=True) if one.number in numbers else one for one in self._changes
        ]
        return taken

    def pack(self) -> bytes:
        """The journal as it is kept on disk."""
        parts = [_MAGIC, self._next.to_bytes(8, "big")]
        for one in self._changes:
            numbers = (
                one.number.to_bytes(8, "big"),
                one.setting.code.to_bytes(2, "big"),
                one.old.to_bytes(8, "big"),
            )
            parts += [
                *numbers,
                one.new.to_bytes(8, "big"),
                one.at_ms.to_bytes(8, "big"),
                bytes((one.reverted,)),
            ]
        body = b"".join(parts)
        return body + sha256(body).digest()


def unpack(data: bytes) -> Journal:
    """The journal that `pack` wrote. LocalError for anything else: a damaged entry must not set
    anything."""
    body, checksum = data[:-32], data[-32:]
    head = len(_MAGIC) + 8
    count, rest = divmod(len(body) - head, _ENTRY_BYTES)
    if (
        not body.startswith(_MAGIC)
        or sha256(body).digest() != checksum
        or rest
        or not 0 <= count <= CHANGES_MAX
    ):
        raise LocalError(
            f"the journal of changes ({len(data)} bytes) is damaged; move it away,"
            " and nothing in it will be reverted"
        )
    journal = Journal()
    for at in range(head, len(body), _ENTRY_BYTES):
        entry = body[at : at + _ENTRY_BYTES]
        number, code, old, new, at_ms = (
            int.from_bytes(entry[a:b], "big") for a, b in pairwise((0, 8, 10, 18, 26, 34))
        )
        setting = BY_CODE.get(code)
        if setting is None or not (setting.fits(old) and setting.fits(new)):
            raise LocalError(
                f"the journal of changes names setting {code} with {old} and {new},"
                " which is no setting"
            )
        journal._changes.append(Change(number, setting, old, new, at_ms, reverted=entry[34] == 1))
    journal._next = int.from_bytes(body[len(_MAGIC) : head], "big")
    return journal
