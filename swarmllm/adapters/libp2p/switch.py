"""The libp2p switch (swarm object) with admission control, connection limits and upgrade guards of
our own.

Listening is ours altogether (fault 8: no SO_REUSEPORT, and closing closes the sockets), and so is
the life of an inbound connection (fault 2: the library's limiter counts every connection that ever
was; here a connection counts while it lives).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p.address_book import AddressBook
from swarmllm.adapters.libp2p.addresses import bootstrap_of
from swarmllm.adapters.libp2p.admission import Admission, Full
from swarmllm.adapters.libp2p.muxer import Bounds, GuardedYamux
from swarmllm.adapters.libp2p.options import NetworkOptions, NetworkTiming
from swarmllm.adapters.libp2p.unread import Unread
from swarmllm.messages import PeerId

log = logging.getLogger("swarmllm.net")


class _Upgrader(TransportUpgrader):  # type: ignore[misc]
    """Fault 4: only Noise is offered, never plaintext. The muxer is ours; the library would make
    its own whatever it is given."""

    def __init__(self, key_pair: Any, timing: NetworkTiming, bounds: Bounds) -> None:
        noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
        super().__init__(
            {NOISE: noise},
            {YAMUX: Yamux},
            negotiate_timeout=max(1, round(timing.handshake_within_s)),
        )
        self._bounds = bounds

    async def upgrade_connection(self, conn: Any, peer_id: Any) -> GuardedYamux:
        # Agrees on the protocol; what it makes has not started yet.
        await super().upgrade_connection(conn, peer_id)
        return GuardedYamux(conn, peer_id, self._bounds)


class _NoAutoConnector(AutoConnector):  # type: ignore[misc]
    """The library's dials whoever is in the address book until half of `high_watermark` is reached,
    whatever the low one says."""

    async def maybe_connect(self) -> None:
        """Never: dialling is policy, and policy is the core's."""

    async def run_background_task(self, nursery: trio.Nursery) -> None:
        """Nothing to do in the background."""


class Switch(Swarm):  # type: ignore[misc]
    """TCP, Noise and Yamux, and nothing else."""

    def __init__(self, options: NetworkOptions) -> None:
        key_pair = create_new_key_pair(options.seed)
        peer_id = ID.from_pubkey(key_pair.public_key)
        peerstore = AddressBook()
        peerstore.add_key_pair(peer_id, key_pair)
        limits, timing = options.limits, options.timing
        never = 2 * (
            limits.connections_max + limits.half_open_max
        )  # Admission decides; the library only counts, and would turn us away.
        config = ConnectionConfig(
            max_connections=never,
            high_watermark=never,
            min_connections=0,
            low_watermark=0,
            # Two connections to one peer settle by our own rule (`links`), not by the library's
            # trimming.
            max_connections_per_peer=8,
            inbound_upgrade_timeout=timing.handshake_within_s,
            outbound_upgrade_timeout=timing.handshake_within_s,
            inbound_stream_protocol_negotiation_timeout=timing.negotiate_within_s,
            outbound_stream_protocol_negotiation_timeout=timing.negotiate_within_s,
        )
        self.unread = Unread(limits.unread_bytes_per_peer_max, limits.unread_bytes_max)
        bounds = Bounds(timing.dead_after_s, 2 * limits.streams_per_peer_max, self.unread)
        super().__init__(
            peer_id,
            peerstore,
            _Upgrader(key_pair, timing, bounds),
            transports=[TCP()],
            # Retrying is policy, and policy is the core's.
            retry_config=RetryConfig(max_retries=0),
            connection_config=config,
        )
        self.auto_connector = _NoAutoConnector(swarm=self)
        named = [bootstrap_of(text) for text in options.bootstrap]
        # A relay that leads to one of them is as much the owner's wish.
        self._owners = frozenset(
            peer for addr, other in named for peer in (addr.peer, other) if peer is not None
        )
        self.admission = Admission(limits, self._owners)
        # By host, with whom a hole is being punched: a connection from there is one that we open,
        # too, so that we begin the handshake (`punch`). Bounded by whoever punches.
        self.expected: dict[str, Any] = {}
        self.on_accepted: Callable[[str], None] = lambda _: None
        """Hears of every socket that is accepted, from which host."""
        self._dial_slots = trio.CapacityLimiter(limits.dial_sockets_max)

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Accept until cancelled; the listening sockets are closed then. Where the process has no
        descriptor left, trio tries again every 100 ms."""
        if not sockets:
            return  # Who only dials; trio will not wait for nobody.
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
        await trio.serve_listeners(self._accept, listeners)

    async def dial_addr(
        self, addr: Any, peer_id: Any, source: tuple[str, int] | None = None
    ) -> Any:
        """The owner's own peers wait for nobody's dials."""
        if PeerId(peer_id.to_base58()) in self._owners:
            return await super().dial_addr(addr, peer_id, source)
        async with self._dial_slots:
            return await super().dial_addr(addr, peer_id, source)

    async def add_conn(self, muxed_conn: Any, direction: str = "unknown") -> Any:
        """Every connection comes through here once it has shaken hands. Full (a SwarmException) if
        there is no room for it."""
        remote = muxed_conn.get_remote_address()
        if remote is None:
            raise Full("the connection has no remote address any more")
        peer = PeerId(muxed_conn.peer_id.to_base58())
        try:
            self.admission.seat(muxed_conn, peer, str(remote[0]), inbound=direction == "inbound")
        except Full:
            muxed_conn.abort()
            raise
        try:
            return await super().add_conn(muxed_conn, direction)
        except BaseException:
            self.admission.free(muxed_conn)
            raise

    def remove_conn(self, swarm_conn: Any) -> None:
        self.admission.free(swarm_conn.muxed_conn)
        super().remove_conn(swarm_conn)

    async def _accept(self, stream: trio.SocketStream) -> None:
        """One inbound connection, from its first byte to its last."""
        try:
            host = str(stream.socket.getpeername()[0])
        except OSError:
            stream.socket.close()  # Gone before we looked.
            return
        self.on_accepted(host)
        entrant = self.admission.enter(host)
        if entrant is None:
            log.info("refused a connection from %s: too many from there", host)
            stream.socket.close()
            return
        try:
            muxed = None
            with entrant.scope:
                muxed = await self._upgraded(stream, self.expected.get(host))
            self.admission.upgraded(entrant)
            if muxed is not None:
                await muxed.event_closed.wait()
        except Full as error:
            log.info("%s", error)
        # The guard's purpose (fault 1): whatever a stranger's handshake provokes ends that
        # handshake.
        except Exception as error:  # noqa: BLE001
            log.debug("inbound connection from %s failed: %r", host, error)
        finally:
            self.admission.leave(entrant)
            stream.socket.close()

    async def _upgraded(self, stream: trio.SocketStream, expected: Any) -> Any:
        """The connection on an accepted socket. `expected` is the peer with whom a hole is punched
        there: then the handshake is ours to begin."""
        raw = RawConnection(TrioTCPStream(stream), expected is not None)
        if expected is None:
            return await self.upgrade_inbound_raw_conn(raw, Multiaddr("/ip4/0.0.0.0/tcp/0"))
        with trio.fail_after(self.connection_config.outbound_upgrade_timeout):
            return (await self.upgrade_outbound_raw_conn(raw, expected)).muxed_conn

    def abort_all(self) -> None:
        """Close every socket at once; the last resort of closing."""
        for conn in self.get_connections():
            conn.muxed_conn.abort()
