"""The sequential test alarms soon where lists are of another model, and as good as never where
rounding explains them."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.trust.comparison import Difference
from swarmllm.core.trust.suspicion import (
    ALARM_NATS,
    POSITIONS,
    SAME_NATS,
    SAME_VARIATION,
    STEP_MAX_NATS,
    Suspicion,
    differs,
    step,
)

masses = st.none() | st.floats(0, 60)
differences = st.builds(Difference, st.floats(0, 1), st.floats(0, 40), st.integers(0, 256), masses)


def drawn(rng: random.Random, variation: float, nats: float) -> tuple[Difference, ...]:
    return tuple(
        Difference(min(1.0, rng.expovariate(1 / variation)), rng.expovariate(1 / nats))
        for _ in range(POSITIONS)
    )


@given(differences)
def test_one_position_convicts_nobody(one: Difference) -> None:
    assert step(one) <= STEP_MAX_NATS < ALARM_NATS / 3
    assert not Suspicion().after([one] * 3).is_alarm


@given(differences, differences)
def test_a_greater_difference_says_no_less(one: Difference, other: Difference) -> None:
    high = Difference(max(one.variation, other.variation), max(one.nats, other.nats))
    plain = [step(Difference(each.variation, each.nats)) for each in (one, other)]
    assert step(high) >= max(plain)


@given(st.lists(differences, max_size=40))
def test_suspicion_stays_between_nothing_and_the_alarm(found: list[Difference]) -> None:
    after = Suspicion().after(found)
    assert 0 <= after.nats <= ALARM_NATS
    assert Suspicion(ALARM_NATS).after(found).is_alarm


def test_the_mean_likelihood_ratio_of_honest_positions_is_at_most_one() -> None:
    """Which is what the promise about false alarms rests on."""
    rng, count = random.Random(7), 100_000
    found = drawn(rng, SAME_VARIATION, SAME_NATS)
    ratios = [
        math.exp(step(one))
        for _ in range(count // POSITIONS)
        for one in drawn(rng, SAME_VARIATION, SAME_NATS)
    ]
    assert sum(ratios) / len(ratios) < 1.05
    assert len(found) == POSITIONS


def test_honest_experts_are_not_found_in_ten_thousand_audits() -> None:
    rng, suspicion = random.Random(8), Suspicion()
    for _ in range(10_000):
        suspicion = suspicion.after(drawn(rng, 0.014, 0.05))
        assert not suspicion.is_alarm


@pytest.mark.parametrize("variation", [0.2, 0.4])
def test_another_model_is_found_within_three_audits(variation: float) -> None:
    rng = random.Random(9)
    for _ in range(200):
        suspicion = Suspicion()
        for _ in range(3):
            suspicion = suspicion.after(drawn(rng, variation, 1.0))
        assert suspicion.is_alarm


def test_good_behaviour_of_long_ago_excuses_nothing() -> None:
    good, bad = Difference(0.001, 0.001), Difference(0.5, 3.0)
    spotless = Suspicion().after([good] * 10_000)
    assert spotless.after([bad] * 4).is_alarm
    assert differs([bad] * POSITIONS)
    assert not differs([good] * POSITIONS)


def test_a_set_is_a_third_way_to_differ_and_costs_an_honest_expert_nothing() -> None:
    assert step(Difference(0.001, 0.001, mass=3.0)) > 3
    rng, count = random.Random(9), 50_000
    ratios = [
        math.exp(step(replace(one, mass=rng.expovariate(1 / SAME_NATS))))
        for _ in range(count // POSITIONS)
        for one in drawn(rng, SAME_VARIATION, SAME_NATS)
    ]
    assert sum(ratios) / len(ratios) < 1.05
