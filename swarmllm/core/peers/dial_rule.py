"""Dial rules: which addresses of strangers may be dialled, so that nobody uses the swarm to knock
on doors.

Anybody can write any address into a record, the DHT or a LAN announcement, and everybody who hears
it would dial it. So such an address is dialled only if it could be a peer's: global, or private and
on a network that this machine itself is on; never a name (looking it up is a message to whoever
runs it), never a port of system services; and no host often. What the owner of this node has named
is not judged here.

The networks are listed here and not taken from `ipaddress`, whose lists change with the version of
Python.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

PORT_MIN: Final = 1024

_Network = tuple[bytes, int]
"""The address of a network, 4 or 16 bytes, and how many of its bits count."""


def network(text: str) -> _Network:
    found = ip_network(text)
    return found.network_address.packed, found.prefixlen


def _all(*texts: str) -> tuple[_Network, ...]:
    return tuple(map(network, texts))


_LOOPBACK: Final = _all("127.0.0.0/8", "::1/128")
_METADATA: Final = _all(
    "169.254.169.254/32",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
)
"""Where clouds hand out their machines' credentials; those of link-local form are below as well."""
_PRIVATE: Final = _all("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
_SPECIAL: Final = _all(
    *(
        "0.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
    ),
    *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),
)
"""Unspecified, link-local, documentation, benchmarks, multicast, reserved; of IPv6 beyond these
only what is global at all, below."""
_GLOBAL6: Final = network("2000::/3")
_MAPPED, _NAT64, _6TO4 = network("::ffff:0:0/96"), network("64:ff9b::/96"), network("2002::/16")
_ISATAP: Final = (b"\0\0\x5e\xfe", b"\2\0\x5e\xfe")


@dataclass(frozen=True, slots=True)
class Vantage:
    """Where this node stands: the networks of its interfaces, and whether it is reached by loopback
    alone, as in a test or a demo."""

    networks: tuple[_Network, ...] = ()
    is_loopback: bool = False


def is_within(packed: bytes, found: _Network) -> bool:
    base, bits = found
    shift = 8 * len(base) - bits
    return (
        len(packed) == len(base)
        and int.from_bytes(packed, "big") >> shift == int.from_bytes(base, "big") >> shift
    )


def is_private(packed: bytes) -> bool:
    """Of a network behind a NAT, or one without internet."""
    return any(is_within(packed, one) for one in _PRIVATE)


def refusal(packed: bytes, port: int, vantage: Vantage) -> str:
    """Why a stranger's address, 4 or 16 bytes and a port, is not dialled; empty if it may be."""
    if port < PORT_MIN:
        return f"port {port} is one of system services"
    return _host_refusal(packed, vantage)


def _host_refusal(packed: bytes, vantage: Vantage) -> str:
    if len(packed) == 16:
        if is_within(packed, _MAPPED):
            return _host_refusal(packed[12:], vantage)
        # Through a translator: what is not global there is not ours.
        for form, at in ((_NAT64, 12), (_6TO4, 2)):
            if is_within(packed, form):
                return _host_refusal(packed[at : at + 4], Vantage())
    if any(is_within(packed, one) for one in _LOOPBACK):
        return "" if vantage.is_loopback else "a loopback address"
    if any(is_within(packed, one) for one in _METADATA):
        return "a cloud's metadata service"
    if is_private(packed):
        on_ours = any(bits and is_within(packed, (base, bits)) for base, bits in vantage.networks)
        return "" if on_ours else "a private address on a network that this machine is not on"
    if any(is_within(packed, one) for one in _SPECIAL) or (
        len(packed) == 16 and not is_within(packed, _GLOBAL6)
    ):
        return "not an address of the internet"
    return "a tunnel's address" if len(packed) == 16 and packed[8:12] in _ISATAP else ""


# --- how often ------------------------------------------------------------------------------------

# Dials of one address and port, whoever is said to be there: what a backoff does in its first
# minute.
ENDPOINT_BURST: Final = 6.0
HOST_BURST: Final = 16.0  # Of one host, whatever ports: a household behind one address.
LOOPBACK_BURST: Final = 512.0  # Many nodes on one machine are a test or a demo.
ALL_BURST: Final = 128.0  # Of all hosts together.
REFILL_S: Final = 60.0  # Until a burst is there again.
# Hosts and endpoints that are counted: those of half an hour of dials that all failed.
HOSTS_MAX: Final = 4_096


class Knocks:
    """Dials for strangers that led to nobody, counted for each endpoint, each host (IPv6: each
    /64), and in all. Dials that reached the peer are given back. Time is in seconds on any clock;
    one that runs backwards stands still."""

    def __init__(self) -> None:
        # What is left and when; the longest unused first.
        self._left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def take(self, packed: bytes, port: int, now: float) -> bool:
        """Whether one more dial is within bounds; it counts then."""
        keys = self._keys(packed, port)
        if any(self._of(key, burst, now) < 1 for key, burst in keys):
            return False
        for key, burst in keys:
            self._left[key] = self._of(key, burst, now) - 1, now
            self._left.move_to_end(key)
        while len(self._left) > HOSTS_MAX:
            self._left.popitem(last=False)
        return True

    def give_back(self, packed: bytes, port: int, now: float) -> None:
        for key, burst in self._keys(packed, port):
            self._left[key] = min(burst, self._of(key, burst, now) + 1), now

    def _of(self, key: bytes, burst: float, now: float) -> float:
        left, at = self._left.get(key, (burst, -math.inf))
        return min(burst, left + burst * max(0.0, now - at) / REFILL_S)

    @staticmethod
    def _keys(packed: bytes, port: int) -> tuple[tuple[bytes, float], ...]:
        # One host, however its address is written.
        for form, start in ((_MAPPED, 12), (_NAT64, 12), (_6TO4, 2)):
            if is_within(packed, form):
                packed = packed[start : start + 4]
                break
        host = packed[:8] if len(packed) == 16 else packed
        is_loopback = any(is_within(packed, one) for one in _LOOPBACK)
        of_host = LOOPBACK_BURST if is_loopback else HOST_BURST
        return (
            (host + port.to_bytes(2, "big"), ENDPOINT_BURST),
            (host, of_host),
            (b"", LOOPBACK_BURST if is_loopback else ALL_BURST),
        )
