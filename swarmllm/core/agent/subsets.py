"""Agent subsets: the experts are divided into disjoint groups, one for each domain of
self-improvement, so that tasks of several domains run at once and none touches another.

Weighted rendezvous hashing (Thaler and Ravishankar 1998, weights after Schindler and Schomaker
2005) divides them: each expert draws a lot for each domain and goes where its own is best. So
everybody who knows the same experts finds the same groups with nothing said, an expert that comes
or goes moves no other, and one that is good at a domain goes there more often. The lots are drawn
anew each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from swarmllm.messages import PeerId

MERIT_USUAL: Final = 1.0  # Of an expert of whom nothing is known in a domain.
MERIT_MAX: Final = 16.0  # However good one claims to be, others have a chance.


@dataclass(frozen=True, slots=True)
class Subset:
    """Experts that work on these domains, one task after another. More than one domain: there were
    too few experts for each to have its own."""

    domains: tuple[str, ...]
    experts: tuple[PeerId, ...]


Merits = Mapping[str, float]
"""How good an expert is at some domains, as a factor of its chance to be drawn for it; more than 0,
`MERIT_USUAL` where nothing is said."""


def subsets_of(
    epoch: int, domains: Collection[str], experts: Mapping[PeerId, Merits], least: int
) -> tuple[Subset, ...]:
    """The experts by domain, each in exactly one subset, in the order of `domains`. A subset with
    fewer than `least` joins the smallest other one until none is too small or one is left."""
    groups: dict[tuple[str, ...], list[PeerId]] = {(domain,): [] for domain in domains}
    for peer in sorted(experts):
        groups[(domain_of(epoch, domains, peer, experts[peer]),)].append(peer)
    while len(groups) > 1:
        small = _smallest(groups)
        if len(groups[small]) >= least:
            break
        members = groups.pop(small)
        other = _smallest(groups)
        names = {*small, *other}
        joined = tuple(domain for domain in domains if domain in names)
        groups[joined] = sorted([*groups.pop(other), *members])
    order = {domain: place for place, domain in enumerate(domains)}
    return tuple(
        Subset(names, tuple(groups[names])) for names in sorted(groups, key=lambda n: order[n[0]])
    )


def domain_of(epoch: int, domains: Collection[str], peer: PeerId, merits: Merits) -> str:
    """The domain whose lot is this expert's best. `domains` is not empty."""

    def score(domain: str) -> float:
        merit = min(MERIT_MAX, merits.get(domain, MERIT_USUAL))
        return merit / -math.log(_lot(epoch, domain, peer))

    return max(domains, key=score)


def runner_of(epoch: int, domain: str, nodes: Iterable[PeerId]) -> PeerId | None:
    """The node that runs the cycles of a domain in this epoch; None where there is none."""
    return min(nodes, key=lambda peer: _lot(epoch, "run:" + domain, peer), default=None)


def _lot(epoch: int, domain: str, peer: PeerId) -> float:
    """Uniform over the open interval (0, 1): neither end can be drawn, since log(1) divides."""
    digest = sha256(f"swarmllm/subset\0{epoch}\0{domain}\0{peer}".encode()).digest()
    return ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2**52


def _smallest(groups: Mapping[tuple[str, ...], list[PeerId]]) -> tuple[str, ...]:
    """The first of the smallest groups."""
    return min(groups, key=lambda names: len(groups[names]))
