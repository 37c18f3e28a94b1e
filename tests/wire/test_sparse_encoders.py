"""One encoder of sparse lists written three times, the same bytes each time: compiled, in numpy for
a batch, and in numpy step by step."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swarmllm.wire.sparse_encoding import (
    encode_logits,
    encode_rows,
    encode_rows_plainly,
    exponentials,
)
from tests import ROOT
from tests.wire import plain_sparse
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

    return [compiled, encode_rows_plainly, encode_rows]


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
