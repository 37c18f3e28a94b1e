"""AutoNAT: a peer dials this node back and says whether it got in; this node does the same for
others.

The messages are those of libp2p's AutoNAT v1, so that other implementations can ask us and be
asked; the library's own service is not used. Its dial goes through the host, which has a connection
to the asker already, and so it always says yes; it takes any number of addresses, from anybody, as
often as they like, private ones too; and whoever cannot be asked counts as a peer that could not
reach us.

Here a dial-back is a fresh TCP connection from another port to the host that asks (`DialBacks` says
where to and how often), and the Noise handshake on it, in which the asker proves that it is the one
who is there: a router may forward that port to somebody else. Nothing is multiplexed on it, so it
never counts as a connection to a peer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import trio
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p.addresses import TcpAddress, parse_addr
from swarmllm.core.peers.dial_back import DialBacks
from swarmllm.core.peers.dial_rule import Vantage

log = logging.getLogger("swarmllm.net")

AUTONAT: Final = "/libp2p/autonat/1.0.0"
MESSAGE_MAX: Final = 2_048  # Bytes: an id and 16 addresses of 64 bytes are 1,200.
ADDRS_MAX: Final = 16  # Others list all their interfaces; more are not looked at.
KNOCK_S: Final = 4.0  # For one port: connection and handshake.
ANSWER_S: Final = 12.0  # For the whole answer of a peer: two ports and a slow way.


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer says of its dial-back: `reached` None says that it did not try."""

    reached: bool | None
    addr: TcpAddress | None = None


def remote_of(muxed_conn: Any) -> tuple[str, int] | None:
    """The address at the other end of a direct connection; None for one through a relay, whose
    other end nobody here has seen, and for one that is gone."""
    remote = muxed_conn.get_remote_address() if muxed_conn.circuit is None else None
    if remote is None:
        return None
    try:
        host = ip_address(str(remote[0]).split("%", maxsplit=1)[0])
    except ValueError:
        return None
    mapped = getattr(host, "ipv4_mapped", None)
    return str(mapped or host), int(remote[1])


class DialBackService:
    """Answers those who ask. `stand` says where this node is, for a demo on one machine."""

    def __init__(self, switch: Any, stand: Callable[[], Vantage]) -> None:
        self._switch, self._stand = switch, stand
        self._rule = DialBacks()

    async def answer(self, stream: Any) -> None:
        """Handler of a stream that a peer opened; bounded in time by the host."""
        request = Message()
        request.ParseFromString(await read_varint_prefixed_bytes_limited(stream, MESSAGE_MAX))
        reply = await self._replied(request, stream.muxed_conn)
        await stream.write(encode_varint_prefixed(reply.SerializeToString()))
        await stream.close()

    async def _replied(self, request: Any, conn: Any) -> Any:
        if request.type != Message.DIAL:
            return _reply(Message.E_BAD_REQUEST, "only DIAL is answered")
        remote = remote_of(conn)
        if remote is None:
            return _reply(Message.E_DIAL_REFUSED, "over a relay nobody is dialled back")
        if request.dial.peer.id != conn.peer_id.to_bytes():
            return _reply(Message.E_BAD_REQUEST, "another peer's id")
        seen = ip_address(remote[0]).packed
        targets = [
            (addr.packed, addr.port) for addr in _addresses(request.dial.peer.addrs) if addr.packed
        ]
        ports, why = self._rule.begin(seen, targets, self._stand(), trio.current_time())
        if not ports:
            return _reply(Message.E_DIAL_REFUSED, why)
        try:
            for port in ports:
                if await self._knock(conn.peer_id, remote[0], port):
                    kind = "ip4" if len(seen) == 4 else "ip6"
                    addr = Multiaddr(f"/{kind}/{remote[0]}/tcp/{port}")
                    return _reply(Message.OK, "", addr.to_bytes())
        finally:
            self._rule.end()
        return _reply(Message.E_DIAL_ERROR, "nobody of that id answered there")

    async def _knock(self, peer_id: Any, host: str, port: int) -> bool:
        stream: trio.SocketStream | None = None
        with trio.move_on_after(KNOCK_S):
            try:
                stream = await trio.open_tcp_stream(host, port)
                raw = RawConnection(TrioTCPStream(stream), True)
                await self._switch.upgrader.upgrade_security(raw, True, peer_id)
                return True
            # The guard's purpose (fault 1): a dial fails in many ways, all of which mean the same.
            except Exception as error:  # noqa: BLE001
                log.debug("dial-back to %s port %d: %r", host, port, error)
            finally:
                if stream is not None:
                    stream.socket.close()
        return False


async def ask(host: Any, conn: Any, addrs: list[TcpAddress]) -> Answer:
    """Have the peer at the other end dial these addresses. StreamFailure if it does not know how;
    any exception if it answers nonsense."""
    request = Message()
    request.type = Message.DIAL
    request.dial.peer.id = host.get_id().to_bytes()
    for addr in addrs:
        request.dial.peer.addrs.append(Multiaddr(str(addr)).to_bytes())
    with trio.move_on_after(ANSWER_S):
        stream = await host.open_stream(conn, [AUTONAT])
        try:
            await stream.write(encode_varint_prefixed(request.SerializeToString()))
            reply = Message()
            reply.ParseFromString(await read_varint_prefixed_bytes_limited(stream, MESSAGE_MAX))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await stream.reset()
        status = reply.dialResponse.status
        if status == Message.OK:
            told = [a for a in _addresses([reply.dialResponse.addr]) if a in addrs]
            return Answer(True, told[0] if told else addrs[0])
        return Answer(False if status == Message.E_DIAL_ERROR else None)
    return Answer(None)


def _reply(status: Any, text: str, addr: bytes = b"") -> Any:
    reply = Message()
    reply.type = Message.DIAL_RESPONSE
    reply.dialResponse.status = status
    reply.dialResponse.statusText = text
    if addr:
        reply.dialResponse.addr = addr
    return reply


def _addresses(packed: Any) -> list[TcpAddress]:
    """Those of a stranger's binary multiaddrs that are plain TCP addresses with a number."""
    found = []
    for data in list(packed)[:ADDRS_MAX]:
        try:
            addr = parse_addr(str(Multiaddr(bytes(data))))
        # The guard's purpose: a stranger's bytes in the library's parser.
        except Exception as error:  # noqa: BLE001
            log.debug("an address left out: %r", error)
            continue
        found.append(TcpAddress(addr.kind, addr.host, addr.port, None))
    return found
