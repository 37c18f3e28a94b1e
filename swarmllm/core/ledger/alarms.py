"""The alarms that a witness has raised, and which of them its owner has acknowledged.

Nothing follows from an acknowledgement but that the alarm is not shown as new any more: it stays,
and so does its entry, and the log that it is about is not cosigned again.
"""

from __future__ import annotations

from collections.abc import ItemsView, Sequence
from hashlib import sha256

from swarmllm.core.effects import AppendToLedger, NodeEffect
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.messages import AlarmAcknowledged, LedgerAlarm, PeerId
from swarmllm.wire.codec import encode


class Alarms:
    """By whose log they are about; the witness bounds their number."""

    def __init__(self) -> None:
        self._alarms: dict[PeerId, LedgerAlarm] = {}
        self._digests: dict[bytes, PeerId] = {}  # SHA-256 of each as it was signed.
        self._acknowledged: set[PeerId] = set()
        self._acknowledging: dict[int, PeerId] = {}  # By the number of the entry.

    def __contains__(self, peer: object) -> bool:
        return peer in self._alarms

    def __len__(self) -> int:
        return len(self._alarms)

    def items(self) -> ItemsView[PeerId, LedgerAlarm]:
        return self._alarms.items()

    @property
    def acknowledged(self) -> tuple[PeerId, ...]:
        """About whose logs the owner has looked at them; sorted."""
        return tuple(sorted(self._acknowledged))

    def hold(self, peer: PeerId, alarm: LedgerAlarm, data: bytes) -> None:
        """One that was raised, now or in an earlier life; `data` as it was signed."""
        self._alarms[peer] = alarm
        self._digests[sha256(data).digest()] = peer

    def seen(self, digest: bytes) -> None:
        """The ledger says that the owner has looked at the one with this SHA-256."""
        if digest in self._digests:
            self._acknowledged.add(self._digests[digest])

    def acknowledge(self, digest: bytes) -> Sequence[NodeEffect]:
        """The owner has looked at the alarm with this SHA-256: an entry of the ledger, and done
        when that is on disk (`recorded`)."""
        peer = self._digests.get(digest)
        if peer is None or peer in self._acknowledged or peer in self._acknowledging.values():
            return []
        number = 1 + max(self._acknowledging, default=0)
        self._acknowledging[number] = peer
        return [AppendToLedger(acknowledgement(self._alarms[peer].log, digest), number)]

    def recorded(self, number: int, ok: bool) -> None:
        """The entry of an acknowledgement is on disk, or cannot be written."""
        peer = self._acknowledging.pop(number, None)
        if peer is not None and ok:
            self._acknowledged.add(peer)


def acknowledgement(log: bytes, digest: bytes) -> LedgerEntry:
    """The entry that says that this node's owner has looked at an alarm about this log."""
    return LedgerEntry(LedgerKind.ACKNOWLEDGED, encode(AlarmAcknowledged(log, digest)))
