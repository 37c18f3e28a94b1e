"""The network between hosts: connections with their two streams, dials, look-ups, the gossip of
halt records, partitions.

A connection carries an expert stream and a halt stream each way; each keeps its own order, as
Yamux streams over one TCP connection do (the halt stream has the right of way there, so here it
waits for nobody). A process that dies is noticed at once, by the reset that its kernel sends; a
machine that freezes, is cut off or loses its power is noticed after `SILENT_S` without a sign of
life.

**Gossip** is a model of GossipSub 1.1: each host keeps `mesh_degree` of its connections in its
mesh, passes a valid new record on to those at once (after `hop_s` of work), and offers it to some
others at its heartbeats, who then ask for what they lack. Only halt records travel by it.

**Look-ups** are a model of Kademlia: an answer after `look_up_s` names up to `LOOK_UP_MAX` of those
who have advertised in the last `PROVIDER_TTL_S`, dead or alive. Both are compared with real
py-libp2p by `tests/adapters/libp2p/measure_world.py`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from swarmllm.core.inputs import (
    AddressesFound,
    ChannelClosed,
    ChannelOpened,
    DialFailed,
    FrameReceived,
    Input,
    PeerConnected,
    PeerLost,
    PingMeasured,
    Received,
)
from swarmllm.core.peers.liveness import DIAL_S, SILENT_S
from swarmllm.messages import HALT, ExpertMessage, PeerId, Shuffle, Shuffled
from swarmllm.testing.world.event_queue import EventQueue
from swarmllm.testing.world.links import Delays, LinkModel

if TYPE_CHECKING:
    from swarmllm.testing.world.host import Host

# Round trips until the expert stream answers (TCP, Noise, Yamux, protocol names), as measured.
CONNECT_TRIPS: Final = 4.6
CHANNEL_TRIPS: Final = 1.0  # More until the streams of channels are open.
CONNECTIONS_MAX: Final = 256
LOOK_UP_MAX: Final = 20
PROVIDER_TTL_S: Final = 48 * 3600.0
SEEN_MAX: Final = 1024  # Gossip messages that a host remembers.


@dataclass(frozen=True, slots=True)
class Overlay:
    """What the models of gossip and look-ups assume, in seconds where it says `_s`."""

    mesh_degree: int = 6
    hop_s: float = 0.003
    gossip_loss: float = 0.0
    heartbeat_s: float = 1.0
    offers: int = 6
    offer_beats: int = 5
    look_up_s: float = 0.3
    pings_s: float = 0.0
    """How often a connection's round trip is measured after the first time (the real network: 2 s);
    0: never. It only moves a mean that measured answers soon outweigh, and a thousand hosts would
    do little else."""


EXPERT: Final = 0
"""The number of the expert stream among those of a connection; then come the channels, in the order
of `Host.channels`."""


class Connection:
    """`at` holds when the last message of each stream arrives, in one direction and in the other.
    `channels` are those that both ends have, with the number of their stream."""

    __slots__ = (
        *("at", "base_s", "channels", "cut_at", "healed_at", "held"),
        *("number", "one", "open", "two"),
    )

    def __init__(self, number: int, one: Host, two: Host, base_s: float) -> None:
        self.number = number
        self.one, self.two = one, two
        self.base_s = base_s
        self.open = True
        shared = [channel for channel in one.channels if channel in two.channels]
        self.channels = {channel: number for number, channel in enumerate(shared, EXPERT + 1)}
        self.at = [0.0] * (2 * (1 + len(shared)))
        self.cut_at = -1.0  # Since when a partition lies across it; negative: none does.
        self.healed_at = -1.0  # When the last one went; negative: there was none.
        # What is sent meanwhile; bounded by the time until it is given up.
        self.held: list[tuple[Host, Input, int, int]] = []

    def other(self, host: Host) -> Host:
        return self.two if host is self.one else self.one


class SimulatedNetwork:
    """`rng` decides delays, faults, meshes and look-ups."""

    def __init__(
        self, event_queue: EventQueue, model: LinkModel, overlay: Overlay, rng: random.Random
    ) -> None:
        self.event_queue = event_queue
        self.overlay = overlay
        self.hosts: dict[PeerId, Host] = {}
        self.delays = Delays(model, rng)
        self.messages = 0
        self._rng = rng
        self._made = 0
        self._zones: dict[PeerId, int] = {}
        self._providers: dict[bytes, dict[PeerId, tuple[float, tuple[str, ...]]]] = {}

    # --- streams ----------------------------------------------------------------------------------

    def send(self, source: Host, peer: PeerId, message: ExpertMessage, size_bytes: int) -> None:
        connection = source.connections.get(peer)
        if connection is None:
            self.event_queue.after(
                0.0, source.feed_if, source.life, PeerLost(peer, "not connected")
            )
            return
        source.bytes_sent += size_bytes
        if isinstance(message, Shuffle | Shuffled):
            source.bytes_of_records += size_bytes
        received = Received(source.peer, message, size_bytes)
        self._put(connection, source, received, size_bytes, EXPERT)

    def tell(self, source: Host, peer: PeerId, frame: bytes, channel: str = HALT) -> None:
        """One frame on the stream of a channel."""
        connection = source.connections.get(peer)
        if connection is not None and channel in connection.channels:
            event = FrameReceived(source.peer, frame, channel)
            self._put(connection, source, event, len(frame), connection.channels[channel])

    def _put(
        self, connection: Connection, source: Host, event: Input, size_bytes: int, stream: int
    ) -> None:
        self.messages += 1
        if connection.cut_at >= 0:
            connection.held.append((source, event, size_bytes, stream))
            return
        target = connection.other(source)
        delays = self.delays
        at = self.event_queue.now + delays.draw_s(connection.base_s, size_bytes)
        lane = 2 * stream + (source is connection.two)
        copies = 1
        if stream == EXPERT and delays.model.is_faulty:
            copies = delays.copies()
        if copies == 0:
            return
        if at < connection.at[lane] and (stream != EXPERT or not delays.overtakes()):
            at = connection.at[lane]
        else:
            connection.at[lane] = at
        self.event_queue.at(at, self._arrive, connection, source.peer, target, event)
        if copies == 2:
            self.event_queue.at(
                at + delays.draw_s(connection.base_s),
                self._arrive,
                connection,
                source.peer,
                target,
                event,
            )

    def _arrive(self, connection: Connection, sender: PeerId, target: Host, event: Input) -> None:
        if target.connections.get(sender) is connection:
            target.receive(event)

    # --- life of a connection ---------------------------------------------------------------------

    def base_s(self, one: Host, two: Host) -> float:
        return self.delays.base_s(one.place, two.place)

    def dial(self, source: Host, peer: PeerId, addrs: tuple[str, ...]) -> None:
        target = self.hosts.get(peer)
        life = source.life
        known = (
            target is not None and not set(addrs).isdisjoint(target.addrs) and target is not source
        )
        if (
            target is None
            or not known
            or not target.spec.is_dialable
            or not target.machine_up
            or target.frozen
            or self.parted(source, target)
        ):
            self.event_queue.after(
                DIAL_S, self._dial_failed, source, life, peer, "no answer in time"
            )
            return
        round_trip_s = self.base_s(source, target) + self.delays.draw_s(self.base_s(source, target))
        if (
            not target.alive
            or target.refuses(source.peer)
            or len(target.connections) >= CONNECTIONS_MAX
        ):
            self.event_queue.after(round_trip_s, self._dial_failed, source, life, peer, "refused")
            return
        self.event_queue.after(
            CONNECT_TRIPS * round_trip_s, self._connected, source, life, target, target.life
        )

    def _dial_failed(self, source: Host, life: int, peer: PeerId, reason: str) -> None:
        if source.life == life and peer not in source.connections:
            source.receive(DialFailed(peer, reason))

    def _connected(self, source: Host, life: int, target: Host, target_life: int) -> None:
        if source.life != life or target.peer in source.connections:
            return
        if target.life != target_life or target.frozen or self.parted(source, target):
            self._dial_failed(source, life, target.peer, "lost during the handshake")
        else:
            self.connect(source, target)

    def connect(self, one: Host, two: Host) -> Connection:
        """A connection that is up at both ends now; its channels follow. It takes the place
        of one that only one end has given up, as after a restart that the other has not noticed."""
        for near, far in ((one, two), (two, one)):
            before = near.connections.get(far.peer)
            if before is not None:
                before.open = False
                self._lost(before, near, far.peer, "replaced by a new connection")
        self._made += 1
        connection = Connection(self._made, one, two, self.base_s(one, two))
        one.connections[two.peer] = two.connections[one.peer] = connection
        for near, far in ((one, two), (two, one)):
            near.receive(PeerConnected(far.peer))
            near.receive(PingMeasured(far.peer, 2 * connection.base_s))
        for channel in connection.channels:
            after_s = 2 * CHANNEL_TRIPS * connection.base_s
            self.event_queue.after(after_s, self._open_channel, connection, channel)
        if self.overlay.pings_s:
            self.event_queue.after(self.overlay.pings_s, self._ping, connection)
        return connection

    def _open_channel(self, connection: Connection, channel: str) -> None:
        one, two = connection.one, connection.two
        if connection.open and connection.cut_at < 0:
            one.receive(ChannelOpened(two.peer, channel))
            two.receive(ChannelOpened(one.peer, channel))

    def _ping(self, connection: Connection) -> None:
        if not connection.open:
            return
        for near, far in ((connection.one, connection.two), (connection.two, connection.one)):
            if not near.frozen:
                near.receive(
                    PingMeasured(
                        far.peer, self.delays.draw_s(connection.base_s) + connection.base_s
                    )
                )
        self.event_queue.after(self.overlay.pings_s, self._ping, connection)

    def end(self, connection: Connection, by: Host, reason: str, own_reason: str = "") -> None:
        """One end closes or resets it; the other learns so behind what is on its way. `own_reason`:
        tell the closing end, too."""
        if not connection.open:
            return
        connection.open = False
        far = connection.other(by)
        sent = connection.at[0 if by is connection.one else 1 :: 2]
        at = max(self.event_queue.now + self.delays.draw_s(connection.base_s), *sent)
        self._forget(by, far.peer, own_reason)
        self.event_queue.at(at, self._lost, connection, far, by.peer, reason)

    def _lost(self, connection: Connection, host: Host, peer: PeerId, reason: str) -> None:
        if host.connections.get(peer) is connection:
            self._forget(host, peer, reason)

    def _forget(self, host: Host, peer: PeerId, reason: str) -> None:
        del host.connections[peer]
        host.mesh.pop(peer, None)
        if host.alive and reason:
            for channel in host.channels:
                host.receive(ChannelClosed(peer, channel))
            host.receive(PeerLost(peer, reason))

    # --- silence ----------------------------------------------------------------------------------

    def fell_silent(self, host: Host) -> None:
        """It froze, or its machine is gone without a word: whoever is connected to it finds out in
        time."""
        for connection in host.connections.values():
            self.event_queue.after(SILENT_S, self._give_up, connection, host, host.silent_since)

    def _give_up(self, connection: Connection, host: Host, since: float) -> None:
        if connection.open and host.silent_since == since:
            connection.open = False
            far = connection.other(host)
            self._lost(connection, far, host.peer, "silent")
            # Behind what has reached its socket: it waits there until it thaws.
            self._lost(connection, host, far.peer, "silent")

    def partition(self, zones: dict[PeerId, int]) -> None:
        """Hosts of different zones (0 for whom it does not name) cannot reach each other, from now
        on."""
        self._zones = dict(zones)
        now = self.event_queue.now
        for connection in self._all():
            parted = self.parted(connection.one, connection.two)
            if parted and connection.cut_at < 0:
                connection.cut_at = now
                self.event_queue.after(SILENT_S, self._cut, connection, now)
            elif not parted and connection.cut_at >= 0:
                connection.cut_at, connection.healed_at = -1.0, now
                held, connection.held = connection.held, []
                for source, event, size_bytes, stream in held:
                    self._put(connection, source, event, size_bytes, stream)

    def heal(self) -> None:
        self.partition({})

    def parted(self, one: Host, two: Host) -> bool:
        return bool(self._zones) and self._zones.get(one.peer, 0) != self._zones.get(two.peer, 0)

    def _cut(self, connection: Connection, since: float) -> None:
        if connection.open and connection.cut_at == since:
            connection.open = False
            self._lost(connection, connection.one, connection.two.peer, "silent")
            self._lost(connection, connection.two, connection.one.peer, "silent")

    def _all(self) -> list[Connection]:
        found = {c.number: c for host in self.hosts.values() for c in host.connections.values()}
        return [found[number] for number in sorted(found)]

    # --- look-ups ---------------------------------------------------------------------------------

    def advertise(self, source: Host, key: bytes, addrs: tuple[str, ...]) -> None:
        self._providers.setdefault(key, {})[source.peer] = (self.event_queue.now, addrs)

    def withdraw(self, source: Host, key: bytes) -> None:
        self._providers.get(key, {}).pop(source.peer, None)

    def look_up(self, source: Host, key: bytes) -> None:
        self.event_queue.after(
            self.overlay.look_up_s * self._rng.uniform(0.5, 2.0),
            self._looked_up,
            source,
            source.life,
            key,
        )

    def _looked_up(self, source: Host, life: int, key: bytes) -> None:
        if source.life != life:
            return
        providers = self._providers.get(key, {})
        oldest = self.event_queue.now - PROVIDER_TTL_S
        for peer in self._rng.sample(list(providers), min(LOOK_UP_MAX, len(providers))):
            at, addrs = providers[peer]
            if at >= oldest and peer != source.peer:
                source.receive(AddressesFound(peer, addrs, "dht"))

    # --- gossip of signed records -----------------------------------------------------------------

    def gossip(
        self, source: Host, record: bytes, skip: PeerId | None = None, channel: str = HALT
    ) -> None:
        """Its own, or one that it passes on."""
        self._remember(source, record)
        self._fill_mesh(source)
        for peer in source.mesh:
            if peer != skip:
                self.whisper(source, peer, record, channel)
        self.event_queue.after(
            self.overlay.heartbeat_s,
            self._offer,
            source,
            source.life,
            record,
            channel,
            self.overlay.offer_beats,
        )

    def whisper(self, source: Host, peer: PeerId, record: bytes, channel: str) -> None:
        connection = source.connections.get(peer)
        if (
            connection is None
            or connection.cut_at >= 0
            or channel not in connection.channels
            or self._rng.random() < self.overlay.gossip_loss
        ):
            return
        delay_s = self.overlay.hop_s + self.delays.draw_s(connection.base_s, len(record))
        target = connection.other(source)
        self.event_queue.after(
            delay_s, self._heard, connection, source.peer, target, record, channel
        )

    def _heard(
        self, connection: Connection, forwarder: PeerId, target: Host, record: bytes, channel: str
    ) -> None:
        if target.connections.get(forwarder) is not connection or record in target.seen:
            return
        if target.hear(forwarder, record, channel):
            self.gossip(target, record, forwarder, channel)

    def _offer(self, source: Host, life: int, record: bytes, channel: str, beats: int) -> None:
        """A heartbeat: some that are not in the mesh are told of it, and ask for it if they lack
        it."""
        if source.life != life or not source.alive:
            return
        others = [peer for peer in source.connections if peer not in source.mesh]
        for peer in self._rng.sample(others, min(self.overlay.offers, len(others))):
            target = source.connections[peer].other(source)
            if record not in target.seen and not source.frozen:
                # Offer and request take a round trip before the message itself.
                delay_s = 2 * source.connections[peer].base_s
                self.event_queue.after(
                    delay_s, self._whisper_if, source, life, peer, record, channel
                )
        if beats > 1:
            again_s = self.overlay.heartbeat_s
            self.event_queue.after(again_s, self._offer, source, life, record, channel, beats - 1)

    def _whisper_if(
        self, source: Host, life: int, peer: PeerId, record: bytes, channel: str
    ) -> None:
        if source.life == life and not source.frozen:
            self.whisper(source, peer, record, channel)

    def _remember(self, host: Host, record: bytes) -> None:
        if len(host.seen) >= SEEN_MAX:
            del host.seen[next(iter(host.seen))]
        host.seen[record] = None

    def _fill_mesh(self, host: Host) -> None:
        """Grafting is mutual, and accepted up to twice the degree, as in GossipSub."""
        degree = self.overlay.mesh_degree
        if len(host.mesh) >= degree:
            return
        others = [
            p
            for p, c in host.connections.items()
            if p not in host.mesh and c.channels and len(c.other(host).mesh) < 2 * degree
        ]
        for peer in self._rng.sample(others, min(degree - len(host.mesh), len(others))):
            host.mesh[peer] = None
            host.connections[peer].other(host).mesh[host.peer] = None
