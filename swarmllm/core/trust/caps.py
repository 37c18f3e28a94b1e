"""Caps are bounds on the weight of models that this node does not know.

Digests and identities cost nothing. Until there are results that an expert could not make up, its
model weighs no more than its part of the prior, whatever it claims, and all such *new* models
together weigh no more than a share, beside those that are known. Where all are new nobody is known
to be better, and the prior decides alone: so a swarm begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import sha256

from swarmllm.core.peers.eviction import Block
from swarmllm.messages import PeerId


def capped(
    shares: Mapping[PeerId, float],
    priors: Mapping[PeerId, float],
    new: Mapping[PeerId, bytes],
    new_share: float,
) -> dict[PeerId, float]:
    """The shares (adding up to 1) under the caps. `new` are the voices that are not known, with the
    digest of each: however many voices a digest has, they weigh together no more than the prior of
    one, and all of them no more than `new_share` if anybody else is there."""
    known = [voice for voice in shares if voice not in new]
    if not known:
        return _scaled(_by_digest(shares, priors, new))
    most = _by_digest(shares, {v: priors[v] / math.fsum(priors.values()) for v in priors}, new)
    found = {v: min(shares[v], most[v]) for v in sorted(new)}
    total = math.fsum(found.values())
    if total > new_share:
        found = {voice: share * new_share / total for voice, share in found.items()}
        total = new_share
    heard = math.fsum(shares[voice] for voice in known)
    return found | {voice: shares[voice] * (1 - total) / heard for voice in known}


def _by_digest(
    shares: Mapping[PeerId, float], priors: Mapping[PeerId, float], new: Mapping[PeerId, bytes]
) -> dict[PeerId, float]:
    """Each new voice's part of the largest prior of its digest, divided as the shares are."""
    groups: dict[bytes, list[PeerId]] = {}
    for voice in sorted(new):
        if voice in shares:
            groups.setdefault(new[voice], []).append(voice)
    found: dict[PeerId, float] = {}
    for group in groups.values():
        most = max(priors[voice] for voice in group)
        total = math.fsum(shares[voice] for voice in group)
        found |= {v: most * (shares[v] / total if total else 1 / len(group)) for v in group}
    return found


def _scaled(shares: Mapping[PeerId, float]) -> dict[PeerId, float]:
    total = math.fsum(shares.values())
    return {voice: share / total for voice, share in shares.items()}


def crowded(
    newcomers: Sequence[tuple[PeerId, Block]], per_block: int, per_wide: int
) -> frozenset[PeerId]:
    """Which of these identities that are not known may not weigh, because enough others of their
    address block do: those come first that stand first. This machine's own addresses are held to
    nothing, as connections are."""
    narrow: dict[str, int] = {}
    wide: dict[str, int] = {}
    left_out = set()
    for peer, block in newcomers:
        if block.is_local:
            continue
        if narrow.get(block.name, 0) >= per_block or wide.get(block.wide, 0) >= per_wide:
            left_out.add(peer)
            continue
        narrow[block.name] = narrow.get(block.name, 0) + 1
        wide[block.wide] = wide.get(block.wide, 0) + 1
    return frozenset(left_out)


def in_turn(relayed: Sequence[tuple[PeerId, Block]], turn: bytes) -> list[tuple[PeerId, Block]]:
    """Those who are behind relays, in another order for each turn: strangers share a relay's block,
    and who came first and never gets known must not keep the others out for ever."""
    return sorted(relayed, key=lambda one: sha256(turn + one[0].encode()).digest())
