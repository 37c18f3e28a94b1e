"""A handful of nodes with disks, streams and gossip, in which nothing happens unless it is made to:
for schedules nobody would think of.

Halt streams keep their order and lose everything when they close; gossip keeps nothing. A disk
does one step at a time, so that a node can be killed between any two. Beside the machines stand
plain books of what was really signed, which know nothing of vectors or digests.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from swarmllm.core.effects import (
    HaltEffect,
    Penalise,
    Persist,
    PublishRecord,
    Relay,
    SendFrame,
    StartAgain,
    StopNow,
)
from swarmllm.core.halt.charter import key_ids
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.halt.state_file import load, pack_genesis
from swarmllm.messages import Ack, Charter, Halt, PeerId, Records, Resume
from swarmllm.wire.codec import encode
from swarmllm.wire.marks import vector_of
from swarmllm.wire.signed import open_record
from tests.core.halt.support import (
    FIRST,
    PRIVATE,
    ROOTS,
    STRANGER,
    SWARM,
    founded,
    offered,
    signed,
    verify,
)

EVIL: Final = PeerId("evil")
Vector = dict[bytes, int]
Fact = tuple[bytes, int]


@dataclass(slots=True)
class Disk:
    """Two copies and a marker; `steps` is what is still to be written, `number` of which
    `Persist`."""

    first: bytes | None = None
    second: bytes | None = None
    genesis: bytes | None = None
    steps: list[str] = field(default_factory=list)
    number: int = 0
    data: bytes = b""


@dataclass(slots=True)
class Books:
    """What people really signed: halts by (key, seq), full resumes, and the chain of charters."""

    halts: set[Fact] = field(default_factory=set)
    resumes: list[tuple[int, Vector]] = field(default_factory=list)
    charters: list[Charter] = field(default_factory=lambda: [FIRST])
    chain: list[bytes] = field(default_factory=lambda: [signed(FIRST, *ROOTS)])
    published: list[bytes] = field(default_factory=lambda: [signed(FIRST, *ROOTS)])

    def lifted(self, version: int, key: bytes) -> int:
        """Up to where halts of `key` are lifted under a charter, going by everything that was ever
        signed."""
        base = vector_of(self.charters[version - 1].lift_base)
        return max(
            [
                base.get(key, 0),
                *(lifts.get(key, 0) for under, lifts in self.resumes if under == version),
            ]
        )


class NodeInWorld:
    """A machine, its disk, and what it must not forget."""

    def __init__(self, name: str, seed: int) -> None:
        self.peer = PeerId(name)
        self.disk = Disk()
        self.seed = seed
        self.stopped = True
        self.known: set[Fact] = set()
        """Good halts that were put before this machine under a charter by which they count."""
        self.writing: set[Fact] = set()
        self.safe: set[Fact] = set()
        self.machine: HaltMachine


class World:
    """`names` many nodes of one swarm, all of them connected, at time 0; everybody also has a link
    to `EVIL`."""

    def __init__(self, count: int) -> None:
        self.now = 0.0
        self.books = Books()
        self.nodes = [NodeInWorld(f"node {i}", i) for i in range(count)]
        self.streams: dict[tuple[PeerId, PeerId], list[bytes]] = {}
        self.under_way: list[tuple[PeerId, PeerId, bytes]] = []
        self.by_peer = {node.peer: node for node in self.nodes}
        for node in self.nodes:
            self.boot(node)
        for one in range(count):
            for two in range(one + 1, count):
                self.connect(self.nodes[one], self.nodes[two])

    # --- life -------------------------------------------------------------------------------------

    def boot(self, node: NodeInWorld) -> None:
        disk = node.disk
        disk.steps = []
        found = load(disk.first, disk.second, disk.genesis, PRIVATE, SWARM)
        # The invitation brings the first one: all may lose their disks, and somebody must have it.
        if not found.state.charters:
            found = replace(found, state=replace(found.state, charters=founded().charters))
        node.machine = HaltMachine(found, STRANGER.public_key, verify, random.Random(node.seed), 0)
        node.stopped = True
        node.known = set(node.safe)
        self.perform(node, node.machine.start(self.now))
        self.perform(node, node.machine.opened(EVIL, self.now))

    def kill(self, node: NodeInWorld, spoil: str = "") -> None:
        """Memory goes; `spoil` says what becomes of the disk: a corrupt copy, both copies gone, or
        a new disk."""
        for other in self.nodes:
            self.disconnect(node, other)
        disk = node.disk
        if spoil == "corrupt first" and disk.first == disk.second and disk.first is not None:
            disk.first = disk.first[:-1] + bytes((disk.first[-1] ^ 1,))
        elif spoil == "corrupt second" and disk.second is not None:
            disk.second = disk.second[: len(disk.second) // 2]
        elif spoil == "lost":
            disk.first = disk.second = None
            node.safe = set()
        elif spoil == "new":
            node.disk = Disk()
            node.safe = set()
        self.boot(node)

    def connect(self, one: NodeInWorld, two: NodeInWorld) -> None:
        if one is two or (one.peer, two.peer) in self.streams:
            return
        self.streams[one.peer, two.peer], self.streams[two.peer, one.peer] = [], []
        self.perform(one, one.machine.opened(two.peer, self.now))
        self.perform(two, two.machine.opened(one.peer, self.now))

    def disconnect(self, one: NodeInWorld, two: NodeInWorld) -> None:
        if self.streams.pop((one.peer, two.peer), None) is None:
            return
        del self.streams[two.peer, one.peer]
        self.perform(one, one.machine.closed(two.peer, self.now))
        self.perform(two, two.machine.closed(one.peer, self.now))

    # --- effects ----------------------------------------------------------------------------------

    def perform(self, node: NodeInWorld, effects: Sequence[HaltEffect]) -> None:
        for effect in effects:
            match effect:
                case StopNow():
                    node.stopped = True
                case StartAgain():
                    node.stopped = False
                case Persist(number=number, data=data):
                    assert not node.disk.steps, "two writes at once"
                    node.disk.number, node.disk.data = number, data
                    node.disk.steps = ["first", "second", "genesis"]
                    node.writing = set(node.known)
                case SendFrame(peer=peer, message=message):
                    if isinstance(message, Ack):
                        self.check_ack(node, message.ctl_digest)
                    if (node.peer, peer) in self.streams:
                        self.streams[node.peer, peer].append(encode(message))
                case Relay(record=record, to=to):
                    for receiver in to:
                        if (node.peer, receiver) in self.streams:
                            self.streams[node.peer, receiver].append(encode(Records((record,))))
                case PublishRecord(record=record):
                    self.under_way += [
                        (sender, receiver, record)
                        for sender, receiver in self.streams
                        if sender == node.peer
                    ]
                case Penalise(peer=peer, reason=reason):
                    assert peer == EVIL, f"{node.peer} blames {peer}: {reason}"
                case _:
                    pass

    def check_ack(self, node: NodeInWorld, digest: bytes) -> None:
        disk = node.disk
        state = load(disk.first, disk.second, disk.genesis, PRIVATE, SWARM).state
        assert state.digest == digest, "acknowledged before it was on disk"
        assert state.reasons or not node.machine.state.standing

    # --- what can happen --------------------------------------------------------------------------

    def write_step(self, node: NodeInWorld) -> None:
        disk = node.disk
        if not disk.steps:
            return
        step = disk.steps.pop(0)
        if step == "genesis":
            disk.genesis = pack_genesis(SWARM)
            self.perform(node, node.machine.persisted(disk.number, True, self.now))
        else:
            setattr(disk, step, disk.data)
            node.safe |= node.writing

    def fail_write(self, node: NodeInWorld) -> None:
        if node.disk.steps:
            node.disk.steps = []
            self.perform(node, node.machine.persisted(node.disk.number, False, self.now))

    def deliver(self, sender: PeerId, receiver: PeerId) -> None:
        waiting = self.streams.get((sender, receiver))
        if waiting:
            node = self.by_peer[receiver]
            self.perform(node, node.machine.received(sender, waiting.pop(0), self.now))

    def gossip(self, node: NodeInWorld, data: bytes, sender: PeerId = EVIL) -> None:
        checked, effects = offered(node.machine, data, self.now, sender)
        self.witness(node, data)
        self.perform(node, effects)
        if checked.passes:
            for one, other in list(self.streams):
                if one == node.peer and other != sender:
                    self.under_way.append((one, other, data))

    def bring(self, node: NodeInWorld, data: bytes) -> None:
        effects = offered(node.machine, data, self.now)[1]
        self.witness(node, data)
        self.perform(node, effects)

    def witness(self, node: NodeInWorld, data: bytes) -> None:
        """From now on this machine has no excuse for not knowing this halt."""
        if data not in self.books.published:
            return
        record = open_record(data).record
        version = node.machine.state.version
        if isinstance(record, Halt) and version and record.key in self.halt_keys(version):
            node.known.add((record.key, record.seq))

    def halt_keys(self, version: int) -> set[bytes]:
        return set(key_ids(self.books.charters[version - 1].halt))

    def publish(self, data: bytes) -> None:
        """Enter what was really signed into the books."""
        record = open_record(data).record
        self.books.published.append(data)
        match record:
            case Halt():
                self.books.halts.add((record.key, record.seq))
            case Resume():
                self.books.resumes.append((record.charter_version, vector_of(record.lifts)))
            case Charter():
                self.books.charters.append(record)
                self.books.chain.append(data)
            case _:
                raise AssertionError("nobody publishes that here")

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for node in self.nodes:
            self.perform(node, node.machine.timer(self.now))

    def settle(self) -> None:
        """Heal everything and let it run until nobody has anything to say."""
        for one in self.nodes:
            for two in self.nodes:
                self.connect(one, two)
        for _ in range(14):  # Longer than the longest pause between two requests.
            for _ in range(60):
                for node in self.nodes:
                    while node.disk.steps:
                        self.write_step(node)
                busy = [link for link, waiting in self.streams.items() if waiting]
                if not busy and not self.under_way:
                    break
                for link in busy:
                    self.deliver(*link)
                waiting, self.under_way = self.under_way, []
                for sender, receiver, data in waiting:
                    self.gossip(self.by_peer[receiver], data, sender)
            self.wait(3.0)
