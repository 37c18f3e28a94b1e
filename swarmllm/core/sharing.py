"""Who gives way when more peers say that they provide something than are kept: whoever came first and still says so stays.

Identities cost nothing, so a newcomer must not take the place of somebody who has been there for long: twenty invented ones would displace
twenty honest ones. Nor may those of one address block take all places, should they come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PER_BLOCK_MAX: Final = 4  # Of one IPv4 /24 or IPv6 /64: a household, or a rack.
STALE_S: Final = 1_500.0  # Without a renewal, which comes every ten minutes: whoever missed two has left.


@dataclass(frozen=True, slots=True)
class Place:
    """`block` is the network that its address is in, empty where that says nothing (loopback, names); `renewed_at` in seconds."""

    block: bytes
    renewed_at: float


def block_of(packed: bytes) -> bytes:
    """The /24 of an IPv4 address, the /64 of an IPv6 address, as 3 or 8 bytes; empty for loopback and for nothing."""
    if not packed or packed[0] == 127 or packed == bytes(15) + b"\1":
        return b""
    return packed[:3] if len(packed) == 4 else packed[:8]


def who_leaves(held: Mapping[str, Place], newcomer: Place, places_max: int, now: float) -> tuple[bool, str]:
    """Whether the newcomer is taken, and at whose cost (empty: at nobody's)."""
    stale = sorted((one.renewed_at, name) for name, one in held.items() if now - one.renewed_at > STALE_S)
    blocks = Counter(one.block for one in held.values() if one.block)
    if newcomer.block and blocks[newcomer.block] >= PER_BLOCK_MAX:
        of_block = [name for _, name in stale if held[name].block == newcomer.block]
        return (True, of_block[0]) if of_block else (False, "")
    if len(held) < places_max:
        return True, ""
    return (True, stale[0][1]) if stale else (False, "")
