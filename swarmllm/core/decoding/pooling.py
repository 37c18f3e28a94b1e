"""Many experts' sparse lists become one distribution: the weighted mean of what they say, renormalised once.

The arithmetic mean is the default because it forgives: it is never more than log(1/w_k) nats worse than expert k on any token, so one
expert that knows is enough, and one that is wrong owns no more than its weight. The geometric mean (of logits, in effect) lets
everybody veto and suits replicas of equal quality only.

A token that only some lists hold had some probability in the others too, somewhere in their tails. We guess it as the tail's mass spread
as the other experts would spread it, and at most the smallest value that the list did keep, since it was left out. Spreading by the mean
over *all* other lists (those without the token count as zero) never gives away more than the tail. So every completed list is still a
sub-distribution, and pooling truncated lists is within sum(w_k tail_k) of pooling whole ones in total variation.

Greedy decoding hangs on exactness. Every step here is element by element in a fixed order of the lists, whatever order they came in: the
same lists always give the same bits, and equal tokens stay equal. (A BLAS product promises neither.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
import numpy.typing as npt

from swarmllm.wire.sparse import LOGPROB_MIN, SparseList

PoolingRule = Literal["arithmetic", "geometric"]

PROB_MIN = math.exp(LOGPROB_MIN)
"""The smallest probability that a list can hold. The geometric mean takes it where the guess is less: one zero would be a veto."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """What to sample from.

    `ids` int32[n], rising strictly, are the tokens that any list holds; `probs` float64[n] add up to 1. `tail` is the weighted mass that
    the lists left out: with the arithmetic rule truncation moved the pool by that much at most (total variation). `agreement` is 1 minus
    the mean total variation between each list and the pool, both over `ids`: 1 if all say the same, about 1/K if each says something else.
    """

    ids: npt.NDArray[np.int32]
    probs: _Floats
    tail: float
    agreement: float


def pool(lists: Sequence[SparseList], weights: Sequence[float], rule: PoolingRule = "arithmetic") -> Pooled:
    """Pool K >= 1 lists, each with a weight >= 0 (not all of them 0; they are scaled to add up to 1).

    The result does not depend, in any bit, on the order in which the lists come.
    """
    assert len(lists) == len(weights) >= 1, f"{len(lists)} lists with {len(weights)} weights"
    assert all(w >= 0 for w in weights), f"weights {list(weights)}"
    total = math.fsum(weights)
    assert 0 < total < math.inf, f"weights {list(weights)}"
    ordered = sorted(zip(lists, weights, strict=True), key=_place)
    lists = [entries for entries, _ in ordered]
    shares = [weight / total for _, weight in ordered]
    ids, table = _complete(lists)
    match rule:
        case "arithmetic":
            mixed = _weighted_sum(table, shares)
        case "geometric":
            logs = _weighted_sum(np.log(np.maximum(table, PROB_MIN)), shares)
            mixed = np.exp(logs - logs.max())
        case _:
            assert_never(rule)
    probs = mixed / mixed.sum()
    tail = math.fsum(share * entries.tail for share, entries in zip(shares, lists, strict=True))
    return Pooled(ids, probs, tail, _agreement(table, probs))


def _place(entry: tuple[SparseList, float]) -> tuple[float, float, bytes, bytes]:
    """A list's place in the order of summation. Only lists that are equal in everything share one."""
    entries, weight = entry
    return weight, entries.tail, entries.ids.tobytes(), entries.logprobs.tobytes()


def _complete(lists: Sequence[SparseList]) -> tuple[npt.NDArray[np.int32], _Floats]:
    """The union of all ids, int32[n] rising, and float64[K, n]: what each list gives to each of them, guessed where it is missing."""
    gathered = np.sort(np.concatenate([entries.ids for entries in lists]))
    ids = gathered[np.flatnonzero(np.diff(gathered, prepend=-1))]  # As np.unique, at a third of its cost.
    table = np.zeros((len(lists), ids.size))
    held = np.zeros(table.shape, dtype=np.bool_)
    for row, mask, entries in zip(table, held, lists, strict=True):
        columns = np.searchsorted(ids, entries.ids)
        row[columns] = np.exp(entries.logprobs.astype(np.float64))
        mask[columns] = True
    if len(lists) == 1:
        return ids, table
    others_mean = _weighted_sum(
        table, [1.0 / (len(lists) - 1)] * len(lists)
    )  # Where a list is one of the others, its own term is 0.
    guesses = np.empty_like(table)
    for row, mask, guess, entries in zip(table, held, guesses, lists, strict=True):
        np.minimum(row[mask].min(), entries.tail * others_mean, out=guess)
    return ids, np.where(held, table, guesses)


def _weighted_sum(table: _Floats, shares: Sequence[float]) -> _Floats:
    """sum_k shares[k] * table[k], term by term from the first: the same for every column."""
    mixed: _Floats = shares[0] * table[0]
    for row, share in zip(table[1:], shares[1:], strict=True):
        mixed += share * row
    return mixed


def _agreement(table: _Floats, probs: _Floats) -> float:
    scaled = table / table.sum(axis=1, keepdims=True)
    distances = 0.5 * np.abs(scaled - probs).sum(axis=1)
    return min(1.0, max(0.0, 1.0 - float(distances.mean())))
