"""Which addresses to listen on, and which to tell others, judged from the interfaces that this
machine really has.

A node that announces a loopback address to the LAN, or the bridge of a container engine, looks
alive and can never be reached; so the choice is made from the interface list, with the ones that
other machines are likely to reach first.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import ifaddr

from swarmllm.core.peers.dial_rule import Vantage, is_private
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import PeerId
from swarmllm.wire.identity import public_key_of

log = logging.getLogger("swarmllm.net")

# With `port_auto`: more nodes than this on one machine choose their ports themselves.
PORTS_TRIED_MAX: Final = 64
BACKLOG: Final = 128
_VIRTUAL: Final = (
    "docker",
    "br-",
    "veth",
    "virbr",
    "vmnet",
    "vboxnet",
    "cni",
    "flannel",
    "cali",
    "podman",
    "lxc",
)
_NAMED: Final = ("dns", "dns4", "dns6")
_DNS: Final = (*_NAMED, "dnsaddr")
_CIRCUIT: Final = "/p2p-circuit"
_DNS_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """`/ip4/HOST/tcp/PORT` or ip6, dns, dns4, dns6, perhaps with `/p2p/PEER` behind it. Or
    `/dnsaddr/HOST`, a name at which DNS has whole addresses; its port is 0."""

    kind: str
    host: str
    port: int
    peer: PeerId | None

    def __str__(self) -> str:
        if self.kind == "dnsaddr":
            return f"/dnsaddr/{self.host}"
        return f"/{self.kind}/{self.host}/tcp/{self.port}"

    @property
    def packed(self) -> bytes:
        """The 4 or 16 bytes of the host; none for a name, or for an address that is good on one
        interface alone."""
        return (
            b"" if self.kind in _DNS or "%" in self.host else ipaddress.ip_address(self.host).packed
        )

    @property
    def is_loopback(self) -> bool:
        return self.kind not in _DNS and ipaddress.ip_address(self.host).is_loopback

    @property
    def is_wildcard(self) -> bool:
        return self.kind not in _DNS and ipaddress.ip_address(self.host).is_unspecified


@dataclass(frozen=True, slots=True)
class CircuitAddress:
    """`/ip4/HOST/tcp/PORT/p2p/RELAY/p2p-circuit`, perhaps with `/p2p/PEER` behind it: a peer that
    is reached through a relay. `relay` has the relay's id, too."""

    relay: TcpAddress
    peer: PeerId | None

    def __str__(self) -> str:
        return f"{self.relay}/p2p/{self.relay.peer}{_CIRCUIT}"


def is_circuit(text: str) -> bool:
    return _CIRCUIT in text


def parse_circuit(text: str) -> CircuitAddress:
    """RemoteError for anything but a plain TCP address of a relay, its id, and perhaps a peer's."""
    relay, _, rest = text.partition(_CIRCUIT)
    addr = parse_addr(relay)
    if addr.peer is None:
        raise RemoteError(f"address {text[:64]!r}: names no relay")
    peer = PeerId(rest.removeprefix("/p2p/")) if rest else None
    if peer is not None:
        if not rest.startswith("/p2p/"):
            raise RemoteError(f"address {text[:64]!r}: something else than a peer behind the relay")
        public_key_of(peer)
    return CircuitAddress(addr, peer)


def parse_addr(text: str) -> TcpAddress:
    """RemoteError for anything but a plain TCP address: peers send these, too."""
    parts = text.split("/") if len(text) <= 256 else []
    if parts[:2] == ["", "dnsaddr"]:
        return _named(parts, text)
    if (
        len(parts) not in (5, 7)
        or parts[0] != ""
        or parts[3] != "tcp"
        or (len(parts) == 7 and parts[5] != "p2p")
    ):
        raise RemoteError(
            f"address {text[:64]!r}: not /ip4/HOST/tcp/PORT, perhaps with /p2p/PEER behind it"
        )
    kind, host = parts[1], parts[2]
    try:
        if kind == "ip4":
            host = str(ipaddress.IPv4Address(host))
        elif kind == "ip6":
            host = str(ipaddress.IPv6Address(host))
        elif kind not in _NAMED or not _DNS_NAME.fullmatch(host):
            raise ValueError(kind)
        if not (parts[4].isascii() and parts[4].isdigit() and 0 <= int(parts[4]) <= 65_535):
            raise ValueError(parts[4])
    except ValueError as error:
        raise RemoteError(f"address {text[:64]!r}: not a host and port") from error
    peer = PeerId(parts[6]) if len(parts) == 7 else None
    if peer is not None:
        public_key_of(peer)
    return TcpAddress(kind, host, int(parts[4]), peer)


