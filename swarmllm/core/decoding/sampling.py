"""One token out of the pooled distribution: bias and penalties, temperature, top-k, top-p, min-p,
then a random number, or up to three.

All of it happens at the requester and after pooling, so that experts need not know how anybody
samples, and one pool serves every setting. The candidates stand in order of probability (equal ones
by id) and the random number finds its place in their running sum; so what comes and goes in the
tail, as when an expert drops out, rarely changes which token a number means: a seed keeps its
sense. For the same reason the numbers of a token depend on nothing but the seed and its place
(`numbers`).

One of the experts, the *reference*, is asked first (`draw_with`): what it alone would have drawn
is taken with probability min(1, r / q), and else something is drawn from what the pool r has beyond
its q. That is exactly r, and as often as any rule can it is what the reference would have drawn
(Leviathan, Kalman and Matias 2023, arXiv 2211.17192). So whoever knows the reference's list and
the seed knows the likeliest token before the others have answered: that is what a draft is
(`core.decoding.drafting`). A token is this function of the lists and the seed whether it was
drafted or not, so that the same seed gives the same text with speculation and without.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from swarmllm.core.decoding.pooling import Pooled
from swarmllm.core.values import SAMPLING, Parameter, Sampling
from swarmllm.errors import UsageError
from swarmllm.messages import VOCABULARY_MAX

SEED_MAX = 2**63 - 1  # What other programs and JSON readers can hold.
SEED = Parameter(
    0,
    SEED_MAX,
    "any of them will do",
    "The same seed draws the same tokens from the same distributions.",
    kind=int,
)
BLIND_NATS = 17 * math.log(2)
"""Probabilities count from here for the repetition penalty: 2**-17 is the chance of a token drawn
blindly from 131,072."""

TAIL_MIN = math.exp(-30)
"""The least that a raised token counts for where the lists leave nothing out, so that a bias of 100
outweighs everything."""
BIAS_MAX = 100.0  # In nats; -100 bans a token.
BIASES_MAX = 1024  # Of one request; each costs a look at the pool for every token.

_Floats = npt.NDArray[np.float64]


def validate(sampling: Sampling) -> None:
    """UsageError that names the first field which makes no sense, its value, and what would do."""
    for name, parameter in SAMPLING.items():
        _check(name, getattr(sampling, name), parameter)
    _check("seed", sampling.seed, SEED)
    if len(sampling.bias) > BIASES_MAX:
        raise UsageError(
            f"a bias for {len(sampling.bias)} tokens is more than the {BIASES_MAX} that there can"
            " be; leave some out"
        )
    for token, nats in sampling.bias:
        if not 0 <= token < VOCABULARY_MAX or not -BIAS_MAX <= nats <= BIAS_MAX:
            raise UsageError(
                f"the bias {nats!r} of token {token} makes no sense: choose a token id and a number"
                f" from {-BIAS_MAX:g} to {BIAS_MAX:g}"
            )


def numbers(seed: int, index: int) -> random.Random:
    """The random numbers of the answer's token `index`."""
    return random.Random((seed << 32) + index)


def with_biased(pooled: Pooled, sampling: Sampling, vocab_size: int) -> Pooled:
    """The pool with the tokens that the bias raises and that no list holds: each has the share of
    the tail that falls to one token of those left out."""
    if not sampling.bias:  # Hardly any text has one, and each token comes by here.
        return pooled
    raised = np.array([token for token, nats in sampling.bias if nats > 0], dtype=np.int32)
    missing = np.setdiff1d(raised, pooled.ids)
    if not missing.size:
        return pooled
    share = max(pooled.tail / max(1, vocab_size - pooled.ids.size), TAIL_MIN)
    ids = np.concatenate([pooled.ids, missing])
    probs = np.concatenate([pooled.probs, np.full(missing.size, share)])
    order = np.argsort(ids)
    return Pooled(ids[order], probs[order] / probs.sum(), pooled.tail, pooled.agreement)


