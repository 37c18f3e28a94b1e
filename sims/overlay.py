"""Who is connected to whom among very many nodes: a random graph in flat arrays, that can be
rewired while it is used.

A connection is two ends, and each end knows its other end; a node owns as many ends as it has
connections. So picking a random neighbour is two look-ups, and exchanging the far ends of two
connections changes both and leaves every node as many as before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# Rounds of taking apart loops and doubles; in graphs sparser than one half a few suffice.
REPAIRS_MAX = 200


@dataclass(slots=True, eq=False)
class Overlay:
    """Node i owns the ends `start[i] .. start[i] + degree[i]`; `owner[end]` is its node and
    `mate[end]` its other end."""

    start: Ints
    degree: Ints
    owner: Ints
    mate: Ints

    @property
    def nodes(self) -> int:
        return len(self.degree)

    def neighbours(self, node: int) -> Ints:
        start = int(self.start[node])
        return self.owner[self.mate[start : start + int(self.degree[node])]]

    def random_ends(self, nodes: Ints, rng: np.random.Generator) -> Ints:
        """For each of `nodes` (all with connections) one of its ends."""
        picks: Ints = self.start[nodes] + (rng.random(len(nodes)) * self.degree[nodes]).astype(
            np.int64
        )
        return picks

    def swap(self, a: Ints, b: Ints) -> None:
        """Connections a-x and b-y become a-y and b-x. Pairs in which a connection comes twice are
        left as they are."""
        x, y = self.mate[a], self.mate[b]
        ends = np.concatenate([a, b, x, y])
        _, inverse, counts = np.unique(ends, return_inverse=True, return_counts=True)
        alone = (counts[inverse].reshape(4, -1) == 1).all(axis=0)
        a, b, x, y = a[alone], b[alone], x[alone], y[alone]
        self.mate[a], self.mate[y] = y, a
        self.mate[b], self.mate[x] = x, b

    def rewire(self, count: int, rng: np.random.Generator) -> None:
        """Exchange the far ends of `count` random pairs of connections."""
        if count:
            ends = len(self.owner)
            self.swap(rng.integers(0, ends, count), rng.integers(0, ends, count))

    def replace(self, node: int, rng: np.random.Generator) -> None:
        """New neighbours, at random, for this node, as when another node takes its place."""
        start, degree = int(self.start[node]), int(self.degree[node])
        self.swap(np.arange(start, start + degree), rng.integers(0, len(self.owner), degree))


def random_overlay(nodes: int, low: int, high: int, rng: np.random.Generator) -> Overlay:
    """Each of `nodes` >= 2 has `low` to `high` neighbours, drawn evenly, or all others if these are
    fewer.

    The configuration model (Bollobas 1980): ends are paired at random, then loops and doubles are
    taken apart. Where a dense graph leaves some, those nodes have fewer neighbours than ends.
    """
    assert nodes >= 2, f"{nodes} nodes"
    assert 1 <= low <= high, f"degree {low} to {high}"
    if low >= nodes - 1:
        return _complete(nodes)
    degree = np.minimum(rng.integers(low, high + 1, nodes), nodes - 1)
    if degree.sum() % 2:
        odd = int(np.argmax(degree))
        degree[odd] -= 1 if degree[odd] > 1 else -1
    owner = np.repeat(np.arange(nodes), degree)
    pairs = rng.permutation(len(owner))
    mate = np.empty(len(owner), np.int64)
    mate[pairs[0::2]], mate[pairs[1::2]] = pairs[1::2], pairs[0::2]
    overlay = Overlay(np.cumsum(degree) - degree, degree, owner, mate)
    for _ in range(REPAIRS_MAX):
        wrong = wrong_ends(overlay)
        if not len(wrong):
            break
        overlay.swap(wrong, rng.integers(0, len(owner), len(wrong)))
    return overlay


def _complete(nodes: int) -> Overlay:
    """Everybody with everybody."""
    degree = np.full(nodes, nodes - 1)
    owner = np.repeat(np.arange(nodes), nodes - 1)
    place = np.tile(np.arange(nodes - 1), nodes)
    other = place + (place >= owner)  # A node leaves itself out.
    mate = other * (nodes - 1) + owner - (owner > other)
    return Overlay(np.arange(nodes) * (nodes - 1), degree, owner, mate)


def wrong_ends(overlay: Overlay) -> Ints:
    """One end of each loop, and of each connection that doubles another."""
    other = overlay.owner[overlay.mate]
    low, high = np.minimum(overlay.owner, other), np.maximum(overlay.owner, other)
    ends = np.flatnonzero(np.arange(len(overlay.mate)) < overlay.mate)  # Each connection once.
    names = low[ends] * overlay.nodes + high[ends]
    order = np.argsort(names, kind="stable")
    doubled = np.zeros(len(ends), bool)
    doubled[order[1:]] = names[order[1:]] == names[order[:-1]]
    wrong: Ints = ends[doubled | (low[ends] == high[ends])]
    return wrong
