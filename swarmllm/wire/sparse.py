"""Sparse log-probability lists: the likeliest tokens of a next-token distribution, and the mass of
all others.

Half a million bytes of logits become about 450. Ids, which carry most of the information, go as
Rice-coded gaps, within two per cent of the best that any code can do. Probabilities go as cells
whose width in nats shrinks as the probability grows, so that every entry adds about the same error
to the distribution. Two planes hold each Rice code, the unary parts in one and the remainders in
the other, so that both directions are a few numpy operations and no loop. Rows of logits, which the
engine encodes by the thousand, go through compiled code (`_sparse.c`) that gives the same bytes.

Greedy decoding must not notice the quantisation: the largest decoded value is always the largest
given one (the lowest id among equals), and it is unique, because the encoder raises it by one cell
where others share its cell. `protocols/sparse.md` has the format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import ENTRIES_MAX, VOCABULARY_MAX

try:
    from swarmllm.wire import _sparse as _compiled
except ImportError:
    _compiled = None  # type: ignore[assignment]

IS_COMPILED: Final = _compiled is not None
"""Whether lists of rows of logits are encoded by `_sparse.c`; if not, by numpy, five to ten times
as slowly (`swarmllm doctor` says so). The same bytes."""

FORM_RAW: Final = 0
FORM_RICE: Final = 1

COARSE: Final = 2  # Coarse cells per nat.
# The last coarse cell: entries below -32 nats are left out; all of them together weigh nothing.
COARSE_MAX: Final = 63
LOGPROB_MIN: Final = -(COARSE_MAX + 1) / COARSE
GRAINS: Final = 4
FINE_BITS: Final = np.maximum(
    0, (37 + 3 * (np.arange(GRAINS)[:, None] - np.arange(COARSE_MAX + 1))) // 4
)
"""int[grain, coarse cell]: how often a coarse cell is halved. Once more for each 2/3 nat, about a
doubling of the probability, so that probability times width stays the same: for a given size that
is the least total variation."""
FINE_BITS_MAX: Final = int(FINE_BITS.max())

GAP_SHIFT_MAX: Final = 20  # 2**20 is the largest vocabulary.
STEP_SHIFT_MAX: Final = 5  # 2**6 coarse cells.
ODDS_EVEN: Final = 1 << 15  # The code of even odds tail : kept; code 0 is "no tail".
ODDS_STEPS: Final = 1024
"""Codes per doubling of the odds. One byte of -8 log2(tail) would cost more accuracy than all cells
together where tail and kept entries are near even, and say nothing where nearly all mass is tail.
"""

RICE_SLACK: Final = 4 / 3
RAW_SLACK: Final = 1.02
"""By what factor values may weigh more or less than the odds leave them, before they are scaled to
fit. The centre of a coarse cell is off by e**(1/4) at most, a half-precision value by e**(1/128),
and all of a list may be off the same way."""

DECODED_MAX: Final = 512
"""Lists that are remembered: those of one round of every answer that a node writes, and a MiB at
most."""
# exp, in the steps of `exponentials`.
_EXPONENT_MIN: Final = np.float32(-24)  # What is further below the top is less than half of 2**-32.
_PER_LN2: Final = np.float32(1.44269504)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_ROUNDER: Final = np.float32(3 << 22)  # Adding it leaves no fraction,
_GRID: Final = 1.5 * 2**20  # and in float64 this one none below 2**-32.
_EXP_SERIES: Final = np.array(
    [
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ],
    np.float32,
)
# The 1/32 of the vocabulary that survives the first look is still 16 times 256.
_BLOCKS: Final = 32

_Ints = npt.NDArray[np.int64]
_Bits = npt.NDArray[np.uint8]
_Count = TypeVar("_Count", int, npt.NDArray[np.int64])
_NEAR: Final = np.array([[-2], [-1], [0]])


@dataclass(frozen=True, slots=True, eq=False)
class SparseList:
    """`ids` int32[n] rising strictly, `logprobs` float32[n] in nats over the full vocabulary,
    `tail` the mass of all other tokens."""

    ids: npt.NDArray[np.int32]
    logprobs: npt.NDArray[np.float32]
    tail: float


def size_max(entries_max: int) -> int:
    """No list of so many entries is longer, in bytes, in either form."""
    return 8 + 6 * entries_max


# --- encoding -------------------------------------------------------------------------------------


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
    logits: npt.NDArray[np.float32], bounds: Sequence[tuple[int, int]]
) -> list[bytes | None]:
    """`encode_logits` of every row of float32[n, V], with `bounds` (entries_max, tail_max) for
    each; None for a row that is no distribution. LocalError for arguments out of bounds."""
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
    if _compiled is None:
        return encode_rows_plainly(values, bounds)
    return _compiled.encode_rows(values, np.array(bounds, dtype=np.int32), vocabulary)


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


def exponentials(values: npt.NDArray[np.float32], top: np.float32) -> npt.NDArray[np.float64]:
    """exp(values - top), to seven digits, as multiples of 2**-32. So each sum of up to 2**20 of
    them is exact, in whatever order.

    Every operation here rounds by itself and is one that IEEE 754 defines; so the compiled encoder
    comes to the same numbers, which numpy's own exponential does not promise from one processor to
    the next. The polynomial is that of Cephes (S. Moshier, `expf`) for |r| <= ln(2) / 2.
    """
    with np.errstate(over="ignore"):
        x = np.maximum(values - top, _EXPONENT_MIN)
    turns = x * _PER_LN2 + _ROUNDER
    whole = turns - _ROUNDER
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    p = np.full_like(r, _EXP_SERIES[0])
    for coefficient in _EXP_SERIES[1:]:
        p *= r
        p += coefficient
    p = (p * (r * r) + r) + np.float32(1)
    # The power of two, written into the exponent.
    scale = (turns.view(np.uint32) - _ROUNDER.view(np.uint32) + np.uint32(127)) << np.uint32(23)
    found: npt.NDArray[np.float64] = (p * scale.view(np.float32)).astype(np.float64)
    return (found + _GRID) - _GRID


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


def _fine_shifts(widths: _Ints) -> _Ints:
    """int[n, FINE_BITS_MAX]: how far each bit of a fine cell number stands from its low end;
    negative where there is no such bit."""
    return widths[:, None] - np.arange(1, FINE_BITS_MAX + 1)


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


# --- decoding -------------------------------------------------------------------------------------


def decode_list(data: bytes, entries_max: int, vocab_size: int) -> SparseList:
    """The list in `data`, scaled so that it and its tail add up to 1; exactly one value is the
    largest.

    RemoteError unless it has 1 to `entries_max` entries, ids that rise strictly below `vocab_size`,
    finite values of at most 0, a mass of 1 within the error of quantisation, one largest value, and
    no bits left over but zeros to the end of the byte. Work and memory are linear in len(data),
    which may be `size_max(entries_max)` at most. The arrays are not to be changed: replicas of a
    model give the same bytes, which are decoded once.
    """
    return _decode(data, entries_max, vocab_size)


@lru_cache(DECODED_MAX)
def _decode(data: bytes, entries_max: int, vocab_size: int) -> SparseList:
    if not 8 <= len(data) <= size_max(entries_max):
        raise RemoteError(f"sparse list of {len(data)} bytes: must be 8 to {size_max(entries_max)}")
    match data[0]:
        case 0:
            ids, logprobs, odds = _decode_raw(data, entries_max)
        case 1:
            ids, logprobs, odds = _decode_rice(data, entries_max)
        case form:
            raise RemoteError(f"sparse list of form {form}: only 0 and 1 are known")
    if ids[-1] >= vocab_size:
        raise RemoteError(f"sparse list: id {ids[-1]} is outside the vocabulary of {vocab_size}")
    if np.count_nonzero(logprobs == logprobs.max()) != 1:
        raise RemoteError("sparse list: more than one largest value")
    kept = 1.0 / (1.0 + odds)
    mass = float(np.exp(logprobs).sum()) / kept
    slack = RAW_SLACK if data[0] == FORM_RAW else RICE_SLACK
    if not 1 / slack <= mass <= slack:
        raise RemoteError(
            f"sparse list: values weigh {mass:.4f} of what the odds of the tail leave them"
        )
    scaled = np.minimum(logprobs - np.log(mass), 0.0)
    return SparseList(ids.astype(np.int32), scaled.astype(np.float32), odds * kept)


_Decoded = tuple[_Ints, npt.NDArray[np.float64], float]


def _odds(code: bytes) -> float:
    """Tail mass divided by kept mass."""
    number = int.from_bytes(code, "big")
    return float(2.0 ** ((number - ODDS_EVEN) / ODDS_STEPS)) if number else 0.0


def _decode_raw(data: bytes, entries_max: int) -> _Decoded:
    count = int.from_bytes(data[1:3], "big")
    if not 1 <= count <= entries_max or len(data) != 5 + 6 * count:
        raise RemoteError(
            f"sparse list: {count} raw entries in {len(data)} bytes, at most {entries_max} allowed"
        )
    ids = np.frombuffer(data, ">u4", count, 5).astype(np.int64)
    if count > 1 and not (np.diff(ids) > 0).all():
        raise RemoteError("sparse list: ids do not rise strictly")
    logprobs = np.frombuffer(data, ">f2", count, 5 + 4 * count).astype(np.float64)
    if not (np.isfinite(logprobs) & (logprobs <= 0)).all():
        raise RemoteError("sparse list: a value is not finite, or above 0")
    return ids, logprobs, _odds(data[3:5])


def _decode_rice(data: bytes, entries_max: int) -> _Decoded:
    count = int.from_bytes(data[1:3], "big") + 1
    gap_shift, step_shift, grain, deepest = data[3] >> 3, data[3] & 7, data[4] >> 6, data[4] & 63
    if count > entries_max or gap_shift > GAP_SHIFT_MAX or step_shift > STEP_SHIFT_MAX:
        raise RemoteError(
            f"sparse list: {count} entries with shifts {gap_shift} and {step_shift}: out of bounds"
        )
    bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=7))
    ones = np.flatnonzero(bits)
    gaps, at = _read_rice(bits, ones, 0, count, gap_shift)
    steps, at = _read_rice(bits, ones, at, count, step_shift)
    coarse = deepest - steps
    if coarse.min() < 0:
        raise RemoteError("sparse list: a value is above 0")
    widths = FINE_BITS[grain][coarse]
    end = at + int(widths.sum())
    # A whole byte of padding, or a one in it, is as wrong as a missing bit.
    if not 0 <= bits.size - end < 8 or bits[end:].any():
        raise RemoteError(
            f"sparse list: {bits.size} bits where {end} and zeros to the end of the byte were"
            " needed"
        )
    fine = np.zeros(count)
    some = np.flatnonzero(widths)
    if some.size:
        shifts = _fine_shifts(widths[some])
        present = shifts >= 0
        places = np.zeros(shifts.shape, dtype=np.int64)
        places[present] = bits[at:end]
        fine[some] = (places << np.maximum(shifts, 0)).sum(axis=1)
    return (
        np.cumsum(gaps + 1) - 1,
        -(coarse + (fine + 0.5) / (1 << widths)) / COARSE,
        _odds(data[5:7]),
    )


def _read_rice(bits: _Bits, ones: _Ints, at: int, count: int, shift: int) -> tuple[_Ints, int]:
    """`count` numbers whose unary plane begins at bit `at`, and where their remainder plane ends.
    `ones` are the bits set."""
    first = int(np.searchsorted(ones, at))
    ends = ones[first : first + count]
    begin = int(ends[-1]) + 1 if ends.size == count else bits.size
    end = begin + count * shift
    if ends.size != count or end > bits.size:
        raise RemoteError(f"sparse list: cut short at {len(bits) // 8 + 7} bytes")
    numbers = np.diff(ends, prepend=at - 1) - 1
    if shift:
        powers = 1 << np.arange(shift - 1, -1, -1)
        numbers = (numbers << shift) | bits[begin:end].reshape(count, shift) @ powers
    return numbers, end
