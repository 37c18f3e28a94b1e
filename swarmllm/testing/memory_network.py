"""The Network port within one trio loop: N nodes on one virtual wire whose delay, losses, freezes
and deaths a test decides.

    async with MemorySwarm(delay_s=0.05) as swarm:
        async with swarm.network(peer) as network: ...

Messages are really encoded and decoded, keep their order per direction, and take `delay_s` each
way; nothing sleeps in real time under trio's MockClock. What a peer of the real network would
notice is noticed here: a killed one at once (a TCP reset), a frozen one after `SILENT_S` without a
ping.
"""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Final, Self

import trio

from swarmllm.core.inputs import (
    AddressesChanged,
    AddressesFound,
    DialFailed,
    NetworkInput,
    PeerLost,
)
from swarmllm.core.peers.liveness import DIAL_S
from swarmllm.core.peers.strikes import Strikes
from swarmllm.messages import (
    ExpertMessage,
    ExpertRecord,
    Halted,
    PeerId,
)
from swarmllm.messages.goodbye import OTHER
from swarmllm.runtime.ports import Channel
from swarmllm.testing.memory_wire import Connection, Frame, Gossip
from swarmllm.wire.codec import encode
from swarmllm.wire.envelope import unseal

# Messages that have arrived and that the receiver does not take: then the connection is given up.
QUEUE_MAX: Final = 64
INPUTS_MAX: Final = 256  # Inputs that the consumer has not read: then its peers have to wait.
SEEN_MAX: Final = 4096  # Gossip messages remembered per node.
DISCOVERY_S: Final = 0.1  # How long the LAN and the DHT take.


class MemorySwarm:
    """The wire. `delay_s` is one way and may be set per direction with `set_delay`; `gossip_loss`
    is the chance of losing a hop."""

    def __init__(self, *, delay_s: float = 0.01, gossip_loss: float = 0.0, seed: int = 0) -> None:
        self.delay_s = delay_s
        self.gossip_loss = gossip_loss
        self.rng = random.Random(seed)
        self.networks: dict[PeerId, MemoryNetwork] = {}
        self.providers: dict[bytes, dict[PeerId, bytes]] = {}
        self._delays: dict[tuple[PeerId, PeerId], float] = {}
        self._ports = 0
        self._stack = AsyncExitStack()
        self.nursery: trio.Nursery

    async def __aenter__(self) -> Self:
        self.nursery = await self._stack.enter_async_context(trio.open_nursery())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.nursery.cancel_scope.cancel()
        await self._stack.__aexit__(kind, value, trace)

    @asynccontextmanager
    async def network(
        self,
        peer: PeerId,
        *,
        lan: bool = True,
        channels: Sequence[Channel] = (),
    ) -> AsyncIterator[MemoryNetwork]:
        """One node's end of the wire. With `lan` all such nodes hear of each other. `channels`:
        what it speaks beside the expert protocol."""
        assert peer not in self.networks, f"{peer} is in the swarm already"
        self._ports += 1
        network = MemoryNetwork(
            self, peer, f"/ip4/127.0.0.1/tcp/{self._ports}/p2p/{peer}", lan, channels
        )
        self.networks[peer] = network
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(network.pump)
                network.note(AddressesChanged(network.addrs))
                nursery.start_soon(network.discover)
                yield network
                nursery.cancel_scope.cancel()
        finally:
            network.leave()
            self.networks.pop(peer, None)

    def one_way_s(self, source: PeerId, target: PeerId) -> float:
        return self._delays.get((source, target), self.delay_s)

    def set_delay(self, source: PeerId, target: PeerId, delay_s: float) -> None:
        self._delays[source, target] = delay_s

    def kill(self, peer: PeerId) -> None:
        """As SIGKILL: what it has sent still arrives, then its peers see a reset. It hears and says
        nothing any more."""
        self.networks[peer].leave()

    def freeze(self, peer: PeerId) -> None:
        """As SIGSTOP: nothing comes out of it or goes into it until `thaw`; its peers notice after
        SILENT_S."""
        network = self.networks[peer]
        network.frozen_at = trio.current_time()
        network.moving = trio.Event()

    def thaw(self, peer: PeerId) -> None:
        network = self.networks[peer]
        network.frozen_at = None
        network.moving.set()

    def cut(self, one: PeerId, other: PeerId) -> None:
        """Reset the connection between the two; they may dial again."""
        connection = self.networks[one].connections.get(other)
        if connection is not None:
            connection.lose("reset")


