"""The libp2p network opens its parts in order and closes them in order."""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

import trio
from libp2p.abc import INotifee
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p import muxer, patches
from swarmllm.adapters.libp2p.address_book import PEER_BYTES, bounded
from swarmllm.adapters.libp2p.addresses import (
    CircuitAddress,
    TcpAddress,
    bind_all,
    bootstrap_of,
    bound_addr,
    inside_host,
    own_addr,
    reachable,
    told,
    vantage,
)
from swarmllm.adapters.libp2p.autonat import AUTONAT, DialBackService
from swarmllm.adapters.libp2p.descriptors import fitting, raised, used
from swarmllm.adapters.libp2p.dialer import Bootstrap, Dialer, Unreachable
from swarmllm.adapters.libp2p.directory import Directory
from swarmllm.adapters.libp2p.gossip import Gossip
from swarmllm.adapters.libp2p.host import Host
from swarmllm.adapters.libp2p.inbox import Inbox
from swarmllm.adapters.libp2p.lan import Lan
from swarmllm.adapters.libp2p.link import EXPERT_PROTOCOL, Link
from swarmllm.adapters.libp2p.links import Links, libp2p_id
from swarmllm.adapters.libp2p.options import BootstrapStatus, NetworkOptions
from swarmllm.adapters.libp2p.punch import Punch
from swarmllm.adapters.libp2p.reaching import Reaching
from swarmllm.adapters.libp2p.relay_client import RelayClient
from swarmllm.adapters.libp2p.relay_messages import HOP_PROTOCOL
from swarmllm.adapters.libp2p.relay_server import RelayServer
from swarmllm.adapters.libp2p.roaming import Bell, roam
from swarmllm.adapters.libp2p.supervisor import Supervisor
from swarmllm.adapters.libp2p.switch import Switch
from swarmllm.adapters.port_mapping import PortMapper
from swarmllm.core.inputs import AddressesChanged, AddressesFound, DialFailed, NetworkInput
from swarmllm.core.peers.dial_rule import Vantage
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import ExpertMessage, Halted, PeerId
from swarmllm.messages.goodbye import OTHER
from swarmllm.runtime.ports import Traffic

log = logging.getLogger("swarmllm.net")

# Between two looks at the interfaces for the sake of dials: a laptop that moves is soon on its new
# network.
STAND_S: Final = 5.0


