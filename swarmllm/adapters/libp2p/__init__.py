"""The real `runtime.ports.Network`: py-libp2p 0.8.1 behind guards of our own.

Where a comment here or in the tests names a fault of the library by number, docs/libp2p-faults.md
describes it.

Importing this package costs nothing; `open_network` imports libp2p (seconds on a slow machine) only
when a network is really opened, so that commands which need none start at once.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from swarmllm.adapters.libp2p.options import (
    BootstrapStatus,
    NetworkLimits,
    NetworkOptions,
    NetworkTiming,
)

if TYPE_CHECKING:
    from swarmllm.adapters.libp2p.network import Libp2pNetwork

__all__ = ["BootstrapStatus", "NetworkLimits", "NetworkOptions", "NetworkTiming", "open_network"]


def open_network(options: NetworkOptions) -> AbstractAsyncContextManager[Libp2pNetwork]:
    """`async with open_network(options) as network:`. Leaving says goodbye to every peer and takes
    at most two seconds.

    LocalError for a taken port (unless `port_auto`), a malformed address or an address that this
    machine does not have.
    """
    from swarmllm.adapters.libp2p.network import opened

    return opened(options)
