"""The capacity table keeps the newest capacity record of each peer, whoever brought it, for a
limited time.

Records come from hand to hand (`core.capacity.exchange`), so late, twice and out of order; the
newest (boot, seq) wins, and whatever order they come in, the same one is left. The author's word is
all there is, and the carrier's word for how old it is. So the table bounds what anybody can do with
either: peers in all, strangers by one carrier, and how long anything is believed.

**Age.** A record travels with the time since it was sealed. Each carrier adds how long it held it
and rounds up, so an honest age never shrinks on its way. What is `ttl_s` old is forgotten. Of the
same bytes the first age stands: a carrier that says less keeps nothing alive, one that says more
ends nothing. A connected peer's record stays for as long as the connection, which proves better
than any record that the peer is there; but once it is old it gives way to any other, and is not
passed on.

**Ghosts.** A carrier can lie about age and so keep somebody listed who is gone. That costs whoever
believes it one dial: where a dial failed, or a connection broke, that version and all before are
refused for `TOMBSTONE_S`, unless the peer itself connects. A peer that lives seals a new one within
seconds.

**Restarts and skewed clocks.** `boot` is the author's wall clock at its start, because a node that
lost its disk must still be newer than its former self. So a node that once started with its clock
far ahead looks older after its next start, and a stolen key can jump to the last boot there is (the
fast-forward attack on version numbers). If that were remembered for good, the peer would be shut
out for good; if it were compared with our clock, *our* clock being wrong would shut out everybody.
Instead no version is defended longer than it is believed: only an accepted record renews an entry,
stale ones never do. Until then it is listed with its last values, and values are hints.

**What is passed on** is what has been passed on least often, the youngest first: so every author is
known to about as many peers, and what is about to be forgotten does not travel. Records drawn at
random would make a half or a third of the peers known.

**Room.** Strangers are counted for the carrier that brought them first, and a carrier has its share
of the table: what it brings beyond that takes the place of what it brought before, never of what
others did. So inventing authors fills one's own corner only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Literal

from swarmllm.core.facts import Fact, PeerGone
from swarmllm.core.inputs import DialFailed, Input, PeerConnected
from swarmllm.core.part import Part, Told
from swarmllm.errors import RemoteError
from swarmllm.messages import CapacityRecord, PeerId
from swarmllm.wire.names import is_address, is_name

# Some 2 KiB each; an honest swarm of any size fills a fifth of it, for records come slowly and live
# shortly.
PEERS_MAX = 512
# Places of one carrier, however many there are. An honest one among thirty fills three or four.
SHARE_MIN = 8
# Time to travel to everybody who will ever hear of it; a ghost costs one dial within it.
RECORD_TTL_S = 90.0
# A record that was passed on once more comes after one that is younger by no more than this.
FORWARD_S = 20.0
# Records that are looked at and not given, because the receiver has them: it hardly lacks the rest.
PASSED_OVER_MAX = 32
# Longer than a record can live in honest hands, and than a peering backoff: a ghost costs a dial in
# five minutes.
TOMBSTONE_S = 300.0
TOMBSTONES_MAX = 1024  # As many as peering knows addresses of; the oldest tombstone goes.

Outcome = Literal["new", "updated", "stale", "old", "tombstoned", "full"]
"""What became of a record. Only "new" (the peer was not listed) and "updated" changed anything;
"old": beyond its time; "tombstoned": the peer was found gone since; "full": every place is taken by
a connected peer."""


@dataclass(slots=True, eq=False)
class Entry:
    """`sealed` is `record` as its author signed it, `born_at` when that was, and `bearer` who
    brought this version. `carrier` brought the first one (None: the author is connected)."""

    peer: PeerId
    record: CapacityRecord
    sealed: bytes
    born_at: float
    bearer: PeerId
    carrier: PeerId | None
    given: int = 0  # How often this version was passed on.
    ticket: int = 0  # Of its place in the line; 0: it has none.


class CapacityTable(Part):
    """At most `peers_max` peers. Time is in seconds on any clock; one that runs backwards counts as
    standing still."""

    inputs = (PeerConnected, PeerGone, DialFailed)

    def __init__(self, ttl_s: float = RECORD_TTL_S, peers_max: int = PEERS_MAX) -> None:
        assert 0 < ttl_s < math.inf, f"ttl {ttl_s} s"
        assert peers_max >= 1, f"{peers_max} peers"
        self.ttl_s = ttl_s
        self._peers_max = peers_max
        self._entries: dict[PeerId, Entry] = {}
        self._by_bytes: dict[bytes, Entry] = {}
        # A heap: whom to pass on next. Places of old tickets are void.
        self._line: list[tuple[float, int, Entry]] = []
        self._tickets = itertools.count(1)
        # Carrier -> the strangers that it brought, first come first.
        self._brought: dict[PeerId, dict[PeerId, None]] = {}
        # Boot, seq, until when; the oldest first.
        self._tombstones: dict[PeerId, tuple[int, int, float]] = {}
        self._connected: set[PeerId] = set()
        self._now = -math.inf

    def __len__(self) -> int:
        return len(self._entries)

    def handle(self, event: Input | Fact, now: float) -> Told:
        match event:
            case PeerConnected(peer=peer):
                self.peer_connected(peer)
            case PeerGone(peer=peer):
                self.peer_lost(peer, now)  # Whoever is alive says so again within seconds.
            case DialFailed(peer=peer):
                self.dial_failed(peer, now)
            case _:
                pass
        return ()

    # --- what comes in ----------------------------------------------------------------------------

    def holds(self, sealed: bytes, now: float) -> bool:
        """Whether these very bytes are what the table holds of their author, so that there is
        nothing to check or learn."""
        entry = self._by_bytes.get(sealed)
        return entry is not None and now < entry.born_at + self.ttl_s

    def hear(
        self,
        peer: PeerId,
        record: CapacityRecord,
        sealed: bytes,
        age_s: float,
        carrier: PeerId,
        now: float,
    ) -> Outcome:
        """Take in a record that `peer` has signed, that makes sense (`check`), and that `carrier`,
        who is connected, has brought."""
        now, ttl_s = self._forward(now), self.ttl_s
        born_at = now - age_s
        if now >= born_at + ttl_s:
            return "old"
        entry = self._entries.get(peer)
        if entry is not None:
            known, before = now < entry.born_at + ttl_s, entry.record
            if known and (
                record.boot < before.boot
                or (record.boot == before.boot and record.seq <= before.seq)
            ):
                return "stale"
            del self._by_bytes[entry.sealed]
            entry.record, entry.sealed, entry.born_at, entry.bearer, entry.given = (
                record,
                sealed,
                born_at,
                carrier,
                0,
            )
            self._by_bytes[sealed] = entry
            self._line_up(entry)
            return "updated" if known else "new"
        if peer in self._tombstones and self._is_tombstoned(peer, record, now):
            return "tombstoned"
        if not self._make_room(carrier):
            return "full"
        brought_by = None if peer in self._connected else carrier
        entry = Entry(peer, record, sealed, born_at, carrier, brought_by)
        self._entries[peer] = self._by_bytes[sealed] = entry
        self._line_up(entry)
        if brought_by is not None:
            self._brought.setdefault(brought_by, {})[peer] = None
        return "new"

    def _is_tombstoned(self, peer: PeerId, record: CapacityRecord, now: float) -> bool:
        boot, seq, until = self._tombstones[peer]
        if now < until and (record.boot, record.seq) <= (boot, seq):
            return True
        del self._tombstones[peer]
        return False

    def _make_room(self, carrier: PeerId) -> bool:
        """Room for one more stranger by this carrier: at the cost of what it brought itself, or of
        who brought most."""
        share = max(SHARE_MIN, self._peers_max // max(1, len(self._connected)))
        own = self._brought.get(carrier)
        if own is not None and len(own) >= share:
            self._drop(next(iter(own)))
        if len(self._entries) >= self._peers_max:
            if not self._brought:
                return False
            most = max(self._brought, key=lambda one: (len(self._brought[one]), one))
            self._drop(next(iter(self._brought[most])))
        return True

    # --- what is known of the peers ---------------------------------------------------------------

    def peer_connected(self, peer: PeerId) -> None:
        """It lives, and what it says stays for as long as the connection."""
        self._connected.add(peer)
        self._tombstones.pop(peer, None)
        entry = self._entries.get(peer)
        if entry is not None:
            self._unattribute(entry)

    def peer_lost(self, peer: PeerId, now: float) -> None:
        self._connected.discard(peer)
        self._set_tombstone(peer, now)

    def dial_failed(self, peer: PeerId, now: float) -> None:
        if peer not in self._connected:
            self._set_tombstone(peer, now)

    def _set_tombstone(self, peer: PeerId, now: float) -> None:
        """As if it had never been heard of, but for the versions that are known to be gone."""
        entry = self._entries.get(peer)
        if entry is None:
            return
        self._drop(peer)
        self._tombstones.pop(peer, None)
        while len(self._tombstones) >= TOMBSTONES_MAX:
            del self._tombstones[next(iter(self._tombstones))]
        self._tombstones[peer] = (
            entry.record.boot,
            entry.record.seq,
            self._forward(now) + TOMBSTONE_S,
        )

    # --- questions --------------------------------------------------------------------------------

    def get(self, peer: PeerId) -> CapacityRecord | None:
        """The peer's newest record; None if it has none."""
        entry = self._entries.get(peer)
        return entry.record if entry is not None else None

    def alive(self, now: float) -> list[tuple[PeerId, CapacityRecord]]:
        """Everybody whose record still counts, by peer id."""
        now, ttl_s = self._forward(now), self.ttl_s
        found = (
            (e.peer, e.record)
            for e in self._entries.values()
            if now < e.born_at + ttl_s or e.peer in self._connected
        )
        return sorted(found, key=lambda one: one[0])

    def usable(self, fingerprint: bytes, enough: int, now: float) -> int:
        """How many have this vocabulary, counted up to `enough`."""
        now, ttl_s, found = self._forward(now), self.ttl_s, 0
        for e in self._entries.values():
            if e.record.vocab_fingerprint == fingerprint and (
                now < e.born_at + ttl_s or e.peer in self._connected
            ):
                found += 1
                if found >= enough:
                    break
        return found

    def give(self, count: int, now: float, peer: PeerId, but: Collection[bytes]) -> list[Entry]:
        """Up to `count` records that still count, to be passed on to `peer`: not its own, none that
        it brought, and none of `but`."""
        now, line = self._forward(now), self._line
        given: list[Entry] = []
        passed_over: list[tuple[float, int, Entry]] = []
        while line and len(given) < count and len(passed_over) < PASSED_OVER_MAX:
            place = heappop(line)
            entry = place[2]
            if entry.ticket != place[1]:
                continue
            if now >= entry.born_at + self.ttl_s:
                entry.ticket = 0  # A newer version will stand in line again.
            elif peer in (entry.peer, entry.bearer) or entry.sealed in but:
                passed_over.append(place)
            else:
                given.append(entry)
        for place in passed_over:
            heappush(line, place)
        for entry in given:
            entry.given += 1
            self._line_up(entry)
        return given

    def _line_up(self, entry: Entry) -> None:
        entry.ticket = next(self._tickets)
        heappush(self._line, (FORWARD_S * entry.given - entry.born_at, entry.ticket, entry))
        if len(self._line) > 2 * self._peers_max:
            self._line = [place for place in self._line if place[2].ticket == place[1]]
            heapify(self._line)

    def sweep(self, now: float) -> None:
        """Forget strangers whose records have grown too old; from time to time, for the table is
        bounded and `alive` looks itself."""
        now, ttl_s = self._forward(now), self.ttl_s
        for peer in [
            e.peer
            for e in self._entries.values()
            if now >= e.born_at + ttl_s and e.peer not in self._connected
        ]:
            self._drop(peer)

    def _drop(self, peer: PeerId) -> None:
        entry = self._entries.pop(peer)
        del self._by_bytes[entry.sealed]
        self._unattribute(entry)
        entry.ticket = 0

    def _unattribute(self, entry: Entry) -> None:
        if entry.carrier is None:
            return
        brought = self._brought[entry.carrier]
        del brought[entry.peer]
        if not brought:
            del self._brought[entry.carrier]
        entry.carrier = None

    def _forward(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now


class Contradiction(RemoteError):
    """Numbers that contradict each other in a record that `author` signed: only the author can have
    written them."""

    def __init__(self, author: PeerId, text: str) -> None:
        super().__init__(text)
        self.author = author


def check(author: PeerId, record: CapacityRecord) -> None:
    """RemoteError if a text of the record has characters that are not on our list, `Contradiction`
    if its numbers make no sense."""
    if wrong := unlisted((record.model, *record.domains), record.addrs):
        raise RemoteError(f"capacity record: {wrong}")
    if record.sessions_free > record.sessions_max:
        raise Contradiction(
            author,
            f"capacity record: {record.sessions_free} sessions free of {record.sessions_max}",
        )
    if record.context_max < 1:
        raise Contradiction(author, f"capacity record: a context of {record.context_max} tokens")


def unlisted(names: Iterable[str], addrs: Iterable[str]) -> str:
    """Which of these has a character that records may not hold (`wire.names`); empty if none
    has."""
    for name in names:
        if not is_name(name):
            return f"name {name!a} has characters that names do not have"
    for addr in addrs:
        if not is_address(addr):
            return f"address {addr!a} has characters that addresses do not have"
    return ""
