"""How a message spreads among very many nodes when each passes it on once, at once, to all its
neighbours: earliest arrivals, exactly.

This is Dijkstra's algorithm on arrays. Nodes whose arrivals lie closer together than the shortest
delay cannot hear it from one another, so they are settled together: a few hundred steps for any
number of nodes, instead of one step for each.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.sims.overlay import Ints, Overlay

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SIGMA: Final = 0.4  # Of the logarithm of a delay, around the base of its two places.
PLACES: Final = ("North America", "Europe", "East Asia", "South America", "Oceania")
SHARES: Final = (0.35, 0.35, 0.20, 0.06, 0.04)
BASE_MS: Final = (
    (25, 45, 80, 65, 80),
    (45, 15, 90, 95, 130),
    (80, 90, 35, 140, 65),
    (65, 95, 140, 25, 150),
    (80, 130, 65, 150, 15),
)
"""Medians of one-way delays between nodes of two places: half of a ping between public data
centres, and some for the last mile."""


def places_of(nodes: int, rng: np.random.Generator) -> Ints:
    """For each node an index into PLACES."""
    found: Ints = rng.choice(len(PLACES), nodes, p=SHARES)
    return found


def delays(overlay: Overlay, where: Ints, rng: np.random.Generator) -> Floats:
    """Seconds on the way, for each end and a message that leaves there."""
    base = np.asarray(BASE_MS, np.float64)[where[overlay.owner], where[overlay.owner[overlay.mate]]]
    way: Floats = base * np.exp(SIGMA * rng.standard_normal(len(base))) / 1000
    return way


def arrivals(
    overlay: Overlay, way: Floats, opens: Floats, held: Floats, passes_on: Bools, begun: Floats
) -> Floats:
    """When each node first hears of it; inf: never.

    For each end, `way`: seconds from there to the other end, and `opens`: from when on anything
    goes that way (inf: never); what waited for that takes three ways, a digest each and then the
    message. For each node, `held`: seconds from hearing to passing on; `begun`: when it hears by
    other means (inf: it does not).
    """
    heard = begun.copy()
    settled = np.zeros(overlay.nodes, bool)
    together = float(way.min() + held.min()) if len(way) else 1.0
    assert together > 0, "a message that takes no time"
    while True:
        waiting = np.where(settled, np.inf, heard)
        earliest = waiting.min()
        if earliest == np.inf:
            return heard
        now = np.flatnonzero(waiting < earliest + together)
        settled[now] = True
        speaking = now[passes_on[now]]
        if len(speaking):
            ends, owners = ends_of(overlay, speaking)
            there = overlay.owner[overlay.mate[ends]]
            leaves, opening = heard[owners] + held[owners], opens[ends]
            np.minimum.at(
                heard,
                there,
                np.where(leaves >= opening, leaves + way[ends], opening + 3 * way[ends]),
            )


def ends_of(overlay: Overlay, nodes: Ints) -> tuple[Ints, Ints]:
    """All ends of these nodes, and the owner of each."""
    counts = overlay.degree[nodes]
    owners = np.repeat(nodes, counts)
    first = np.cumsum(counts) - counts
    ends = (
        np.arange(len(owners)) - np.repeat(first, counts) + np.repeat(overlay.start[nodes], counts)
    )
    return ends, owners


def copies(overlay: Overlay, way: Floats, held: Floats, heard: Floats) -> int:
    """How many messages a flood of open ends was, if nobody passes it back to somebody from whom it
    has come already."""
    leaves = heard + held
    # When the other end's copy is here.
    theirs = leaves[overlay.owner[overlay.mate]] + way[overlay.mate]
    mine = leaves[overlay.owner]
    return int(((mine < theirs) & np.isfinite(mine)).sum())


def hops(overlay: Overlay, passes_on: Bools, first: int) -> Ints:
    """Connections from node `first` to each, over those that pass on; -1: there is no way."""
    found = np.full(overlay.nodes, -1)
    found[first] = 0
    edge = np.array([first])
    distance = 0
    while len(edge):
        distance += 1
        ends, _ = ends_of(overlay, edge)
        there = np.unique(overlay.owner[overlay.mate[ends]])
        reached = there[found[there] < 0]
        found[reached] = distance
        edge = reached[passes_on[reached]]
    return found
