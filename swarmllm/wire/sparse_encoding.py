"""Encodes sparse lists: whole rows of logits by compiled code, which is `_sparse.c`, or by numpy,
with the same bytes; and lists at hand.

Greedy decoding must not notice the quantisation: the largest decoded value is always the largest
given one (the lowest id among equals), and it is unique, because the encoder raises it by one cell
where others share its cell. `protocols/sparse.md` has the format, `sparse` its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from swarmllm.errors import LocalError
from swarmllm.messages import ENTRIES_MAX, VOCABULARY_MAX
from swarmllm.wire.exponentials import exponentials
from swarmllm.wire.sparse import (
    COARSE,
    COARSE_MAX,
    FINE_BITS,
    FINE_BITS_MAX,
    FORM_RAW,
    FORM_RICE,
    GAP_SHIFT_MAX,
    LOGPROB_MIN,
    ODDS_EVEN,
    ODDS_STEPS,
    STEP_SHIFT_MAX,
    SparseList,
)
from swarmllm.wire.sparse_compiled import compiled
from swarmllm.wire.target_logprob import encode_target
from swarmllm.wire.token_set import decode_set

# The 1/32 of the vocabulary that survives the first look is still 16 times 256.
_BLOCKS: Final = 32

_Ints = npt.NDArray[np.int64]
_Bits = npt.NDArray[np.uint8]
_Count = TypeVar("_Count", int, npt.NDArray[np.int64])
_NEAR: Final = np.array([[-2], [-1], [0]])


def size_aim(count: _Count) -> _Count:
    """The encoder takes the finest grain that keeps a list of `count` entries within so many bytes:
    464 for 256."""
    return 80 + 3 * count // 2


class _Likeliest(NamedTuple):
    """What a list keeps: `ids` int64[n] rising, `logprobs` float64[n], their mass and that of all
    others in one unit, and where the likeliest of all stands."""

    ids: _Ints
    logprobs: npt.NDArray[np.float64]
    kept: float
    tail: float
    winner: int


def encode_logits(logits: npt.NDArray[np.float32], entries_max: int, tail_max: int) -> bytes:
    """The list of the `entries_max` likeliest tokens under softmax(logits), in the Rice form.

    `logits` is float[V]; -inf means impossible. `tail_max` is in 1/65536 of probability mass, as in
    a Score: fewer entries are kept if what they leave out is below it (0: never fewer). Entries
    below `LOGPROB_MIN` are left out. Equal logits are kept by lowest id. LocalError for NaN, +inf,
    all -inf, or arguments out of bounds.
    """
    row = np.asarray(logits, dtype=np.float32)
    if row.ndim != 1:
        raise LocalError(f"logits of shape {row.shape}; one row is needed")
    found = encode_rows(row[None], [(entries_max, tail_max)])[0]
    if found is None:
        raise LocalError(f"the largest logit is {row.max()}: the model's output is broken")
    return found


def encode_rows(
    logits: npt.NDArray[np.float32], bounds: Sequence[tuple[int, int]], threads: int = 1
) -> list[bytes | None]:
    """`encode_logits` of every row of float32[n, V], with `bounds` (entries_max, tail_max) for
    each; None for a row that is no distribution. LocalError for arguments out of bounds. In a
    process where llama.cpp computes with so many `threads`, they share the rows."""
    count, vocabulary = logits.shape
    if not 1 <= vocabulary <= VOCABULARY_MAX:
        raise LocalError(f"{vocabulary} logits in a row; 1 to {VOCABULARY_MAX} are needed")
    if count != len(bounds):
        raise LocalError(f"{count} rows of logits and bounds for {len(bounds)}")
    for entries_max, tail_max in bounds:
        if not 1 <= entries_max <= ENTRIES_MAX or not 0 <= tail_max <= 65_535:
            raise LocalError(
                f"entries_max {entries_max} or tail_max {tail_max} out of bounds"
                f" (1..{ENTRIES_MAX}, 0..65535)"
            )
    values = np.ascontiguousarray(logits, dtype=np.float32)
    if compiled is None:
        return encode_rows_plainly(values, bounds)
    return compiled.encode_rows(values, np.array(bounds, dtype=np.int32), vocabulary, threads)


def encode_rows_plainly(
    logits: npt.NDArray[np.float32], bounds: Sequence[tuple[int, int]]
) -> list[bytes | None]:
    """`encode_rows` in numpy, of arguments within bounds: what the compiled code is compared with,
    and what there is without it. A batch costs less than its rows one by one: only the passes over
    all of V are made for each row."""
    found = [_likeliest(row, *bound) for row, bound in zip(logits, bounds, strict=True)]
    sound = [likeliest for likeliest in found if likeliest is not None]
    lists = iter(_encode_rice(sound) if sound else ())
    return [None if likeliest is None else next(lists) for likeliest in found]


def _likeliest(
    values: npt.NDArray[np.float32], entries_max: int, tail_max: int
) -> _Likeliest | None:
    top = values.max()
    if not np.isfinite(top):
        return None
    terms = exponentials(values, top)
    total = float(terms.sum())
    ids = _largest(values, entries_max)
    kept = values[ids]
    with np.errstate(over="ignore"):
        logprobs = (kept - top).astype(np.float64) - math.log(total)
    winner = int(kept.argmax())
    keep = logprobs >= LOGPROB_MIN
    if tail_max:
        # Not by logprobs: rounding makes some of them equal that are not.
        order = np.argsort(-kept, kind="stable")
        left_out = total - np.cumsum(terms[ids[order]])
        keep[order[1:][left_out[:-1] * 65_536.0 < total * tail_max]] = False
    if not keep.all():
        winner = int(np.count_nonzero(keep[:winner]))
        ids, logprobs = ids[keep], logprobs[keep]
    mass = float(terms[ids].sum())
    return _Likeliest(ids, logprobs, mass, total - mass, winner)


def encode_allowed(
    logits: npt.NDArray[np.float32], allowed: bytes, entries_max: int, tail_max: int
) -> tuple[bytes, int] | None:
    """The answer to a ScoreAllowed: the list of the tokens of `allowed` (encoded) under softmax of
    their logits alone, and the code of the log-probability of all of them under softmax of float[V]
    `logits` (`wire.target_logprob`). None if either is no distribution. The ids must be below V."""
    row = np.asarray(logits, dtype=np.float32)
    ids = decode_set(allowed)
    among = np.full_like(row, -np.inf)
    among[ids] = row[ids]
    data = encode_rows(among[None], [(entries_max, tail_max)])[0]
    whole = log_mass(row)
    if data is None or not math.isfinite(whole):
        return None
    return data, encode_target(whole - log_mass(row[ids]))


def log_mass(logits: npt.NDArray[np.float32]) -> float:
    """The logarithm of the sum of exp(logits), which must be some; the largest of them if that is
    no number or not finite."""
    top = float(logits.max())
    if not math.isfinite(top):
        return top
    with np.errstate(under="ignore"):
        return top + math.log(float(np.exp(logits - top).sum(dtype=np.float64)))


def encode_list(entries: SparseList, *, raw: bool = False) -> bytes:
    """The same for a list at hand, in the Rice form or the raw one. LocalError if it breaks a rule
    of `SparseList`."""
    ids, logprobs = entries.ids.astype(np.int64), entries.logprobs.astype(np.float64)
    if ids.ndim != 1 or ids.shape != logprobs.shape or not 1 <= ids.size <= ENTRIES_MAX:
        raise LocalError(
            f"a list of {ids.shape} ids and {logprobs.shape} values;"
            f" 1 to {ENTRIES_MAX} of each are needed"
        )
    if ids[0] < 0 or ids[-1] >= VOCABULARY_MAX or not (np.diff(ids) > 0).all():
        raise LocalError(
            f"ids {ids[0]}..{ids[-1]} must rise strictly within 0..{VOCABULARY_MAX - 1}"
        )
    if not ((logprobs <= 0) & (logprobs >= LOGPROB_MIN)).all():
        raise LocalError(
            f"log-probabilities {logprobs.min()}..{logprobs.max()} must lie within {LOGPROB_MIN}..0"
        )
    kept = float(np.exp(logprobs).sum())
    mass = kept + entries.tail
    if not (entries.tail >= 0 and abs(mass - 1) <= 0.001):
        raise LocalError(f"values and tail {entries.tail} add up to {mass} instead of 1")
    found = _Likeliest(ids, logprobs, kept, entries.tail, int(np.argmax(logprobs)))
    return _encode_raw(found) if raw else _encode_rice([found])[0]


def _largest(values: npt.NDArray[np.float32], count: int) -> _Ints:
    """Ascending ids of the `count` largest values, equal ones by lowest id.

    A partition of all 128,256 values takes 0.8 ms; so first the maxima of interleaved blocks give a
    bound that at least `count` values reach, and in practice hardly more (0.1 ms in all).
    """
    if values.size <= count:
        return np.arange(values.size)
    width = values.size // _BLOCKS
    if width > count:
        maxima = values[: width * _BLOCKS].reshape(_BLOCKS, width).max(axis=0)
        candidates = np.flatnonzero(values >= np.partition(maxima, width - count)[width - count])
    else:
        candidates = np.arange(values.size)
    found = values[candidates]
    least = np.partition(found, found.size - count)[found.size - count]
    keep = found > least
    keep[np.flatnonzero(found == least)[: count - int(keep.sum())]] = True
    kept: _Ints = candidates[keep]
    return kept


def _odds_code(kept: float, tail: float) -> bytes:
    """How the mass divides between tail and kept entries, as a u16."""
    code = 0 if tail <= 0 else round(ODDS_EVEN + ODDS_STEPS * math.log2(tail / kept))
    return min(2 * ODDS_EVEN - 1, max(0, code)).to_bytes(2, "big")


def _encode_raw(found: _Likeliest) -> bytes:
    values, winner = found.logprobs.astype(np.float16), found.winner
    if np.count_nonzero(values == values[winner]) > 1:
        values[winner] = np.nextafter(values[winner], np.float16(0))
    head = bytes((FORM_RAW,)) + found.ids.size.to_bytes(2, "big")
    entries = found.ids.astype(">u4").tobytes() + values.astype(">f2").tobytes()
    return head + _odds_code(found.kept, found.tail) + entries


def _encode_rice(lists: Sequence[_Likeliest]) -> list[bytes]:
    """All at once: a numpy call costs nearly as much for 256 entries as for 4,096, and this is some
    eighty of them. The entries of all lists stand one behind the other (`_Rows`)."""
    rows = _Rows.of([found.ids.size for found in lists])
    ids = np.concatenate([found.ids for found in lists])
    gaps = ids.copy()
    gaps[1:] -= ids[:-1] + 1
    gaps[rows.starts] = ids[rows.starts]
    gap_shifts, gap_bits = _best_shifts(gaps, rows, GAP_SHIFT_MAX)
    winners = rows.starts + np.array([found.winner for found in lists])
    cells = _cells_of(np.concatenate([found.logprobs for found in lists]), winners, gap_bits, rows)
    planes = (
        *_rice_planes(gaps, gap_shifts, rows),
        *_rice_planes(cells.steps, cells.step_shifts, rows),
        _fine_plane(cells, rows),
    )
    first = (gap_shifts << 3 | cells.step_shifts).tolist()
    second = (cells.grain << 6 | cells.deepest).tolist()
    return [
        bytes((FORM_RICE,))
        + (found.ids.size - 1).to_bytes(2, "big")
        + bytes((first[i], second[i]))
        + _odds_code(found.kept, found.tail)
        + np.packbits(np.concatenate([plane[i] for plane in planes])).tobytes()
        for i, found in enumerate(lists)
    ]


class _Cells(NamedTuple):
    """The grain of each list, its deepest coarse cell and the Rice parameter of its steps; of each
    entry how many steps above that cell its own is, the number of the fine cell, and its bits."""

    grain: _Ints
    deepest: _Ints
    step_shifts: _Ints
    steps: _Ints
    fine: _Ints
    widths: _Ints


def _cells_of(
    logprobs: npt.NDArray[np.float64], winners: _Ints, gap_bits: _Ints, rows: _Rows
) -> _Cells:
    """The finest cells that leave each list within its size. `winners`: where the likeliest entry
    of each list stands; `gap_bits`: what the ids take."""
    depth = np.minimum(np.maximum(-logprobs, 0.0) * COARSE, COARSE_MAX + 0.999)
    coarse = depth.astype(np.int64)
    deepest = np.maximum.reduceat(coarse, rows.starts)
    steps = deepest[rows.row] - coarse
    step_shifts, step_bits = _best_shifts(steps, rows, STEP_SHIFT_MAX)
    room = 8 * (size_aim(rows.sizes) - 7) - gap_bits - step_bits
    lists, cells = rows.sizes.size, COARSE_MAX + 1
    counts = np.bincount(rows.row * cells + coarse, minlength=lists * cells).reshape(lists, cells)
    grain = np.maximum(0, np.count_nonzero(counts @ FINE_BITS.T <= room[:, None], axis=1) - 1)
    widths = FINE_BITS[grain[rows.row], coarse]
    fine = ((depth - coarse) * (1 << widths)).astype(np.int64)
    moved = _raise_winners(coarse, fine, winners, grain, rows)
    if moved:
        # Others are left in those cells, so the deepest ones stay.
        widths[moved] = FINE_BITS[grain[rows.row[moved]], coarse[moved]]
        steps = deepest[rows.row] - coarse
        step_shifts, _ = _best_shifts(steps, rows, STEP_SHIFT_MAX)
    return _Cells(grain, deepest, step_shifts, steps, fine, widths)


class _Rows(NamedTuple):
    """How the entries of several lists stand in one array: `sizes` and `starts` of each list, the
    number of its list for each entry, and `lists` counts them."""

    sizes: _Ints
    starts: _Ints
    row: _Ints
    lists: _Ints

    @classmethod
    def of(cls, sizes: Sequence[int]) -> _Rows:
        counts, lists = np.array(sizes, dtype=np.int64), np.arange(len(sizes))
        return cls(counts, np.cumsum(counts) - counts, np.repeat(lists, counts), lists)

    def sum(self, values: _Ints) -> _Ints:
        """int[lists]: the sum of each list's values."""
        found: _Ints = np.add.reduceat(values, self.starts)
        return found


