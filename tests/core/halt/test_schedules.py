"""Schedules nobody would think of: reordered, repeated, replayed, partitioned, restarted, forged,
killed between any two steps of a write.

What must hold whatever happens: what a node knows never becomes less, a node that was given a
standing halt is stopped, nothing is lifted that no quorum lifted, an acknowledgement is on disk,
honest peers are never blamed, and after the partition heals all agree. Cites HALT-11 to HALT-20 of
protocols/halt.md.
"""

from __future__ import annotations

from dataclasses import replace

import msgpack
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from swarmllm.core.halt.charter import successor
from swarmllm.core.halt.state_file import load
from swarmllm.messages import Halt, Records, Resume, Signed
from swarmllm.wire.codec import CODES, encode
from swarmllm.wire.marks import marks_of
from swarmllm.wire.signed import open_record
from tests.core.halt.support import (
    HALTERS,
    PRIVATE,
    RESUMERS,
    ROOTS,
    STRANGER,
    SWARM,
    A,
    B,
    Person,
    forged,
    keys,
    signed,
)
from tests.core.halt.world import EVIL, NodeInWorld, World

NODES = 3
EXAMPLES = 60
PHASES = tuple(Phase)
CHARTERS = 4  # So that a schedule does not spend itself on rotations.
which = st.integers(0, NODES - 1)
people = st.sampled_from((A, B))
quorums = st.sampled_from((RESUMERS[:2], RESUMERS[1:], RESUMERS))
spoils = st.sampled_from(("", "", "", "corrupt first", "corrupt second", "lost", "new"))


def twice(data: bytes) -> bytes:
    """The record with its one signature written down two times."""
    opened = open_record(data)
    packed: bytes = msgpack.packb(
        [CODES[Signed], opened.payload, [*opened.signatures, *opened.signatures]]
    )
    return packed


