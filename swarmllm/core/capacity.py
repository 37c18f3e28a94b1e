"""Who offers what, as they say themselves: for each peer the newest capacity record, for as long as it keeps coming.

Records come by gossip, so late, twice and out of order; the newest (boot, seq) wins, and whatever order they come in, the same one is
left. The author's word is all there is, so the table bounds what anybody can do with it: records per second of one author, peers in all,
and how long anything is believed.

**Restarts and skewed clocks.** `boot` is the author's wall clock at its start, because a node that lost its disk must still be newer than
its former self. So a node that once started with its clock far ahead looks older after its next start, and a stolen key can jump to the
last boot there is (the fast-forward attack on version numbers). If that were remembered for good, the peer would be shut out for good;
if it were compared with our clock, *our* clock being wrong would shut out everybody. Instead nothing is remembered longer than it is
believed: only an accepted record renews an entry, stale ones never do, so `RECORD_TTL_S` after the last record from the future the entry
is gone and the peer starts afresh (at once where its connection was seen to break, for then the node calls `forget`). Until then it is
listed with its last values, which is what staleness costs: values are hints, and hints only.

The price is that old records of a peer that has gone can be played back once it is forgotten. They list a peer that cannot be reached, in
a bounded table, and never push out one that is connected; a live author's next record beats them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from swarmllm.errors import RemoteError
from swarmllm.messages import CapacityRecord, PeerId

PEERS_MAX = 4096  # Some 2 KiB each; more experts than one requester could ever measure.
RECORD_TTL_S = 15.0  # Five records at one each 3 s: gossip loses one now and then, hardly five in a row.
RATE_PER_S = 1.0  # Accepted records per author; three times what is needed.
BURST = 5.0  # A node that has just started says what changed: model loaded, addresses found, first sessions.

Outcome = Literal["new", "updated", "stale", "limited", "full"]
"""What became of a record. Only "new" (the peer was not listed) and "updated" changed anything; "limited": its author speaks too often;
"full": every place is taken by a connected peer."""


@dataclass(slots=True)
class _Entry:
    record: CapacityRecord
    expires_at: float
    allowance: float  # Records that the author may still send at `heard_at` (a token bucket).
    heard_at: float


def _nobody(_peer: PeerId) -> bool:
    return False


class CapacityTable:
    """At most `peers_max` peers. Time is in seconds on any clock; one that runs backwards counts as standing still."""

    def __init__(self, ttl_s: float = RECORD_TTL_S, peers_max: int = PEERS_MAX) -> None:
        assert 0 < ttl_s < math.inf, f"ttl {ttl_s} s"
        assert peers_max >= 1, f"{peers_max} peers"
        self._ttl_s = ttl_s
        self._peers_max = peers_max
        self._entries: dict[PeerId, _Entry] = {}  # Ordered by when they were last renewed: the first expires first.
        self._now = -math.inf

    def __len__(self) -> int:
        return len(self._entries)

    def hear(self, peer: PeerId, record: CapacityRecord, now: float, connected: Callable[[PeerId], bool] = _nobody) -> Outcome:
        """Take in a record that `peer` has signed. RemoteError if it contradicts itself; nothing has changed then.

        When the table is full the peer whose record is oldest makes room, but never one that is `connected`.
        """
        check(record)
        now = self._forward(now)
        entry = self._entries.get(peer)
        known = entry is not None and now < entry.expires_at
        allowance = BURST
        if entry is not None and known:
            if (record.boot, record.seq) <= (entry.record.boot, entry.record.seq):
                return "stale"  # Free for its author: else anybody could use it up by playing back old records.
            allowance = min(BURST, entry.allowance + (now - entry.heard_at) * RATE_PER_S)
            if allowance < 1:
                return "limited"
        if entry is not None:
            del self._entries[peer]  # To come in again at the end.
        elif len(self._entries) >= self._peers_max:
            oldest = next((p for p in self._entries if not connected(p)), None)
            if oldest is None:
                return "full"
            del self._entries[oldest]
        self._entries[peer] = _Entry(record, now + self._ttl_s, allowance - 1, now)
        return "updated" if known else "new"

    def get(self, peer: PeerId) -> CapacityRecord | None:
        """The peer's newest record; None if it has none, or `forget` or `expire` took it away."""
        entry = self._entries.get(peer)
        return entry.record if entry is not None else None

    def alive(self, now: float) -> list[tuple[PeerId, CapacityRecord]]:
        """Everybody whose record still counts, by peer id."""
        now = self._forward(now)
        return sorted(((p, e.record) for p, e in self._entries.items() if now < e.expires_at), key=lambda found: found[0])

    def forget(self, peer: PeerId) -> None:
        """As if the peer had never been heard of."""
        self._entries.pop(peer, None)

    def expire(self, now: float) -> list[PeerId]:
        """Forget all whose records have grown too old; returns them by peer id."""
        now = self._forward(now)
        gone: list[PeerId] = []
        for peer, entry in self._entries.items():
            if now < entry.expires_at:
                break
            gone.append(peer)
        for peer in gone:
            del self._entries[peer]
        return sorted(gone)

    def next_deadline(self) -> float:
        """When `expire` will have something to do; infinite while the table is empty."""
        first = next(iter(self._entries.values()), None)
        return first.expires_at if first is not None else math.inf

    def _forward(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now


def check(record: CapacityRecord) -> None:
    """RemoteError if the record contradicts itself, or carries text that could steer somebody's terminal."""
    if record.sessions_free > record.sessions_max:
        raise RemoteError(f"capacity record: {record.sessions_free} sessions free of {record.sessions_max}")
    if record.context_max < 1:
        raise RemoteError(f"capacity record: a context of {record.context_max} tokens")
    for text in (record.model, *record.domains, *record.addrs):
        if not text.isprintable():
            raise RemoteError(f"capacity record: unprintable text {text!a}")
