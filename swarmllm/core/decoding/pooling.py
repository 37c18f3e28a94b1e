"""Many experts' sparse lists become one distribution: the weighted mean of what they say,
renormalised once.

The arithmetic mean is the default because it forgives: it is never more than log(1/w_k) nats worse
than expert k on any token, so one expert that knows is enough, and one that is wrong owns no more
than its weight. The geometric mean (of logits, in effect) lets everybody veto and suits replicas of
equal quality only.

A token that only some lists hold had some probability in the others too, somewhere in their tails.
We guess it as the tail's mass spread as the other experts would spread it, and at most the smallest
value that the list did keep, since it was left out. Spreading by the mean over *all* other lists
(those without the token count as zero) never gives away more than the tail. So every completed list
is still a sub-distribution, and pooling truncated lists is within sum(w_k tail_k) of pooling whole
ones in total variation.

Among the holders of one model there is a bound on what one of them may say alone: where at least
three were asked, none of them counts for more than four times what the others say (and a
ten-thousandth); our own expert, which we need not take on trust, bounds all others of its model and
is bound by none; and those that are known bound those that are not. Of two strangers who contradict
each other nobody knows which one lies, so two are left as they are. Honest holders say the same,
and the bound never touches them: not one bit of their pool is another.

Greedy decoding hangs on exactness. Every step here is element by element in a fixed order of the
lists, whatever order they came in: the same lists always give the same bits, and equal tokens stay
equal. (A BLAS product promises neither.)
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
"""The smallest probability that a list can hold. The geometric mean takes it where the guess is
less: one zero would be a veto."""

# How far one holder of a model may go beyond the mean of the others of that model, ...
HOLDER_RATIO = 4.0
# ... and what it may give to a token that they give nothing. An attacker's 0.20 becomes 0.01 for
# 0.02 nats.
HOLDER_FLOOR = 1e-4
BOUND_MIN = 3  # Holders of one model from which on the others can be said to be right.

_Floats = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who a list is from: which model it claims, whether it is our own expert, whether there is too
    little that shows what it is, or something that shows it to lie (then it is false, too), and
    whether nothing was looked at yet that it said in an answer (`core.trust`)."""

    model: bytes
    is_own: bool = False
    is_new: bool = False
    is_untried: bool = False
    is_false: bool = False

    @property
    def rank(self) -> int:
        """Who has less of it chooses nothing alone beside those who have more."""
        return 0 if self.is_false else 1 if self.is_new else 2 if self.is_untried else 3


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """What to sample from.

    `ids` int32[n], rising strictly, are the tokens that any list holds; `probs` float64[n] add up
    to 1. `tail` is the weighted mass that the lists left out: with the arithmetic rule truncation
    moved the pool by that much at most (total variation). `agreement` is 1 minus the mean total
    variation between each list and the pool, both over `ids`: 1 if all say the same, about 1/K if
    each says something else.
    """

    ids: npt.NDArray[np.int32]
    probs: _Floats
    tail: float
    agreement: float


def pool(
    lists: Sequence[SparseList],
    weights: Sequence[float],
    rule: PoolingRule = "arithmetic",
    holders: Sequence[Holder] | None = None,
) -> Pooled:
    """Pool K >= 1 lists, each with a weight >= 0 (not all of them 0; they are scaled to add up to
    1). With `holders`, one for each list, those of one model bound each other.

    The result does not depend, in any bit, on the order in which the lists come.
    """
    assert len(lists) == len(weights) >= 1, f"{len(lists)} lists with {len(weights)} weights"
    assert all(w >= 0 for w in weights), f"weights {list(weights)}"
    total = math.fsum(weights)
    assert 0 < total < math.inf, f"weights {list(weights)}"
    ordered = sorted(
        zip(lists, weights, holders or [_NOBODY] * len(lists), strict=True), key=_place
    )
    lists = [entries for entries, _, _ in ordered]
    shares = [weight / total for _, weight, _ in ordered]
    ids, table, held = _complete(lists)
    if holders is not None:
        _bound(table, held, lists, [holder for _, _, holder in ordered])
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


def single(one: SparseList) -> Pooled:
    """The pool of one list alone."""
    probs = np.exp(one.logprobs.astype(np.float64))
    return Pooled(one.ids, probs / probs.sum(), one.tail, 1.0)


_NOBODY = Holder(b"")


def _place(
    entry: tuple[SparseList, float, Holder],
) -> tuple[float, float, bytes, bytes, bytes, bool, int]:
    """A list's place in the order of summation. Only lists that are equal in everything share
    one."""
    entries, weight, holder = entry
    return (
        weight,
        entries.tail,
        entries.ids.tobytes(),
        entries.logprobs.tobytes(),
        holder.model,
        holder.is_own,
        holder.rank,
    )


def _bound(
    table: _Floats, held: _Mask, lists: Sequence[SparseList], holders: Sequence[Holder]
) -> None:
    """Cut what one holder of a model says beyond what the others bear out; whatever is cut,
    everybody else gains when it is renormalised.

    Our own expert bounds all others, else those that are known best bound the others; among
    themselves holders need to be three.

    What a list leaves out bears out as much as it could have had there, so that lists which end at
    different tokens do not count as a contradiction.
    """
    groups: dict[bytes, list[int]] = {}
    for place, holder in enumerate(holders):
        groups.setdefault(holder.model, []).append(place)
    for places in groups.values():
        own = [place for place in places if holders[place].is_own]
        best = max(holders[place].rank for place in places)
        known = own or [place for place in places if holders[place].rank == best]
        is_enough = not own and len(known) >= BOUND_MIN
        if len(known) == len(places) and not is_enough:
            continue
        most = {
            p: np.where(held[p], table[p], min(lists[p].tail, table[p][held[p]].min()))
            for p in places
        }
        total = _weighted_sum(np.array([most[p] for p in known]), [1.0] * len(known))
        for place in places:
            if place in known and not is_enough:
                continue
            others = total - most[place] if place in known else total
            mean = others / (len(known) - (place in known))
            np.minimum(table[place], HOLDER_RATIO * mean + HOLDER_FLOOR, out=table[place])


def _complete(lists: Sequence[SparseList]) -> tuple[npt.NDArray[np.int32], _Floats, _Mask]:
    """The union of all ids, int32[n] rising; float64[K, n]: what each list gives to each of them,
    guessed where it is missing; and bool[K, n]: whether it is not a guess."""
    gathered = np.sort(np.concatenate([entries.ids for entries in lists]))
    # As np.unique, at a third of its cost.
    ids = gathered[np.flatnonzero(np.diff(gathered, prepend=-1))]
    table = np.zeros((len(lists), ids.size))
    held = np.zeros(table.shape, dtype=np.bool_)
    for row, mask, entries in zip(table, held, lists, strict=True):
        columns = np.searchsorted(ids, entries.ids)
        row[columns] = np.exp(entries.logprobs.astype(np.float64))
        mask[columns] = True
    if len(lists) == 1:
        return ids, table, held
    others_mean = _weighted_sum(
        table, [1.0 / (len(lists) - 1)] * len(lists)
    )  # Where a list is one of the others, its own term is 0.
    guesses = np.empty_like(table)
    for row, mask, guess, entries in zip(table, held, guesses, lists, strict=True):
        np.minimum(row[mask].min(), entries.tail * others_mean, out=guess)
    return ids, np.where(held, table, guesses), held


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
