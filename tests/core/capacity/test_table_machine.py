"""The capacity table beside the plainest thing that obeys the same laws."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarmllm.core.capacity.table import SHARE_MIN, TOMBSTONE_S, CapacityTable
from swarmllm.messages import PeerId
from tests.core.capacity.support import FRIEND, OTHER, hear, record, sealed


class TableAgainstModel(RuleBasedStateMachine):
    """A dict, searched from end to end each time."""

    places = 12
    ttl_s = 8.0

    def __init__(self) -> None:
        super().__init__()
        self.table = CapacityTable(ttl_s=self.ttl_s, peers_max=self.places)
        self.now = 0.0
        self.turn = itertools.count()
        self.kept: dict[PeerId, tuple[tuple[int, int], float]] = {}  # Version and birth.
        # When as the how manieth, and by whom: of strangers.
        self.brought: dict[PeerId, tuple[int, PeerId]] = {}
        self.tombstones: dict[PeerId, tuple[tuple[int, int], float]] = {}
        self.connected: set[PeerId] = set()

    peers = st.sampled_from([PeerId(name) for name in "ABCDEFGHIJKLMNOP"])
    carriers = st.sampled_from([FRIEND, OTHER])

    @rule(pause=st.sampled_from([0.25, 1.0, 3.0, 7.75, 8.0, 400.0]))
    def wait(self, pause: float) -> None:
        self.now += pause

    @rule(peer=peers)
    def connect(self, peer: PeerId) -> None:
        self.table.peer_connected(peer)
        self.connected.add(peer)
        self.tombstones.pop(peer, None)
        self.brought.pop(peer, None)

    @rule(peer=peers)
    def lose(self, peer: PeerId) -> None:
        self.table.peer_lost(peer, self.now)
        self.connected.discard(peer)
        self.tombstone(peer)

    @rule(peer=peers)
    def dial_fails(self, peer: PeerId) -> None:
        self.table.dial_failed(peer, self.now)
        if peer not in self.connected:
            self.tombstone(peer)

    def tombstone(self, peer: PeerId) -> None:
        held = self.kept.pop(peer, None)
        self.brought.pop(peer, None)
        if held is not None:
            self.tombstones[peer] = (held[0], self.now + TOMBSTONE_S)

    @rule(
        peer=peers,
        version=st.tuples(st.integers(0, 2), st.integers(0, 5)),
        age_s=st.sampled_from([0.0, 2.0, 9.0]),
        by=carriers,
    )
    def hear(self, peer: PeerId, version: tuple[int, int], age_s: float, by: PeerId) -> None:
        outcome = hear(self.table, peer, version, self.now, age_s, by)
        assert outcome == self.expected(peer, version, self.now - age_s, by)

    def expected(self, peer: PeerId, version: tuple[int, int], born_at: float, by: PeerId) -> str:
        if self.now >= born_at + self.ttl_s:
            return "old"
        held = self.kept.get(peer)
        live = held is not None and self.now < held[1] + self.ttl_s
        if held is not None:
            if live and version <= held[0]:
                return "stale"
            self.kept[peer] = (version, born_at)
            return "updated" if live else "new"
        if (
            peer in self.tombstones
            and self.now < self.tombstones[peer][1]
            and version <= self.tombstones[peer][0]
        ):
            return "tombstoned"
        own = sorted((turn, p) for p, (turn, carrier) in self.brought.items() if carrier == by)
        if len(own) >= max(SHARE_MIN, self.places // max(1, len(self.connected))):
            self.drop(own[0][1])
        if len(self.kept) >= self.places:
            counts = {
                carrier: sum(c == carrier for _, c in self.brought.values())
                for _, carrier in self.brought.values()
            }
            if not counts:
                return "full"
            most = max(counts, key=lambda c: (counts[c], c))
            self.drop(
                min((turn, p) for p, (turn, carrier) in self.brought.items() if carrier == most)[1]
            )
        self.tombstones.pop(peer, None)
        self.kept[peer] = (version, born_at)
        if peer not in self.connected:
            self.brought[peer] = (next(self.turn), by)
        return "new"

    def drop(self, peer: PeerId) -> None:
        del self.kept[peer], self.brought[peer]

    @rule(count=st.integers(1, 4), to=st.one_of(peers, carriers))
    def give(self, count: int, to: PeerId) -> None:
        given = self.table.give(count, self.now, to, ())
        assert len({entry.peer for entry in given}) == len(given) <= count
        for entry in given:
            assert entry.peer != to
            assert self.now < entry.born_at + self.ttl_s
            assert (sealed(entry.peer, *self.kept[entry.peer][0]), self.kept[entry.peer][1]) == (
                entry.sealed,
                entry.born_at,
            )

    @rule()
    def sweep(self) -> None:
        self.table.sweep(self.now)
        for peer in [
            p
            for p, (_, born) in self.kept.items()
            if self.now >= born + self.ttl_s and p not in self.connected
        ]:
            del self.kept[peer]
            self.brought.pop(peer, None)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        counts = {
            p: v
            for p, (v, born) in self.kept.items()
            if p in self.connected or self.now < born + self.ttl_s
        }
        assert self.table.alive(self.now) == [(p, record(*v)) for p, v in sorted(counts.items())]
        assert len(self.table) == len(self.kept) <= self.places
        assert {p: self.table.get(p) for p in self.kept} == {
            p: record(*v) for p, (v, _) in self.kept.items()
        }
        assert len(self.table._by_bytes) == len(self.kept)


TestTableAgainstModel = TableAgainstModel.TestCase
