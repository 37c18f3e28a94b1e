"""Hole punching (DCUtR): a connection through a relay gives way to a direct one, if NATs allow it.

Two peers tell each other over the relay where they might be reached, and connect at the same moment
from the ports that they listen on; each NAT then takes the other's packets for answers. Who opened
the circuit is the initiator of the handshake, whoever's packet came through first, as in rust- and
py-libp2p. Of py-libp2p 0.8.1 only the message class is used: its rounds trust the addresses that a
stranger sends, dial them without any bound, and count on a listener with SO_REUSEPORT.

Many NATs answer a packet that they did not expect with a reset, which closes the hole that the
other side has just opened; the moment at which neither does is as short as the way. So whoever
begins sends a first packet that lives for a few hops: it opens its own NAT and never reaches the
other, and the other side's packet then meets a socket that waits for it. The last round is as the
specification has it.

Nothing here ends the connection through the relay: a direct one that comes up is found by `Links`,
which moves to it. Where no hole can be punched, the relay stays.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import trio
from google.protobuf.message import DecodeError
from libp2p.host.exceptions import StreamFailure
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p import relay_messages as messages
from swarmllm.adapters.libp2p.addresses import TcpAddress
from swarmllm.adapters.libp2p.host import Host, reset
from swarmllm.adapters.libp2p.lane import StreamEnded, read_some
from swarmllm.adapters.libp2p.link import Link
from swarmllm.adapters.libp2p.links import Links, libp2p_id
from swarmllm.adapters.libp2p.switch import Switch
from swarmllm.core.peers.dial_rule import PORT_MIN, Knocks, Vantage, refusal
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId

log = logging.getLogger("swarmllm.net")

DCUTR_PROTOCOL: Final = "/libp2p/dcutr"
# Hops that our first packet lives, round by round: behind a router, and behind a provider's NAT as
# well. None: it goes all the way, as the specification has it.
HOPS: Final = (2, 4, None)
# Linux's IP_MINTTL and IPV6_MINHOPCOUNT, which Python does not name: what is said of a packet that
# had fewer hops left, such as that it died on its way, is not for this socket. A peer's has more.
_MIN_HOPS: Final = {socket.AF_INET: (0, 21), socket.AF_INET6: (41, 73)}
_HOPS: Final = {
    socket.AF_INET: (0, socket.IP_TTL),
    socket.AF_INET6: (41, socket.IPV6_UNICAST_HOPS),
}
_HOPS_LEFT_MIN: Final = 8
_HOPS_USUAL: Final = 64
# For one round: the first packet of a connection is sent again after one second.
ROUND_S: Final = 2.5
MESSAGE_WITHIN_S: Final = 5.0
# Pauses before we try again, in one round: a refused connection is what a NAT that has not seen our
# peer's packet yet makes of ours. Whoever sends us to somebody else's door has it knocked so often.
AGAIN_S: Final = (0.1, 0.2, 0.3, 0.5, 0.8)
ADDRS_MAX: Final = 6  # That a peer may send us to, in one round.
AT_ONCE_MAX: Final = 8  # Peers with whom a hole is being punched.
SEEN_FOR_S: Final = 60.0  # For so long it is believed where a relay has seen us.
IDENTIFY_BYTES_MAX: Final = 8_192


class NoHole(Exception):
    """It did not work; the text says why."""


@dataclass(frozen=True, slots=True)
class _Seen:
    host: str
    at: float


class Punch:
    """`announced` are the addresses of this node, `listening` the ones of its sockets."""

    def __init__(
        self,
        parts: tuple[Host, Switch, Links],
        listening: Sequence[TcpAddress],
        announced: Callable[[], Sequence[TcpAddress]],
        vantage: Callable[[], Vantage],
        nursery: trio.Nursery,
    ) -> None:
        self._host, self._switch, self._links = parts
        self._listening, self._announced, self._vantage = listening, announced, vantage
        self._nursery = nursery
        self._knocks = Knocks()
        self._seen: dict[PeerId, _Seen] = {}  # By relay.
        self._busy: set[PeerId] = set()
        self._counts: Counter[str] = Counter()
        self._host.set_stream_handler(DCUTR_PROTOCOL, self.answer, lasting=True)

    @property
    def figures(self) -> dict[str, int]:
        """How often it was tried and how it ended, by the side that we were on."""
        return {
            name: self._counts[name]
            for name in ("tried", "punched", "no_hole", "asked_to", "punched_when_asked")
        }

    def ready(self, link: Link) -> None:
        """A connection is up. If somebody reached us through a relay, we try to do without."""
        if link.is_relayed and self._listening and not link.is_last_resort:
            self._nursery.start_soon(self._improve, link)

    # --- whom somebody reached through a relay ----------------------------------------------------

    async def _improve(self, link: Link) -> None:
        await self._look(link)
        if link.we_dialled or link.peer in self._busy or len(self._busy) >= AT_ONCE_MAX:
            return
        self._busy.add(link.peer)
        self._counts["tried"] += 1
        began_at = trio.current_time()
        try:
            await self._punch(link)
            self._counts["punched"] += 1
            spent_s = trio.current_time() - began_at
            log.info("%s is reached without a relay now, after %.1f s", link.peer, spent_s)
        except (NoHole, RemoteError, StreamFailure, trio.TooSlowError) as error:
            self._counts["no_hole"] += 1
            log.info("%s stays behind its relay: %s", link.peer, str(error) or "no answer in time")
        finally:
            self._busy.discard(link.peer)

    async def _punch(self, link: Link) -> None:
        stream = await self._host.open_stream(link.conn, [DCUTR_PROTOCOL])
        try:
            why = ""
            for hops in HOPS:
                began_at = trio.current_time()
                with trio.fail_after(MESSAGE_WITHIN_S):
                    await messages.write(stream, self._connect(link))
                    told = _told(await messages.read(stream), HolePunch.CONNECT)
                    round_trip_s = trio.current_time() - began_at
                    await messages.write(stream, _sync())
                if hops is None:
                    await trio.sleep(round_trip_s / 2)
                try:
                    await self._knock(link.peer, told, hops, initiator=False)
                except NoHole as error:
                    why = str(error)
                else:
                    return
            raise NoHole(why)
        finally:
            await reset(stream)

    # --- who reached somebody through a relay -----------------------------------------------------

    async def answer(self, stream: Any) -> None:
        """Handler of the streams on which peers want to meet us without the relay."""
        peer = PeerId(stream.muxed_conn.peer_id.to_base58())
        link = self._links.of(peer)
        if (
            link is None
            or not stream.muxed_conn.is_relayed
            or peer in self._busy
            or len(self._busy) >= AT_ONCE_MAX
        ):
            return
        self._busy.add(peer)
        self._counts["asked_to"] += 1
        try:
            for _ in HOPS:
                with trio.fail_after(ROUND_S + MESSAGE_WITHIN_S):
                    told = _told(await messages.read(stream), HolePunch.CONNECT)
                # Before we answer: where nothing is between us, the first packet gets through.
                with self._expecting(peer, told):
                    with trio.fail_after(MESSAGE_WITHIN_S):
                        await messages.write(stream, self._connect(link))
                        _told(await messages.read(stream), HolePunch.SYNC)
                    try:
                        await self._knock(peer, told, None, initiator=True)
                    except NoHole as error:
                        log.debug("no hole to %s yet: %s", peer, error)
                    else:
                        self._counts["punched_when_asked"] += 1
                        return
        except (RemoteError, trio.TooSlowError) as error:
            log.debug("%s wants no hole any more: %s", peer, error)
        finally:
            self._busy.discard(peer)

    # --- both -------------------------------------------------------------------------------------

    @contextmanager
    def _expecting(self, peer: PeerId, told: Sequence[TcpAddress]) -> Iterator[None]:
        """While this lasts, the handshake is ours to begin on what comes from these hosts."""
        hosts = {addr.host: libp2p_id(peer) for addr in self._usable(told)[0]}
        self._switch.expected.update(hosts)
        try:
            yield
        finally:
            for host in hosts:
                self._switch.expected.pop(host, None)

    def _usable(self, told: Sequence[TcpAddress]) -> tuple[list[TcpAddress], str]:
        """Those that may be dialled, and why one of the others may not."""
        why = "it named no address that we may dial"
        usable: list[TcpAddress] = []
        own = {(addr.host, addr.port) for addr in self._announced()}
        for addr in told[:ADDRS_MAX]:
            wrong = refusal(addr.packed, addr.port, self._vantage()) if addr.packed else "a name"
            if (addr.host, addr.port) in own:
                wrong = "our own"  # Two homes have one private network, as a rule.
            if wrong:
                why = f"{addr} is not dialled: {wrong}"
            else:
                usable.append(addr)
        return usable, why

    async def _knock(
        self, peer: PeerId, told: Sequence[TcpAddress], hops: int | None, *, initiator: bool
    ) -> None:
        """Connect at all these addresses from the port that we listen on. NoHole if there is no
        direct connection within a round."""
        usable, why = self._usable(told)
        now = trio.current_time()
        usable = [addr for addr in usable if self._knocks.take(addr.packed, addr.port, now)]
        if not usable:
            raise NoHole(why)
        with trio.move_on_after(ROUND_S):
            async with trio.open_nursery() as nursery:
                for addr in usable:
                    nursery.start_soon(self._connect_to, peer, addr, hops, initiator)
                while not self._is_direct(peer):
                    await self._links.wait_change()
                nursery.cancel_scope.cancel()
        if not self._is_direct(peer):
            raise NoHole(f"no way to {', '.join(map(str, usable))} within {ROUND_S:g} s")

    def _is_direct(self, peer: PeerId) -> bool:
        link = self._links.of(peer)
        return link is not None and not link.is_relayed

    async def _connect_to(
        self, peer: PeerId, addr: TcpAddress, hops: int | None, initiator: bool
    ) -> None:
        """A few times: whether it worked shows on the switch."""
        for pause_s in AGAIN_S:
            try:
                sock = await _connected(addr, self._source(addr.kind), hops)
            except OSError as error:
                log.debug("%s: %s", addr, error)
                await trio.sleep(pause_s)
                continue
            raw = RawConnection(TrioTCPStream(trio.SocketStream(sock)), initiator)
            try:
                if initiator:
                    await self._switch.upgrade_outbound_raw_conn(raw, libp2p_id(peer))
                else:
                    muxed = await self._switch.upgrade_inbound_raw_conn(raw, Multiaddr(str(addr)))
                    if muxed.peer_id != libp2p_id(peer):
                        muxed.abort()
                return
            # The guard's purpose (fault 1): whoever is there, it may answer anything.
            except Exception as error:  # noqa: BLE001
                log.debug("%s shook no hands: %r", addr, error)
                sock.close()
                await trio.sleep(pause_s)
            except BaseException:
                sock.close()
                raise

    def _source(self, kind: str) -> tuple[str, int]:
        """The address from which a NAT has seen us, or will: that of our listening socket."""
        own = next((one for one in self._listening if one.kind == kind), None)
        if own is None:
            raise OSError(f"this node does not listen on {kind}")
        return own.host, own.port

    def _connect(self, link: Link) -> bytes:
        """Where we might be reached: where the relay sees us, at the port that we listen on, and
        what we announce."""
        addrs = list(self._announced())
        circuit = link.conn.muxed_conn.circuit
        if circuit is not None and (seen := self._seen.get(circuit.relay)) is not None:
            kind = "ip6" if ":" in seen.host else "ip4"
            addrs = [
                *(
                    TcpAddress(kind, seen.host, o.port, None)
                    for o in self._listening
                    if o.kind == kind
                ),
                *addrs,
            ]
        hole = HolePunch(type=HolePunch.CONNECT)
        for addr in list(dict.fromkeys(addrs))[:ADDRS_MAX]:
            hole.ObsAddrs.append(Multiaddr(str(addr)).to_bytes())
        return bytes(hole.SerializeToString())

    async def _look(self, link: Link) -> None:
        """Ask the relay where it sees us, before anybody's time is measured."""
        circuit = link.conn.muxed_conn.circuit
        relay = None if circuit is None else self._links.of(circuit.relay)
        now = trio.current_time()
        if relay is None:
            return
        self._seen = {one: seen for one, seen in self._seen.items() if seen.at > now - SEEN_FOR_S}
        if relay.peer not in self._seen:
            host = await _seen_by(self._host, relay.conn)
            if host:
                self._seen[relay.peer] = _Seen(host, now)