def _named(parts: list[str], text: str) -> TcpAddress:
    """`/dnsaddr/HOST`, perhaps with `/p2p/PEER` behind it."""
    if (
        len(parts) not in (3, 5)
        or not _DNS_NAME.fullmatch(parts[2])
        or parts[3:4] not in ([], ["p2p"])
    ):
        raise RemoteError(
            f"address {text[:64]!r}: not /dnsaddr/HOST, perhaps with /p2p/PEER behind it"
        )
    peer = PeerId(parts[4]) if len(parts) == 5 else None
    if peer is not None:
        public_key_of(peer)
    return TcpAddress("dnsaddr", parts[2], 0, peer)


def own_addr(text: str, what: str) -> TcpAddress:
    """The same for an address that the user gave; LocalError says which one."""
    try:
        return parse_addr(text)
    except RemoteError as error:
        raise LocalError(f"the {what} {error}; give one like /ip4/192.0.2.7/tcp/7339") from error


def bootstrap_of(text: str) -> tuple[TcpAddress, PeerId]:
    """Where the user's bootstrap address leads at first, with the id of whoever is there, and the
    peer that it is for: another one if that is a relay. LocalError if it names no peer."""
    if is_circuit(text):
        try:
            circuit = parse_circuit(text)
        except RemoteError as error:
            raise LocalError(f"the bootstrap {error}; ask for another one") from error
        addr, peer = circuit.relay, circuit.peer
    else:
        addr = own_addr(text, "bootstrap")
        peer = addr.peer
    if peer is None:
        raise LocalError(f"the bootstrap address {text} names no peer; add /p2p/ and the peer's id")
    return addr, peer


def bind(addr: TcpAddress, port_auto: bool) -> socket.socket:
    """A listening socket on `addr`, or with `port_auto` on the next free port above it.

    Fault 8: libp2p listens with SO_REUSEPORT, with which two nodes share a port unnoticed. This
    socket has only SO_REUSEADDR while it is bound, which on Linux forgives connections in TIME_WAIT
    but not a second listener.
    """
    if addr.kind in _DNS:
        raise LocalError(
            f"cannot listen on the name {addr.host!r}; give the IP address of an interface,"
            " or 0.0.0.0 for all"
        )
    tries = PORTS_TRIED_MAX if port_auto and addr.port else 1
    family = socket.AF_INET6 if addr.kind == "ip6" else socket.AF_INET
    for port in range(addr.port, min(addr.port + tries, 65_536)):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((addr.host, port))
            sock.listen(BACKLOG)
            # Only now, so that no second listener of ours fits beside it: connections that punch a
            # hole leave from this port (`punch`).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise LocalError(
                f"cannot listen on {addr}: {error.strerror}; choose another address or port"
            ) from error
        return sock
    span = (
        f"port {addr.port} is"
        if tries == 1
        else f"ports {addr.port} to {addr.port + tries - 1} are all"
    )
    raise LocalError(
        f"{span} taken on {addr.host}; stop the program that listens there or choose another port"
    )


def bind_all(addrs: Sequence[TcpAddress], port_auto: bool) -> list[socket.socket]:
    """A listening socket on each, closed again if one cannot be had. All of IPv6 behind all of IPv4
    is on the same port, and left out where the system has no IPv6 or the port is taken there."""
    sockets: list[socket.socket] = []
    try:
        for addr in addrs:
            if not (sockets and addr.kind == "ip6" and addr.is_wildcard):
                sockets.append(bind(addr, port_auto))
                continue
            beside = TcpAddress(addr.kind, addr.host, bound_addr(sockets[0]).port, None)
            try:
                sockets.append(bind(beside, port_auto=False))
            except LocalError as error:
                log.info("no IPv6: %s", error)
    except LocalError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def bound_addr(sock: socket.socket) -> TcpAddress:
    host, port = sock.getsockname()[:2]
    return TcpAddress("ip6" if sock.family == socket.AF_INET6 else "ip4", host, port, None)


