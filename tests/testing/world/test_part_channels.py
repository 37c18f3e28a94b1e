"""The world carries the channels of further parts: their streams, and their records by gossip."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from swarmllm.core.effects import NodeEffect, PublishRecord, RecordChecked, SendFrame
from swarmllm.core.facts import Fact
from swarmllm.core.inputs import (
    ChannelClosed,
    ChannelOpened,
    FrameReceived,
    Input,
    RecordOffered,
    TimerFired,
)
from swarmllm.messages import PeerId, Ping
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.roles import Spec
from swarmllm.testing.world.world import World
from swarmllm.wire.codec import encode

NEWS = b"news"


@dataclass
class Crier:
    """Greets each peer, and publishes one record if it has a time for that."""

    cries_at: float
    channel: str = "cries"
    inputs: tuple[type[Input], ...] = ()
    open_to: set[PeerId] = field(default_factory=set)
    greeted_by: set[PeerId] = field(default_factory=set)
    records: list[bytes] = field(default_factory=list)

    def handle(self, event: Input | Fact, now: float) -> list[NodeEffect]:
        match event:
            case ChannelOpened(peer=peer):
                self.open_to.add(peer)
                return [SendFrame(peer, Ping(7), self.channel)]
            case ChannelClosed(peer=peer):
                self.open_to.discard(peer)
            case FrameReceived(peer=peer, frame=frame):
                assert frame == encode(Ping(7))
                self.greeted_by.add(peer)
            case RecordOffered(check=check, record=record):
                self.records.append(record)
                return [RecordChecked(check, None, passes=True)]
            case TimerFired():
                self.cries_at = math.inf
                return [PublishRecord(NEWS, self.channel)]
            case _:
                raise AssertionError(event)
        return []

    def next_deadline(self) -> float:
        return self.cries_at

    def view(self, now: float) -> int:
        return len(self.records)


def test_frames_and_records_of_a_part_reach_the_same_part_of_other_nodes() -> None:
    criers: dict[int, Crier] = {}

    def parts(host: Host) -> tuple[Crier, ...]:
        if host.number == 9:
            return ()  # A node of an older release: it has no such part.
        criers[host.number] = Crier(20.0 if host.number == 0 else math.inf)
        return (criers[host.number],)

    world = World(seed=5, parts=parts)
    hosts = [world.add(Spec(model=i % 3)) for i in range(10)]
    world.run_for(40.0)
    crying = {host.peer for host in hosts if host.number != 9}
    for number, crier in criers.items():
        assert crier.open_to == crier.greeted_by == crying & set(hosts[number].connections)
        assert crier.records == ([] if number == 0 else [NEWS])
        assert hosts[number].node.view(world.now).parts == (len(crier.records),)
    world.crash(hosts[1])
    world.run_for(30.0)
    assert all(hosts[1].peer not in crier.open_to for n, crier in criers.items() if n != 1)


def test_a_part_and_the_kill_switch_do_not_hear_each_others_records() -> None:
    heard: list[Crier] = []

    def parts(host: Host) -> tuple[Crier, ...]:
        heard.append(Crier(math.inf))
        return (heard[-1],)

    world = World(seed=6, parts=parts)
    hosts = [world.add(Spec(model=0)) for _ in range(4)]
    world.run_for(20.0)
    world.publish(hosts[0], world.founders.halt())
    world.run_for(10.0)
    assert all(host.is_halted for host in hosts)
    assert all(crier.records == [] for crier in heard)
