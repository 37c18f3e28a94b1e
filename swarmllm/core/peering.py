"""Who to be connected to: addresses found anywhere, dialled with backoff until there are enough connections.

Discovery only finds peers; it decides nothing. Every source (LAN, bootstrap, DHT, gossip, the last run) feeds one bounded book, and
outbound slots are ours alone, so that inbound peers cannot crowd out those that we chose.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import msgpack

from swarmllm.core.events import Dial
from swarmllm.messages import PeerId

KNOWN_MAX = 1024  # Peers in the book: some 200 bytes each; who failed most and was heard of longest ago goes first.
ADDRS_MAX = 8  # Per peer: the interfaces of one machine, and a relay or two.
CONNECTIONS_TARGET = 32  # Dial no more on our own beyond this: K is 4 to 16, gossip wants 6 to 12.
DIALS_MAX = 8  # At once.
BACKOFF_BASE_S = 1.0
BACKOFF_MAX_S = 300.0
SAVED_MAX = 64  # Anchors for the next start.


@dataclass(slots=True)
class Known:
    addrs: tuple[str, ...]
    heard_at: float
    failures: int = 0
    next_dial_at: float = 0.0
    dialling: bool = False


class Peering:
    def __init__(self, own: PeerId, rng: random.Random) -> None:
        self._own = own
        self._rng = rng
        self._known: dict[PeerId, Known] = {}
        self.connected: set[PeerId] = set()

    def found(self, peer: PeerId, addrs: tuple[str, ...], now: float) -> None:
        """New addresses come first: what was heard last is likeliest to be right."""
        if peer == self._own or not addrs:
            return
        known = self._known.get(peer)
        if known is None:
            self._make_room()
            self._known[peer] = Known(addrs[:ADDRS_MAX], now, next_dial_at=now)
            return
        merged = tuple(dict.fromkeys((*addrs, *known.addrs)))[:ADDRS_MAX]
        if set(merged) != set(known.addrs) and not known.dialling:
            known.failures, known.next_dial_at = 0, min(known.next_dial_at, now + BACKOFF_BASE_S)
        known.addrs, known.heard_at = merged, now

    def peer_connected(self, peer: PeerId) -> None:
        self.connected.add(peer)
        known = self._known.get(peer)
        if known is not None:
            known.dialling, known.failures = False, 0

    def peer_lost(self, peer: PeerId, now: float) -> None:
        self.connected.discard(peer)
        known = self._known.get(peer)
        if known is not None:
            known.dialling = False
            known.next_dial_at = max(known.next_dial_at, now + BACKOFF_BASE_S * self._rng.uniform(0.5, 1.5))

    def dial_failed(self, peer: PeerId, now: float) -> None:
        known = self._known.get(peer)
        if known is None:
            return
        known.dialling = False
        known.failures += 1
        wait = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2.0 ** min(known.failures, 16))
        known.next_dial_at = now + wait * self._rng.uniform(0.5, 1.0)

    def due(self, now: float) -> list[Dial]:
        """Dials to begin now; call after every change and at `next_deadline`."""
        dialling = sum(k.dialling for k in self._known.values())
        room = min(DIALS_MAX - dialling, CONNECTIONS_TARGET - len(self.connected) - dialling)
        if room <= 0:
            return []
        ready = [p for p, k in self._known.items() if p not in self.connected and not k.dialling and k.next_dial_at <= now]
        ready.sort(key=lambda p: (self._known[p].failures, self._known[p].next_dial_at, p))
        for peer in ready[:room]:
            self._known[peer].dialling = True
        return [Dial(peer, self._known[peer].addrs) for peer in ready[:room]]

    def next_deadline(self) -> float:
        dialling = sum(k.dialling for k in self._known.values())
        if dialling >= DIALS_MAX or len(self.connected) + dialling >= CONNECTIONS_TARGET:
            return float("inf")  # The end of a dial or of a connection comes as an input.
        waiting = (k.next_dial_at for p, k in self._known.items() if p not in self.connected and not k.dialling)
        return min(waiting, default=float("inf"))

    def save(self) -> bytes:
        """The peers worth trying first at the next start: connected ones, then those heard of last."""
        best = sorted(self._known, key=lambda p: (p not in self.connected, -self._known[p].heard_at, p))[:SAVED_MAX]
        packed: bytes = msgpack.packb([[p, list(self._known[p].addrs)] for p in best])
        return packed

    def _make_room(self) -> None:
        while len(self._known) >= KNOWN_MAX:
            idle = [p for p, k in self._known.items() if p not in self.connected and not k.dialling] or list(self._known)
            del self._known[max(idle, key=lambda p: (self._known[p].failures, -self._known[p].heard_at, p))]


def load_saved(data: bytes) -> list[tuple[PeerId, tuple[str, ...]]]:
    """What `Peering.save` wrote; anything else (another version, a damaged disk) is no peers at all."""
    try:
        rows = msgpack.unpackb(data)
        return [(PeerId(str(p)), tuple(str(a) for a in addrs)) for p, addrs in rows[:SAVED_MAX]]
    except (ValueError, TypeError, msgpack.UnpackException):
        return []
