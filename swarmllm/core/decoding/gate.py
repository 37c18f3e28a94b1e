"""How much each expert counts: mixture weights learned from text that comes from outside the
ensemble.

What an expert thought of a text that somebody else wrote is evidence of how well it knows such
texts; the log-probabilities of some prompt tokens are all that is needed. What the ensemble sampled
itself is none (its posterior is a martingale that drifts to one expert at random), so the weights
rest while an answer is written, and because a text may turn to another domain after its prompt a
share is always spread as the prior has it.

The first stretch of outside text is weighed by expectation maximisation, which treats it as of one
kind; each later one (a user's next turn, after an answer of ours) by Soft-Bayes with sharing, which
forgets: a conversation may have moved on (Orseau, Lattimore and Legg 2017; Herbster and Warmuth
1998). Evidence belongs to whoever gave it (a *source*); which sources are one voice
`core.decoding.voices` knows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import FORGETTING, LEARNING_RATE, UNIFORM_SHARE
from swarmllm.messages import PeerId

# Of EM; the weights move by less than 1e-3 after some 20 on prompts of any length tried.
ROUNDS = 25
# Tokens' worth of pseudo-evidence per expert: a prompt of a few tokens cannot silence anybody.
PRIOR_COUNT = 0.5
FLOOR_NATS = -30.0  # No single token counts for more evidence than this against an expert.

Floats = npt.NDArray[np.float64]
Source = PeerId
"""Whose word it is."""


def em(logprobs: Floats, prior: Floats) -> Floats:
    """float64[K]: the weights under which the mixture makes a text likeliest, found by expectation
    maximisation.

    `logprobs` float64[T, K] are what each expert gave to each of the T tokens, in nats; `prior`
    float64[K] adds up to 1 and counts as PRIOR_COUNT * K tokens of evidence. With T = 0 the prior
    is what comes out.
    """
    tokens, experts = logprobs.shape
    if tokens == 0:
        return prior.copy()
    floored = np.maximum(logprobs, FLOOR_NATS)
    likelihood = np.exp(floored - floored.max(axis=1, keepdims=True))
    pseudo = PRIOR_COUNT * experts
    w = prior.copy()
    for _ in range(ROUNDS):
        joint = w * likelihood
        taken = (joint / joint.sum(axis=1, keepdims=True)).sum(axis=0)
        w = (taken + pseudo * prior) / (tokens + pseudo)
    return w


def soft_bayes(
    weights: Floats,
    logprobs: Floats,
    eta: float = LEARNING_RATE.usual,
    share: float = FORGETTING.usual,
    prior: Floats | None = None,
) -> Floats:
    """float64[K]: the weights after one more token, to which the experts gave `logprobs` float64[K]
    nats.

    Each is multiplied by 1 - eta + eta * p_k / sum_j w_j p_j; then `share` of the whole is spread
    as `prior` (default: evenly).
    """
    floored = np.maximum(logprobs, FLOOR_NATS)
    likelihood = np.exp(floored - floored.max())
    w = weights * (1 - eta + eta * likelihood / float(weights @ likelihood))
    w /= w.sum()  # It adds up to 1 already, but for rounding.
    base = 1 / len(w) if prior is None else prior
    mixed: Floats = (1 - share) * w + share * base
    return mixed


def floored(
    weights: Floats, uniform_share: float = UNIFORM_SHARE.usual, prior: Floats | None = None
) -> Floats:
    """float64[K]: no expert is below its part of `uniform_share`, which is spread as `prior`
    (default: evenly)."""
    base = 1 / len(weights) if prior is None else prior
    mixed: Floats = (1 - uniform_share) * weights + uniform_share * base
    return mixed


class Gate:
    """The evidence of one answer. `turns` are stretches of positions, rising: position t stands for
    the text's token t + 1, which somebody outside the ensemble wrote."""

    def __init__(self, turns: Sequence[range], settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self.turns = tuple(turn for turn in turns if len(turn))
        self._known: dict[Source, dict[int, float]] = {}

    @property
    def positions(self) -> list[int]:
        return [position for turn in self.turns for position in turn]

    def learn(self, source: Source, position: int, logprob: float) -> None:
        """What it gave to a token, in nats. Heard twice (after a failover): the first stands, for
        what came then is in the weights."""
        self._known.setdefault(source, {}).setdefault(position, logprob)

    def forget(self, source: Source) -> None:
        self._known.pop(source, None)

    def is_informed(self, source: Source) -> bool:
        """Whether there is enough of its evidence to compare it with others: a scrap must not
        shrink what all have in common."""
        most = max((len(known) for known in self._known.values()), default=0)
        return len(self._known.get(source, ())) * 2 > most

    def mean(self, source: Source) -> float:
        """Nats per token that an informed source gave, at most 0."""
        known = self._known[source]
        return math.fsum(max(FLOOR_NATS, value) for value in known.values()) / len(known)

    def common(self, a: Source, b: Source) -> int:
        """How many tokens both have told of."""
        return len(self._known[a].keys() & self._known[b].keys())

    def distance(self, a: Source, b: Source) -> float:
        """How far two informed sources are apart: the mean difference of what they gave to the same
        tokens, in nats."""
        known, other = self._known[a], self._known[b]
        gaps = [
            abs(max(FLOOR_NATS, known[t]) - max(FLOOR_NATS, other[t]))
            for t in sorted(known.keys() & other.keys())
        ]
        return math.fsum(gaps) / len(gaps) if gaps else math.inf

    def shares(
        self, priors: Mapping[Source, float], doubts: Mapping[Source, float] | None = None
    ) -> dict[Source, float]:
        """The mixture weights of these sources, adding up to 1. `priors` are relative (> 0) and
        need no scale. `doubts`: whose word counts, and by how many nats per token it is taken to be
        too good; None: everybody's, as it is.

        Only positions are compared that all informed ones have in common. A source without evidence
        that counts keeps its part of the prior.
        """
        sources = sorted(priors)
        total = sum(priors.values())
        scaled = {s: priors[s] / total for s in sources}
        informed = [s for s in sources if self.is_informed(s) and (doubts is None or s in doubts)]
        found = dict(scaled)
        if len(informed) > 1:
            mass = sum(scaled[s] for s in informed)
            prior = np.array([scaled[s] / mass for s in informed])
            less = np.array([0.0 if doubts is None else doubts[s] for s in informed])
            learned = self._learned(informed, prior, less)
            found |= {s: mass * float(w) for s, w in zip(informed, learned, strict=True)}
        uniform = self._settings[UNIFORM_SHARE]
        return {s: (1 - uniform) * found[s] + uniform * scaled[s] for s in sources}

    def merits(self, sources: Iterable[Source] | None = None) -> dict[Source, float]:
        """How much better than their uniform pool each of these informed sources was on this text,
        in nats per token. None: all."""
        informed = sorted(
            s for s in (self._known if sources is None else set(sources)) if self.is_informed(s)
        )
        table = self._table(informed, self.turns)
        if not table.size:
            return {}
        pool = np.logaddexp.reduce(table, axis=1) - np.log(len(informed))
        return {
            s: float(mean)
            for s, mean in zip(informed, (table - pool[:, None]).mean(axis=0), strict=True)
        }

    def nats(self) -> dict[Source, float]:
        """Nats per token that each needed for this text: the lower, the better it knows it."""
        return {
            s: -sum(known.values()) / len(known)
            for s, known in sorted(self._known.items())
            if known
        }

    def _learned(self, sources: Sequence[Source], prior: Floats, less: Floats) -> Floats:
        eta, share = self._settings[LEARNING_RATE], self._settings[FORGETTING]
        w = prior
        for i, turn in enumerate(self.turns):
            table = self._table(sources, [turn]) - less
            if i == 0:
                w = em(table, prior)
                continue
            for row in table:
                w = soft_bayes(w, row, eta, share, prior)
        return w

    def _table(self, sources: Sequence[Source], turns: Sequence[range]) -> Floats:
        """float64[T, K] of the positions that all these sources have in common."""
        shared = [t for turn in turns for t in turn if all(t in self._known[s] for s in sources)]
        return np.array(
            [[max(FLOOR_NATS, self._known[s][t]) for s in sources] for t in shared]
        ).reshape(len(shared), len(sources))