class Swarm(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(NODES)
        self.before: dict[int, tuple[int, dict[bytes, int]]] = {}

    def node(self, at: int) -> NodeInWorld:
        return self.world.nodes[at]

    @initialize(is_old=st.booleans())
    def begin(self, is_old: bool) -> None:
        """Half of the schedules begin with nodes that serve and have been written down, half while
        they start."""
        if is_old:
            for node in self.world.nodes:
                while node.disk.steps:
                    self.world.write_step(node)
            self.world.wait(6.0)

    # --- people -----------------------------------------------------------------------------------

    @rule(at=which, person=people, step=st.integers(1, 3))
    def halt(self, at: int, person: Person, step: int) -> None:
        """An operator signs at one node; a key that was taken out signs too, and counts for
        nothing."""
        node, books = self.node(at), self.world.books
        seq = node.machine.state.highs.get(person.id, 0) + step
        data = signed(Halt(SWARM, person.id, seq, 1, 0), person)
        self.world.publish(data)
        self.world.bring(node, data)
        assert (person.id, seq) in books.halts

    @rule(at=which, quorum=quorums, behind=st.integers(0, 1), some=st.integers(1, 2))
    def resume(self, at: int, quorum: tuple[Person, ...], behind: int, some: int) -> None:
        """A quorum lifts what stands at one node, or only one key's halt, or one order too few."""
        state = self.node(at).machine.state
        lifts = {order.key: max(1, order.seq - behind) for order in state.standing[:some]}
        if lifts:
            data = signed(Resume(SWARM, state.version, marks_of(lifts), 0), *quorum)
            self.world.publish(data)
            self.world.bring(self.node(at), data)

    @precondition(lambda self: len(self.world.books.charters) < CHARTERS)
    @rule(at=which, forget=st.booleans(), drop=st.booleans(), swap=st.booleans())
    def rotate(self, at: int, forget: bool, drop: bool, swap: bool) -> None:
        """The root quorum signs the next charter, from what one node knows; it may forget lifts,
        drop a halt key or swap a resume key."""
        node, books = self.node(at), self.world.books
        current = books.charters[-1]
        changed = replace(
            current,
            halt=keys((A, HALTERS[2])) if drop else current.halt,
            resume=keys((*RESUMERS[:2], STRANGER)) if swap else keys(RESUMERS),
            issued_ms=current.issued_ms + 1,
        )
        head = open_record(books.chain[-1])
        data = signed(
            successor(head, {} if forget else node.machine.state.lifts, changed), *ROOTS[1:]
        )
        self.world.publish(data)
        for one in books.chain:
            self.world.bring(node, one)

    @rule(at=which)
    def stop_here(self, at: int) -> None:
        self.world.perform(self.node(at), self.node(at).machine.stop_here(self.world.now))

    @rule(at=which)
    def start_here(self, at: int) -> None:
        self.world.perform(self.node(at), self.node(at).machine.start_here(self.world.now))

    # --- the world --------------------------------------------------------------------------------

    @rule(one=which, two=which, frames=st.integers(1, 4))
    def deliver(self, one: int, two: int, frames: int) -> None:
        for _ in range(frames):
            self.world.deliver(self.node(one).peer, self.node(two).peer)

    @rule(pick=st.integers(0, 10**6), twice=st.booleans())
    def gossip(self, pick: int, twice: bool) -> None:
        """any gossip under way arrives, out of order, perhaps twice."""
        if self.world.under_way:
            sender, receiver, data = self.world.under_way.pop(pick % len(self.world.under_way))
            for _ in range(1 + twice):
                self.world.gossip(self.world.by_peer[receiver], data, sender)

    @rule(one=which, two=which)
    def partition(self, one: int, two: int) -> None:
        self.world.disconnect(self.node(one), self.node(two))

    @rule(one=which, two=which)
    def heal(self, one: int, two: int) -> None:
        self.world.connect(self.node(one), self.node(two))

    @rule(at=which, steps=st.sampled_from((1, 2, 3, 3, 6)))
    def write(self, at: int, steps: int) -> None:
        for _ in range(steps):
            self.world.write_step(self.node(at))

    @rule(at=which)
    def disk_full(self, at: int) -> None:
        self.world.fail_write(self.node(at))

    @rule(at=which, steps=st.integers(0, 3), spoil=spoils)
    def kill(self, at: int, steps: int, spoil: str) -> None:
        """Between any two steps of a write; then it starts again from what its disk holds."""
        for _ in range(steps):
            self.world.write_step(self.node(at))
        self.world.kill(self.node(at), spoil)
        del self.before[at]
        if spoil == "lost" and self.node(at).disk.genesis is not None:
            assert self.node(at).machine.halted

    @rule(at=which)
    def wake(self, at: int) -> None:
        """The process was stopped, and looks round."""
        node = self.node(at)
        self.world.perform(node, node.machine.woke(self.world.now))

    @rule(seconds=st.sampled_from((0.1, 1.0, 6.0, 11.0)))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    # --- attackers --------------------------------------------------------------------------------

    @rule(at=which, pick=st.integers(0, 10**6))
    def replay(self, at: int, pick: int) -> None:
        published = self.world.books.published
        self.world.gossip(self.node(at), published[pick % len(published)])

    @rule(at=which, person=people, kind=st.integers(0, 7), by_stream=st.booleans())
    def forge(self, at: int, person: Person, kind: int, by_stream: bool) -> None:
        """Whatever can be made without the keys, with one resume key, with one root key, or with
        every halt key."""
        node = self.node(at)
        state = node.machine.state
        seq = state.highs.get(person.id, 0) + 1
        lift = Resume(SWARM, max(1, state.version), marks_of({person.id: seq + 5}), 0)
        charter = self.world.books.charters[-1]
        data = (
            forged(Halt(SWARM, person.id, seq, 1, 0), person),
            signed(Halt(SWARM, person.id, seq, 1, 0), STRANGER),
            signed(lift, RESUMERS[0]),
            forged(lift, *RESUMERS),
            signed(lift, *HALTERS),
            signed(
                successor(open_record(self.world.books.chain[-1]), {person.id: seq + 5}, charter),
                ROOTS[0],
            ),
            signed(Halt(bytes(32), person.id, seq, 1, 0), person),
            twice(signed(lift, RESUMERS[0])),
        )[kind]
        if by_stream:
            self.world.perform(
                node,
                node.machine.received(EVIL, encode(node.machine.state.vectors), self.world.now),
            )
            self.world.perform(
                node, node.machine.received(EVIL, encode(Records((data,))), self.world.now)
            )
        else:
            self.world.gossip(node, data)

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def nothing_known_becomes_less(self) -> None:
        for at, node in enumerate(self.world.nodes):
            state = node.machine.state
            version, highs = self.before.get(at, (0, {}))
            assert state.version >= version
            keep = self.world.halt_keys(state.version) if state.version else set()
            assert all(state.highs.get(key, 0) >= seq for key, seq in highs.items() if key in keep)
            self.before[at] = (state.version, dict(state.highs))

    @invariant()
    def whoever_knows_a_standing_halt_is_stopped(self) -> None:
        for node in self.world.nodes:
            assert (
                node.stopped == bool(node.machine.may_serve(self.world.now))
                or not node.machine.halted
            )
            if node.stopped:
                continue
            disk = node.disk
            if disk.first is not None:
                on_disk = load(disk.first, disk.second, disk.genesis, PRIVATE, SWARM).state
                assert not on_disk.reasons, "it runs, and a restart would find it halted"
            version = node.machine.state.version
            for key, seq in node.known:
                if key in self.world.halt_keys(version):
                    assert seq <= self.world.books.lifted(version, key), (
                        f"{node.peer} runs under halt {seq}"
                    )

    @invariant()
    def nothing_counts_that_nobody_signed(self) -> None:
        books = self.world.books
        for node in self.world.nodes:
            state = node.machine.state
            assert state.highs.items() <= books.halts
            for key, seq in state.lifts.items():
                assert seq <= books.lifted(state.version, key), "lifted without a quorum"
            if not node.machine.halted:
                assert not state.standing

    def teardown(self) -> None:
        """After the partition heals everybody agrees, and runs exactly if nothing stands."""
        self.world.settle()
        self.nothing_counts_that_nobody_signed()
        self.whoever_knows_a_standing_halt_is_stopped()
        states = [node.machine.state for node in self.world.nodes]
        assert len({state.digest for state in states}) == 1, "they never agree"
        assert len({state.standing for state in states}) == 1
        for node in self.world.nodes:
            assert not node.machine.holds(self.world.now), "it woke and waits for ever"
            others = [other for other in self.world.nodes if other is not node]
            assert node.stopped == bool(node.machine.halted) == bool(node.machine.state.reasons)
            disk = node.disk
            for first, second in ((disk.first, None), (None, disk.second)):
                assert (
                    load(first, second, disk.genesis, PRIVATE, SWARM).state == node.machine.state
                ), "it would not survive a restart"
            if not any(other.machine.halted for other in self.world.nodes):
                assert all(
                    node.machine.may_infer(other.peer, self.world.now) == "" for other in others
                )


TestSwarm = Swarm.TestCase
TestSwarm.settings = settings(
    max_examples=EXAMPLES,
    phases=PHASES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
