"""Paired differences: what a change does beyond noise, with a confidence interval.

Each pair is one seed, run with and without the change. The mean of the differences has a Student's
t interval. It is looked at after 8, 16 and 32 pairs and no more goes on than is needed, so each
look takes a third of the 5 % (Bonferroni; Armitage et al. 1969 on why one must): all looks together
call a change that does nothing better or worse in at most 5 % of cases, as far as means of 8 are
normally distributed. `docs/simulator.md` has what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from swarmllm.errors import UsageError

LOOKS: Final[dict[int, float]] = {8: 3.1276, 16: 2.6937, 32: 2.5309}
"""Pairs at a look: the 99.17 % quantile of Student's t with one degree of freedom less."""
PAIRS_MIN: Final = min(LOOKS)
PAIRS_MAX: Final = max(LOOKS)
MARGIN: Final = 1.0
"""In per cent: what is certainly less is no difference, and not worth more pairs."""

Finding = Literal["better", "worse", "no difference"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference (with the change less without) of `pairs`, and its confidence interval."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def finding(self) -> Finding:
        """Of something that is better when it is less."""
        if self.high < 0:
            return "better"
        return "worse" if self.low > 0 else "no difference"


def interval_of(differences: Sequence[float]) -> Interval:
    """Of a number of pairs at which it is looked."""
    pairs = len(differences)
    mean = math.fsum(differences) / pairs
    spread = math.fsum((one - mean) ** 2 for one in differences) / (pairs - 1)
    half = LOOKS[pairs] * math.sqrt(spread / pairs)
    return Interval(mean, mean - half, mean + half, pairs)


def is_decided(found: Interval) -> bool:
    """Whether more pairs would be for nothing: a difference beyond noise, or certainly hardly
    one."""
    return found.finding != "no difference" or (found.low > -MARGIN and found.high < MARGIN)


def look_at(pairs_max: int) -> tuple[int, ...]:
    """The looks within so many pairs. UsageError for a number that is none of them."""
    if pairs_max not in LOOKS:
        raise UsageError(
            f"{pairs_max} pairs are not looked at; choose {', '.join(map(str, LOOKS))}"
        )
    return tuple(count for count in LOOKS if count <= pairs_max)
