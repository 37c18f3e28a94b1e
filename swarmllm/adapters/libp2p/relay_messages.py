"""The messages of circuit relay v2, read with bounds, written as libp2p does (protocols/reach.md).

The protocol buffers' classes are the library's (`libp2p.relay.circuit_v2.pb`); nothing of them
leaves this module. What is unknown or missing is the sender's fault: RemoteError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio
from google.protobuf.message import DecodeError
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, Status, StopMessage
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p.addresses import TcpAddress, parse_addr
from swarmllm.core.peers.relay_quota import RelayLimits, RelayStatus
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId
from swarmllm.wire.identity import public_key_of

HOP_PROTOCOL: Final = "/libp2p/circuit/relay/0.2.0/hop"
STOP_PROTOCOL: Final = "/libp2p/circuit/relay/0.2.0/stop"
MESSAGE_MAX: Final = 4_096  # Bytes, as in go-libp2p; the library takes 64 kB.
ADDRS_MAX: Final = 8  # Of a relay, in its answer; the rest is not looked at.
ADDR_BYTES_MAX: Final = 128
_PEER_BYTES_MAX: Final = 64  # An Ed25519 peer id has 38.

MEANING: Final = {
    RelayStatus.RESERVATION_REFUSED: "it has no room for one more reservation",
    RelayStatus.RESOURCE_LIMIT_EXCEEDED: "it lends no more at the moment",
    RelayStatus.PERMISSION_DENIED: "it does not permit that",
    RelayStatus.CONNECTION_FAILED: "it could not reach the peer",
    RelayStatus.NO_RESERVATION: "the peer has no reservation there",
    RelayStatus.MALFORMED_MESSAGE: "it does not understand us",
    RelayStatus.UNEXPECTED_MESSAGE: "it expected another message",
}


@dataclass(frozen=True, slots=True)
class Reserve:
    """A request for a reservation."""


@dataclass(frozen=True, slots=True)
class Connect:
    """A request for a circuit to `peer`."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Reserved:
    """A relay's answer. `expire` is its Unix time; `addrs` are where it says that it is."""

    status: int
    expire: int = 0
    addrs: tuple[TcpAddress, ...] = ()


def meaning(status: int) -> str:
    """What a relay's status says, for a sentence about it."""
    known = {int(one): text for one, text in MEANING.items()}
    return known.get(status, f"it answers with the unknown status {status}")


def hop_request(data: bytes) -> Reserve | Connect:
    hop = _parsed(HopMessage, data)
    if hop.HasField("type") and hop.type == HopMessage.RESERVE:
        return Reserve()
    if hop.type == HopMessage.CONNECT:
        return Connect(_peer(hop))
    raise RemoteError(f"a hop message of type {hop.type} where a request should be")


def hop_answer(data: bytes) -> Reserved:
    hop = _parsed(HopMessage, data)
    if hop.type != HopMessage.STATUS:
        raise RemoteError(f"a hop message of type {hop.type} where a status should be")
    addrs = [address(one) for one in hop.reservation.addrs[:ADDRS_MAX]]
    return Reserved(
        int(hop.status), int(hop.reservation.expire), tuple(one for one in addrs if one is not None)
    )


def stop_request(data: bytes) -> PeerId:
    """Who wants to connect, as the relay says."""
    stop = _parsed(StopMessage, data)
    if stop.type != StopMessage.CONNECT or not stop.HasField("type"):
        raise RemoteError(f"a stop message of type {stop.type} where a request should be")
    return _peer(stop)


def stop_answer(data: bytes) -> int:
    stop = _parsed(StopMessage, data)
    if stop.type != StopMessage.STATUS:
        raise RemoteError(f"a stop message of type {stop.type} where a status should be")
    return int(stop.status)


def reserve() -> bytes:
    return bytes(HopMessage(type=HopMessage.RESERVE).SerializeToString())


def connect(peer: PeerId) -> bytes:
    hop = HopMessage(type=HopMessage.CONNECT)
    hop.peer.id = ID.from_base58(peer).to_bytes()
    return bytes(hop.SerializeToString())


def reserved(expire: int, addrs: Sequence[Multiaddr], limits: RelayLimits) -> bytes:
    """A relay's word that the reservation holds: until when, at which addresses, and what it
    lends."""
    hop = HopMessage(type=HopMessage.STATUS, status=Status.OK)
    hop.reservation.expire = expire
    hop.reservation.addrs.extend(addr.to_bytes() for addr in addrs[:ADDRS_MAX])
    _announce(hop, limits)
    return bytes(hop.SerializeToString())


def hop_status(status: RelayStatus, limits: RelayLimits | None = None) -> bytes:
    hop = HopMessage(type=HopMessage.STATUS, status=Status.ValueType(status))
    if limits is not None:
        _announce(hop, limits)
    return bytes(hop.SerializeToString())


def stop(peer: PeerId, limits: RelayLimits) -> bytes:
    message = StopMessage(type=StopMessage.CONNECT)
    message.peer.id = ID.from_base58(peer).to_bytes()
    _announce(message, limits)
    return bytes(message.SerializeToString())


def stop_status(status: RelayStatus) -> bytes:
    return bytes(
        StopMessage(type=StopMessage.STATUS, status=Status.ValueType(status)).SerializeToString()
    )


async def read(stream: Any) -> bytes:
    """One message. RemoteError if it is too long or cut off; nothing behind it is read."""
    try:
        data = await read_varint_prefixed_bytes_limited(stream, MESSAGE_MAX)
    except (BaseLibp2pError, OSError, ValueError, trio.ClosedResourceError) as error:
        raise RemoteError(f"no relay message: {str(error) or type(error).__name__}") from error
    return bytes(data)


async def write(stream: Any, data: bytes) -> None:
    """RemoteError if the stream takes no more."""
    try:
        await stream.write(encode_varint_prefixed(data))
    except (BaseLibp2pError, OSError, trio.ClosedResourceError) as error:
        raise RemoteError(
            f"the relay stream is gone: {str(error) or type(error).__name__}"
        ) from error


def _parsed(kind: Any, data: bytes) -> Any:
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise RemoteError(f"{len(data)} bytes are no {kind.__name__}") from error
    return message


def _peer(message: Any) -> PeerId:
    data = bytes(message.peer.id)
    if not 0 < len(data) <= _PEER_BYTES_MAX:
        raise RemoteError(f"a peer id of {len(data)} bytes")
    peer = PeerId(ID(data).to_base58())
    public_key_of(peer)
    return peer


def address(data: bytes) -> TcpAddress | None:
    """None for what is no plain TCP address: relays have others, too."""
    if len(data) > ADDR_BYTES_MAX:
        return None
    try:
        return parse_addr(str(Multiaddr(data)))
    # The guard's purpose: the multiaddr library raises a dozen types for bytes that are none.
    except Exception:  # noqa: BLE001
        return None


def _announce(message: Any, limits: RelayLimits) -> None:
    message.limit.duration = round(limits.circuit_s)
    message.limit.data = limits.circuit_bytes_max
