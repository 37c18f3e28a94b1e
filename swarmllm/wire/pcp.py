"""Port mapping requests to a router: PCP (RFC 6887) and the older NAT-PMP (RFC 6886), as bytes.

Both are one datagram each way on UDP port 5351. No kept library speaks them, and they are a few
fixed fields; a router's answer is a stranger's input, so each field is looked at before it counts.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from swarmllm.errors import RemoteError

ROUTER_PORT: Final = 5351
ANSWER_MAX: Final = 1_100  # Bytes of a PCP message (RFC 6887, section 7).
NONCE_BYTES: Final = 12
_TCP: Final = 6
_PMP, _PCP = 0, 2  # Versions.
_OP_ADDRESS, _OP_MAP_TCP, _OP_MAP = 0, 2, 1
_PMP_ADDRESS: Final = struct.Struct(">BBHI4s")
_PMP_MAP: Final = struct.Struct(">BBHHHI")
_PMP_MAPPED: Final = struct.Struct(">BBHIHHI")
_PCP_MAP: Final = struct.Struct(">BBHI16s12sB3xHH16s")
_PCP_MAPPED: Final = struct.Struct(">BBBBII12x12sB3xHH16s")
_PMP_FAULTS: Final = {
    1: "it does not speak this version",
    2: "its owner does not allow it",
    3: "it has no address of the internet itself",
    4: "it has no room",
    5: "it does not know how to",
}
_PCP_FAULTS: Final = {
    1: "it does not speak this version",
    2: "its owner does not allow it",
    8: "it has no room",
    11: "it cannot give that port",
    12: "this machine may not ask for itself",
}


class NotSpoken(RemoteError):
    """The router answers, and does not speak this protocol."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """`port` of the router's address `host` (empty: it did not say) leads here for `lifetime_s`."""

    host: str
    port: int
    lifetime_s: int


def pmp_address_request() -> bytes:
    return bytes((_PMP, _OP_ADDRESS))


def pmp_map_request(port: int, wanted: int, lifetime_s: int) -> bytes:
    """With lifetime and `wanted` 0: the mapping is wanted no more."""
    return _PMP_MAP.pack(_PMP, _OP_MAP_TCP, 0, port, wanted, lifetime_s)


def pcp_map_request(own: str, nonce: bytes, port: int, wanted: int, lifetime_s: int) -> bytes:
    """`own` is the address that the datagram leaves from; `nonce` proves later that the mapping is
    ours."""
    anything = _wide("0.0.0.0" if ip_address(own).version == 4 else "::")
    return _PCP_MAP.pack(
        *(_PCP, _OP_MAP, 0, lifetime_s, _wide(own), nonce, _TCP, port, wanted, anything)
    )


def read_pmp_address(data: bytes) -> str:
    """The router's own address outside. RemoteError: it refuses, or it is no answer to that."""
    version, op, result, _, packed = _unpacked(_PMP_ADDRESS, data)
    _expect(version == _PMP and op == 0x80 | _OP_ADDRESS, data)
    _refuse(result, _PMP_FAULTS)
    return str(ip_address(packed))


def read_pmp_map(data: bytes, port: int) -> Mapped:
    version, op, result, _, inside, outside, lifetime_s = _unpacked(_PMP_MAPPED, data)
    _expect(version == _PMP and op == 0x80 | _OP_MAP_TCP and inside == port, data)
    _refuse(result, _PMP_FAULTS)
    return Mapped("", outside, lifetime_s)


def read_pcp_map(data: bytes, nonce: bytes, port: int) -> Mapped:
    """NotSpoken if the router knows NAT-PMP only, or another version."""
    if data[:1] == bytes((_PMP,)):
        raise NotSpoken("the router speaks NAT-PMP and not PCP")
    version, op, _, result, lifetime_s, _, echoed, protocol, inside, outside, packed = _unpacked(
        _PCP_MAPPED, data
    )
    _expect(version == _PCP and op == 0x80 | _OP_MAP, data)
    if result == 1:
        raise NotSpoken("the router speaks another version of PCP")
    _refuse(result, _PCP_FAULTS)
    _expect((echoed, protocol, inside) == (nonce, _TCP, port), data)
    host = IPv6Address(packed)
    return Mapped(str(host.ipv4_mapped or host), outside, lifetime_s)


def _wide(host: str) -> bytes:
    packed = ip_address(host).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def _unpacked(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    if not layout.size <= len(data) <= ANSWER_MAX:
        # A refusal may be shorter than what it refuses: version, operation and result are there.
        if len(data) >= 4 and data[0] == _PMP:
            _refuse(int.from_bytes(data[2:4], "big"), _PMP_FAULTS)
        raise RemoteError(f"the router answered {len(data)} bytes where {layout.size} are due")
    return layout.unpack_from(data)


def _expect(holds: bool, data: bytes) -> None:
    if not holds:
        raise RemoteError(f"the router answered something else than was asked: {data[:4].hex()}")


def _refuse(result: int, faults: dict[int, str]) -> None:
    if result:
        raise RemoteError(f"the router refuses: {faults.get(result, f'code {result}')}")
