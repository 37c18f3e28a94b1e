"""Means with honest intervals: documents are drawn again with replacement, because tokens of one
document are not independent.

The percentile bootstrap over documents (Efron 1979); the difference of two methods is taken within
each document before drawing, so that what makes a document hard for both does not blur it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES: Final = 2000
LEVEL: Final = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Estimate:
    """`mean` in nats per token (or whatever was given), and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width of the interval: what stands after the ±."""
        return (self.high - self.low) / 2


class Bootstrap:
    """The same draws for everything that is compared."""

    def __init__(self, documents: int, seed: int) -> None:
        assert documents > 0, "no documents"
        rng = np.random.default_rng([seed, documents])
        drawn = rng.integers(0, documents, (RESAMPLES, documents))
        self._counts = np.zeros((RESAMPLES, documents))
        np.add.at(self._counts, (np.arange(RESAMPLES)[:, None], drawn), 1.0)

    def ratio(self, totals: Floats, weights: Floats) -> Estimate:
        """sum(totals) / sum(weights) with its interval; both float64[documents]. Documents of
        weight 0 are allowed, not all of them."""
        mean = float(totals.sum() / weights.sum())
        below = self._counts @ weights
        some = below > 0
        values = (self._counts @ totals)[some] / below[some]
        low, high = np.percentile(values, LEVEL)
        return Estimate(mean, float(low), float(high))
