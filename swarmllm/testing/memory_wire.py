"""One connection of the wire in `memory_network`: two lanes each way, one for the expert protocol
and one for the kill switch.

A lane keeps its order, takes the delay of its direction, and stops at a frozen node. The expert
lane also stops while its target's consumer does not read; the control lane never does, because what
it carries goes straight through the door.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from swarmllm.core.halt.link import QUEUE_MAX as HALT_QUEUE_MAX
from swarmllm.core.inputs import PeerConnected, PingMeasured, Received
from swarmllm.core.peers.liveness import PING_S, SILENT_S
from swarmllm.messages.declare import ANSWERER, ASKER, EXPERT, kinds_on
from swarmllm.messages.expert import Ping, Pong
from swarmllm.wire.codec import decode

if TYPE_CHECKING:
    from swarmllm.testing.memory_network import MemoryNetwork

HEADER_BYTES: Final = 4  # Of a frame.

_MESSAGES: Final = tuple(
    kind for kind in kinds_on(EXPERT, ASKER, ANSWERER) if kind not in (Ping, Pong)
)


@dataclass(frozen=True, slots=True)
class Gossip:
    """A record on its channel's topic."""

    channel: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a channel."""

    channel: str
    data: bytes
    droppable: bool


Item = bytes | Gossip | Frame | None
"""An encoded expert message, gossip, a halt frame, or the end."""


@dataclass(slots=True, eq=False)
class Lane:
    """One stream in one direction: what is on its way, and when each arrives."""

    connection: Connection
    source: MemoryNetwork
    target: MemoryNetwork
    items: deque[tuple[float, Item]] = field(default_factory=deque)
    more: trio.Event = field(default_factory=trio.Event)
    reason: str = ""
    is_halt: bool = False

    def push(self, item: Item) -> None:
        arrives_at = trio.current_time() + self.target.swarm.one_way_s(
            self.source.peer, self.target.peer
        )
        if self.items:  # Order is kept also when the delay was lowered meanwhile.
            arrives_at = max(arrives_at, self.items[-1][0])
        self.items.append((arrives_at, item))
        self.more.set()

    def stuck(self) -> int:
        now = trio.current_time()
        return sum(arrives_at <= now for arrives_at, _ in self.items)

    def drop_stuck(self) -> None:
        """Expert messages that have arrived and are not taken: with the real network those wait on
        our side."""
        now = trio.current_time()
        kept = [one for one in self.items if one[0] > now or not isinstance(one[1], bytes)]
        self.items = deque(kept)

    def make_room(self) -> bool:
        """As `core.halt.link.Outbox`: the oldest sign of life makes way. False if nothing may be
        dropped."""
        if self.stuck() < HALT_QUEUE_MAX:
            return True
        for at, (_, item) in enumerate(self.items):
            if isinstance(item, Frame) and item.droppable:
                del self.items[at]
                return True
        return False

    async def run(self) -> None:
        while True:
            while not self.items:
                self.more = trio.Event()
                await self.more.wait()
            head = self.items[0]
            arrives_at, item = head
            await trio.sleep_until(arrives_at)
            if item is not None:
                await self.source.moving.wait()
            await self.target.moving.wait()
            if self.target.connections.get(self.source.peer) is not self.connection:
                return  # The target has given this connection up.
            if isinstance(item, bytes):
                await self.target.room()
            if not self.items or self.items[0] is not head:
                continue  # It was dropped meanwhile.
            self.items.popleft()
            match item:
                case None:
                    if not self.is_halt:
                        self.target.lost(self.source.peer, self.reason)
                    return
                case Gossip(channel=channel, data=data):
                    self.target.hear(channel, self.source.peer, data)
                case Frame(channel=channel, data=data):
                    self.target.hear_frame(channel, self.source.peer, data)
                case bytes():
                    message = decode(item, _MESSAGES)
                    self.target.note(Received(self.source.peer, message, HEADER_BYTES + len(item)))


class Connection:
    def __init__(self, one: MemoryNetwork, other: MemoryNetwork) -> None:
        self.ends = {one.peer: one, other.peer: other}
        # By source.
        self.lanes = {one.peer: Lane(self, one, other), other.peer: Lane(self, other, one)}
        self.halt_lanes = {
            one.peer: Lane(self, one, other, is_halt=True),
            other.peer: Lane(self, other, one, is_halt=True),
        }
        self.channels = [name for name in one.channels if name in other.channels]
        self._open = True
        one.connections[other.peer] = other.connections[one.peer] = self
        one.note(PeerConnected(other.peer))
        other.note(PeerConnected(one.peer))
        for lane in (*self.lanes.values(), *self.halt_lanes.values()):
            one.swarm.nursery.start_soon(lane.run)
        one.swarm.nursery.start_soon(self._ping)
        for name in self.channels:
            one.channels[name].door.opened(other.peer)
            other.channels[name].door.opened(one.peer)

    def lose(self, reason: str) -> None:
        """Both ends see PeerLost, each behind what was already on its way to it."""
        if self._open:
            self._open = False
            for lane in (*self.lanes.values(), *self.halt_lanes.values()):
                lane.reason = reason
                lane.push(None)

    async def _ping(self) -> None:
        one, other = self.ends.values()
        swarm = one.swarm
        wait_s = 0.0  # The first ping goes out at once.
        while self._open:
            await trio.sleep(wait_s)
            wait_s = PING_S
            now = trio.current_time()
            frozen = [n for n in (one, other) if n.frozen_at is not None]
            if not frozen:
                rtt_s = swarm.one_way_s(one.peer, other.peer) + swarm.one_way_s(
                    other.peer, one.peer
                )
                for near, far in ((one, other), (other, one)):
                    if self._open and near.alive:
                        near.note(PingMeasured(far.peer, rtt_s))
            elif any(n.frozen_at is not None and now - n.frozen_at >= SILENT_S for n in frozen):
                self._silence(frozen)

    def _silence(self, frozen: list[MemoryNetwork]) -> None:
        """Who is awake gives up; who is frozen finds out when it thaws, behind what had reached its
        socket."""
        self._open = False
        for lane in self.halt_lanes.values():
            lane.push(None)
        for peer, lane in self.lanes.items():
            if lane.target in frozen:
                lane.reason = "silent"
                lane.push(None)
            else:
                lane.target.lost(peer, "silent")
