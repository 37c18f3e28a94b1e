"""The receipts of the last answers for which one was wanted, until somebody fetches them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from swarmllm.core.trust.case import Finding
from swarmllm.core.trust.receipt import Signed, Unseal, read, written
from swarmllm.core.trust.sessions import Ongoing
from swarmllm.core.trust.transcript import Round

RECEIPTS_MAX: Final = 8
OPINIONS_MAX: Final = 64
EXPERTS_MAX: Final = 16  # Sessions of one receipt.


class Receipts:
    """`open_for`: how many sessions of a receipt are still to be signed."""

    def __init__(self, open_for: Callable[[str], int], unseal: Unseal) -> None:
        self._open_for, self._unseal = open_for, unseal
        self._kept: dict[str, list[tuple[bytes, list[Round]]]] = {}

    def keep(self, session: Ongoing) -> None:
        """One that is over; those that were not signed as they were are no part of a receipt."""
        name = session.receipt
        if not name or not session.is_signed:
            return
        if name not in self._kept and len(self._kept) >= RECEIPTS_MAX:
            del self._kept[next(iter(self._kept))]
        rows = self._kept.setdefault(name, [])
        if len(rows) < EXPERTS_MAX:
            rows.append((session.sealed, session.transcript.rounds))

    def read(self, data: bytes) -> tuple[Signed, ...]:
        """Of anybody. RemoteError, in a sentence, for what is none."""
        return read(data, self._unseal)

    def waits(self, name: str) -> bool:
        """Whether more will come."""
        return self._open_for(name) > 0

    def of(self, name: str) -> bytes:
        """What there is by now; empty if there is nothing."""
        rows = self._kept.get(name)
        return written(rows) if rows else b""


class Opinions:
    """What came of the last receipts that were looked at, by number."""

    def __init__(self) -> None:
        self._found: dict[int, Finding] = {}

    def keep(self, number: int, finding: Finding) -> None:
        if len(self._found) >= OPINIONS_MAX:
            del self._found[next(iter(self._found))]
        self._found[number] = finding

    def of(self, number: int) -> Finding | None:
        return self._found.get(number)
