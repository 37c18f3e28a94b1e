"""DHT provider limits: which provider gives way when a key has more than are kept.

Identities cost nothing, so a newcomer must not take the place of somebody who has been there for
long: twenty invented ones would displace twenty honest ones. Nor may those of one address block
take all places, should they come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from swarmllm.core.peers.eviction import Block

PER_BLOCK_MAX: Final = 4  # Of one IPv4 /24 or IPv6 /64: a household, or a rack.
# Of one IPv4 /16 or IPv6 /48: whoever rents the latter has 65,536 of the former.
PER_WIDE_MAX: Final = 8
# Without a renewal, which comes every ten minutes: whoever missed two has left.
STALE_S: Final = 1_500.0


@dataclass(frozen=True, slots=True)
class Place:
    """`block` is where the connection came from on which it was told, whatever the provider writes;
    `renewed_at` in seconds."""

    block: Block
    renewed_at: float


def who_leaves(
    held: Mapping[str, Place],
    newcomer: Place,
    places_max: int,
    now: float,
    *,
    is_loopback: bool = False,
) -> tuple[bool, str]:
    """Whether the newcomer is taken, and at whose cost (empty: at nobody's).

    `is_loopback`: we are reached by loopback alone, as in a test or a demo, so this machine is held
    to no share. Elsewhere all of this machine's addresses together are one block: its processes, or
    a proxy's crowd.
    """
    stale = sorted(
        (one.renewed_at, name) for name, one in held.items() if now - one.renewed_at > STALE_S
    )
    if not (newcomer.block.is_local and is_loopback):
        for share, of in ((PER_BLOCK_MAX, _narrow), (PER_WIDE_MAX, _wide)):
            if sum(of(one.block) == of(newcomer.block) for one in held.values()) >= share:
                of_block = [name for _, name in stale if of(held[name].block) == of(newcomer.block)]
                return (True, of_block[0]) if of_block else (False, "")
    if len(held) < places_max:
        return True, ""
    return (True, stale[0][1]) if stale else (False, "")


def _narrow(block: Block) -> str:
    return "" if block.is_local else block.name


def _wide(block: Block) -> str:
    return "" if block.is_local else block.wide