class Libp2pNetwork:
    """`runtime.ports.Network`. Made by `open_network`."""

    def __init__(
        self, options: NetworkOptions, nursery: trio.Nursery, sockets: list[socket.socket]
    ) -> None:
        self._options, self._nursery = options, nursery
        self._listening = [bound_addr(sock) for sock in sockets]
        self._override = tuple(_without_peer(text) for text in options.announce)
        self._announced = self._override or reachable(self._listening)
        self._stands, self._stands_with, self._stood_at = Vantage(), self._announced, -math.inf
        self._circuits: tuple[CircuitAddress, ...] = ()
        self._inbox = Inbox(options.limits.inputs_max)
        self._switch = Switch(options)
        self._peer = PeerId(self._switch.get_peer_id().to_base58())
        self._links = Links(
            options, self._inbox, nursery, self._peer, self._on_ready, self._on_lost
        )
        self._dialer = Dialer(self._switch, self._links, options, self._peer, self._stand)
        self._host = Host(
            self._switch, options, self._multiaddrs, self._dialer.route, self.penalise
        )
        self._links.host = self._host
        self._switch.admission.standings, self._switch.admission.hang_up = (
            self._links.standings,
            self._links.make_room,
        )
        self._host.set_stream_handler(EXPERT_PROTOCOL, self._links.answer, lasting=True)
        for channel in options.channels:
            answer = partial(self._links.answer_channel, channel.name)
            self._host.set_stream_handler(channel.protocol, answer, lasting=True)
        self._switch.register_notifee(_Connections(self._links))
        parts = self._host, self._switch, self._links
        self.relays = RelayClient(parts, options.timing, nursery, self._stand, self._tell_addrs)
        """How this node is reached where nobody can dial it."""
        self._dialer.through = self.relays.connect
        self.punch = Punch(parts, self._listening, lambda: self._announced, self._stand, nursery)
        """How often holes were punched."""
        self._relay = _relay(parts, self._direct_addrs, options)
        self._gossip = Gossip(self._host, options, self._is_settled) if options.channels else None
        self._directory = (
            Directory(
                self._host,
                options.timing,
                partial(self._found, "dht"),
                lambda: self._stand().is_loopback,
            )
            if options.dht
            else None
        )
        self._lan = (
            Lan(self._peer, options.swarm, partial(self._found, "lan")) if options.lan else None
        )
        self._looking = Bell()
        self.reach = _reaching(self)
        self._mapper = _mapper(options, self.reach, self._listening)
        self._bootstrap = [
            Bootstrap(text, self._dialer, self._links, options, partial(self._found, "bootstrap"))
            for text in options.bootstrap
        ]

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def addrs(self) -> tuple[str, ...]:
        return tuple(f"{addr}/p2p/{self._peer}" for addr in (*self._announced, *self._circuits))

    @property
    def inputs(self) -> trio.MemoryReceiveChannel[NetworkInput]:
        return self._inbox.receive

    @property
    def bootstrap(self) -> tuple[BootstrapStatus, ...]:
        return tuple(one.status for one in self._bootstrap)

    @property
    def peers(self) -> tuple[PeerId, ...]:
        """Connected peers that have answered, in order of their ids."""
        return tuple(self._links.ready_peers)

    @property
    def lan_error(self) -> str:
        """Why the local network is not searched; empty if it is, or was not asked for."""
        return self._lan.error if self._lan is not None else ""

    @property
    def traffic(self) -> Traffic:
        """What is counted here."""
        unread = self._switch.unread
        crowding = {
            "evicted": self._switch.admission.given_way,
            "unread_exceeded": unread.exceeded,
            "unread_given_way": unread.given_way,
        }
        sent, received = (0, 0) if self._gossip is None else self._gossip.volume
        relay = {} if self._relay is None else self._relay.figures
        punched = self.punch.figures | {"moved": self._links.moves.moved}
        return Traffic(crowding, self._links.kinds, sent, received, relay, punched)

    def send(self, peer: PeerId, message: ExpertMessage) -> None:
        self._links.send(peer, message)

    def send_frame(
        self, channel: str, peer: PeerId, frame: bytes, *, droppable: bool = False
    ) -> None:
        self._links.send_frame(channel, peer, frame, droppable)

    def publish(self, channel: str, record: bytes) -> None:
        """Nothing without channels: such a node has no part in gossip."""
        if self._gossip is not None:
            self._gossip.publish(channel, record)

    def end_streams(self, message: Halted) -> None:
        self._links.end_streams(message)

    def dial(self, peer: PeerId, addrs: tuple[str, ...]) -> None:
        self._nursery.start_soon(self._dial, peer, addrs)

    def hang_up(self, peer: PeerId, reason: str, goodbye: int = OTHER) -> None:
        self._links.hang_up(peer, reason, goodbye)

    def penalise(self, peer: PeerId, reason: str) -> None:
        self._links.penalise(peer, reason)

    def advertise(self, key: bytes, record: bytes) -> None:
        if self._directory is not None:
            self._directory.advertise(key, record)

    def look_up(self, key: bytes) -> None:
        if self._directory is not None:
            self._nursery.start_soon(self._directory.look_up, key)

    async def _dial(self, peer: PeerId, addrs: tuple[str, ...]) -> None:
        try:
            await self._dialer.reach(peer, addrs)
        except (Unreachable, RemoteError) as error:
            self._inbox.put(DialFailed(peer, str(error)))

    def _stand(self) -> Vantage:
        """Where we are, looked at again from time to time, as interfaces come and go."""
        now = trio.current_time()
        if now >= self._stood_at + STAND_S or self._stands_with != self._announced:
            self._stood_at, self._stands_with, self._stands = (
                now,
                self._announced,
                vantage(self._announced),
            )
        return self._stands

    def _multiaddrs(self) -> list[Multiaddr]:
        """What identify, gossip and the DHT say of us: direct ones first, and less of those where
        there are others."""
        through = [Multiaddr(str(addr)) for addr in self._circuits]
        direct = [Multiaddr(str(addr)) for addr in self._announced]
        kept = bounded([*through, *direct], PEER_BYTES)
        return [*kept[len(through) :], *through]

    def _direct_addrs(self) -> list[Multiaddr]:
        return [Multiaddr(f"{addr}/p2p/{self._peer}") for addr in self._announced]

    def _tell_addrs(self) -> None:
        self._circuits = self.relays.addrs
        self._inbox.put(AddressesChanged(self.addrs))

    def _is_settled(self, peer_id: Any) -> bool:
        return self._links.of(PeerId(peer_id.to_base58())) is not None

    def _on_ready(self, link: Link) -> None:
        self.punch.ready(link)
        self.reach.met()
        identity = libp2p_id(link.peer)
        if self._gossip is not None and link.is_last_resort:
            self._gossip.move(identity)
        elif self._gossip is not None:
            self._gossip.add(identity)
        if self._directory is not None:
            self._nursery.start_soon(self._directory.add, identity)

    def _on_lost(self, link: Link) -> None:
        if self._gossip is not None:
            self._gossip.drop(libp2p_id(link.peer))

    def _found(
        self, source: Literal["lan", "bootstrap", "dht"], peer: PeerId, addrs: tuple[str, ...]
    ) -> None:
        # Anybody on the local network can write these; the next announcement comes by itself.
        if source != "lan" or not self._inbox.full:
            self._inbox.put(AddressesFound(peer, addrs, source))

    async def _start(self, sockets: list[socket.socket]) -> None:
        """Services first, then the door, then whatever looks for others."""
        start = self._nursery.start_soon

        def hurry() -> None:
            """Whoever is wanted is dialled now, whatever it has to wait for."""
            for one in self._bootstrap:
                one.hurry()
            self._tell_addrs()

        gossip = self._gossip
        services = [
            self._switch,
            *(gossip.services if gossip else ()),
            *([self._directory.dht] if self._directory else []),
        ]
        for service in services:
            await self._nursery.start(Supervisor(service).run)
        start(self._inbox.run)
        if gossip is not None:
            self._links.moves.on_moved = lambda link: gossip.move(libp2p_id(link.peer))
            start(gossip.run)
            await gossip.join()
        start(self._switch.serve, sockets)
        self._tell_addrs()
        if self._directory is not None:
            start(self._directory.run)
        self.relays.need(self._options.behind_nat)
        start(self.relays.run)
        start(self._announce)
        start(self.reach.run)
        if self._mapper is not None:
            start(self._mapper.run)
        start(
            *(roam, self._links, self._options.timing.probe_within_s),
            *(self._looking.ring, hurry),
        )
        for one in self._bootstrap:
            start(one.run)

    async def _announce(self) -> None:
        """Tell the LAN where we are, and again whenever the interfaces change."""
        inside = reachable(self._listening)
        while True:
            async with trio.open_nursery() as nursery:
                if self._lan is not None:
                    nursery.start_soon(self._lan.run, self._announced)
                now = self._announced
                while now == self._announced:
                    await self._looking.wait()
                    self._stood_at = -math.inf
                    own = reachable(self._listening)
                    if own != inside:
                        inside = own
                        self.reach.moved()
                        if self._mapper is not None:
                            self._mapper.hurry()
                    reach = self.reach.now
                    if reach.is_settled:  # A move does not take places at relays away.
                        self.relays.need(self._options.behind_nat or reach.needs_relay)
                    now = self._override or told(own, self.reach.outside)
                nursery.cancel_scope.cancel()
            self._announced = now
            self._tell_addrs()

    async def _close(self) -> None:
        """Goodbyes, then the sockets: nothing that a peer does or leaves undone can make this
        last."""
        with trio.CancelScope(shield=True):
            if self._mapper is not None:
                self._mapper.withdraw()
            await self._links.close()
            self._switch.abort_all()
            if self._gossip is not None:
                self._gossip.close()
        self._inbox.close()


