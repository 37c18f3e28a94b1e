"""The canary: one node in a hundred tries a change for an hour before all others do.

Who is one follows from a hash over the change and the node's id, so nobody chooses; where that
hits nobody among those that a node knows, the lowest hash does. A canary compares what a token
cost before with what it costs under the change, and takes the change back by itself if that is
worse beyond noise: Welch's test with unequal variances, at three standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

from swarmllm.messages import PeerId

ERRORS: Final = 3.0  # Standard errors: once in 740 where nothing has changed.
SAMPLES_MIN: Final = 8  # On each side; with fewer nothing is beyond noise.
BEFORE_MAX: Final = 256  # Samples that "before" looks back on.

Trial = Literal["none", "running", "fine", "worse"]
"""How a canary goes here."""


@dataclass(slots=True)
class Samples:
    """Mean and variance of costs, by Welford's method; seconds."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, cost_s: float) -> None:
        self.count += 1
        apart = cost_s - self.mean
        self.mean += apart / self.count
        self.squares += apart * (cost_s - self.mean)

    @property
    def error_squared(self) -> float:
        """Of the mean."""
        return self.squares / (self.count - 1) / self.count if self.count > 1 else math.inf


def samples_of(costs_s: Iterable[float]) -> Samples:
    found = Samples()
    for cost_s in costs_s:
        found.add(cost_s)
    return found


def is_worse(before: Samples, during: Samples) -> bool:
    """Whether a token costs more than before, beyond noise."""
    if min(before.count, during.count) < SAMPLES_MIN:
        return False
    error = math.sqrt(before.error_squared + during.error_squared)
    return during.mean - before.mean > ERRORS * error


def is_canary(change: bytes, own: PeerId, known: Iterable[PeerId], permille: int) -> bool:
    """Whether this node is a canary of the change with this id. `known` are the peers that it
    knows; only if none of them is one, nor we, the lowest hash decides."""
    mine = draw(change, own)
    below = permille * 2**64 // 1_000
    if mine < below:
        return True
    # One below the share is below us too, and the first peer below us settles it.
    return all(mine <= draw(change, peer) for peer in known)


def draw(change: bytes, name: PeerId | bytes) -> int:
    """The lot of a node, or of a key, for this change: 0 to 2^64 - 1."""
    packed = name.encode() if isinstance(name, str) else name
    return int.from_bytes(sha256(change + packed).digest()[:8], "big")
