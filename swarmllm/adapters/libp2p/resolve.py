"""DNS resolution of the owner's peer names through the system's resolver: hosts file, mDNS, search
domains, then DNS.

The library asks DNS servers alone, so a name from `/etc/hosts`, or one that only the system's
resolver knows, was not found. Texts (`dnsaddr=...` at `_dnsaddr.NAME`) are for DNS servers alone:
systems have no resolver for them, and dnspython asks those that the system is set to.
"""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import Iterable, Iterator
from typing import Final

import trio
from dns import asyncresolver

from swarmllm.adapters.libp2p.addresses import TcpAddress, parse_addr
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId

log = logging.getLogger("swarmllm.net")

RESULTS_MAX: Final = 8  # Of one name; each is dialled.
TEXTS_MAX: Final = 64  # Of one name that are looked at; libp2p's own bootstrap name has some dozen.
TEXTS_WITHIN_S: Final = 4.0
_FAMILIES: Final = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}


async def by_number(
    addrs: list[TcpAddress], errors: dict[str, str], peer: PeerId | None = None
) -> list[TcpAddress]:
    """The addresses with each name replaced by its IP addresses, in their order; `errors` gets the
    names that are not found, with why. `peer`: whose addresses are wanted where a name has those of
    several."""
    found: list[TcpAddress] = []
    for addr in await _written_out(addrs, errors, peer):
        if addr.kind not in _FAMILIES:
            found.append(addr)
            continue
        try:
            answers = await trio.socket.getaddrinfo(
                addr.host, addr.port, _FAMILIES[addr.kind], socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            errors[str(addr)] = (
                f"the name is not found ({getattr(error, 'strerror', None) or error})"
            )
            continue
        for family, _, _, _, place in answers[:RESULTS_MAX]:
            if family in (socket.AF_INET, socket.AF_INET6):
                kind = "ip6" if family == socket.AF_INET6 else "ip4"
                found.append(TcpAddress(kind, str(place[0]), addr.port, addr.peer))
    return list(dict.fromkeys(found))


async def _written_out(
    addrs: list[TcpAddress], errors: dict[str, str], peer: PeerId | None
) -> list[TcpAddress]:
    """Each `dnsaddr` replaced by what its texts say; a text that names another such is left out."""
    found: list[TcpAddress] = []
    for addr in addrs:
        if addr.kind != "dnsaddr":
            found.append(addr)
            continue
        try:
            texts = await _texts(f"_dnsaddr.{addr.host}")
        # The guard's purpose: a stranger's answer in a parser with dozens of exceptions.
        except Exception as error:  # noqa: BLE001
            errors[str(addr)] = f"DNS has no addresses there ({error or type(error).__name__})"
            continue
        told = list(_told(texts, peer))[:RESULTS_MAX]
        if not told:
            errors[str(addr)] = f"DNS has no address of {peer or 'anybody'} there"
        found += told
    return found


def _told(texts: Iterable[str], peer: PeerId | None) -> Iterator[TcpAddress]:
    for text in itertools.islice(texts, TEXTS_MAX):
        kind, _, value = text.partition("=")
        if kind != "dnsaddr":
            continue
        try:
            addr = parse_addr(value)
        except RemoteError as error:
            log.debug("a text of DNS left out: %s", error)
            continue
        if addr.port and addr.peer in (None, peer):
            yield TcpAddress(addr.kind, addr.host, addr.port, None)


async def _texts(name: str) -> list[str]:
    answer = await asyncresolver.resolve(name, "TXT", lifetime=TEXTS_WITHIN_S)
    return [b"".join(one.strings).decode(errors="replace") for one in answer]
