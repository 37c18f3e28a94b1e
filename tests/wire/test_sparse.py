"""What survives of a distribution: its largest entries exactly by rank, nearly by value. Cites
protocols/sparse.md (SPARSE)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swarmllm.errors import LocalError, RemoteError
from swarmllm.wire.sparse import LOGPROB_MIN, SparseList, decode_list, size_max
from swarmllm.wire.sparse_encoding import encode_list, encode_logits
from tests.wire.strategies import mutate

Floats = npt.NDArray[np.float32]
VOCABULARY = 128_256


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore"):
        shifted = (logits - logits.max()).astype(np.float64)
    found: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return found


def total_variation(logits: Floats, found: SparseList) -> float:
    """Between truth and list, all left-out tokens taken as one."""
    true = np.exp(log_softmax(logits))
    kept = true[found.ids]
    off = np.abs(np.exp(found.logprobs.astype(np.float64)) - kept).sum()
    return float(off + abs(found.tail - (1 - kept.sum()))) / 2


# Few distinct values make ties; steps of less than a float16 or a cell make near ties; -inf is a
# forbidden token.
values_with_ties = st.one_of(
    st.floats(-40, 40, width=32),
    st.integers(-3, 3).map(float),
    st.integers(0, 50).map(lambda i: float(np.float32(1 + i * 2**-20))),
    st.just(float("-inf")),
    st.floats(float(np.float32(-3e38)), float(np.float32(3e38)), width=32),
)
logits_rows = hnp.arrays(
    np.float32, st.integers(1, 400), elements=values_with_ties, fill=st.just(0.0)
).filter(lambda a: bool(np.isfinite(a.max())))


@settings(max_examples=300)
@given(logits_rows, st.integers(1, 300), st.sampled_from((0, 0, 1, 655, 65_535)))
# Differ as logits, not as log-probabilities.
@example(np.array([0, 6.995631e-22], np.float32), 2, 65_535)
@example(np.array([1, 1 + 2**-23, 1], np.float32), 3, 0)
# SPARSE-1
def test_the_largest_decoded_value_is_the_true_one_and_alone(
    logits: Floats, entries_max: int, tail_max: int
) -> None:
    found = decode_list(encode_logits(logits, entries_max, tail_max), entries_max, logits.size)
    top = found.logprobs.max()
    assert found.ids[np.argmax(found.logprobs)] == np.argmax(logits)
    assert np.count_nonzero(found.logprobs == top) == 1


@given(logits_rows, st.integers(1, 300))
# SPARSE-2
def test_the_likeliest_are_kept_and_equals_by_lowest_id(logits: Floats, entries_max: int) -> None:
    found = decode_list(encode_logits(logits, entries_max, 0), entries_max, logits.size)
    best = np.argsort(-logits.astype(np.float64), kind="stable")[:entries_max]
    best = best[log_softmax(logits)[best] >= LOGPROB_MIN + 1e-3]
    kept = found.ids.tolist()
    assert set(best.tolist()) <= set(kept)
    assert kept == sorted(set(kept))
    assert len(kept) <= entries_max
    assert found.ids.dtype == np.int32
    assert found.logprobs.dtype == np.float32


@given(logits_rows, st.integers(1, 300))
def test_values_and_tail_add_up_to_one(logits: Floats, entries_max: int) -> None:  # SPARSE-7
    found = decode_list(encode_logits(logits, entries_max, 0), entries_max, logits.size)
    assert float(np.exp(found.logprobs.astype(np.float64)).sum()) + found.tail == pytest.approx(
        1, abs=1e-4
    )
    assert 0 <= found.tail < 1
    assert (found.logprobs <= 0).all()


@given(logits_rows, st.integers(1, 300))
def test_values_are_off_by_cells_only(logits: Floats, entries_max: int) -> None:  # SPARSE-5
    found = decode_list(encode_logits(logits, entries_max, 0), entries_max, logits.size)
    off = np.abs(found.logprobs - log_softmax(logits)[found.ids])
    # Half a coarse cell, the winner's step, and the common scale, which corrects what half a cell
    # can do to the sum.
    assert off.max() <= 0.25 + 0.5 + 0.25
    # At worst one half of the mass is a quarter nat too high and the other too low: (e**0.25 -
    # e**-0.25) / 4.
    assert total_variation(logits, found) <= 0.13


@given(logits_rows, st.integers(1, 300), st.integers(1, 65_535))
def test_a_list_stops_when_what_it_leaves_out_is_small_enough(
    logits: Floats, entries_max: int, tail_max: int
) -> None:  # SPARSE-3
    all_of_it = decode_list(encode_logits(logits, entries_max, 0), entries_max, logits.size)
    shorter = decode_list(encode_logits(logits, entries_max, tail_max), entries_max, logits.size)
    assert set(shorter.ids.tolist()) <= set(all_of_it.ids.tolist())
    true = np.sort(np.exp(log_softmax(logits)))[::-1]
    count, bound = shorter.ids.size, tail_max / 65_536
    if count < all_of_it.ids.size:
        assert 1 - true[:count].sum() <= bound + 1e-6
    if count > 1:
        assert 1 - true[: count - 1].sum() >= bound - 1e-6


@settings(max_examples=300)
@given(logits_rows, st.integers(1, 300), st.booleans())
# SPARSE-8
def test_no_list_is_longer_than_its_bound(logits: Floats, entries_max: int, raw: bool) -> None:
    data = encode_logits(logits, entries_max, 0)
    found = decode_list(data, entries_max, logits.size)
    assert len(data) <= size_max(found.ids.size)
    again = encode_list(found, raw=raw)
    assert len(again) <= size_max(found.ids.size)
    back = decode_list(again, entries_max, logits.size)
    assert back.ids.tolist() == found.ids.tolist()
    assert np.argmax(back.logprobs) == np.argmax(found.logprobs)


def random_list(rng: np.random.Generator, count: int) -> SparseList:
    ids = np.sort(rng.choice(VOCABULARY, count, replace=False)).astype(np.int32)
    weights = rng.dirichlet(np.full(count + 1, 0.3)) + 1e-9
    weights /= weights.sum()
    return SparseList(ids, np.log(weights[1:]).astype(np.float32), float(weights[0]))


def test_the_raw_form_keeps_values_to_half_precision() -> None:  # SPARSE-4
    rng = np.random.default_rng(20261123)
    for count in (1, 2, 17, 256, 1024):
        given_list = random_list(rng, count)
        data = encode_list(given_list, raw=True)
        assert len(data) == 5 + 6 * count
        found = decode_list(data, 1024, VOCABULARY)
        assert found.ids.tolist() == given_list.ids.tolist()
        assert np.abs(found.logprobs - given_list.logprobs).max() <= 0.02
        assert found.tail == pytest.approx(given_list.tail, rel=2e-3)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from((1, 2, 3, 255, 256, 1024)))
def test_a_list_at_hand_is_coded_like_one_from_logits(seed: int, count: int) -> None:  # SPARSE-5
    given_list = random_list(np.random.default_rng(seed), count)
    found = decode_list(encode_list(given_list), 1024, VOCABULARY)
    assert found.ids.tolist() == given_list.ids.tolist()
    assert np.argmax(found.logprobs) == np.argmax(given_list.logprobs)
    assert found.tail == pytest.approx(given_list.tail, rel=2e-3, abs=1e-7)


def zipf(slope: float, boost: float, active: int) -> Callable[[np.random.Generator], Floats]:
    def draw(rng: np.random.Generator) -> Floats:
        logits = rng.normal(-40, 2, VOCABULARY).astype(np.float32)
        values = -slope * np.log(np.arange(active) + 3) + rng.normal(0, 0.3, active)
        values[0] += boost
        logits[rng.permutation(rng.choice(VOCABULARY, active, replace=False))] = values
        return logits

    return draw


REALISTIC = {
    "undecided": zipf(1.0, 0, VOCABULARY),
    "decided": zipf(1.3, 3, VOCABULARY),
    "steep": zipf(1.7, 3, VOCABULARY),
    "few active ids": zipf(1.3, 3, 15_000),
    "near certain": zipf(2.5, 6, VOCABULARY),
}


@pytest.mark.parametrize("draw", REALISTIC.values(), ids=REALISTIC)
def test_a_usual_list_of_256_takes_480_bytes_and_a_hundredth_of_error(
    draw: Callable[[np.random.Generator], Floats],
) -> None:
    rng = np.random.default_rng(20261123)
    sizes, errors = [], []
    for _ in range(8):
        logits = draw(rng)
        data = encode_logits(logits, 256, 0)
        found = decode_list(data, 256, VOCABULARY)
        assert found.ids.size == 256
        assert found.ids[np.argmax(found.logprobs)] == np.argmax(logits)
        sizes.append(len(data))
        errors.append(total_variation(logits, found))
    assert np.mean(sizes) <= 480
    assert np.mean(errors) <= 0.01


def test_equal_logits_are_kept_by_lowest_id() -> None:  # SPARSE-2
    found = decode_list(encode_logits(np.zeros(VOCABULARY, np.float32), 256, 0), 256, VOCABULARY)
    assert found.ids.tolist() == list(range(256))
    assert np.argmax(found.logprobs) == 0
    assert found.tail == pytest.approx(1 - 256 / VOCABULARY, abs=1e-4)


def test_one_possible_token_is_a_list_of_one() -> None:
    logits = np.full(1000, -np.inf, np.float32)
    logits[777] = 5
    found = decode_list(encode_logits(logits, 256, 0), 256, 1000)
    assert found.ids.tolist() == [777]
    assert found.logprobs[0] == pytest.approx(0, abs=1e-9)
    assert found.tail == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_broken_model_is_the_callers_fault(bad: float) -> None:
    logits = np.zeros(1000, np.float32)
    logits[500] = bad
    with pytest.raises(LocalError, match="broken"):
        encode_logits(logits, 256, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        (np.full(10, -np.inf, np.float32), 4, 0),
        (np.zeros(0, np.float32), 4, 0),
        (np.zeros((2, 5), np.float32), 4, 0),
        (np.zeros(10, np.float32), 0, 0),
        (np.zeros(10, np.float32), 1025, 0),
        (np.zeros(10, np.float32), 4, 65_536),
        (np.zeros(10, np.float32), 4, -1),
    ],
    ids=[
        "all impossible",
        "no logits",
        "two rows",
        "no entries",
        "too many entries",
        "tail of one",
        "negative tail",
    ],
)
def test_arguments_out_of_bounds_are_the_callers_fault(arguments: tuple[Any, Any, Any]) -> None:
    with pytest.raises(LocalError):
        encode_logits(*arguments)


HALF = float(np.log(0.5))


@pytest.mark.parametrize(
    ("ids", "logprobs", "tail"),
    [
        ([], [], 1.0),
        ([1, 1], [HALF, HALF], 0.0),
        ([2, 1], [HALF, HALF], 0.0),
        ([-1], [HALF], 0.5),
        ([1 << 20], [HALF], 0.5),
        ([1], [HALF], 0.1),
        ([1], [HALF], float("nan")),
        ([1, 2], [0.1, -5.0], 0.0),
        ([1, 2], [float("nan"), HALF], 0.5),
        ([1, 2], [float("-inf"), HALF], 0.5),
        ([1, 2], [HALF], 0.5),
    ],
)
def test_a_list_that_is_none_is_the_callers_fault(
    ids: list[int], logprobs: list[float], tail: float
) -> None:
    entries = SparseList(np.array(ids, np.int32), np.array(logprobs, np.float32), tail)
    for raw in (False, True):
        with pytest.raises(LocalError):
            encode_list(entries, raw=raw)


# --- hostile lists --------------------------------------------------------------------------------


def check(data: bytes, entries_max: int = 256, vocab_size: int = VOCABULARY) -> None:
    """The laws of a decoded list, for any bytes."""
    try:
        found = decode_list(data, entries_max, vocab_size)
    except RemoteError:
        return
    assert 1 <= found.ids.size == found.logprobs.size <= entries_max
    assert found.ids[0] >= 0
    assert found.ids[-1] < vocab_size
    assert (np.diff(found.ids) > 0).all()
    assert (np.isfinite(found.logprobs) & (found.logprobs <= 0)).all()
    assert float(np.exp(found.logprobs.astype(np.float64)).sum()) + found.tail <= 1.001
    assert np.count_nonzero(found.logprobs == found.logprobs.max()) == 1


@settings(max_examples=300)
@given(
    st.one_of(st.binary(max_size=80), st.binary(min_size=6, max_size=80).map(lambda b: b"\1\0" + b))
)
@example(b"")
@example(b"\1" + b"\xff" * 1500)
@example(b"\1\0\xff\xa5\xff\x80\0" + b"\0" * 1500)
# SPARSE-6, SPARSE-7, SPARSE-8
def test_any_bytes_are_a_list_or_raise_remote_error(data: bytes) -> None:
    check(data)


# SPARSE-6, SPARSE-7, SPARSE-8; 10^4 executions
def test_mutated_lists_obey_the_laws_or_raise() -> None:
    rng, draw = Random(20261123), np.random.default_rng(20261123)
    lists = [random_list(draw, count) for count in (1, 2, 5, 20, 256)]
    samples = [encode_list(entries, raw=raw) for entries in lists for raw in (False, True)]
    samples.append(encode_logits(draw.normal(0, 3, 500).astype(np.float32), 64, 0))
    for _ in range(10_000):
        check(mutate(rng, rng.choice(samples)))


def test_the_bounds_of_the_reader_hold_against_an_honest_list() -> None:  # SPARSE-6
    data = encode_list(random_list(np.random.default_rng(1), 256))
    last = int(decode_list(data, 256, VOCABULARY).ids[-1])
    assert decode_list(data, 256, last + 1).ids[-1] == last
    with pytest.raises(RemoteError, match="outside the vocabulary"):
        decode_list(data, 256, last)
    with pytest.raises(RemoteError):
        decode_list(data, 255, VOCABULARY)


@pytest.mark.parametrize("raw", [False, True])
def test_no_list_is_the_beginning_of_another(raw: bool) -> None:  # SPARSE-8
    data = encode_list(random_list(np.random.default_rng(2), 256), raw=raw)
    for other in (*(data[:cut] for cut in range(len(data))), data + b"\0", data + b"\x80"):
        with pytest.raises(RemoteError):
            decode_list(other, 256, VOCABULARY)


def test_memory_is_linear_in_the_input() -> None:  # SPARSE-8
    whole = encode_list(random_list(np.random.default_rng(3), 1024))
    worst = [
        whole,
        whole[:7] + b"\xff" * 6000,
        whole[:7] + bytes(6000),
        b"\1\3\xff\xa5\xff\x80\0" + b"\xff" * 6000,
    ]
    for data in worst:
        tracemalloc.start()
        with suppress(RemoteError):
            decode_list(data, 1024, VOCABULARY)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # A bit becomes a byte, a bit that is set 8 more; fine cells are 12 integers for each of
        # 1,024 entries at most.
        assert peak <= 100 * len(data) + 700 * 1024
