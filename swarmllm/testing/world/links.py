"""How long a message takes from one place to another, and what can become of it on the way.

Distances are between points of a square, which gives the triangle inequality that real networks
roughly keep. The time of one message is log-normal round the distance's own (sigma 0.4: two thirds
of all within 67 and 149 %, as measured between hosts of the internet).

Streams are TCP: a lost packet makes everything behind it wait for its retransmission, and order is
kept. `drop`, `duplicate` and `reorder` are what TCP excludes; they stand for faults in whatever
lies above it, and test that the machines take nothing for granted.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

Place = tuple[float, float]
"""A point of the unit square."""

# Drawn once and then picked from: a draw costs a tenth of a fresh one, and the tails reach 4 sigma.
FACTORS: Final = 4096
RETRANSMIT_MIN_S: Final = 0.2  # Linux's shortest retransmission timeout.
# In a row: with 2 % loss one message in 300 million is lost more often.
RETRANSMISSIONS: Final = 4


@dataclass(frozen=True, slots=True)
class LinkModel:
    """One-way seconds are `(near_s + span_s * distance) * factor`, where the square's diagonal has
    distance 1.

    `loss`: probability that a message waits for a retransmission. `drop`, `duplicate`, `reorder`:
    probabilities of faults, see above. `bytes_per_s`: of one connection in one direction.
    """

    near_s: float = 0.01
    span_s: float = 0.0
    sigma: float = 0.4
    loss: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    bytes_per_s: float = math.inf

    def __post_init__(self) -> None:
        assert min(self.near_s, self.span_s, self.sigma) >= 0 < self.bytes_per_s, self
        assert all(
            0 <= share < 1 for share in (self.loss, self.drop, self.duplicate, self.reorder)
        ), self

    @property
    def is_faulty(self) -> bool:
        return bool(self.drop or self.duplicate or self.reorder)


PERFECT: Final = LinkModel(sigma=0.0)


def distance(one: Place, two: Place) -> float:
    return math.hypot(one[0] - two[0], one[1] - two[1]) / math.sqrt(2.0)


class Delays:
    """Draws the times of messages; `rng` is used for nothing else."""

    def __init__(self, model: LinkModel, rng: random.Random) -> None:
        self.model = model
        self._rng = rng
        self._bits = rng.getrandbits
        self._factors = (
            [rng.lognormvariate(0.0, model.sigma) for _ in range(FACTORS)]
            if model.sigma
            else [1.0] * FACTORS
        )
        self._factor_max = max(self._factors)

    def base_s(self, one: Place, two: Place) -> float:
        """The median time between two places."""
        return self.model.near_s + self.model.span_s * distance(one, two)

    def draw_s(self, base_s: float, size_bytes: int = 0) -> float:
        """The time of one message of this size over a link with this median."""
        model = self.model
        seconds = base_s * self._factors[self._bits(12)]
        if model.bytes_per_s < math.inf:
            seconds += size_bytes / model.bytes_per_s
        if model.loss:
            wait_s = max(RETRANSMIT_MIN_S, 3 * base_s)
            while self._rng.random() < model.loss:
                seconds += wait_s
                wait_s *= 2
        return seconds

    def longest_s(self, base_s: float, size_bytes: int = 0) -> float:
        """The longest that such a message takes, but for more than four losses in a row."""
        seconds = base_s * self._factor_max + size_bytes / self.model.bytes_per_s
        if self.model.loss:
            seconds += max(RETRANSMIT_MIN_S, 3 * base_s) * (2**RETRANSMISSIONS - 1)
        return seconds

    def copies(self) -> int:
        """How often a message that may be faulty arrives."""
        chance = self._rng.random()
        if chance < self.model.drop:
            return 0
        return 2 if chance >= 1 - self.model.duplicate else 1

    def overtakes(self) -> bool:
        """Whether a message may arrive before those that were sent before it."""
        return self.model.reorder > 0 and self._rng.random() < self.model.reorder
