"""Laws of asking more experts: the share that the user set, at the tokens that are least sure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.decoding.cascade import Cascade, surprise
from swarmllm.wire.sparse import SparseList


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 0.95), st.floats(0.1, 6.0), st.integers(0, 99))
def test_the_share_is_kept_whatever_the_scale_of_surprise(
    share: float, scale: float, seed: int
) -> None:
    draws = np.random.default_rng(seed).gamma(1.5, scale, size=2000)
    cascade = Cascade(share)
    found = np.mean([cascade.widen(float(x)) for x in draws])
    assert found == pytest.approx(share, abs=0.06)


def test_it_is_the_unsure_tokens_that_are_picked() -> None:
    draws = np.random.default_rng(1).gamma(1.5, 1.5, size=3000)
    cascade = Cascade(0.3)
    picked = np.array([cascade.widen(float(x)) for x in draws])
    assert draws[picked].mean() > 2 * draws[~picked].mean()


def test_all_and_none_are_exact() -> None:
    assert not any(Cascade(0.0).widen(x) for x in (0.0, 5.0, 50.0))
    assert all(Cascade(1.0).widen(x) for x in (0.0, 5.0, 50.0))


def test_it_follows_a_text_that_becomes_harder() -> None:
    cascade = Cascade(0.2)
    rng = np.random.default_rng(2)
    for x in rng.gamma(1.5, 0.5, size=500):
        cascade.widen(float(x))
    late = [cascade.widen(float(x)) for x in rng.gamma(1.5, 5.0, size=600)]
    assert np.mean(late[300:]) == pytest.approx(0.2, abs=0.08)


def listed(probs: list[float]) -> SparseList:
    return SparseList(
        np.arange(len(probs), dtype=np.int32), np.log(np.array(probs, np.float32)), 1 - sum(probs)
    )


@given(st.integers(1, 200))
def test_surprise_of_a_uniform_distribution_is_the_logarithm_of_its_size(size: int) -> None:
    assert surprise(listed([1 / size] * size)) == pytest.approx(np.log(size), abs=1e-3)


def test_a_heavy_tail_is_a_surprise() -> None:
    assert surprise(listed([0.25, 0.25])) > surprise(listed([0.5, 0.49]))
    assert surprise(listed([1.0])) == pytest.approx(0.0)
