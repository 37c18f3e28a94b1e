"""Sparse lists in compiled code and in numpy: the same bytes (also step by step in numpy), and the
same lists back, bit for bit."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swarmllm.errors import RemoteError
from swarmllm.wire.exponentials import exponentials
from swarmllm.wire.sparse import FORM_RICE, decode_plainly, odds_of, size_max
from swarmllm.wire.sparse_encoding import (
    encode_logits,
    encode_rows,
    encode_rows_plainly,
)
from tests import ROOT
from tests.wire import plain_sparse
from tests.wire.strategies import mutate
from tests.wire.test_sparse import values_with_ties

Floats = npt.NDArray[np.float32]
Bounds = Sequence[tuple[int, int]]
Encoder = Callable[[Floats, Bounds], list[bytes | None]]
BUILD = "from setuptools import setup; setup()"  # As pyproject.toml has it.
BUILD_S = 120


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`_sparse.c` as it is now, not as it was when the package was installed."""
    folder = tmp_path_factory.mktemp("sparse")
    command = [sys.executable, "-c", BUILD, "build_ext", "-b", str(folder), "-t", str(folder)]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning: " not in done.stderr, done.stderr
    file = next(folder.rglob("_sparse*.so"))
    spec = importlib.util.spec_from_file_location("_sparse", file)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="session")
def encoders(module: Any) -> list[Encoder]:
    def compiled(rows: Floats, bounds: Bounds) -> list[bytes | None]:
        found: list[bytes | None] = module.encode_rows(
            rows, np.array(bounds, np.int32), rows.shape[1]
        )
        return found

    def shared(rows: Floats, bounds: Bounds) -> list[bytes | None]:
        """By several threads, as beside llama.cpp, which brings this library with it."""
        ctypes.CDLL("libgomp.so.1")
        found: list[bytes | None] = module.encode_rows(
            rows, np.array(bounds, np.int32), rows.shape[1], 3
        )
        return found

    return [compiled, shared, encode_rows_plainly, encode_rows]


def step_by_step(rows: Floats, bounds: Bounds) -> list[bytes | None]:
    return [
        plain_sparse.encode(row, *bound) if np.isfinite(row.max()) else None
        for row, bound in zip(rows, bounds, strict=True)
    ]


@settings(max_examples=300)
@given(st.data(), st.integers(1, 400), st.integers(1, 6))
def test_a_batch_of_rows_gives_each_row_its_own_list(
    encoders: list[Encoder], data: st.DataObject, size: int, count: int
) -> None:
    """Byte by byte what one row after another gives, also where rows differ in length."""
    values = st.one_of(values_with_ties, st.sampled_from((np.nan, np.inf, -0.0)))
    rows = data.draw(hnp.arrays(np.float32, (count, size), elements=values, fill=st.just(0.0)))
    bounds = st.tuples(st.integers(1, 300), st.sampled_from((0, 0, 1, 655, 65_535)))
    wanted = data.draw(st.lists(bounds, min_size=count, max_size=count))
    expected = step_by_step(rows, wanted)
    for encoder in encoders:
        assert encoder(rows, wanted) == expected
    assert [
        encode_logits(row, *bound) if expected[i] is not None else None
        for i, (row, bound) in enumerate(zip(rows, wanted, strict=True))
    ] == expected


@pytest.mark.parametrize("vocabulary", [32_000, 49_152, 128_256, 262_144])
@pytest.mark.parametrize("spread", [0.1, 3.0, 1e5])
def test_a_batch_over_a_full_vocabulary_gives_each_row_its_own_list(
    encoders: list[Encoder], vocabulary: int, spread: float
) -> None:
    rng = np.random.default_rng(vocabulary)
    rows = (rng.standard_normal((9, vocabulary)) * spread).astype(np.float32)
    rows[2] = np.round(rows[2])  # Ties in plenty,
    rows[3, rng.integers(0, vocabulary, 300)] = 80.0  # also for the first place;
    rows[4] = -np.inf  # one possible token;
    rows[4, -1] = 0.0
    rows[5, 7] = np.nan  # and no distribution.
    wanted = [(256, 0)] * 6 + [(256, 655), (1024, 0), (1, 0)]
    expected = step_by_step(rows, wanted)
    assert expected[5] is None
    for encoder in encoders:
        assert encoder(rows, wanted) == expected
        assert encoder(rows[:0], []) == []


