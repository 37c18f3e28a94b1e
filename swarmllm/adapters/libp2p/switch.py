"""libp2p's switchboard, with our own front door: who is let in, how many, and how a connection is upgraded.

Listening is ours altogether (fault 8: no SO_REUSEPORT, and closing closes the sockets), and so is the life of an inbound connection
(fault 2: the library's limiter counts every connection that ever was; here a connection counts while it lives).
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections import Counter
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
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p.muxer import GuardedYamux
from swarmllm.adapters.libp2p.options import NetworkLimits, NetworkOptions, NetworkTiming

log = logging.getLogger("swarmllm.net")


class _Upgrader(TransportUpgrader):  # type: ignore[misc]
    """Fault 4: only Noise is offered, never plaintext. The muxer is ours; the library would make its own whatever it is given."""

    def __init__(self, key_pair: Any, timing: NetworkTiming) -> None:
        noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
        super().__init__({NOISE: noise}, {YAMUX: Yamux}, negotiate_timeout=max(1, round(timing.handshake_within_s)))
        self._stall_s = timing.dead_after_s

    async def upgrade_connection(self, conn: Any, peer_id: Any) -> GuardedYamux:
        await super().upgrade_connection(conn, peer_id)  # Agrees on the protocol; what it makes has not started yet.
        return GuardedYamux(conn, peer_id, self._stall_s)


class _NoAutoConnector(AutoConnector):  # type: ignore[misc]
    """The library's dials whoever is in the address book until half of `high_watermark` is reached, whatever the low one says."""

    async def maybe_connect(self) -> None:
        """Never: dialling is policy, and policy is the core's."""

    async def run_background_task(self, nursery: trio.Nursery) -> None:
        """Nothing to do in the background."""


class Switch(Swarm):  # type: ignore[misc]
    """TCP, Noise and Yamux, and nothing else."""

    def __init__(self, options: NetworkOptions) -> None:
        key_pair = create_new_key_pair(options.seed)
        peer_id = ID.from_pubkey(key_pair.public_key)
        peerstore = PeerStore()
        peerstore.add_key_pair(peer_id, key_pair)
        limits, timing = options.limits, options.timing
        config = ConnectionConfig(
            max_connections=limits.connections_max,
            high_watermark=limits.connections_max,
            min_connections=0,
            low_watermark=0,
            # Two connections to one peer settle by our own rule (`links`), not by the library's trimming.
            max_connections_per_peer=8,
            inbound_upgrade_timeout=timing.handshake_within_s,
            outbound_upgrade_timeout=timing.handshake_within_s,
            inbound_stream_protocol_negotiation_timeout=timing.negotiate_within_s,
            outbound_stream_protocol_negotiation_timeout=timing.negotiate_within_s,
        )
        super().__init__(
            peer_id,
            peerstore,
            _Upgrader(key_pair, timing),
            transports=[TCP()],
            retry_config=RetryConfig(max_retries=0),  # Retrying is policy, and policy is the core's.
            connection_config=config,
        )
        self.auto_connector = _NoAutoConnector(swarm=self)
        self.admission = Admission(limits)

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Accept until cancelled; the listening sockets are closed then."""
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
        await trio.serve_listeners(self._accept, listeners)

    async def _accept(self, stream: trio.SocketStream) -> None:
        """One inbound connection, from its first byte to its last."""
        try:
            host = str(stream.socket.getpeername()[0])
        except OSError:
            stream.socket.close()  # Gone before we looked.
            return
        if not self.admission.enter(host):
            log.info("refused a connection from %s: too many from there, or too many at once", host)
            stream.socket.close()
            return
        raw = RawConnection(TrioTCPStream(stream), False)
        try:
            try:
                muxed = await self.upgrade_inbound_raw_conn(raw, Multiaddr("/ip4/0.0.0.0/tcp/0"))
            finally:
                self.admission.upgraded()
            await muxed.event_closed.wait()
        # The guard's purpose (fault 1): whatever a stranger's handshake provokes ends that handshake.
        except Exception as error:  # noqa: BLE001
            log.debug("inbound connection from %s failed: %r", host, error)
        finally:
            self.admission.leave(host)
            stream.socket.close()

    def abort_all(self) -> None:
        """Close every socket at once; the last resort of closing."""
        for conn in self.get_connections():
            conn.muxed_conn.abort()


class Admission:
    """How many connections there are from where, and how many still shake hands. Bounded by the connections that it counts."""

    def __init__(self, limits: NetworkLimits) -> None:
        self._limits = limits
        self._from: Counter[str] = Counter()
        self._half_open = 0

    @property
    def half_open(self) -> int:
        return self._half_open

    def enter(self, host: str) -> bool:
        """Whether one more connection from `host` is welcome; if so it counts until `leave`, and as half open until `upgraded`."""
        loopback = ipaddress.ip_address(host.partition("%")[0]).is_loopback
        allowed = self._limits.per_loopback_max if loopback else self._limits.per_address_max
        if self._from[host] >= allowed or self._half_open >= self._limits.half_open_max:
            return False
        self._from[host] += 1
        self._half_open += 1
        return True

    def upgraded(self) -> None:
        self._half_open -= 1

    def leave(self, host: str) -> None:
        self._from[host] -= 1
        if not self._from[host]:
            del self._from[host]