class MemoryNetwork:
    """`runtime.ports.Network`, made by `MemorySwarm.network`. `sent` and `penalised` are for tests
    to look at."""

    def __init__(
        self, swarm: MemorySwarm, peer: PeerId, addr: str, lan: bool, channels: Sequence[Channel]
    ) -> None:
        self.swarm = swarm
        self.alive = True
        self.frozen_at: float | None = None
        self.moving = trio.Event()
        self.moving.set()
        self.connections: dict[PeerId, Connection] = {}
        self.sent: list[tuple[PeerId, ExpertMessage]] = []
        self.penalised: list[tuple[PeerId, str]] = []
        self.lan = lan
        self.channels = {channel.name: channel for channel in channels}
        self._peer = peer
        self._addr = addr
        self._strikes = Strikes()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._events: deque[NetworkInput] = deque()
        self._more, self._less = trio.Event(), trio.Event()
        self._sender, self._receiver = trio.open_memory_channel[NetworkInput](0)

    # --- the port ---------------------------------------------------------------------------------

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def addrs(self) -> tuple[str, ...]:
        return (self._addr,)

    @property
    def inputs(self) -> trio.MemoryReceiveChannel[NetworkInput]:
        return self._receiver

    def send(self, peer: PeerId, message: ExpertMessage) -> None:
        connection = self.connections.get(peer)
        if connection is None or not self.alive:
            self.note(PeerLost(peer, "not connected"))
            return
        lane = connection.lanes[self.peer]
        if lane.stuck() >= QUEUE_MAX:
            connection.lose("its queue is full")
            self.lost(peer, "its queue is full")
            return
        self.sent.append((peer, message))
        lane.push(encode(message))

    def send_frame(
        self, channel: str, peer: PeerId, frame: bytes, *, droppable: bool = False
    ) -> None:
        connection = self.connections.get(peer)
        if connection is None or not self.alive or channel not in connection.channels:
            return
        assert 1 <= len(frame) <= self.channels[channel].frame_max, (
            f"{channel} frame of {len(frame)} bytes"
        )
        lane = connection.halt_lanes[self.peer]
        if lane.make_room():
            lane.push(Frame(channel, frame, droppable))
        elif not droppable:
            connection.lose(f"its {channel} queue is full")
            self.lost(peer, f"its {channel} queue is full")

    def publish(self, channel: str, record: bytes) -> None:
        if self.alive and channel in self.channels:
            assert len(record) <= self.channels[channel].record_max, (
                f"record of {len(record)} bytes on {channel}"
            )
            self._remember(record)
            self._spread(channel, record, None)

    def end_streams(self, message: Halted) -> None:
        for connection in self.connections.values() if self.alive else ():
            lane = connection.lanes[self.peer]
            lane.drop_stuck()
            for _ in range(2):  # On our stream and on the peer's, which are one lane here.
                lane.push(encode(message))

    def dial(self, peer: PeerId, addrs: tuple[str, ...]) -> None:
        self.swarm.nursery.start_soon(self._dial, peer, addrs)

    def hang_up(self, peer: PeerId, reason: str, goodbye: int = OTHER) -> None:
        connection = self.connections.get(peer)
        if connection is not None:
            connection.lose("reset")
            self.lost(peer, reason)

    def penalise(self, peer: PeerId, reason: str) -> None:
        self.penalised.append((peer, reason))
        self._strikes.add(peer, trio.current_time())
        if self.refuses(peer):
            self.hang_up(peer, reason)

    def advertise(self, key: bytes, record: bytes) -> None:
        providers = self.swarm.providers.setdefault(key, {})
        if record:
            providers[self.peer] = record
        else:
            providers.pop(self.peer, None)

    def look_up(self, key: bytes) -> None:
        self.swarm.nursery.start_soon(self._look_up, key)

    # --- for the wire -----------------------------------------------------------------------------

    def note(self, event: NetworkInput) -> None:
        if self.alive:
            self._events.append(event)
            self._more.set()

    async def room(self) -> None:
        while len(self._events) >= INPUTS_MAX:
            self._less = trio.Event()
            await self._less.wait()

    async def pump(self) -> None:
        """What was told, to the reader, in order; not while frozen."""
        while True:
            while not self._events:
                self._more = trio.Event()
                await self._more.wait()
            await self.moving.wait()
            await self._sender.send(self._events[0])
            self._events.popleft()
            self._less.set()

    async def discover(self) -> None:
        await trio.sleep(DISCOVERY_S)
        for other in self.swarm.networks.values():
            if self.lan and other.lan and other is not self and other.alive:
                self.note(AddressesFound(other.peer, other.addrs, "lan"))
                other.note(AddressesFound(self.peer, self.addrs, "lan"))

    def lost(self, peer: PeerId, reason: str) -> None:
        connection = self.connections.pop(peer, None)
        if connection is not None:
            for channel in connection.channels if self.alive else ():
                self.channels[channel].door.closed(peer)
            self.note(PeerLost(peer, reason))

    def leave(self) -> None:
        if self.alive:
            self.alive = False
            self.moving.set()  # Death ends a freeze, for whoever waits for this node.
            for connection in list(self.connections.values()):
                connection.lose("reset")
            self.connections.clear()

    def hear(self, channel: str, forwarder: PeerId, data: bytes) -> None:
        """Gossip, past the inputs and through the door at once, as in the real network."""
        if (
            not self.alive
            or channel not in self.channels
            or hashlib.sha256(data).digest() in self._seen
        ):
            return
        # If not, it is not remembered either: the door may want it later.
        if self.channels[channel].door.heard(forwarder, data):
            self._remember(data)
            self._spread(channel, data, forwarder)

    def hear_frame(self, channel: str, peer: PeerId, frame: bytes) -> None:
        """A frame of a channel, past the inputs and through the door at once."""
        if self.alive and channel in self.channels:
            self.channels[channel].door.received(peer, frame)

    def refuses(self, peer: PeerId) -> bool:
        return self._strikes.refuses(peer, trio.current_time())

    # --- inside -----------------------------------------------------------------------------------

    async def _dial(self, peer: PeerId, addrs: tuple[str, ...]) -> None:
        await self.moving.wait()
        await trio.sleep(2 * self.swarm.one_way_s(self.peer, peer))
        target = self.swarm.networks.get(peer)
        if (
            target is None
            or not target.alive
            or not self.alive
            or target is self
            or not self._names(target, addrs)
        ):
            self.note(DialFailed(peer, "nobody answers there"))
        elif target.refuses(self.peer) or self.refuses(peer):
            self.note(DialFailed(peer, "refused"))
        elif target.frozen_at is not None:
            await trio.sleep(DIAL_S)
            self.note(DialFailed(peer, "no answer in time"))
        elif peer not in self.connections:
            Connection(self, target)

    @staticmethod
    def _names(target: MemoryNetwork, addrs: tuple[str, ...]) -> bool:
        bare = target.addrs[0].removesuffix(f"/p2p/{target.peer}")
        return any(addr.removesuffix(f"/p2p/{target.peer}") == bare for addr in addrs)

    async def _look_up(self, key: bytes) -> None:
        await trio.sleep(DISCOVERY_S)
        for sealed in list(self.swarm.providers.get(key, {}).values()):
            # Signatures are the business of whoever wrote the record and of the real network; here
            # nobody forges.
            author, record = unseal(sealed, (ExpertRecord,), lambda *_: True, len(sealed))
            if author != self.peer:
                self.note(AddressesFound(author, record.addrs, "dht"))

    def _remember(self, data: bytes) -> None:
        if len(self._seen) >= SEEN_MAX:
            self._seen.popitem(last=False)
        self._seen[hashlib.sha256(data).digest()] = None

    def _spread(self, channel: str, data: bytes, but: PeerId | None) -> None:
        for peer, connection in self.connections.items():
            theirs = self.swarm.networks[peer].channels.get(channel)
            if theirs is None or theirs.topic != self.channels[channel].topic:
                continue  # It does not hear our topic.
            if peer != but and self.swarm.rng.random() >= self.swarm.gossip_loss:
                connection.halt_lanes[self.peer].push(Gossip(channel, data))
