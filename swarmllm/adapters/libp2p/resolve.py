"""DNS resolution of the owner's peer names through the system's resolver: hosts file, mDNS, search
domains, then DNS.

The library asks DNS servers alone, so a name from `/etc/hosts`, or one that only the system's
resolver knows, was not found.
"""

from __future__ import annotations

import socket
from typing import Final

import trio

from swarmllm.adapters.libp2p.addresses import TcpAddress

RESULTS_MAX: Final = 8  # Of one name; each is dialled.
_FAMILIES: Final = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}


async def by_number(addrs: list[TcpAddress], errors: dict[str, str]) -> list[TcpAddress]:
    """The addresses with each name replaced by its IP addresses, in their order; `errors` gets the
    names that are not found, with why."""
    found: list[TcpAddress] = []
    for addr in addrs:
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
