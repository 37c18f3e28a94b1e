"""File descriptor budget: connection limits that leave the local socket, the worker, the log and
the disk what they need."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from typing import Final

from swarmllm.adapters.libp2p.options import NetworkLimits
from swarmllm.errors import LocalError

WANTED: Final = 4096  # Enough for every default bound, and for several nodes in one process.
# 64 clients of the local socket, the worker's pipes, log, store, mDNS sockets, and files for a
# moment.
RESERVED: Final = 112
NEEDED: Final = 24  # For the network, at least.


def raised() -> int:
    """The limit of open descriptors, after raising it as far as this process may and needs to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return WANTED
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            return soft
        return wanted
    return soft


def used() -> int:
    """Descriptors that are open now."""
    return len(os.listdir("/dev/fd"))


def fitting(limits: NetworkLimits, descriptors: int, in_use: int) -> NetworkLimits:
    """The same bounds, lowered to what is left of so many descriptors. LocalError if that is too
    little for a network."""
    left = descriptors - in_use - RESERVED
    if left < NEEDED:
        raise LocalError(
            f"this process may open only {descriptors} files and connections; allow more,"
            f" as with `ulimit -n {WANTED}`, and start again"
        )
    share = left // 6
    return replace(
        limits,
        connections_max=min(limits.connections_max, 4 * share),
        half_open_max=min(limits.half_open_max, share),
        dial_sockets_max=min(limits.dial_sockets_max, share),
    )
