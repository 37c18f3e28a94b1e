"""The comparison of two sparse lists that should be of one model and one text: what the rounding of
two processors may explain, and what it cannot.

Lists end somewhere, and what one of them leaves out is at most its smallest entry; so a token that
only one list has counts only as far as it exceeds that. A list that ends before the number of
entries that was asked for leaves out nothing but what has no weight at all (below -32 nats): so
short lists hide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.wire.sparse import LOGPROB_MIN, SparseList

TOP: Final = 20
"""The likeliest tokens of either list, whose log-probabilities are compared."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """`variation`: total variation, as far as the lists prove it; `nats`: the mean |difference of
    the log-probabilities| over the `TOP` tokens of either list; `ranks`: by how many places they
    differ about the token that followed (0 if none did)."""

    variation: float
    nats: float
    ranks: int = 0


def compare(
    one: SparseList, other: SparseList, entries_max: int, follows: int | None = None
) -> Difference:
    """What two lists of at most `entries_max` entries differ by; `follows` is the token that came
    next in the text."""
    ids = np.union1d(one.ids, other.ids)
    left, right = _spread(one, ids), _spread(other, ids)
    left, right = _known(left, right, one, entries_max), _known(right, left, other, entries_max)
    gap = np.exp(left) - np.exp(right)
    variation = max(float(gap[gap > 0].sum()), float(-gap[gap < 0].sum()))
    top = np.union1d(_top(left), _top(right))
    nats = float(np.abs(left[top] - right[top]).mean())
    ranks = 0
    if follows is not None:
        ranks = abs(_rank(one, follows) - _rank(other, follows))
    return Difference(min(1.0, variation), nats, ranks)


def mean(found: Sequence[Difference]) -> Difference:
    """Of at least one."""
    count = len(found)
    return Difference(
        math.fsum(one.variation for one in found) / count,
        math.fsum(one.nats for one in found) / count,
        round(sum(one.ranks for one in found) / count),
    )


def _spread(one: SparseList, ids: npt.NDArray[np.int32]) -> _Floats:
    """The log-probability of each of `ids`; NaN where the list does not tell it."""
    found = np.full(ids.size, np.nan)
    found[np.searchsorted(ids, one.ids)] = one.logprobs
    return found


def _known(found: _Floats, other: _Floats, one: SparseList, entries_max: int) -> _Floats:
    """With what the list lets one conclude of tokens that it leaves out: at most its smallest
    entry, and there whatever is nearest to the other list."""
    is_whole = one.ids.size >= entries_max
    most = float(one.logprobs.min()) if is_whole else LOGPROB_MIN
    return np.where(np.isnan(found), np.minimum(np.nan_to_num(other, nan=most), most), found)


def _top(found: _Floats) -> npt.NDArray[np.intp]:
    return np.argsort(-found, kind="stable")[:TOP]


def _rank(one: SparseList, token: int) -> int:
    """How many tokens of the list are likelier; all of them if it does not have it."""
    place = int(np.searchsorted(one.ids, token))
    if place == one.ids.size or one.ids[place] != token:
        return int(one.ids.size)
    return int(np.count_nonzero(one.logprobs > one.logprobs[place]))
