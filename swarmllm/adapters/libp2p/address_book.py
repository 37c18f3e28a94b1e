"""The library's address book, bounded for each peer: what stands there is passed on to whoever asks
the DHT.

An answer of the DHT lists forty peers with all that is known of their addresses, and nobody reads
one that is longer than `patches.DHT_MESSAGE_MAX`. So a peer with long addresses, or a long record,
would silence whoever lists it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from libp2p.peer.peerstore import PeerStore

ADDRS_MAX: Final = 8  # Of one peer, as in an expert's record; the latest stay.
# Bytes of an address in binary form: with an IPv6 host, a port, a relay and a peer it has 104.
ADDR_MAX: Final = 112
# Bytes of all addresses of one peer: eight direct ones of 61, or three and three through relays.
ADDRS_BYTES_MAX: Final = 512
PEER_BYTES: Final = 41  # What `/p2p/PEER` adds to an address.
RECORD_MAX: Final = 768  # Bytes of a signed peer record; with so many addresses it has 700 at most.


def bounded(addrs: Sequence[Any], beside_bytes: int = 0) -> list[Any]:
    """As many as fit, from the first on, of those that are not too long, with so many more bytes
    beside each."""
    kept: list[Any] = []
    size = 0
    for addr in addrs:
        length = len(addr.to_bytes()) + beside_bytes
        if length <= ADDR_MAX and size + length <= ADDRS_BYTES_MAX:
            kept.append(addr)
            size += length
    return kept[:ADDRS_MAX]


class AddressBook(PeerStore):  # type: ignore[misc]
    """Keeps less than it is told, and says nothing about it: what is too long is not wrong."""

    def add_addrs(self, peer_id: Any, addrs: Sequence[Any], ttl: int = 0) -> None:
        super().add_addrs(peer_id, bounded(addrs), ttl)
        kept = self.peer_data_map.get(peer_id)
        if kept is not None:
            kept.addrs = bounded(kept.addrs[::-1])[::-1]

    def consume_peer_record(self, envelope: Any, ttl: int) -> bool:
        if len(envelope.marshal_envelope()) > RECORD_MAX:
            return True
        return bool(super().consume_peer_record(envelope, ttl))
