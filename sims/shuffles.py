"""A numpy model of capacity records that go from hand to hand between very many nodes: the rules of
`core.capacity.exchange`, all nodes at once.

Time goes in steps of half a second. In a step every node whose turn has come exchanges records with
one of its neighbours; of two exchanges that share a node one comes after the other. Nothing is lost
and nothing takes time on the way: a tenth of a second is little beside ages of half a minute. A
record is its author and the moment it was issued; bytes are counted, not made.

Each table is a ring: a record that comes in, or in a newer version, takes the place of what was
renewed longest ago. It has more places than records can come in within their time to live, so
nothing is pushed out before its time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from swarmllm.sims.overlay import Ints, random_overlay
from swarmllm.sims.sessions import Weibull

Floats32 = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

STEP_S: Final = 0.5
# Arrivals that the youngest are looked for among; four times as many as come in between two
# exchanges, and more.
RECENT: Final = 64
AGAIN_S: Final = 20.0  # A copy that was passed on counts as so much older, each time.
LATEST: Final = 4  # Periods after which a node exchanges by itself, however often others came.
LONG_AGO: Final = -1e9
NEVER: Final = math.inf

Rule = Literal["count", "youngest", "half", "uniform"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """`records` go each way in an exchange, the sender's own first; a node has two exchanges per
    `every_s` on average.

    `rule` says which others: "count" prefers the young and those not passed on yet, "youngest" the
    young, "half" draws among the younger half, "uniform" among all. `silent`: with whom we have not
    exchanged for longest; else with anybody. `balanced`: an exchange that another started counts as
    one of ours. `greet`: exchanges of a newcomer at once. `reseal_s`: how old our own record may be
    when sent.
    """

    every_s: float = 5.5
    records: int = 4
    ttl_s: float = 90.0
    rule: Rule = "count"
    silent: bool = True
    balanced: bool = True
    greet: int = 24  # Twelve that it begins itself, and as many that the others begin.
    reseal_s: float = 4.0

    @property
    def places(self) -> int:
        """Of a table. Half more than comes in within a time to live, on average."""
        return 32 + math.ceil(3 * self.records / self.every_s * self.ttl_s)


class Shuffles:
    """`nodes` of them, of which who leaves is replaced by a newcomer in the same place, with a new
    identity and other neighbours."""

    def __init__(
        self,
        nodes: int,
        scheme: Scheme,
        rng: np.random.Generator,
        *,
        degree: tuple[int, int] = (32, 64),
        sessions: Weibull | None = None,
        rewire_s: float = 300.0,
    ) -> None:
        self.scheme = scheme
        self._rng = rng
        self.now = 0.0
        self.overlay = random_overlay(nodes, *degree, rng)
        ends = len(self.overlay.owner)
        # A swap changes two connections, each of two ends.
        self._swaps = ends / 4 * STEP_S / rewire_s if rewire_s else 0.0
        # When this end's node and its mate's last exchanged.
        self._met = rng.uniform(-1.0, 0.0, ends).astype(np.float32)
        self._width = int(self.overlay.degree.max())
        self.ids = np.arange(nodes, dtype=np.int32)
        self.identities = nodes  # So many there have been.
        self.born = np.full(nodes, LONG_AGO)
        self._sessions = sessions
        self._ends = sessions.rests(rng, nodes) if sessions is not None else np.full(nodes, NEVER)
        self._due = rng.uniform(0, scheme.every_s, nodes)
        self._last = self._due - scheme.every_s
        self._sealed = np.full(nodes, LONG_AGO)  # When its own record was made.
        places = scheme.places
        self.authors: Ids = np.full((nodes, places), -1, np.int32)
        self.issued: Floats32 = np.full((nodes, places), LONG_AGO, np.float32)
        # The node that brought this copy.
        self._source: Ids = np.full((nodes, places), -1, np.int32)
        self._passed: npt.NDArray[np.uint8] = np.zeros((nodes, places), np.uint8)
        self._head: Ints = np.zeros(nodes, np.int64)  # The place that is written next.
        self.records_moved: Ints = np.zeros(nodes, np.int64)  # Sent and received, by node.
        self.messages_moved: Ints = np.zeros(nodes, np.int64)

    @property
    def nodes(self) -> int:
        return len(self.ids)

    def run_until(self, when: float) -> None:
        while self.now < when - STEP_S / 2:
            self._step()

    def _step(self) -> None:
        self.now += STEP_S
        self.overlay.rewire(int(self._rng.poisson(self._swaps)), self._rng)
        for node in np.flatnonzero(self._ends <= self.now):
            self.replace(int(node))
        turn = np.flatnonzero(self._due <= self.now)
        if not len(turn):
            return
        self._rng.shuffle(turn)
        partners = self._partners(turn)
        self._pace(turn, partners)
        self._exchange(turn, partners)

    def replace(self, node: int) -> None:
        """A newcomer takes this node's place: an empty table, other neighbours, and an exchange
        with some of them at once."""
        self.ids[node] = self.identities
        self.identities += 1
        self.born[node] = self.now
        if self._sessions is not None:
            self._ends[node] = self.now + self._sessions.draws(self._rng, 1)[0]
        self.authors[node], self.issued[node] = -1, LONG_AGO
        self._last[node], self._sealed[node] = self.now, LONG_AGO
        self._due[node] = self.now + self._rng.uniform(0, self.scheme.every_s)
        self.overlay.replace(node, self._rng)
        others = np.unique(self.overlay.neighbours(node))
        others = self._rng.permutation(others[others != node])[: self.scheme.greet]
        self._exchange(np.full(len(others), node), others)

    def _partners(self, turn: Ints) -> Ints:
        overlay = self.overlay
        if not self.scheme.silent:
            anybody: Ints = overlay.owner[overlay.mate[overlay.random_ends(turn, self._rng)]]
            return anybody
        steps = np.arange(self._width)
        ends = np.minimum(overlay.start[turn, None] + steps, len(self._met) - 1)
        met = np.where(steps < overlay.degree[turn, None], self._met[ends], np.inf)
        chosen = ends[np.arange(len(turn)), met.argmin(axis=1)]
        mates = overlay.mate[chosen]
        self._met[chosen] = self._met[mates] = self.now
        longest: Ints = overlay.owner[mates]
        return longest

    def _pace(self, turn: Ints, partners: Ints) -> None:
        """When each is due next."""
        period = self.scheme.every_s
        spread = self._rng.uniform(0.8, 1.2, len(turn))
        self._last[turn] = self.now
        if not self.scheme.balanced:
            self._due[turn] += period * spread
            return
        self._due[turn] += period / 2 * spread
        np.add.at(self._due, partners, period / 2)
        self._due = np.maximum(np.minimum(self._due, self._last + LATEST * period), self.now)

    def _exchange(self, a: Ints, b: Ints) -> None:
        """Of each pair in order, as far as order matters: pairs that share no node with an earlier
        one go together."""
        other = a != b
        a, b = a[other], b[other]
        first = np.empty(self.nodes, np.int64)
        while len(a):
            order = np.arange(len(a))
            both = np.concatenate([a, b])
            again = np.concatenate([order, order])
            backwards = np.argsort(-again, kind="stable")
            # Of several values for one place the last one stays: the earliest pair.
            first[both[backwards]] = again[backwards]
            ready = (first[a] == order) & (first[b] == order)
            self._pairs(a[ready], b[ready])
            a, b = a[~ready], b[~ready]

    def _pairs(self, a: Ints, b: Ints) -> None:
        """No node comes twice. Both choose before either hears."""
        givers, takers = np.concatenate([a, b]), np.concatenate([b, a])
        authors, issued = self._choose(givers, takers)
        counts = (authors >= 0).sum(axis=1)
        self.records_moved[givers] += counts
        self.records_moved[takers] += counts
        self.messages_moved[givers] += 1
        self.messages_moved[takers] += 1
        self._hear(takers, givers, authors, issued)

    def _choose(self, givers: Ints, takers: Ints) -> tuple[Ids, Floats32]:
        """int32 and float32[givers, records]: what each gives; author -1 where it has no more."""
        scheme, places, count = self.scheme, self.scheme.places, self.scheme.records - 1
        own = self.ids[givers][:, None]
        self._sealed[givers] = np.where(
            self.now - self._sealed[givers] >= scheme.reseal_s, self.now, self._sealed[givers]
        )
        fresh = self._sealed[givers].astype(np.float32)[:, None]
        if not count:
            return own, fresh
        width = min(RECENT, places) if scheme.rule in {"count", "youngest"} else places
        columns = (self._head[givers, None] - 1 - np.arange(width)) % places
        flat = givers[:, None] * places + columns
        authors, age = self.authors.ravel()[flat], np.float32(self.now) - self.issued.ravel()[flat]
        usable = (age <= scheme.ttl_s) & (authors >= 0) & (authors != self.ids[takers][:, None])
        usable &= self._source.ravel()[flat] != takers[:, None]
        if scheme.rule == "count":
            age += np.float32(AGAIN_S) * self._passed.ravel()[flat]
        elif scheme.rule == "uniform":
            age = self._rng.random(age.shape, dtype=np.float32)
        elif scheme.rule == "half":
            ordered = np.sort(np.where(usable, age, np.inf), axis=1)
            usable &= (
                age
                <= ordered[np.arange(len(givers)), np.maximum(usable.sum(axis=1) // 2, count)][
                    :, None
                ]
            )
            age = self._rng.random(age.shape, dtype=np.float32)
        age[~usable] = np.inf
        best = np.argpartition(age, count, axis=1)[:, :count]
        chosen = np.take_along_axis(flat, best, axis=1)
        has = np.take_along_axis(usable, best, axis=1)
        self._passed.ravel()[chosen] += has
        given = np.where(has, self.authors.ravel()[chosen], np.int32(-1))
        return np.concatenate([own, given], axis=1), np.concatenate(
            [fresh, self.issued.ravel()[chosen]], axis=1
        )

    def _hear(self, takers: Ints, givers: Ints, authors: Ids, issued: Floats32) -> None:
        """Each of `takers` (none twice) takes in a row: a version that is newer than its own, or of
        an author it does not know."""
        places = self.scheme.places
        known = self.authors[takers]
        rows = takers * places
        for column in range(authors.shape[1]):
            author, when = authors[:, column], issued[:, column]
            same = known == author[:, None]
            at = same.argmax(axis=1)
            has = same[np.arange(len(takers)), at] & (author >= 0)
            old = rows + at
            wanted = (
                (author >= 0)
                & (author != self.ids[takers])
                & (~has | (self.issued.ravel()[old] < when))
            )
            renewed = wanted & has
            # Its place falls free; the ring comes round to it in its time.
            self.authors.ravel()[old[renewed]] = -1
            known[renewed, at[renewed]] = -1
            head = self._head[takers[wanted]]
            new = rows[wanted] + head
            self.authors.ravel()[new], self.issued.ravel()[new] = author[wanted], when[wanted]
            self._source.ravel()[new], self._passed.ravel()[new] = givers[wanted], 0
            known[np.flatnonzero(wanted), head] = author[wanted]
            self._head[takers[wanted]] = (head + 1) % places

    # --- what there is to see ---------------------------------------------------------------------

    def fresh(self, age_s: float) -> Bools:
        """bool[nodes, places]: the records not older than this."""
        return (self.authors >= 0) & (self.now - self.issued <= age_s)

    def fresh_of(self, nodes: Ints, age_s: float) -> Ints:
        """How many of them each of these nodes has."""
        counts: Ints = ((self.authors[nodes] >= 0) & (self.now - self.issued[nodes] <= age_s)).sum(
            axis=1
        )
        return counts

    def alive(self) -> Bools:
        """bool[identities]: whether that one is still there."""
        found = np.zeros(self.identities, bool)
        found[self.ids] = True
        return found

    def ages_of_neighbours(self, sample: int) -> Floats32:
        """For `sample` random connections, how old the record is that one side has of the other;
        inf where it has none."""
        ends = self._rng.integers(0, len(self.overlay.owner), sample)
        owners, others = (
            self.overlay.owner[ends],
            self.ids[self.overlay.owner[self.overlay.mate[ends]]],
        )
        same = self.authors[owners] == others[:, None]
        at = same.argmax(axis=1)
        ages = np.where(same[np.arange(sample), at], self.now - self.issued[owners, at], np.inf)
        return ages.astype(np.float32)
