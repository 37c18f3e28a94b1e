"""The objective: what a simulated swarm cost its users, in parts and as one weighted number.

The number is a sum of logarithms and shares times 100, so differences are in per cent: 1 is what
tokens that come one per cent later cost. Less is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from swarmllm.errors import UsageError

Figures = Mapping[str, float]
"""What one simulated run came to, by the name of each part."""


@dataclass(frozen=True, slots=True)
class Part:
    """`ratio`: a change counts by its ratio; `share`: by its difference. `weight` is what a change
    of one per cent (of the value, or of all) adds to the objective."""

    name: str
    unit: str
    kind: Literal["ratio", "share"]
    weight: float
    about: str

    def cost(self, value: float) -> float:
        if self.kind == "share":
            return 100 * self.weight * value
        return 100 * self.weight * math.log(value)


PARTS: Final = (
    Part("token", "s", "ratio", 1.0, "time from one token to the next"),
    Part("first_token", "s", "ratio", 0.3, "time until the first token"),
    Part("bytes", "bytes", "ratio", 0.1, "sent by all nodes, for each token of an answer"),
    Part("computed", "tokens", "ratio", 0.2, "computed by experts, for each token of an answer"),
    Part("unfinished", "share", "share", 10.0, "answers that were not written to their end"),
    Part("thin", "share", "share", 0.5, "tokens made by fewer experts than asked for"),
)
WEIGHT_MAX: Final = 1_000.0


def usual_weights() -> dict[str, float]:
    return {part.name: part.weight for part in PARTS}


def parts_with(weights: Mapping[str, float]) -> tuple[Part, ...]:
    """The parts at these weights. UsageError for a part that there is not, or a weight that is
    none."""
    known = usual_weights()
    for name, weight in weights.items():
        if name not in known:
            raise UsageError(f"the objective has no part {name[:40]!r}; it has {', '.join(known)}")
        if not 0 <= weight <= WEIGHT_MAX:  # A nan is within nothing.
            raise UsageError(f"the weight of {name} is {weight}; it must be 0 to {WEIGHT_MAX:g}")
    return tuple(
        Part(p.name, p.unit, p.kind, weights.get(p.name, p.weight), p.about) for p in PARTS
    )


def cost_of(figures: Figures, parts: tuple[Part, ...] = PARTS) -> float:
    """The one number; all parts of kind `ratio` must be positive."""
    return math.fsum(part.cost(figures[part.name]) for part in parts if part.weight)