class _Connections(INotifee):  # type: ignore[misc]
    """What the switch tells: a connection is up. Its end shows on its streams."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def connected(self, network: Any, conn: Any) -> None:
        self._links.follow(conn)

    async def disconnected(self, network: Any, conn: Any) -> None:
        self._links.lost(conn)

    async def opened_stream(self, network: Any, stream: Any) -> None: ...

    async def closed_stream(self, network: Any, stream: Any) -> None: ...

    async def listen(self, network: Any, multiaddr: Any) -> None: ...

    async def listen_close(self, network: Any, multiaddr: Any) -> None: ...


@asynccontextmanager
async def opened(options: NetworkOptions) -> AsyncIterator[Libp2pNetwork]:
    """See `swarmllm.adapters.libp2p.open_network`."""
    patches.apply()
    muxer.apply()
    if len(options.seed) != 32:
        raise LocalError(
            f"an Ed25519 seed has 32 bytes, not {len(options.seed)}; use the node's key file"
        )
    for text in options.announce:
        own_addr(text, "announce")
    for text in options.bootstrap:
        bootstrap_of(text)
    options = replace(options, limits=fitting(options.limits, raised(), used()))
    sockets: list[socket.socket] = []
    failed: Exception | None = None
    try:
        listen = [own_addr(text, "listen") for text in options.listen]
        sockets = bind_all(listen, options.port_auto)
        async with trio.open_nursery() as nursery:
            network = Libp2pNetwork(options, nursery, sockets)
            try:
                await network._start(sockets)
                yield network
            except Exception as error:  # noqa: BLE001 - what the caller raises leaves as it is, not wrapped in a group of one.
                failed = error
            finally:
                await network._close()
                nursery.cancel_scope.cancel()
    finally:
        for sock in sockets:
            sock.close()
    if failed is not None:
        raise failed


def _relay(
    parts: tuple[Host, Switch, Links],
    announced: Callable[[], list[Multiaddr]],
    options: NetworkOptions,
) -> RelayServer | None:
    """Where this node is to be one."""
    if not options.relay:
        return None
    host, switch, links = parts
    limits = options.relay_limits
    lent_max = min(limits.reservations_max, switch.admission.lent_max)
    relay = RelayServer(host, links, announced, replace(limits, reservations_max=lent_max))
    switch.admission.is_lent, links.on_gone = relay.lends_to, relay.lost
    host.set_stream_handler(HOP_PROTOCOL, relay.answer, lasting=True)
    return relay


def _without_peer(text: str) -> TcpAddress:
    addr = own_addr(text, "announce")
    return TcpAddress(addr.kind, addr.host, addr.port, None)


def _reaching(network: Libp2pNetwork) -> Reaching:
    """How a node is reached: asks peers to dial it back, and answers those that ask it."""
    host, switch, listening = network._host, network._switch, network._listening
    reach = Reaching(host, network._links, partial(reachable, listening), network._looking.ring)
    reach.relays = lambda: len(network.relays.addrs)
    switch.on_accepted = reach.came
    host.set_stream_handler(AUTONAT, DialBackService(switch, network._stand).answer)
    return reach


def _mapper(
    options: NetworkOptions, reach: Reaching, listening: list[TcpAddress]
) -> PortMapper | None:
    if not options.port_mapping:
        return None
    return PortMapper(reach.port, partial(inside_host, listening), reach.mapped)
