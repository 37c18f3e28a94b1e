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
# Bytes of an address in binary form; with an IPv6 host, a port and a peer it has 60.
ADDR_MAX: Final = 64
RECORD_MAX: Final = 768  # Bytes of a signed peer record; with eight addresses it has 700 at most.


def is_short(addr: Any) -> bool:
    return len(addr.to_bytes()) <= ADDR_MAX


class AddressBook(PeerStore):  # type: ignore[misc]
    """Keeps less than it is told, and says nothing about it: what is too long is not wrong."""

    def add_addrs(self, peer_id: Any, addrs: Sequence[Any], ttl: int = 0) -> None:
        super().add_addrs(peer_id, [addr for addr in addrs if is_short(addr)][:ADDRS_MAX], ttl)
        kept = self.peer_data_map.get(peer_id)
        if kept is not None and len(kept.addrs) > ADDRS_MAX:
            kept.addrs = kept.addrs[-ADDRS_MAX:]

    def consume_peer_record(self, envelope: Any, ttl: int) -> bool:
        if len(envelope.marshal_envelope()) > RECORD_MAX:
            return True
        return bool(super().consume_peer_record(envelope, ttl))
