"""Every way to weigh experts that is compared, as nats for each token of one document; the whole of
it is arithmetic on log-probabilities.

A pool of whole distributions gives the token y the probability sum_k w_k p_k(y), so the exact
log-probabilities of the tokens that came are all that is needed, and no truncation enters. (What
truncation costs is measured on its own.) Weights may depend on the prompt; those that go on
learning see each token only after they have predicted it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.core.decoding.gate import em, floored, soft_bayes
from swarmllm.core.settings.table import FORGETTING, LEARNING_RATE

Floats = npt.NDArray[np.float64]

# Of the perplexity softmax; the best one counts.
TAUS: Final = (0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
WINDOWS: Final = (8, 16, 32, 64)  # Tokens that the running baselines look back on; likewise.
ETAS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
SHARES: Final = (0.001, 0.003, 0.01, 0.02, 0.05)
FLOORS: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
EVIDENCE: Final = (16, 32, 64, 128)


def pooled(logprobs: Floats, weights: Floats) -> Floats:
    """Nats float64[T] of the arithmetic pool; `weights` float64[K] or float64[T, K]."""
    with np.errstate(divide="ignore"):
        found: Floats = -np.logaddexp.reduce(logprobs + np.log(weights), axis=1)
    return found


def even(count: int) -> Floats:
    return np.full(count, 1.0 / count)


def learned(prompt: Floats) -> Floats:
    """EM on the prompt's log-probabilities float64[P, K], without the floor, from an even prior."""
    return em(prompt, even(prompt.shape[1]))


def trajectory(
    start: Floats,
    logprobs: Floats,
    eta: float = LEARNING_RATE.usual,
    share: float = FORGETTING.usual,
) -> Floats:
    """float64[T, K]: Soft-Bayes weights before each token, each learned from the tokens before
    it."""
    found = np.empty_like(logprobs)
    weights = start
    for t, row in enumerate(logprobs):
        found[t] = weights
        weights = soft_bayes(weights, row, eta, share)
    return found


def best_of(prompt: Floats) -> int:
    """The expert with the lowest perplexity; the first of equals."""
    return int(np.argmax(prompt.sum(axis=0)))


def softmax(scores: Floats, tau: float) -> Floats:
    """Weights from mean log-probabilities (negative log perplexities), the last axis being the
    experts."""
    scaled = scores / tau
    odds = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    found: Floats = odds / odds.sum(axis=-1, keepdims=True)
    return found


def running_means(logprobs: Floats, prompt: int, window: int) -> Floats:
    """float64[T - prompt, K]: mean log-probability over the last `window` tokens before each
    position from `prompt` on."""
    sums = np.vstack([np.zeros(logprobs.shape[1]), np.cumsum(logprobs, axis=0)])
    ends = np.arange(prompt, len(logprobs))
    starts = np.maximum(0, ends - window)
    found: Floats = (sums[ends] - sums[starts]) / (ends - starts)[:, None]
    return found


def segment_experts(
    segments: Sequence[tuple[int, str]], right: Mapping[str, int | None], length: int
) -> list[int] | None:
    """Which expert is right at each position, by the label of its segment; None if some domain has
    none."""
    found: list[int] = []
    ends = [start for start, _ in segments[1:]] + [length]
    for (start, domain), end in zip(segments, ends, strict=True):
        expert = right.get(domain)
        if expert is None:
            return None
        found += [expert] * (end - start)
    return found


def all_methods(
    logprobs: Floats,
    prompt: int,
    segments: Sequence[tuple[int, str]],
    right: Mapping[str, int | None],
) -> dict[str, Floats]:
    """Nats float64[T - prompt] of each method but the geometric and adaptive ones; `logprobs`
    float64[T, K], all of the document."""
    before, after = logprobs[:prompt], logprobs[prompt:]
    count = logprobs.shape[1]
    weights = learned(before)
    found = {f"expert {k}": -after[:, k] for k in range(count)}
    found["prompt_perplexity"] = -after[:, best_of(before)]
    label = right.get(segments[0][1])
    if label is not None:
        found["label"] = -after[:, label]
    by_segment = segment_experts(segments, right, len(logprobs))
    if by_segment is not None:
        found["label_oracle"] = -logprobs[np.arange(len(logprobs)), by_segment][prompt:]
    found["uniform"] = pooled(after, even(count))
    for tau in TAUS:
        found[f"perplexity_softmax tau {tau:g}"] = pooled(after, softmax(before.mean(axis=0), tau))
    found["em"] = pooled(after, floored(weights))
    found["em_soft_bayes"] = pooled(after, trajectory(weights, after))
    for window in WINDOWS:
        means = running_means(logprobs, prompt, window)
        found[f"running_perplexity over {window}"] = -after[
            np.arange(len(after)), means.argmax(axis=1)
        ]
        for tau in TAUS:
            found[f"running_softmax tau {tau:g} over {window}"] = pooled(after, softmax(means, tau))
    return found


def sweeps(logprobs: Floats, prompt: int) -> dict[tuple[str, float, float], float]:
    """Nats in all, by (what, setting, second setting): the floor under EM's weights; eta and share
    of Soft-Bayes, and the floor under it; and, over the tokens from the longest evidence on, how
    much of the prompt is enough."""
    after = logprobs[prompt:]
    weights = learned(logprobs[:prompt])
    found: dict[tuple[str, float, float], float] = {}
    for floor in FLOORS:
        found["floor", floor, 0.0] = float(pooled(after, floored(weights, floor)).sum())
    for eta in ETAS:
        for share in SHARES:
            found["soft_bayes", eta, share] = float(
                pooled(after, trajectory(weights, after, eta=eta, share=share)).sum()
            )
    path = trajectory(weights, after)
    for floor in FLOORS:
        mixed = (1 - floor) * path + floor / path.shape[1]
        found["soft_bayes_floor", floor, 0.0] = float(pooled(after, mixed).sum())
    longest = EVIDENCE[-1]
    if len(logprobs) > longest:
        for evidence in EVIDENCE:
            nats = pooled(logprobs[longest:], floored(learned(logprobs[:evidence])))
            found["evidence", float(evidence), 0.0] = float(nats.sum())
    return found
