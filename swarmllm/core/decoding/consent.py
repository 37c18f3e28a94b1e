"""Consent: a stop token that a single model wants is drawn again from the others, and so is any
token that only models want of which too little is known.

A model that lies need not win any argument: to force the end of the text once is enough, and
nothing can make it good. So where the token that was drawn ends the text, and only one model wants
an end while every other that was asked gives it hardly any probability, the token is drawn again
from the others' pool. Our own expert may end a text alone, and so may whoever is asked alone.

All tokens that end a text count as one wish: models end their texts with different ones.

Models that are new here (`core.trust`) choose no token alone, however many they are: where they
alone give one more than hardly any probability, and a model that is known was asked, the token is
drawn again. The same holds for models of which nothing was looked at that they said in an answer,
new ones or not, beside one of which something was; where there is none yet, known ones still stand
above new ones, and these above what was shown to be something else than it says.
This is not asked of known ones: of the tokens of four specialists that have nothing in common up to
six in ten, of specialists of one family one to six in a hundred, are in a single list.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.core.decoding.constrained import among
from swarmllm.core.decoding.pooling import Holder, Pooled, pool, single
from swarmllm.core.decoding.sampling import draw, draw_with, with_biased
from swarmllm.core.values import GenerateRequest
from swarmllm.wire.sparse import SparseList
from swarmllm.wire.token_set import TokenSet

SUPPORT_MIN: Final = 1e-4
"""From this probability on a model is said to want a token, too. What its list leaves out does not
count: a guess is no consent."""


def decide(
    order: GenerateRequest,
    lists: Sequence[SparseList],
    weights: Sequence[float],
    holders: Sequence[Holder],
    rng: random.Random,
    text: Sequence[int],
    allowed: TokenSet | None = None,
) -> tuple[int, float, list[float], Pooled]:
    """The next token after `text`, its log-probability in the pool that it came from, the weights
    that the lists had there (adding up to 1), and that pool. `rng` gives up to five numbers. With
    `allowed`, of which the lists must have a token, it is one of these, and the pool is that of
    these alone."""
    sampling = order.sampling
    written = written_of(order, text)
    pooled = with_biased(pool(lists, weights, holders=holders), sampling, order.vocab_size)
    if allowed is not None:
        found = among(pooled, allowed)
        assert found is not None, "no token of any list is allowed"
        pooled = found
    first = None
    if len(lists) > 1 and sampling.temperature:  # The likeliest is the pool's, whoever is asked.
        first = alone(lists[reference(weights, holders)], order, allowed)
    if first is None:
        token, logprob = draw(pooled, sampling, rng, text, written)
    else:
        token, logprob = draw_with(first, pooled, sampling, rng, text, written)
    rest: Sequence[int] = range(len(lists))
    if token in order.stop_tokens:
        muted = lone(order.stop_tokens, lists, holders)
        heard = [i for i in rest if i not in muted] if muted else []
    else:
        heard = _better_known(token, lists, holders, rest)
    shares = list(weights)
    while heard:
        total = math.fsum(weights[i] for i in heard)
        if not total:  # They have no word.
            break
        others = pool(
            [lists[i] for i in heard],
            [weights[i] / total for i in heard],
            holders=[holders[i] for i in heard],
        )
        if allowed is not None:
            found = among(others, allowed)
            if found is None:  # They have nothing else to say.
                break
            others = found
        pooled = with_biased(others, sampling, order.vocab_size) if allowed is None else others
        token, logprob = draw(pooled, sampling, rng, text, written)
        shares = [weights[i] / total if i in heard else 0.0 for i in range(len(lists))]
        rest = heard
        heard = [] if token in order.stop_tokens else _better_known(token, lists, holders, rest)
    return token, logprob, shares, pooled


def reference(weights: Sequence[float], holders: Sequence[Holder]) -> int:
    """Whose own draw is looked at first: that of our own expert, which can draft without asking
    anybody, else of the weightiest; the first among equals."""
    return max(range(len(weights)), key=lambda i: (holders[i].is_own, weights[i], -i))


def alone(one: SparseList, order: GenerateRequest, allowed: TokenSet | None) -> Pooled | None:
    """What one expert says, to draw from; None if it names no token that is allowed."""
    pooled = with_biased(single(one), order.sampling, order.vocab_size)
    return pooled if allowed is None else among(pooled, allowed)


def written_of(order: GenerateRequest, text: Sequence[int]) -> Sequence[int]:
    """What the presence and the frequency penalty look at: the answer, if they are on."""
    sampling = order.sampling
    is_counting = sampling.presence_penalty or sampling.frequency_penalty
    return text[len(order.prompt) :] if is_counting else ()


def lone(ids: Collection[int], lists: Sequence[SparseList], holders: Sequence[Holder]) -> list[int]:
    """The indices of the lists of the only model that wants any of these tokens; none if another
    one or our own expert wants one, or if no other model was asked."""
    wanted = np.fromiter(sorted(ids), dtype=np.int64, count=len(ids))
    wishing = [holder for holder, one in zip(holders, lists, strict=True) if wants(one, wanted)]
    models = {holder.model for holder in wishing}
    if len(models) != 1 or any(holder.is_own for holder in wishing):
        return []
    found = [i for i, holder in enumerate(holders) if holder.model in models]
    return found if len(found) < len(holders) else []


def _better_known(
    token: int, lists: Sequence[SparseList], holders: Sequence[Holder], places: Sequence[int]
) -> list[int]:
    """The indices of the lists, of those in `places`, of models that are better known here than all
    of those that want this token, however many these are: they choose in their place. None if there
    are none."""
    if len({holders[i].rank for i in places}) < 2:
        return []
    wanted = np.array([token])
    wishing = [i for i in places if wants(lists[i], wanted)]
    if not wishing:
        return []
    models, rank = {holders[i].model for i in wishing}, max(holders[i].rank for i in wishing)
    return [i for i in places if holders[i].rank > rank and holders[i].model not in models]


def wants(found: SparseList, tokens: npt.NDArray[np.int64]) -> bool:
    """Whether a model is said to want any of these."""
    mass = float(np.exp(found.logprobs[np.isin(found.ids, tokens)].astype(np.float64)).sum())
    return mass >= SUPPORT_MIN
