"""The sequential test of an audited expert: its lists either differ from the model's by rounding,
or they are of something else.

Each audited position gives a likelihood ratio. Under "the same model" differences are exponential
with the mean that back ends are allowed, under "something else" with a larger one; a third way for
lists to be wrong, one token raised or buried, shows in the log-probabilities and hardly in the
total variation. So the ratio is the mean of two; of three where the expert was asked about a set of
tokens, and has said what all of it has. Its logarithm is added up and never falls below
0, so that good behaviour of long ago excuses nothing (Page's CUSUM, 1954): if each ratio has a mean
of at most 1 under "the same model", the mean number of positions between two false alarms is at
least e to the threshold (Lorden 1971). No single position says more than `STEP_MAX_NATS`, so one
that went wrong by accident convicts nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.core.trust.comparison import Difference

POSITIONS: Final = 10
"""Of a session, drawn once its lists are signed."""
# Total variation: honest back ends differ by 0.007 to 0.014 in the mean, and by 0.041 at most.
SAME_VARIATION: Final = 0.02
OTHER_VARIATION: Final = 0.1
# Mean |difference of log-probabilities| of the likeliest 20: 0.03 in the mean, 0.08 at most.
SAME_NATS: Final = 0.05
OTHER_NATS: Final = 0.3
STEP_MAX_NATS: Final = 5.0
ALARM_NATS: Final = math.log(1e8)
"""A false alarm in 100 million positions, or 10 million audits: under 1e-4 for an expert that is
audited a thousand times."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """`nats` is what speaks against the expert now, from 0 to the alarm."""

    nats: float = 0.0

    @property
    def is_alarm(self) -> bool:
        return self.nats >= ALARM_NATS

    def after(self, found: Sequence[Difference]) -> Suspicion:
        """With what one more audit says. What has come to an alarm stays one."""
        nats = self.nats
        for one in found:
            if nats >= ALARM_NATS:
                break
            nats = max(0.0, nats + step(one))
        return Suspicion(min(nats, ALARM_NATS))


def step(one: Difference) -> float:
    """What one position says against the expert, in nats; below 0 it speaks for it."""
    variation = _log_ratio(one.variation, SAME_VARIATION, OTHER_VARIATION)
    ratios = [variation, _log_ratio(one.nats, SAME_NATS, OTHER_NATS)]
    if one.mass is not None:
        ratios.append(_log_ratio(one.mass, SAME_NATS, OTHER_NATS))
    high = max(ratios)
    whole = high + math.log(math.fsum(math.exp(r - high) for r in ratios) / len(ratios))
    return min(STEP_MAX_NATS, whole)


def differs(found: Sequence[Difference]) -> bool:
    """Whether this audit alone speaks against the expert."""
    return sum(step(one) for one in found) > 0


def _log_ratio(value: float, same: float, other: float) -> float:
    """Of two exponential densities with these means."""
    return math.log(same / other) + value * (1 / same - 1 / other)