def likeliest(pooled: Pooled, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` most probable tokens with their log-probabilities; of equal ones the lowest id
    first."""
    if not count:
        return ()
    order = np.argsort(-pooled.probs, kind="stable")[:count]
    return tuple(
        (int(pooled.ids[i]), min(0.0, math.log(pooled.probs[i]))) for i in order if pooled.probs[i]
    )


def draw(
    pooled: Pooled,
    sampling: Sampling,
    rng: random.Random,
    recent: Sequence[int],
    written: Sequence[int] = (),
) -> tuple[int, float]:
    """A token, and the natural logarithm of its probability in `pooled`, before any of the
    settings.

    `recent` is prompt and answer so far; the repetition penalty looks at its last `penalty_last`
    tokens. `written` is the answer alone, for the presence and the frequency penalty.
    Temperature 0 takes the likeliest token, the lowest id among equals, and leaves `rng` alone; any
    other takes exactly one number from it. `sampling` must be valid.
    """
    scores = _scores(pooled, sampling, recent, written)
    if sampling.temperature == 0:
        return _told(pooled, int(np.argmax(scores)))
    order, odds = _candidates(scores, sampling)
    return _told(pooled, int(order[_place(odds, rng)]))


def draw_with(
    reference: Pooled,
    pooled: Pooled,
    sampling: Sampling,
    rng: random.Random,
    recent: Sequence[int],
    written: Sequence[int] = (),
) -> tuple[int, float]:
    """As `draw`, with the same odds; but where `draw` would have taken `token` from `reference`
    alone, with the same `rng`, this takes it too, as often as the odds of both allow. All tokens of
    `reference` must be in `pooled`. It takes up to three numbers."""
    scores = _scores(pooled, sampling, recent, written)
    if sampling.temperature == 0:
        return _told(pooled, int(np.argmax(scores)))
    order, odds = _candidates(scores, sampling)
    ours, theirs = np.zeros(pooled.ids.size), np.zeros(pooled.ids.size)
    ours[order] = odds / odds.sum()
    first, words = _candidates(_scores(reference, sampling, recent, written), sampling)
    places = np.searchsorted(pooled.ids, reference.ids[first])
    theirs[places] = words / words.sum()
    chosen = int(places[_place(words, rng)])
    if rng.random() * theirs[chosen] >= ours[chosen]:
        beyond = np.maximum(ours - theirs, 0.0)[order]
        if beyond.any():  # Else rounding has brought us here, and both are the same.
            chosen = int(order[_place(beyond, rng)])
    return _told(pooled, chosen)


def _scores(
    pooled: Pooled, sampling: Sampling, recent: Sequence[int], written: Sequence[int]
) -> _Floats:
    """Log-probabilities, float64[n], after penalties and bias. Where nothing has moved them and the
    likeliest is wanted, the probabilities themselves, since logarithms may round two of them to
    one."""
    # A token that only lists of weight 0 hold is impossible: -inf.
    with np.errstate(divide="ignore"):
        plain = np.log(pooled.probs)
    scores = _penalised(plain, pooled, sampling, recent)
    scores = _counted(scores, pooled, sampling, written)
    scores = _biased(scores, pooled, sampling)
    return pooled.probs if scores is plain and sampling.temperature == 0 else scores


def _place(odds: _Floats, rng: random.Random) -> int:
    """Each owns [sum before it, sum with it). The number is 1 - 2**-53 at most, so the product
    stays below the last sum."""
    sums = np.cumsum(odds)
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))


def _told(pooled: Pooled, place: int) -> tuple[int, float]:
    return int(pooled.ids[place]), min(0.0, math.log(pooled.probs[place]))


def _penalised(
    plain: _Floats, pooled: Pooled, sampling: Sampling, recent: Sequence[int]
) -> _Floats:
    """Log-probabilities, float64[n], those of recent tokens moved by the repetition penalty; the
    same array if there is nothing to move.

    The published rule (Keskar et al. 2019, arXiv 1909.05858) divides a positive logit by the
    penalty; a negative one is multiplied. We have no logits, and log-probabilities in their place
    would do nothing against a loop, where the token to come has a probability of almost 1 and a
    logarithm of almost 0. So the rule is applied to nats above `BLIND_NATS`, which is where logits
    come from in spirit and depends neither on how far the lists reach nor on how many there are.
    """
    last = sampling.penalty_last
    if sampling.repetition_penalty == 1 or last == 0 or not recent:
        return plain
    scores = plain.copy()
    seen = np.isin(pooled.ids, np.array(recent[-last:], dtype=np.int64))
    above = scores[seen] + BLIND_NATS
    penalty = sampling.repetition_penalty
    scores[seen] = np.where(above > 0, above / penalty, above * penalty) - BLIND_NATS
    return scores


def _counted(
    scores: _Floats, pooled: Pooled, sampling: Sampling, written: Sequence[int]
) -> _Floats:
    """The presence and the frequency penalty, as OpenAI's API defines them; log-probabilities
    differ from the logits it names by one constant."""
    presence, frequency = sampling.presence_penalty, sampling.frequency_penalty
    if (presence == 0 and frequency == 0) or not written:
        return scores
    ids, counts = np.unique(np.array(written, dtype=np.int64), return_counts=True)
    places = np.flatnonzero(np.isin(pooled.ids, ids))
    times = counts[np.searchsorted(ids, pooled.ids[places])]
    moved = scores.copy()
    moved[places] -= presence + frequency * times
    return moved


def _biased(scores: _Floats, pooled: Pooled, sampling: Sampling) -> _Floats:
    if not sampling.bias:
        return scores
    moved = scores.copy()
    for token, nats in sampling.bias:
        moved[pooled.ids == token] += nats
    return moved


def _candidates(scores: _Floats, sampling: Sampling) -> tuple[npt.NDArray[np.intp], _Floats]:
    """Indices that may be drawn, the likeliest first, and their odds (not normalised; the first is
    1). There is at least one."""
    order = np.argsort(-scores, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
    drops = scores[order] - scores[order[0]]
    # A temperature of almost 0 leaves only the first.
    with np.errstate(over="ignore", under="ignore"):
        odds = np.exp(drops / sampling.temperature)
    if sampling.top_p < 1:
        sums = np.cumsum(odds)
        odds = odds[: int(np.searchsorted(sums, sampling.top_p * sums[-1], side="left")) + 1]
    if sampling.min_p > 0:
        odds = odds[: int(np.count_nonzero(odds >= sampling.min_p))]
    return order[: odds.size], odds


def _check(name: str, value: object, parameter: Parameter) -> None:
    low, high, is_whole = parameter.low, parameter.high, parameter.kind is int
    if (
        not isinstance(value, int if is_whole else (int, float))
        or isinstance(value, bool)
        or not low <= value <= high
        or (parameter.above and value == low)
    ):
        top = f"{high:.0f}" if is_whole else f"{high:g}"
        reach = f"above {low:g} and at most {top}" if parameter.above else f"from {low:g} to {top}"
        raise UsageError(
            f"{name} {value!r} makes no sense: choose a {'whole ' * is_whole}number {reach}"
            f" ({parameter.hint})"
        )
