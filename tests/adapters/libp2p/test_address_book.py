"""What an address book keeps of one peer is bounded in bytes, and addresses through relays fit."""

from __future__ import annotations

from typing import Final

from libp2p.peer.id import ID
from multiaddr import Multiaddr

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p.address_book import (
    ADDRS_BYTES_MAX,
    ADDRS_MAX,
    PEER_BYTES,
    AddressBook,
    bounded,
)

PEER: Final = ephemeral_key().peer
LONG: Final = "/ip6/2001:1db8:1111:2222:3333:4444:5555:6666/tcp/65535"


def through(port: int) -> Multiaddr:
    return Multiaddr(f"{LONG[:-5]}{port}/p2p/{PEER}/p2p-circuit/p2p/{PEER}")


def direct(port: int) -> Multiaddr:
    return Multiaddr(f"{LONG[:-5]}{port}/p2p/{PEER}")


def test_addresses_through_relays_are_kept_and_all_together_are_bounded() -> None:
    book, peer = AddressBook(), ID.from_base58(PEER)
    for port in range(40_000, 40_020):
        book.add_addrs(peer, [through(port)], 60)
    kept = book.addrs(peer)
    assert kept[-1] == through(40_019)  # The latest stay.
    assert len(kept) == ADDRS_BYTES_MAX // len(through(40_000).to_bytes()) == 4


def test_eight_direct_addresses_fit_or_three_beside_three_through_relays() -> None:
    ports = range(40_000, 40_010)
    assert bounded([direct(port) for port in ports]) == [direct(port) for port in ports][:ADDRS_MAX]
    mixed = [*(through(port) for port in ports[:3]), *(direct(port) for port in ports)]
    assert bounded(mixed) == mixed[:6]
    bare = Multiaddr(LONG)
    assert len(bare.to_bytes()) + PEER_BYTES == len(direct(40_000).to_bytes())
    assert len(bounded([bare] * 20, PEER_BYTES)) == ADDRS_MAX
