"""Paired differences: what is beyond noise."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.validation.statistics import LOOKS, Interval, interval_of, is_decided, look_at
from swarmllm.errors import UsageError

numbers = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
samples = st.lists(numbers, min_size=8, max_size=8)


@pytest.mark.parametrize("pairs", LOOKS)
def test_the_quantiles_are_those_of_students_t(pairs: int) -> None:
    """The density, integrated over the interval: 98.33 %, so that three looks leave 5 %."""
    df = pairs - 1
    at = np.linspace(-LOOKS[pairs], LOOKS[pairs], 20_001)
    density = (1 + at * at / df) ** (-(df + 1) / 2)
    density *= math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    inside = float(((density[1:] + density[:-1]) / 2).sum() * (at[1] - at[0]))
    assert inside == pytest.approx(1 - 0.05 / 3, abs=2e-5)


@given(samples, numbers)
def test_a_shift_shifts_the_interval(differences: list[float], shift: float) -> None:
    one, other = interval_of(differences), interval_of([d + shift for d in differences])
    assert other.mean == pytest.approx(one.mean + shift, abs=1e-6)
    assert other.high - other.low == pytest.approx(one.high - one.low, abs=1e-6)


@given(samples)
def test_the_other_way_round_the_finding_is_the_opposite(differences: list[float]) -> None:
    opposite = {"better": "worse", "worse": "better", "no difference": "no difference"}
    turned = interval_of([-d for d in differences])
    assert turned.finding == opposite[interval_of(differences).finding]


@given(samples)
def test_the_order_of_pairs_says_nothing(differences: list[float]) -> None:
    assert interval_of(differences) == interval_of(sorted(differences))


def test_the_same_difference_in_every_pair_is_beyond_noise() -> None:
    assert interval_of([0.5] * 8).finding == "worse"
    assert interval_of([0.0] * 8).finding == "no difference"


def test_what_is_certainly_hardly_anything_is_decided() -> None:
    assert is_decided(Interval(0.0, -0.5, 0.5, 8))
    assert not is_decided(Interval(0.0, -1.5, 0.5, 8))


def test_noise_alone_is_seldom_a_finding_over_all_looks() -> None:
    """At most one in twenty, as all looks together promise; drawn from one seed."""
    rng = random.Random(7)
    found = 0
    for _ in range(1000):
        drawn = [rng.gauss(0, 5) for _ in range(max(LOOKS))]
        intervals = [interval_of(drawn[:pairs]) for pairs in LOOKS]
        found += any(one.finding != "no difference" for one in intervals)
    assert found <= 50


def test_a_number_of_pairs_that_is_not_looked_at_is_refused() -> None:
    assert look_at(16) == (8, 16)
    with pytest.raises(UsageError, match="9 pairs are not looked at; choose 8, 16, 32"):
        look_at(9)