async def _connected(addr: TcpAddress, source: tuple[str, int], hops: int | None) -> Any:
    """A socket from our own port, whose first packet lives for so many hops. OSError if there is no
    way. The listening socket shares its port since it listens (`addresses.bind`)."""
    family = socket.AF_INET6 if addr.kind == "ip6" else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if hops is not None and sys.platform == "linux":
            sock.setsockopt(*_MIN_HOPS[family], _HOPS_LEFT_MIN)
            sock.setsockopt(*_HOPS[family], hops)
        sock.bind(source)
        failed = sock.connect_ex((addr.host, addr.port))  # The packet is out when this returns.
        if failed not in (0, errno.EINPROGRESS):
            raise OSError(failed, os.strerror(failed))
        if hops is not None and sys.platform == "linux":
            sock.setsockopt(*_HOPS[family], _HOPS_USUAL)
        await trio.lowlevel.wait_writable(sock.fileno())
        failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
    except BaseException:
        sock.close()
        raise
    return trio.socket.from_stdlib_socket(sock)


async def _seen_by(host: Host, conn: Any) -> str:
    """The host at which the peer sees us, as it says in identify; empty if it says nothing."""
    answer = b""
    with trio.move_on_after(MESSAGE_WITHIN_S):
        try:
            stream = await host.open_stream(conn, [IDENTIFY])
            while len(answer) < IDENTIFY_BYTES_MAX:
                answer += await read_some(
                    stream, IDENTIFY_BYTES_MAX, float("inf"), MESSAGE_WITHIN_S
                )
        except StreamEnded:
            pass  # The end of the answer.
        except StreamFailure as error:
            log.debug("%s", error)
    try:
        seen = Multiaddr(parse_identify_response(answer).observed_addr)
        found = str(ip_address(str(seen).split("/")[2]))
    # The guard's purpose: a stranger's bytes in the library's parser.
    except Exception as error:  # noqa: BLE001
        log.debug("no observed address: %r", error)
        return ""
    return found


def _sync() -> bytes:
    return bytes(HolePunch(type=HolePunch.SYNC).SerializeToString())


def _told(data: bytes, kind: int) -> list[TcpAddress]:
    """The addresses in a message of this kind. RemoteError for anything else."""
    hole = HolePunch()
    try:
        hole.ParseFromString(data)
    except DecodeError as error:
        raise RemoteError(f"{len(data)} bytes are no HolePunch") from error
    if hole.type != kind:
        raise RemoteError(f"a HolePunch of type {hole.type} where {kind} should be")
    found = [messages.address(one) for one in hole.ObsAddrs[:ADDRS_MAX]]
    return [one for one in found if one is not None and one.port >= PORT_MIN]
