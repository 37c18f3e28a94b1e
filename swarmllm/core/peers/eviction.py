"""Connection eviction, by usefulness and address block, so that a crowd from few places shuts
nobody out.

Connections that we chose are never given up for one that somebody else opened. Of the others, the
best few by each measure stay (rounds they answered for us, being of our swarm, nearness), then the
older half; each measure is hard to buy in a different way. Of what is left the youngest of the most
crowded address block goes. So whoever crowds out others has to crowd out itself first: an address
block of its own is what it takes to get in, and being useful or old is what it takes to stay.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# One in so many of the connections that others opened is spared by each of the three measures.
SPARED: Final = 8
_V4_EMBEDDED: Final = tuple(
    ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "::ffff:0:0/96")
)
_6TO4: Final = ipaddress.IPv6Network("2002::/16")


@dataclass(frozen=True, slots=True)
class Block:
    """Addresses that one party has together: what one rents costs as much as all of them. `wide` is
    what the next larger party has.

    `is_local`: this machine, which is a block of its own for each address and is not held to the
    bounds of others.
    """

    name: str
    wide: str
    is_local: bool = False


def block_of(host: str) -> Block:
    """IPv4 /24 within /16; IPv6 /64 within /48; an IPv4 address that stands in an IPv6 one counts
    as the former. ValueError for what is no address."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if any(ip in network for network in _V4_EMBEDDED):
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip in _6TO4:
            ip = ipaddress.IPv4Address(int(ip) >> 80 & 0xFFFFFFFF)
    if ip.is_loopback:
        return Block(str(ip), str(ip), is_local=True)
    narrow, wide = (24, 16) if ip.version == 4 else (64, 48)
    return Block(
        str(ipaddress.ip_network((ip, narrow), strict=False)),
        str(ipaddress.ip_network((ip, wide), strict=False)),
    )


@dataclass(frozen=True, slots=True)
class Guest:
    """A connection that somebody else opened. `answered` are rounds of ours that it answered;
    `is_same_swarm`: it speaks with our kill switch; `ping_s` is infinite while unknown; `since` is
    when it came, on any clock."""

    key: int
    block: Block
    since: float
    answered: int = 0
    is_same_swarm: bool = False
    ping_s: float = float("inf")


def evicted(guests: Sequence[Guest], newcomer: Block | None) -> int | None:
    """The key of the guest that gives way to a newcomer from that block; None if the newcomer
    itself is of the most crowded one.

    Without a block the newcomer comes in whoever is there: then only no guest at all is None.
    """
    left = _unspared(guests)
    if not left:
        return None
    crowd = Counter(guest.block.name for guest in left)
    wide = Counter(guest.block.wide for guest in left)
    victim = max(
        left, key=lambda one: (crowd[one.block.name], wide[one.block.wide], one.since, one.key)
    )
    if newcomer is not None and crowd[newcomer.name] >= crowd[victim.block.name]:
        return None
    return victim.key


def spared(guests: Sequence[Guest]) -> frozenset[int]:
    """Who stays whoever comes."""
    left = {guest.key for guest in _unspared(guests)}
    return frozenset(guest.key for guest in guests if guest.key not in left)


def _unspared(guests: Sequence[Guest]) -> list[Guest]:
    """At least one of them, if there is any guest at all: three eighths are spared by use at most,
    and half of the rest by age."""
    each = len(guests) // SPARED
    left = sorted(guests, key=lambda one: (one.since, one.key))
    useful = sorted((one for one in left if one.answered), key=lambda one: -one.answered)[:each]
    near = sorted((one for one in left if one.ping_s < float("inf")), key=lambda one: one.ping_s)[
        :each
    ]
    kept = {one.key for one in (*useful, *[one for one in left if one.is_same_swarm][:each], *near)}
    left = [one for one in left if one.key not in kept]
    return left[len(left) // 2 :]


def hurried(waiting: Mapping[int, Block], newcomer: Block, most: int, share: int) -> int | None:
    """Who of those that still shake hands gives way to a newcomer; None while there is room.
    `waiting` holds them in order of age.

    There are at most `most` of them, and at most `share` of one block, for the handshakes of one
    crowd must not keep all others waiting.
    """
    of_block = Counter(waiting.values())
    if not newcomer.is_local and of_block[newcomer] >= share:
        return _oldest(waiting, [newcomer])
    if len(waiting) < most:
        return None
    of_block[newcomer] += 1
    fullest = max(of_block.values())
    crowded = [block for block, count in of_block.items() if count == fullest]
    return _oldest(waiting, crowded)


def _oldest(waiting: Mapping[int, Block], blocks: Collection[Block]) -> int | None:
    return next((key for key, block in waiting.items() if block in blocks), None)
