"""Intervals hold what they promise, and pairing takes out what both have in common."""

from __future__ import annotations

import numpy as np
import pytest

from swarmllm.cli.eval.statistics import Bootstrap


def test_the_interval_is_that_of_the_mean_of_documents() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(3.0, 1.0, 400)
    found = Bootstrap(400, 7).ratio(values, np.ones(400))
    assert found.mean == pytest.approx(values.mean())
    assert found.half == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert found.low < found.mean < found.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    bootstrap = Bootstrap(40, 7)
    covered = 0
    for _ in range(300):
        found = bootstrap.ratio(rng.exponential(2.0, 40), np.ones(40))
        covered += found.low <= 2.0 <= found.high
    assert 0.87 <= covered / 300 <= 0.98


def test_longer_documents_weigh_more() -> None:
    found = Bootstrap(2, 1).ratio(np.array([10.0, 300.0]), np.array([10.0, 100.0]))
    assert found.mean == pytest.approx(310 / 110)


def test_a_constant_difference_is_certain_however_much_documents_differ() -> None:
    rng = np.random.default_rng(3)
    one = rng.normal(100, 50, 30)
    found = Bootstrap(30, 1).ratio((one - 0.5) - one, np.ones(30))
    assert (found.low, found.mean, found.high) == pytest.approx((-0.5, -0.5, -0.5))


def test_documents_of_no_weight_do_not_divide_by_nothing() -> None:
    found = Bootstrap(3, 1).ratio(np.array([0.0, 0.0, 6.0]), np.array([0.0, 0.0, 2.0]))
    assert (found.low, found.mean, found.high) == pytest.approx((3, 3, 3))


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.arange(10.0)
    first, again = (Bootstrap(10, 5).ratio(values, np.ones(10)) for _ in range(2))
    assert first == again
    assert first != Bootstrap(10, 6).ratio(values, np.ones(10))