def _raise_winners(
    coarse: _Ints, fine: _Ints, winners: _Ints, grain: _Ints, rows: _Rows
) -> list[int]:
    """Where others share a winner's cell, move it up by one, in place. Nobody is above it, so it
    stands alone there. Returns those that were moved."""
    cell = coarse << FINE_BITS_MAX | fine
    shared = rows.sum((cell == cell[winners][rows.row]).astype(np.int64)) > 1
    moved: list[int] = winners[shared].tolist()
    for winner in moved:
        if fine[winner] > 0:
            fine[winner] -= 1
            continue
        assert coarse[winner] > 0, "two entries of probability one"
        coarse[winner] -= 1
        fine[winner] = (1 << FINE_BITS[grain[rows.row[winner]], coarse[winner]]) - 1
    return moved


def _best_shifts(values: _Ints, rows: _Rows, shift_max: int) -> tuple[_Ints, _Ints]:
    """For each list the Rice parameter with the shortest code, and its bits: near log2 of the mean
    (of 0.69 of it, for geometric distributions)."""
    near = np.frexp(rows.sum(values) // rows.sizes)[1]  # The bit length of the mean.
    tried = np.minimum(np.maximum(near + _NEAR, 0), shift_max).astype(np.int64)
    coded = (values >> tried[:, rows.row]).ravel()
    starts = (np.arange(len(tried))[:, None] * values.size + rows.starts).ravel()
    bits = np.add.reduceat(coded, starts).reshape(tried.shape) + rows.sizes * (tried + 1)
    best = bits.argmin(axis=0)
    return tried[best, rows.lists], bits[best, rows.lists]


def _rice_planes(values: _Ints, shifts: _Ints, rows: _Rows) -> tuple[list[_Bits], list[_Bits]]:
    """The bits of each list. Unary plane: for each value, value >> shift zeros and a one. Remainder
    plane: `shift` bits each, the high one first."""
    ends = np.cumsum((values >> shifts[rows.row]) + 1)
    unary = np.zeros(int(ends[-1]), dtype=np.uint8)
    unary[ends - 1] = 1
    starts = rows.starts.tolist()
    # Rice parameters are at most 20, and mostly below 8.
    kind, size = (">u2", 16) if int(shifts.max()) <= 16 else (">u4", 32)
    bits = np.unpackbits(values.astype(kind).view(np.uint8)).reshape(-1, size)
    remainders = [
        bits[start:end, size - shift :].ravel()
        for start, end, shift in zip(
            starts, [*starts[1:], values.size], shifts.tolist(), strict=True
        )
    ]
    return _cut(unary, ends, rows), remainders


def _fine_plane(cells: _Cells, rows: _Rows) -> list[_Bits]:
    """Of each list the numbers of the fine cells, in as many bits as each has, the high one
    first."""
    most = int(cells.widths.max())
    bits = np.unpackbits(cells.fine.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, 16 - most :]
    plane = bits[np.arange(most, 0, -1) <= cells.widths[:, None]]
    return _cut(plane, np.cumsum(cells.widths), rows)


def _cut(plane: _Bits, ends: _Ints, rows: _Rows) -> list[_Bits]:
    """The bits of each list out of those of all; `ends` is where each entry's bits end."""
    bounds = [0, *ends[rows.starts[1:] - 1].tolist(), plane.size]
    return [plane[start:end] for start, end in pairwise(bounds)]
