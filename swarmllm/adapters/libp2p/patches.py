"""Patches to py-libp2p itself, process-wide and applied once, for exactly the version that was
read.

Each change names its fault (numbered in docs/libp2p-faults.md) and goes away when a later version
is read and found to need it no more. Everything that can be done by subclassing is done there
instead.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import libp2p
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import MessageTooLarge
from libp2p.io.trio import TrioTCPStream
from libp2p.kad_dht import kad_dht, peer_routing, provider_store, value_store
from libp2p.network import swarm
from libp2p.network.connection import swarm_connection
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

VERSION: Final = "0.8.1"
PROTOCOL_NAME_MAX: Final = 1024  # Bytes; the longest in use here is below 64.
# Twenty closer peers with signed records of 8 addresses are 20 kB; the library allows 4 MiB.
DHT_MESSAGE_MAX: Final = 64 * 1024
DHT_VALUES_MAX: Final = 1024  # Signed records of 2 kB at most; the library allows 50,000 of 1 MiB.


def apply() -> None:
    """Idempotent. An assertion fails for any other libp2p: these lines are only true of the version
    that was read."""
    assert libp2p.__version__ == VERSION, (
        f"libp2p {libp2p.__version__} is installed; the guards were made for {VERSION}"
    )
    # Fault 7: every dial waits a quarter of a second for a QUIC transport that we do not have.
    swarm._HAPPY_EYEBALLS_DELAY = 0.0
    # Fault 1, two of its roots: a protocol name that is not UTF-8 raises where nobody expects it,
    # and its length is unbounded, also in front of the handshake, where anybody can talk to us.
    multiselect_communicator.read_delim = _read_protocol_name
    # One DHT frame may be 4 MiB, twelve at a time: memory for strangers.
    for module in (kad_dht, peer_routing, provider_store, value_store):
        module.MAX_DHT_MESSAGE_SIZE = DHT_MESSAGE_MAX
    value_store.MAX_VALUE_STORE_SIZE = DHT_VALUES_MAX
    # Fault 10: a peer over IPv6 has no address, and so no connection to it is ever let in.
    TrioTCPStream.get_remote_address = _remote_address
    _silence()


def _remote_address(stream: Any) -> tuple[str, int] | None:
    """Host and port at the other end, also once it is gone; of IPv6 the system tells two numbers
    more."""
    if stream._cached_remote_address is None:
        try:
            host, port = stream.stream.socket.getpeername()[:2]
        except OSError:
            return None
        stream._cached_remote_address = str(host).split("%", maxsplit=1)[0], int(port)
    found: tuple[str, int] = stream._cached_remote_address
    return found


async def _read_protocol_name(reader: Any) -> bytes:
    """A line of multistream-select: at most `PROTOCOL_NAME_MAX` bytes of UTF-8 that end in a
    newline, else ParseError."""
    try:
        line: bytes = await read_varint_prefixed_bytes_limited(reader, PROTOCOL_NAME_MAX)
        line.decode()
    except (MessageTooLarge, UnicodeDecodeError) as error:
        raise ParseError(f"protocol name: {error}") from error
    if not line.endswith(b"\n"):
        raise ParseError("protocol name without a newline")
    return line[:-1]


def _silence() -> None:
    """The library's loggers never reach the terminal; whoever wants them sets a handler on
    `libp2p`.

    `swarm_connection` logs through functions of the logging module, which install a handler on the
    root logger at their first use.
    """
    logger = logging.getLogger("libp2p")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
    swarm_connection.logging = logging.getLogger("libp2p.network.connection.swarm_connection")
