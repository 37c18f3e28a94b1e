"""How much each expert counts: mixture weights learned from text that comes from outside the ensemble.

What an expert thought of a text that somebody else wrote is evidence of how well it knows such texts; the log-probabilities of some
prompt tokens are all that is needed. What the ensemble sampled itself is none (its posterior is a martingale that drifts to one expert
at random), so the weights rest while an answer is written, and because a text may turn to another domain after its prompt a share is
always spread as the prior has it.

The first stretch of outside text is weighed by expectation maximisation, which treats it as of one kind; each later one (a user's next
turn, after an answer of ours) by Soft-Bayes with sharing, which forgets: a conversation may have moved on (Orseau, Lattimore and Legg
2017; Herbster and Warmuth 1998). Evidence belongs to a *model*: replicas are one voice, however many offer it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

ROUNDS = 25  # Of EM; the weights move by less than 1e-3 after some 20 on prompts of any length tried.
PRIOR_COUNT = 0.5  # Tokens' worth of pseudo-evidence per expert: a prompt of a few tokens cannot silence anybody.
UNIFORM_SHARE = (
    0.1  # Always spread as the prior has it. Less loses on text that turns to another domain (0.05: 0.15 nats), more costs
)
# over one per cent on text that does not.
ETA = (
    0.5  # How far Soft-Bayes moves for one token. With SHARE the best on mixed text that costs nothing on text of one kind: with
)
# (0.2, 0.01) 4.947 nats per token of mixed text, with (0.5, 0.02) 4.918; `swarmllm eval` measures it.
SHARE = 0.02  # What Soft-Bayes spreads out again after each token: a text changes its domain every fifty tokens or so.
FLOOR_NATS = -30.0  # No single token counts for more evidence than this against an expert.

Floats = npt.NDArray[np.float64]
Model = bytes
"""The digest of a model: what all its replicas have in common."""


def em(logprobs: Floats, prior: Floats) -> Floats:
    """float64[K]: the weights under which the mixture makes a text likeliest, found by expectation maximisation.

    `logprobs` float64[T, K] are what each expert gave to each of the T tokens, in nats; `prior` float64[K] adds up to 1 and counts as
    PRIOR_COUNT * K tokens of evidence. With T = 0 the prior is what comes out.
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


def soft_bayes(weights: Floats, logprobs: Floats, eta: float = ETA, share: float = SHARE, prior: Floats | None = None) -> Floats:
    """float64[K]: the weights after one more token, to which the experts gave `logprobs` float64[K] nats.

    Each is multiplied by 1 - eta + eta * p_k / sum_j w_j p_j; then `share` of the whole is spread as `prior` (default: evenly).
    """
    floored = np.maximum(logprobs, FLOOR_NATS)
    likelihood = np.exp(floored - floored.max())
    w = weights * (1 - eta + eta * likelihood / float(weights @ likelihood))
    w /= w.sum()  # It adds up to 1 already, but for rounding.
    base = 1 / len(w) if prior is None else prior
    mixed: Floats = (1 - share) * w + share * base
    return mixed


def floored(weights: Floats, uniform_share: float = UNIFORM_SHARE, prior: Floats | None = None) -> Floats:
    """float64[K]: no expert is below its part of `uniform_share`, which is spread as `prior` (default: evenly)."""
    base = 1 / len(weights) if prior is None else prior
    mixed: Floats = (1 - uniform_share) * weights + uniform_share * base
    return mixed


class Gate:
    """The evidence of one answer. `turns` are stretches of positions, rising: position t stands for the text's token t + 1, which
    somebody outside the ensemble wrote."""

    def __init__(self, turns: Sequence[range]) -> None:
        self.turns = tuple(turn for turn in turns if len(turn))
        self._known: dict[Model, dict[int, float]] = {}

    @property
    def positions(self) -> list[int]:
        return [position for turn in self.turns for position in turn]

    def learn(self, model: Model, position: int, logprob: float) -> None:
        """What a model gave to a token, in nats. Heard twice (from replicas, after a failover): the first stands."""
        self._known.setdefault(model, {}).setdefault(position, logprob)

    def is_informed(self, model: Model) -> bool:
        """Whether there is enough of its evidence to compare it with others: a scrap must not shrink what all have in common."""
        most = max((len(known) for known in self._known.values()), default=0)
        return len(self._known.get(model, ())) * 2 > most

    def shares(self, priors: Mapping[Model, float]) -> dict[Model, float]:
        """The mixture weights of these models, adding up to 1. `priors` are relative (> 0) and need no scale.

        Only positions are compared that all informed models have in common. A model without evidence keeps its part of the prior.
        """
        models = sorted(priors)
        total = sum(priors.values())
        scaled = {m: priors[m] / total for m in models}
        informed = [m for m in models if self.is_informed(m)]
        found = dict(scaled)
        if len(informed) > 1:
            mass = sum(scaled[m] for m in informed)
            prior = np.array([scaled[m] / mass for m in informed])
            learned = self._learned(informed, prior)
            found |= {m: mass * float(w) for m, w in zip(informed, learned, strict=True)}
        return {m: (1 - UNIFORM_SHARE) * found[m] + UNIFORM_SHARE * scaled[m] for m in models}

    def merits(self) -> dict[Model, float]:
        """How much better than the informed models' uniform pool each of them was on this text, in nats per token."""
        informed = sorted(m for m in self._known if self.is_informed(m))
        table = self._table(informed, self.turns)
        if not table.size:
            return {}
        pool = np.logaddexp.reduce(table, axis=1) - np.log(len(informed))
        return {m: float(mean) for m, mean in zip(informed, (table - pool[:, None]).mean(axis=0), strict=True)}

    def nats(self) -> dict[Model, float]:
        """Nats per token that each model needed for this text: the lower, the better it knows it."""
        return {m: -sum(known.values()) / len(known) for m, known in sorted(self._known.items()) if known}

    def _learned(self, models: Sequence[Model], prior: Floats) -> Floats:
        w = prior
        for i, turn in enumerate(self.turns):
            table = self._table(models, [turn])
            if i == 0:
                w = em(table, prior)
                continue
            for row in table:
                w = soft_bayes(w, row, prior=prior)
        return w

    def _table(self, models: Sequence[Model], turns: Sequence[range]) -> Floats:
        """float64[T, K] of the positions that all these models have in common."""
        shared = [t for turn in turns for t in turn if all(t in self._known[m] for m in models)]
        return np.array([[max(FLOOR_NATS, self._known[m][t]) for m in models] for t in shared]).reshape(len(shared), len(models))
