"""Connection targets: addresses found anywhere are dialled with backoff until there are enough
connections.

Discovery only finds peers; it decides nothing. Every source (LAN, bootstrap, DHT, capacity records,
the last run) feeds one bounded book.

Whoever connects to us cannot keep us from those that we choose: `CHOSEN_MIN` connections are to
peers that we were dialling when they came up, however many others there are. Beyond that, any
connections are as good, up to `CONNECTIONS_TARGET`. Those that we chose are the first to be dialled
at the next start, the longest held first, and the last to leave the book.

The node asks after every input whether somebody is to be dialled now, and hardly ever is. So two
heaps answer that without a look through the book: those who wait for their time, and those whose
time has come, in the order in which they will be dialled. A change of a peer makes its earlier
places in them void; they are passed over when they come up, and cleared away once they are the
majority.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import msgpack

from swarmllm.core.effects import Dial
from swarmllm.core.facts import ExpertHeard, Fact, PeerGone, RecordsHeard
from swarmllm.core.inputs import (
    AddressesChanged,
    AddressesFound,
    DialFailed,
    Input,
    PeerConnected,
    PeerLost,
    VocabularyLearned,
)
from swarmllm.core.part import Part, Told
from swarmllm.core.peers.relayed import whole
from swarmllm.messages import PeerId
from swarmllm.messages.goodbye import GOODBYES, MEMBERS

# Peers in the book: some 200 bytes each; who failed most and was heard of longest ago goes first.
KNOWN_MAX = 1024
ADDRS_MAX = 8  # Per peer: the interfaces of one machine, and a relay or two.
CONNECTIONS_TARGET = 32  # Dial no more on our own beyond this: K is 4 to 16, gossip wants 6 to 12.
# But have so many that we dialled: as many as the largest K, whoever else has come.
CHOSEN_MIN = 16
# Dials that fail in a row, over some 10 minutes, until an anchor is a peer like any other.
PROVEN_FAILURES_MAX = 8
DIALS_MAX = 8  # At once.
BACKOFF_BASE_S = 1.0
BACKOFF_MAX_S = 300.0
# Without a record of a peer: then it comes back from somewhere, and dials that failed meanwhile say
# nothing. Of most peers that cannot be dialled at all records come more often; of the others a dial
# in so long is what the longest wait makes of it as well.
AWAY_S = 60.0
SAVED_MAX = 64  # Anchors for the next start.


@dataclass(slots=True)
class Known:
    addrs: tuple[str, ...]
    heard_at: float
    failures: int = 0
    next_dial_at: float = 0.0
    dialling: bool = False
    proven: bool = False  # We chose it once, in this run or the last, and it was there.
    ticket: int = 0  # Of its place in a heap; 0: it has none.
    alive_at: float = -math.inf  # When a record of it came last.
    # How often in a row it let us come and sent us away again, as a closed swarm does.
    turned_away: int = 0


class Dialling(Part):
    inputs = (
        *(PeerConnected, PeerLost, AddressesFound, DialFailed, AddressesChanged),
        *(RecordsHeard, ExpertHeard, VocabularyLearned),
    )

    def __init__(self, own: PeerId, rng: random.Random, *, has_vocabulary: bool = True) -> None:
        self._own = own
        # Without one no expert is usable, and any of them can give one.
        self._has_vocabulary = has_vocabulary
        self._rng = rng
        self._known: dict[PeerId, Known] = {}
        self._dialling = 0
        self._tickets = itertools.count(1)
        self._waiting: list[tuple[float, PeerId, int]] = []  # When to dial it, whom, ticket.
        # The same behind the number of failures; their time has come.
        self._ready: list[tuple[int, float, PeerId, int]] = []
        self.connected: set[PeerId] = set()
        # Of those, the ones that we dialled; the longest held first.
        self._chosen: dict[PeerId, None] = {}

    def handle(self, event: Input | Fact, now: float) -> Told:
        """Dials are not among what it brings about: `due` says whom."""
        match event:
            case RecordsHeard(heard=heard):
                for peer, record, is_usable in heard:
                    if is_usable or (not self._has_vocabulary and record.sessions_max > 0):
                        self.found(peer, whole(record), now)
                    self._signed_of_life(peer, now)
            case ExpertHeard(peer=peer, addrs=addrs):
                self.found(peer, addrs, now)
            case PeerConnected(peer=peer):
                self.peer_connected(peer)
            case PeerLost(peer=peer, reason=reason) if peer in self.connected:
                self.peer_lost(peer, now, was_turned_away=reason.endswith(GOODBYES[MEMBERS]))
                return [PeerGone(peer, reason)]
            case AddressesFound(peer=peer, addrs=addrs, source=source):
                self.found(peer, addrs, now, proven=source == "saved")
                if source == "bootstrap":  # The owner says so, and waits for it.
                    self._dial_soon(peer, now)
            case DialFailed(peer=peer):
                self.dial_failed(peer, now)
            case AddressesChanged():
                self.moved(now)
            case VocabularyLearned():
                self._has_vocabulary = True
            case _:
                pass
        return ()

    def found(
        self, peer: PeerId, addrs: tuple[str, ...], now: float, *, proven: bool = False
    ) -> None:
        """New addresses come first: what was heard last is likeliest to be right. `proven`: it was
        an anchor of the last run."""
        if peer == self._own or not addrs:
            return
        known = self._known.get(peer)
        if known is None:
            self._make_room()
            known = self._known[peer] = Known(
                addrs[:ADDRS_MAX], now, next_dial_at=now, proven=proven
            )
            self._line_up(peer, known)
            return
        known.heard_at = now
        known.proven |= proven
        if known.addrs[: len(addrs)] == addrs:
            return
        merged = tuple(dict.fromkeys((*addrs, *known.addrs)))[:ADDRS_MAX]
        if set(merged) != set(known.addrs) and not known.dialling:
            known.failures, known.next_dial_at = 0, min(known.next_dial_at, now + BACKOFF_BASE_S)
            self._line_up(peer, known)
        known.addrs = merged

    def _signed_of_life(self, peer: PeerId, now: float) -> None:
        """A record that the peer has just signed came over others. After a long silence it was a
        cut between us, and it is over: half a swarm would else wait for its backoff."""
        known = self._known.get(peer)
        if known is None:
            return
        was_away, known.alive_at = now >= known.alive_at + AWAY_S, now
        if was_away:
            self._dial_soon(peer, now)

    def _dial_soon(self, peer: PeerId, now: float) -> None:
        """Dials that failed count no more."""
        known = self._known.get(peer)
        if known is None or not known.failures or known.dialling or peer in self.connected:
            return
        known.failures = 0
        known.next_dial_at = now + BACKOFF_BASE_S * self._rng.random()
        self._line_up(peer, known)

    def moved(self, now: float) -> None:
        """This node is on another network, or was away: what failed before may work now. Those that
        failed often wait as before; those that failed least are dialled first."""
        for peer, known in self._known.items():
            if known.failures <= PROVEN_FAILURES_MAX and known.next_dial_at > now:
                known.next_dial_at = now
                self._line_up(peer, known)

    def peer_connected(self, peer: PeerId) -> None:
        self.connected.add(peer)
        known = self._known.get(peer)
        if known is not None:
            if known.dialling:
                self._chosen.setdefault(peer)
                known.proven = True
            self._hung_up(known)
            known.failures, known.ticket = 0, 0

    def peer_lost(self, peer: PeerId, now: float, *, was_turned_away: bool = False) -> None:
        self.connected.discard(peer)
        self._chosen.pop(peer, None)
        known = self._known.get(peer)
        if known is not None and was_turned_away:
            known.turned_away += 1
            known.failures = known.turned_away - 1
            self.dial_failed(peer, now)
        elif known is not None:
            known.turned_away = 0
            self._hung_up(known)
            known.next_dial_at = max(
                known.next_dial_at, now + BACKOFF_BASE_S * self._rng.uniform(0.5, 1.5)
            )
            self._line_up(peer, known)

    def dial_failed(self, peer: PeerId, now: float) -> None:
        known = self._known.get(peer)
        if known is None:
            return
        self._hung_up(known)
        known.failures += 1
        wait = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2.0 ** min(known.failures, 16))
        known.next_dial_at = now + wait * self._rng.uniform(0.5, 1.0)
        self._line_up(peer, known)

    def due(self, now: float) -> list[Dial]:
        """Dials to begin now; call after every change and at `next_deadline`."""
        room = self._room()
        dials: list[Dial] = []
        if room <= 0:
            return dials
        self._call_up(now)
        while self._ready and len(dials) < room:
            _, _, peer, ticket = heappop(self._ready)
            known = self._known.get(peer)
            if known is not None and known.ticket == ticket:
                known.dialling, known.ticket = True, 0
                self._dialling += 1
                dials.append(Dial(peer, known.addrs))
        return dials

    def view(self, now: float) -> tuple[PeerId, ...]:
        """Who is connected."""
        return tuple(sorted(self.connected))

    def next_deadline(self) -> float:
        """When `due` will have something to do; at once where it has and was not called."""
        if self._room() <= 0:
            return float("inf")  # The end of a dial or of a connection comes as an input.
        ready = (at for _, at, peer, ticket in self._ready if self._holds(peer, ticket))
        while self._waiting and not self._holds(*self._waiting[0][1:]):
            heappop(self._waiting)
        first = self._waiting[0][0] if self._waiting else float("inf")
        return min(ready, default=first) if self._ready else first

    def _room(self) -> int:
        missing = max(CONNECTIONS_TARGET - len(self.connected), CHOSEN_MIN - len(self._chosen))
        return min(DIALS_MAX, missing) - self._dialling

    def _call_up(self, now: float) -> None:
        """Those whose time has come, from the one heap to the other."""
        while self._waiting and self._waiting[0][0] <= now:
            at, peer, ticket = heappop(self._waiting)
            if self._holds(peer, ticket):
                heappush(self._ready, (self._known[peer].failures, at, peer, ticket))

    def _line_up(self, peer: PeerId, known: Known) -> None:
        """A place for a peer that could be dialled, in place of any it had."""
        known.ticket = 0
        if known.dialling or peer in self.connected:
            return
        known.ticket = next(self._tickets)
        heappush(self._waiting, (known.next_dial_at, peer, known.ticket))
        # Most are void: there are at most as many peers as KNOWN_MAX.
        if len(self._waiting) + len(self._ready) > 2 * KNOWN_MAX:
            self._waiting = [place for place in self._waiting if self._holds(*place[1:])]
            self._ready = [place for place in self._ready if self._holds(*place[2:])]
            heapify(self._waiting)
            heapify(self._ready)

    def _holds(self, peer: PeerId, ticket: int) -> bool:
        known = self._known.get(peer)
        return known is not None and known.ticket == ticket

    def _hung_up(self, known: Known) -> None:
        self._dialling -= known.dialling
        known.dialling = False

    def save(self) -> bytes:
        """The peers worth trying first at the next start: those that we chose, the longest held
        first, then those that we chose before, then others that are connected, then those heard of
        last."""
        rank = {peer: number for number, peer in enumerate(self._chosen)}

        def order(peer: PeerId) -> tuple[int, bool, bool, float, PeerId]:
            known = self._known[peer]
            return (
                rank.get(peer, KNOWN_MAX),
                not _is_anchor(known),
                peer not in self.connected,
                -known.heard_at,
                peer,
            )

        best = sorted(self._known, key=order)[:SAVED_MAX]
        packed: bytes = msgpack.packb([[p, list(self._known[p].addrs)] for p in best])
        return packed

    def _make_room(self) -> None:
        while len(self._known) >= KNOWN_MAX:
            idle = [
                p for p, k in self._known.items() if p not in self.connected and not k.dialling
            ] or list(self._known)
            gone = self._known.pop(max(idle, key=self._worthless))
            self._hung_up(gone)

    def _worthless(self, peer: PeerId) -> tuple[bool, int, float, PeerId]:
        """Who leaves the book first is greatest by this: a flood of made-up peers does not drive
        out those that were there."""
        known = self._known[peer]
        return not _is_anchor(known), known.failures, -known.heard_at, peer


def _is_anchor(known: Known) -> bool:
    return known.proven and known.failures <= PROVEN_FAILURES_MAX


def load_saved(data: bytes) -> list[tuple[PeerId, tuple[str, ...]]]:
    """What `Dialling.save` wrote; anything else (another version, a damaged disk) is no peers at
    all."""
    try:
        rows = msgpack.unpackb(data)
        return [(PeerId(str(p)), tuple(str(a) for a in addrs)) for p, addrs in rows[:SAVED_MAX]]
    except (ValueError, TypeError, msgpack.UnpackException):
        return []