def assert_both_read_the_same(module: Any, data: bytes, entries_max: int, vocab_size: int) -> None:
    """What numpy takes for a list, and only that."""
    if not 8 <= len(data) <= size_max(entries_max):
        return  # Refused before either.
    found = module.decode_list(data, entries_max, vocab_size, odds_of(data[5:7]))
    try:
        expected = decode_plainly(data, entries_max, vocab_size)
    except RemoteError:
        assert found is None
        return
    if data[0] != FORM_RICE:
        assert found is None
        return
    assert found == (expected.ids.tobytes(), expected.logprobs.tobytes())


@settings(max_examples=500)
@given(
    st.one_of(
        st.binary(min_size=8, max_size=120).map(lambda b: b"\1\0" + b[2:]),
        st.binary(min_size=8, max_size=1600).map(lambda b: b"\1" + b[1:]),
        st.integers(0, 1500).map(lambda n: b"\1\0\xff\xa5\xff\x80\0" + bytes(n) + b"\1"),
    ),
    st.sampled_from((1, 256, 1024)),
    st.sampled_from((1, 300, 128_256, 1 << 20)),
)
def test_any_bytes_are_the_same_list_to_both_or_none(
    module: Any, data: bytes, entries_max: int, vocab_size: int
) -> None:
    assert_both_read_the_same(module, data, entries_max, vocab_size)


def test_lists_and_broken_lists_are_the_same_to_both(module: Any) -> None:  # 10^4 executions
    rng, draw = Random(20261128), np.random.default_rng(20261128)
    samples = [
        encode_logits((draw.standard_normal(size) * spread).astype(np.float32), entries, tail_max)
        for size in (1, 2, 40, 300, 5_000, 128_256)
        for spread in (0.1, 3, 30)
        for entries, tail_max in ((1, 0), (20, 655), (256, 0), (1024, 0))
    ]
    for data in samples:
        assert_both_read_the_same(module, data, 1024, 128_256)
        assert_both_read_the_same(module, data, 1024, 1_000)
        assert_both_read_the_same(module, data, 255, 128_256)
    for _ in range(10_000):
        assert_both_read_the_same(module, mutate(rng, rng.choice(samples)), 1024, 128_256)


def test_exponentials_are_those_of_numpy_and_add_up_exactly() -> None:
    rng = np.random.default_rng(20261128)
    values = np.concatenate([-rng.exponential(6, 100_000), [0, -24, -1e30, -np.inf]])
    given = values.astype(np.float32)
    found = exponentials(given, np.float32(0))
    assert np.abs(found - np.exp(given.astype(np.float64))).max() <= 1e-7
    assert (found * 2**32 == np.round(found * 2**32)).all()
    assert sum(found.tolist()) == sum(sorted(found.tolist())) == float(found.sum())
    assert np.isnan(exponentials(np.array([np.nan, 0], np.float32), np.float32(0))[0])


@pytest.mark.parametrize(
    ("rows", "bounds", "vocabulary"),
    [
        (np.zeros((1, 5), np.float32), [(4, 0)], 0),
        (np.zeros((1, 5), np.float32), [(4, 0)], 6),
        (np.zeros((1, 5), np.float32), [(4, 0), (4, 0)], 5),
        (np.zeros((1, 5), np.float32), [(0, 0)], 5),
        (np.zeros((1, 5), np.float32), [(1025, 0)], 5),
        (np.zeros((1, 5), np.float32), [(4, -1)], 5),
        (np.zeros((1, 5), np.float32), [(4, 65_536)], 5),
        (np.zeros((1, (1 << 20) + 1), np.float32), [(4, 0)], (1 << 20) + 1),
    ],
)
def test_the_compiled_code_reads_nothing_beyond_its_arguments(
    module: Any, rows: Floats, bounds: Bounds, vocabulary: int
) -> None:
    with pytest.raises(ValueError, match=r"bounds|vocabulary"):
        module.encode_rows(rows, np.array(bounds, np.int32), vocabulary)
