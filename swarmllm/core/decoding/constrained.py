"""Constrained decoding: the pooled distribution under the tokens that a grammar allows, and when it
takes another question to know it.

A token is drawn from the pool given that it is allowed: r(x | A) = sum_k w_k p_k(x) / sum_k w_k
p_k(A) for x in A. Lists are cut short, so a token that is allowed may stand in nobody's. What that
can be off by is bounded by what the lists tell: a token that a list left out is no likelier than
the least that it kept, and all of them together no likelier than its tail. Where the bound is too
large, the same experts are asked about A alone (`ScoreAllowed`). Each then says p_k(x | A) and
p_k(A), and w_k p_k(A) p_k(x | A) is what it would have given to x: nothing is approximated but what
a list of `ENTRIES_MAX` leaves out of A.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from swarmllm.core.decoding.pooling import Pooled
from swarmllm.wire.sparse import SparseList
from swarmllm.wire.token_set import TokenSet

# Total variation by which a token's distribution may be off for lists that are cut short, ...
ERROR_MAX: Final = 0.01
# ... or, where lists leave out so much that text without a grammar is off by more, in tails; ...
TAILS_MAX: Final = 2.0
ANYWAY_MAX: Final = 0.5  # ... but no more than this.


def error_max(lists: Sequence[SparseList], weights: Sequence[float], allowed: TokenSet) -> float:
    """By how much, in total variation, the pool of these lists under `allowed` can be off; 1 where
    none of them has a token of it. `weights` add up to 1."""
    listed = missing = 0.0
    for one, weight in zip(lists, weights, strict=True):
        held = allowed.holds(one.ids)
        probs = np.exp(one.logprobs.astype(np.float64))
        left = len(allowed) - int(np.count_nonzero(held))
        listed += weight * float(probs[held].sum())
        missing += weight * min(one.tail, left * float(probs.min()))
    return missing / (listed + missing) if listed > 0 else 1.0


def is_unsure(lists: Sequence[SparseList], weights: Sequence[float], allowed: TokenSet) -> bool:
    """Whether the experts should be asked about the allowed tokens alone."""
    tail = math.fsum(w * one.tail for one, w in zip(lists, weights, strict=True))
    return error_max(lists, weights, allowed) > min(ANYWAY_MAX, max(ERROR_MAX, TAILS_MAX * tail))


def among(pooled: Pooled, allowed: TokenSet) -> Pooled | None:
    """The pool given that the token is allowed; None if none of its tokens is."""
    held = allowed.holds(pooled.ids)
    probs = pooled.probs[held]
    mass = float(probs.sum())
    if not mass > 0:
        return None
    return Pooled(pooled.ids[held], probs / mass, pooled.tail, pooled.agreement)


def weighed(lists: Sequence[SparseList], log_masses: Sequence[float]) -> list[SparseList]:
    """The lists among allowed tokens, each as it would be among all, up to one common factor:
    scaled by the mass that its expert gives to all that is allowed.

    The factor makes the middle one (of two, the lesser) a whole distribution, so that the bound
    among holders of one model (`pooling.HOLDER_FLOOR`) means here what it means elsewhere.
    """
    middle = sorted(log_masses)[(len(log_masses) - 1) // 2]
    return [
        SparseList(
            one.ids,
            (one.logprobs + np.float32(mass - middle)).astype(np.float32),
            one.tail * math.exp(mass - middle),
        )
        for one, mass in zip(lists, log_masses, strict=True)
    ]
