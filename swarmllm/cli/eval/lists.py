"""What the lists on the wire say beyond single tokens: how undecided each expert is, what was cut
off, who would accept whose drafts.

The completion of lists is `core.decoding.pooling`'s, which keeps it to itself; here its table is
needed and not only the pool. A test holds both against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.core.decoding.cascade import surprise
from swarmllm.core.decoding.pooling import PROB_MIN
from swarmllm.wire.sparse import SparseList, decode_list

Floats = npt.NDArray[np.float64]

# Positions between two at which all K lists are held against each other: quick, and they hardly
# vary.
PROBE_EVERY: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class ListFigures:
    """T positions, K experts, P probed positions, Q = K + 1 with the ensemble last.

    `surprise` and `peak` float64[T, K]: entropy, and -log of the largest probability, in nats.
    `tails` float64[T, K]; `held` bool[T, K] whether the token that came is listed. `geometric`
    float64[T]: log of the normaliser of the uniform geometric pool over the union of the completed
    lists. `alpha` float64[P, K, Q]: how often a token drawn from one is accepted as a draft for
    another. `pooled_tail` float64[P] weighted by the ensemble; `pooled_shift` float64[P] how much
    higher the pool of lists puts the token that came than the exact pool does, nan where no list
    holds it.
    """

    surprise: Floats
    peak: Floats
    tails: Floats
    held: npt.NDArray[np.bool_]
    geometric: Floats
    alpha: Floats
    pooled_tail: Floats
    pooled_shift: Floats


def complete(lists: Sequence[SparseList]) -> tuple[npt.NDArray[np.int32], Floats]:
    """The union of all ids, int32[n] rising, and float64[K, n]: what each list gives to each,
    guessed as `core.decoding.pooling` guesses."""
    ids = np.unique(np.concatenate([entries.ids for entries in lists]))
    table = np.zeros((len(lists), ids.size))
    held = np.zeros(table.shape, np.bool_)
    for row, mask, entries in zip(table, held, lists, strict=True):
        at = np.searchsorted(ids, entries.ids)
        row[at] = np.exp(entries.logprobs.astype(np.float64))
        mask[at] = True
    if len(lists) > 1:
        spread = table.sum(axis=0) / (len(lists) - 1)
        for row, mask, entries in zip(table, held, lists, strict=True):
            row[~mask] = np.minimum(row[mask].min(), entries.tail * spread[~mask])
    return ids, table


def acceptance(table: Floats, weights: Floats) -> Floats:
    """float64[K, K + 1]: sum over tokens of min(q, r), for each expert's distribution against each
    other's and the weighted mean of all. `table` float64[K, n] is scaled to 1 first. It is
    symmetric, for a draft is taken with probability min(1, r / q)."""
    scaled = table / table.sum(axis=1, keepdims=True)
    pool = weights @ table
    targets = np.vstack([scaled, pool / pool.sum()])
    found: Floats = np.minimum(scaled[:, None, :], targets[None, :, :]).sum(axis=2)
    return found


def figures(
    encoded: Sequence[Sequence[bytes]],
    targets: Sequence[int],
    logprobs: Floats,
    weights: Floats,
    vocab_size: int,
    entries: int,
) -> ListFigures:
    """`encoded[k][t]` is the list of expert k at position t, `targets[t]` the token that came,
    `logprobs` float64[T, K] its exact log-probabilities, `weights` float64[K] the ensemble's."""
    length, count = logprobs.shape
    found = _empty(length, count)
    for t, target in enumerate(targets):
        lists = [decode_list(column[t], entries, vocab_size) for column in encoded]
        for k, one in enumerate(lists):
            found.surprise[t, k] = surprise(one)
            found.peak[t, k] = -float(one.logprobs.max())
            found.tails[t, k] = one.tail
            at = int(np.searchsorted(one.ids, target))
            found.held[t, k] = at < one.ids.size and one.ids[at] == target
        ids, table = complete(lists)
        found.geometric[t] = np.log(np.exp(np.log(np.maximum(table, PROB_MIN)).mean(axis=0)).sum())
        if t % PROBE_EVERY == 0:
            p = t // PROBE_EVERY
            found.alpha[p] = acceptance(table, weights)
            found.pooled_tail[p] = float(weights @ found.tails[t])
            at = int(np.searchsorted(ids, target))
            if at < ids.size and ids[at] == target:
                pool = weights @ table
                found.pooled_shift[p] = np.log(pool[at] / pool.sum()) - np.logaddexp.reduce(
                    logprobs[t] + np.log(weights)
                )
    return found


def _empty(length: int, count: int) -> ListFigures:
    probes = -(-length // PROBE_EVERY)
    return ListFigures(
        surprise=np.zeros((length, count)),
        peak=np.zeros((length, count)),
        tails=np.zeros((length, count)),
        held=np.zeros((length, count), np.bool_),
        geometric=np.zeros(length),
        alpha=np.zeros((probes, count, count + 1)),
        pooled_tail=np.zeros(probes),
        pooled_shift=np.full(probes, np.nan),
    )
