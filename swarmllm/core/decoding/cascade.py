"""The cascade picks the tokens that the whole ensemble is asked about: one expert is asked while it
is sure, all K when it is not.

The user sets one number, the share of tokens that all K experts are asked about; on average 1 +
share * (K - 1) experts are asked per token. Which tokens these are follows from how undecided the
first expert is: the threshold is the running quantile that lets exactly this share through (Robbins
and Monro's stochastic approximation: up by step * share when surprised, down by step * (1 - share)
otherwise), so the number means the same whatever the models, their temperature and the text.
"""

from __future__ import annotations

import math

import numpy as np

from swarmllm.core.settings.table import FIRST_THRESHOLD
from swarmllm.wire.sparse import SparseList

# Of the first moves of the threshold, in mean surprises; they shrink as one over the square root of
# their number.
STEP = 0.5
STEP_MIN = 0.03  # Texts change: the threshold never stops following.
GAIN_MIN = 0.02  # Of the running mean of surprise.


def surprise(found: SparseList) -> float:
    """Entropy in nats of an expert's distribution, its tail counted as if it were one more token of
    the list's smallest value's kind.

    The tail's own entropy is at least that of tokens as likely as the smallest listed one, for none
    of them was more likely.
    """
    logs = found.logprobs.astype(np.float64)
    listed = -float(np.sum(np.exp(logs) * logs))
    return listed - found.tail * float(logs.min()) if found.tail > 0 else listed


class Cascade:
    """Picks about `share` (0..1) of the tokens. 0: none; 1: all. `first_nats` is the threshold for
    the first token; then it starts from what is seen."""

    def __init__(self, share: float, first_nats: float = FIRST_THRESHOLD.usual) -> None:
        assert 0 <= share <= 1, f"share {share}"
        self.share = share
        self.threshold_nats = first_nats
        self._seen = 0
        self._mean_nats = 0.0

    def widen(self, surprise_nats: float) -> bool:
        """Whether this token is one for all experts."""
        wide = surprise_nats > self.threshold_nats if 0 < self.share < 1 else self.share == 1
        if self._seen == 0:
            self.threshold_nats = surprise_nats
        self._seen += 1
        self._mean_nats += max(GAIN_MIN, 1 / self._seen) * (surprise_nats - self._mean_nats)
        step = max(STEP_MIN, STEP / math.sqrt(self._seen))
        self.threshold_nats += step * self._mean_nats * ((1 - self.share) if wide else -self.share)
        return wide
