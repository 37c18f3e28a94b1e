"""The comparison of two sparse lists that should be of one model and one text: what the rounding of
two processors may explain, and what it cannot.

Lists end somewhere, and what one of them leaves out is at most its smallest entry; so a token that
only one list has counts only as far as it exceeds that. A list that ends before the number of
entries that was asked for leaves out nothing but what has no weight at all (below -32 nats): so
short lists hide nothing.

Where a grammar left few tokens, an expert says two things: the list among these alone, and what all
of them have. Both are compared; far down in the tail rounding moves either by more, so there
differences count for less (`DEEP_NATS`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.wire.sparse import LOGPROB_MIN, SparseList

TOP: Final = 20
"""The likeliest tokens of either list, whose log-probabilities are compared."""

# So much less likely than the likeliest, a token that a grammar allows has no part in `nats`; and
# of a set that has so little, the mass counts by so many parts less. Two honest back ends (measured
# by scripts/audit_lists.py) so differ by 0.03 nats at most in the mean, and else by up to 0.16.
DEEP_NATS: Final = 8.0

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reading:
    """What an expert says at one position. `log_mass`: of all tokens of the set that it was asked
    about, to which the list is confined; None: it was asked about all tokens."""

    listed: SparseList
    log_mass: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """`variation`: total variation, as far as the lists prove it; `nats`: the mean |difference of
    the log-probabilities| over the `TOP` tokens of either list; `ranks`: by how many places they
    differ about the token that followed (0 if none did); `mass`: |difference of the
    log-probabilities| of the set that was asked about, None if none was."""

    variation: float
    nats: float
    ranks: int = 0
    mass: float | None = None


def compare_readings(
    one: Reading, other: Reading, entries_max: int, follows: int | None = None
) -> Difference:
    """The same of readings that are both about all tokens, or both about one set."""
    if one.log_mass is None or other.log_mass is None:
        return compare(one.listed, other.listed, entries_max, follows)
    found = compare(one.listed, other.listed, entries_max, follows, DEEP_NATS)
    depth = -min(one.log_mass, other.log_mass) / DEEP_NATS
    return replace(found, mass=abs(one.log_mass - other.log_mass) / max(1.0, depth))


def compare(
    one: SparseList,
    other: SparseList,
    entries_max: int,
    follows: int | None = None,
    depth: float = math.inf,
) -> Difference:
    """What two lists of at most `entries_max` entries differ by; `follows` is the token that came
    next in the text. Tokens that are less likely than the likeliest by more nats than `depth`, in
    both lists, have no part in `nats`."""
    ids = np.union1d(one.ids, other.ids)
    left, right = _spread(one, ids), _spread(other, ids)
    left, right = _known(left, right, one, entries_max), _known(right, left, other, entries_max)
    gap = np.exp(left) - np.exp(right)
    variation = max(float(gap[gap > 0].sum()), float(-gap[gap < 0].sum()))
    top = np.union1d(_top(left), _top(right))
    higher = np.maximum(left, right)[top]
    top = top[higher >= higher.max() - depth]
    nats = float(np.abs(left[top] - right[top]).mean())
    ranks = 0
    if follows is not None:
        ranks = abs(_rank(one, follows) - _rank(other, follows))
    return Difference(min(1.0, variation), nats, ranks)


def mean(found: Sequence[Difference]) -> Difference:
    """Of at least one; of the masses, over those that have one."""
    count = len(found)
    masses = [one.mass for one in found if one.mass is not None]
    return Difference(
        math.fsum(one.variation for one in found) / count,
        math.fsum(one.nats for one in found) / count,
        round(sum(one.ranks for one in found) / count),
        math.fsum(masses) / len(masses) if masses else None,
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