def reachable(listening: list[TcpAddress]) -> tuple[TcpAddress, ...]:
    """What others can dial: wildcards become the addresses of the interfaces; loopback only if
    there is nothing else."""
    found: list[TcpAddress] = []
    for addr in listening:
        if not addr.is_wildcard:
            found.append(addr)
            continue
        hosts = [
            ip
            for ip in interface_ips()
            if (ipaddress.ip_address(ip).version == 6) == (addr.kind == "ip6")
        ]
        found += [TcpAddress(addr.kind, host, addr.port, None) for host in hosts]
        if not hosts and not found:
            found.append(
                TcpAddress(addr.kind, "::1" if addr.kind == "ip6" else "127.0.0.1", addr.port, None)
            )
    outside = [addr for addr in dict.fromkeys(found) if not addr.is_loopback]
    return tuple(outside or dict.fromkeys(found))


def told(own: Sequence[TcpAddress], outside: Sequence[TcpAddress]) -> tuple[TcpAddress, ...]:
    """What peers are told: where those elsewhere have got in comes first, for records have room for
    three; then what the interfaces say."""
    return tuple(dict.fromkeys((*outside, *own)))


def inside_host(listening: list[TcpAddress]) -> str:
    """Our likeliest IPv4 address, if all are private: what a router could forward a port to."""
    own = [addr for addr in reachable(listening) if addr.kind == "ip4"]
    if not all(is_private(addr.packed) for addr in own):
        return ""
    return next((addr.host for addr in own), "")


def all_ips() -> frozenset[str]:
    """Every address of this machine, loopback too."""
    entries = (entry.ip for adapter in ifaddr.get_adapters() for entry in adapter.ips)
    return frozenset(ip if isinstance(ip, str) else ip[0] for ip in entries)


def stand() -> tuple[frozenset[str], str | None, str | None]:
    """What tells one network from another: our addresses but those of virtual bridges, and those
    from which the default routes leave. Containers that come and go change nothing of it."""
    found = (
        entry.ip if isinstance(entry.ip, str) else entry.ip[0]
        for adapter in ifaddr.get_adapters()
        if not adapter.nice_name.startswith(_VIRTUAL)
        for entry in adapter.ips
    )
    return frozenset(found), _routed_ip(4), _routed_ip(6)


def interface_ips() -> list[str]:
    """Addresses of this machine that others may reach, likeliest first: no loopback, no link-local,
    virtual bridges last."""
    ranked: list[tuple[bool, bool, str]] = []
    for adapter in ifaddr.get_adapters():
        virtual = adapter.nice_name.startswith(_VIRTUAL)
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            ip = ipaddress.ip_address(text)
            if not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified):
                ranked.append((virtual, text != _routed_ip(ip.version), text))
    return [text for _, _, text in sorted(ranked)]


def vantage(announced: Sequence[TcpAddress]) -> Vantage:
    """Where this node stands, as far as strangers' addresses are concerned. Bridges of container
    engines are no networks of ours."""
    networks: list[tuple[bytes, int]] = []
    for adapter in ifaddr.get_adapters():
        if adapter.nice_name.startswith(_VIRTUAL):
            continue
        for entry in adapter.ips:
            ip = ipaddress.ip_address(entry.ip if isinstance(entry.ip, str) else entry.ip[0])
            if not (ip.is_loopback or ip.is_link_local):
                networks.append((ip.packed, entry.network_prefix))
    return Vantage(tuple(networks), bool(announced) and all(addr.is_loopback for addr in announced))


def _routed_ip(version: int) -> str | None:
    """The source address that the default route would use. Connecting a datagram socket sends
    nothing."""
    family, target = (
        (socket.AF_INET, "192.0.2.1") if version == 4 else (socket.AF_INET6, "2001:db8::1")
    )
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((target, 9))
        except OSError:
            return None
        return str(sock.getsockname()[0])
