"""A sparse list of one row of logits, encoded step by step: what `wire.sparse_encoding` makes of
whole batches, for comparison, byte by byte."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from swarmllm.wire.exponentials import exponentials
from swarmllm.wire.sparse import (
    COARSE,
    COARSE_MAX,
    FINE_BITS,
    FINE_BITS_MAX,
    FORM_RICE,
    GAP_SHIFT_MAX,
    LOGPROB_MIN,
    ODDS_EVEN,
    ODDS_STEPS,
    STEP_SHIFT_MAX,
)
from swarmllm.wire.sparse_encoding import size_aim

_Ints = npt.NDArray[np.int64]
_Bits = npt.NDArray[np.uint8]


def encode(values: npt.NDArray[np.float32], entries_max: int, tail_max: int) -> bytes:
    """As `encode_logits`, of logits that are a distribution."""
    top = values.max()
    terms = exponentials(values, top)
    total = float(terms.sum())
    with np.errstate(over="ignore"):
        logprobs = (values - top).astype(np.float64) - math.log(total)
    ids: list[int] = []
    kept = 0.0
    for i in np.argsort(-values.astype(np.float64), kind="stable")[:entries_max].tolist():
        is_enough = bool(ids) and (total - kept) * 65_536 < total * tail_max
        if is_enough or logprobs[i] < LOGPROB_MIN:
            break
        ids.append(i)
        kept += float(terms[i])
    winner, ids = ids[0], sorted(ids)
    odds = _odds_code(kept, total - kept)
    return _encode_rice(np.array(ids), logprobs[ids], odds, ids.index(winner))


def _encode_rice(ids: _Ints, logprobs: npt.NDArray[np.float64], odds: bytes, winner: int) -> bytes:
    depth = np.minimum(np.maximum(-logprobs, 0.0) * COARSE, COARSE_MAX + 0.999)
    coarse = depth.astype(np.int64)
    gaps = np.diff(ids, prepend=-1) - 1
    gap_shift, gap_bits = _best_shift(gaps, GAP_SHIFT_MAX)
    steps = coarse.max() - coarse
    _, step_bits = _best_shift(steps, STEP_SHIFT_MAX)
    room = 8 * (size_aim(ids.size) - 7) - gap_bits - step_bits
    grain = max(0, int(np.count_nonzero(FINE_BITS[:, coarse].sum(axis=1) <= room)) - 1)
    fine = ((depth - coarse) * (1 << FINE_BITS[grain][coarse])).astype(np.int64)
    _raise_winner(coarse, fine, winner, FINE_BITS[grain])
    deepest = int(coarse.max())
    steps = deepest - coarse
    step_shift, _ = _best_shift(steps, STEP_SHIFT_MAX)
    head = (
        bytes((FORM_RICE,))
        + (ids.size - 1).to_bytes(2, "big")
        + bytes((gap_shift << 3 | step_shift, grain << 6 | deepest))
    )
    planes = (
        *_rice_planes(gaps, gap_shift),
        *_rice_planes(steps, step_shift),
        _fine_plane(fine, FINE_BITS[grain][coarse]),
    )
    return head + odds + np.packbits(np.concatenate(planes)).tobytes()


def _odds_code(kept: float, tail: float) -> bytes:
    """How the mass divides between tail and kept entries, as a u16."""
    code = 0 if tail <= 0 else round(ODDS_EVEN + ODDS_STEPS * math.log2(tail / kept))
    return min(2 * ODDS_EVEN - 1, max(0, code)).to_bytes(2, "big")


def _raise_winner(coarse: _Ints, fine: _Ints, winner: int, fine_bits: _Ints) -> None:
    """Where others share the winner's cell, move it up by one, in place. Nobody is above it, so it
    stands alone there."""
    if np.count_nonzero((coarse == coarse[winner]) & (fine == fine[winner])) == 1:
        return
    if fine[winner] > 0:
        fine[winner] -= 1
        return
    assert coarse[winner] > 0, "two entries of probability one"
    coarse[winner] -= 1
    fine[winner] = (1 << fine_bits[coarse[winner]]) - 1


def _best_shift(values: _Ints, shift_max: int) -> tuple[int, int]:
    """The Rice parameter with the shortest code, and its bits: near log2 of the mean (of 0.69 of
    it, for geometric distributions)."""
    near = max(0, int(values.sum() // values.size).bit_length() - 1)
    tried = range(min(shift_max, max(0, near - 1)), min(shift_max, near + 1) + 1)
    return min(
        ((shift, int((values >> shift).sum()) + values.size * (shift + 1)) for shift in tried),
        key=lambda one: one[1],
    )


def _rice_planes(values: _Ints, shift: int) -> tuple[_Bits, _Bits]:
    """Unary plane: for each value, value >> shift zeros and a one. Remainder plane: `shift` bits
    each, the high one first."""
    ends = np.cumsum((values >> shift) + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1, dtype=np.uint8)
    unary[ends] = 1
    remainders = (values[:, None] >> np.arange(shift - 1, -1, -1)) & 1
    return unary, remainders.astype(np.uint8).ravel()


def _fine_plane(fine: _Ints, widths: _Ints) -> _Bits:
    some = widths > 0
    shifts = widths[some][:, None] - np.arange(1, FINE_BITS_MAX + 1)
    bits = (fine[some][:, None] >> np.maximum(shifts, 0)) & 1
    plane: _Bits = bits[shifts >= 0].astype(np.uint8)
    return plane
