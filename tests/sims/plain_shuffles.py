"""The shuffle scheme once more, one node and one exchange at a time, in plain Python: what the
arrays are checked against.

Written from the rules in `swarmllm.sims.shuffles.Scheme`, without its ring, its steps of half a
second and its batches.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from swarmllm.sims.shuffles import AGAIN_S, LATEST, Scheme


@dataclass(slots=True)
class Copy:
    issued: float
    source: int
    passed: int = 0


@dataclass(slots=True)
class PlainNode:
    neighbours: list[int]  # Who has been silent longest comes first.
    due: float
    last: float
    table: dict[int, Copy] = field(default_factory=dict)
    records_moved: int = 0
    sealed: float = -1e9


class PlainShuffles:
    """Nobody comes or goes, connections stay; partners by silence, rule "count"."""

    def __init__(self, neighbours: list[list[int]], scheme: Scheme, seed: int) -> None:
        assert scheme.rule == "count"
        assert scheme.silent
        self.rng = random.Random(seed)
        self.scheme = scheme
        self.now = 0.0
        self.nodes: list[PlainNode] = []
        for line in neighbours:
            due = self.rng.uniform(0, scheme.every_s)
            self.nodes.append(
                PlainNode(self.rng.sample(line, len(line)), due, due - scheme.every_s)
            )

    def run_until(self, when: float) -> None:
        queue = [(node.due, number) for number, node in enumerate(self.nodes)]
        heapq.heapify(queue)
        while queue[0][0] < when:
            due, number = heapq.heappop(queue)
            node = self.nodes[number]
            if node.due > due:  # Put off since.
                heapq.heappush(queue, (node.due, number))
                continue
            self.now = due
            self._turn(number)
            heapq.heappush(queue, (node.due, number))
        self.now = when

    def _turn(self, number: int) -> None:
        period = self.scheme.every_s
        node = self.nodes[number]
        partner = node.neighbours[0]
        other = self.nodes[partner]
        for one, its in ((node, partner), (other, number)):
            one.neighbours.remove(its)
            one.neighbours.append(its)
        node.last = self.now
        node.due += period / (2 if self.scheme.balanced else 1) * self.rng.uniform(0.8, 1.2)
        if self.scheme.balanced:
            other.due += period / 2
            for one in (node, other):
                one.due = max(self.now, min(one.due, one.last + LATEST * period))
        given, taken = self._choose(number, partner), self._choose(partner, number)
        self._hear(partner, number, given)
        self._hear(number, partner, taken)

    def _choose(self, giver: int, taker: int) -> list[tuple[int, float]]:
        def rank(author: int) -> float:
            copy = table[author]
            return self.now - copy.issued + AGAIN_S * copy.passed

        table = self.nodes[giver].table
        usable = [
            a
            for a, c in table.items()
            if self.now - c.issued <= self.scheme.ttl_s and taker not in {a, c.source}
        ]
        chosen = sorted(usable, key=rank)[: self.scheme.records - 1]
        for author in chosen:
            table[author].passed += 1
        own = self.nodes[giver]
        if self.now - own.sealed >= self.scheme.reseal_s:
            own.sealed = self.now
        return [(giver, own.sealed), *((author, table[author].issued) for author in chosen)]

    def _hear(self, taker: int, giver: int, records: list[tuple[int, float]]) -> None:
        node = self.nodes[taker]
        node.records_moved += len(records)
        self.nodes[giver].records_moved += len(records)
        for author, issued in records:
            old = node.table.get(author)
            if author != taker and (old is None or old.issued < issued):
                node.table[author] = Copy(issued, giver)

    def pools(self, age_s: float) -> list[int]:
        return [
            sum(self.now - copy.issued <= age_s for copy in node.table.values())
            for node in self.nodes
        ]

    def ages(self, age_s: float) -> list[float]:
        return [
            self.now - c.issued
            for node in self.nodes
            for c in node.table.values()
            if self.now - c.issued <= age_s
        ]
