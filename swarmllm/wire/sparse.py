"""Sparse log-probability lists: the likeliest tokens of a next-token distribution, and the mass of
all others.

Half a million bytes of logits become about 450. Ids, which carry most of the information, go as
Rice-coded gaps, within two per cent of the best that any code can do. Probabilities go as cells
whose width in nats shrinks as the probability grows, so that every entry adds about the same error
to the distribution. Two planes hold each Rice code, the unary parts in one and the remainders in
the other, so that both directions are a few numpy operations and no loop.

This module has the format's numbers and the decoder; `sparse_encoding` encodes.
`protocols/sparse.md` has the format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.errors import RemoteError
from swarmllm.wire.exponentials import exponentials
from swarmllm.wire.sparse_compiled import compiled

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
_Ints = npt.NDArray[np.int64]
_Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class SparseList:
    """`ids` int32[n] rising strictly, `logprobs` float32[n] in nats over the full vocabulary,
    `tail` the mass of all other tokens."""

    ids: npt.NDArray[np.int32]
    logprobs: npt.NDArray[np.float32]
    tail: float


def likeliest_id(found: SparseList) -> int:
    """The token of the largest probability, the lowest id among equals."""
    return int(found.ids[np.argmax(found.logprobs)])


def size_max(entries_max: int) -> int:
    """No list of so many entries is longer, in bytes, in either form."""
    return 8 + 6 * entries_max


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
    if compiled is not None and data[0] == FORM_RICE:
        odds = odds_of(data[5:7])
        found = compiled.decode_list(data, entries_max, vocab_size, odds)
        if found is not None:
            ids, logprobs = np.frombuffer(found[0], np.int32), np.frombuffer(found[1], np.float32)
            return SparseList(ids, logprobs, odds / (1.0 + odds))
    # Also for whatever compiled code takes for no list: what is wrong with it is said here.
    return decode_plainly(data, entries_max, vocab_size)


def decode_plainly(data: bytes, entries_max: int, vocab_size: int) -> SparseList:
    """`decode_list` in numpy: what the compiled code is compared with, and what there is without
    it."""
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
    mass = float(exponentials(logprobs.astype(np.float32), np.float32(0)).sum()) / (
        1.0 / (1.0 + odds)
    )
    slack = RAW_SLACK if data[0] == FORM_RAW else RICE_SLACK
    if not 1 / slack <= mass <= slack:
        raise RemoteError(
            f"sparse list: values weigh {mass:.4f} of what the odds of the tail leave them"
        )
    scaled = np.minimum(logprobs - math.log(mass), 0.0)
    return SparseList(ids.astype(np.int32), scaled.astype(np.float32), odds / (1.0 + odds))


_Decoded = tuple[_Ints, npt.NDArray[np.float64], float]


def odds_of(code: bytes) -> float:
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
    return ids, logprobs, odds_of(data[3:5])


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
        odds_of(data[5:7]),
    )


def _fine_shifts(widths: _Ints) -> _Ints:
    """int[n, FINE_BITS_MAX]: how far each bit of a fine cell number stands from its low end;
    negative where there is no such bit."""
    return widths[:, None] - np.arange(1, FINE_BITS_MAX + 1)


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
