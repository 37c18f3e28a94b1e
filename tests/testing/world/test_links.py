"""Laws of links: how long messages take, and what becomes of them."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.testing.world.links import PERFECT, RETRANSMIT_MIN_S, Delays, LinkModel, distance

DRAWS = 20_000
POINT = st.tuples(st.floats(0, 1), st.floats(0, 1))


def delays(**model: float) -> Delays:
    return Delays(LinkModel(**model), random.Random(1))


@given(POINT, POINT, POINT)
def test_no_detour_is_shorter(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]
) -> None:
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-12
    assert 0 <= distance(a, b) <= 1 + 1e-12


def test_half_of_all_messages_take_less_than_the_median_and_two_thirds_lie_within_one_sigma() -> (
    None
):
    drawn = delays(near_s=0.02, sigma=0.4)
    times = sorted(drawn.draw_s(0.02) for _ in range(DRAWS))
    assert statistics.median(times) == pytest.approx(0.02, rel=0.03)
    within = sum(0.02 * math.exp(-0.4) <= one <= 0.02 * math.exp(0.4) for one in times)
    assert within / DRAWS == pytest.approx(0.683, abs=0.03)


def test_a_perfect_link_takes_its_median_each_time() -> None:
    drawn = Delays(PERFECT, random.Random(1))
    assert {drawn.draw_s(0.01) for _ in range(100)} == {0.01}


def test_bytes_take_their_time() -> None:
    assert delays(sigma=0.0, bytes_per_s=1000.0).draw_s(0.01, 500) == pytest.approx(0.51)


def test_a_lost_packet_waits_for_its_retransmission_and_none_is_lost_for_good() -> None:
    drawn = delays(sigma=0.0, loss=0.1)
    times = [drawn.draw_s(0.01) for _ in range(DRAWS)]
    once = [one for one in times if one == pytest.approx(0.01 + RETRANSMIT_MIN_S)]
    assert sum(one == 0.01 for one in times) / DRAWS == pytest.approx(0.9, abs=0.01)
    assert len(once) / DRAWS == pytest.approx(0.09, abs=0.01)
    # Twice in a row: the second wait is twice as long.
    assert max(times) >= 0.01 + 3 * RETRANSMIT_MIN_S


def test_faults_come_as_often_as_they_are_asked_for() -> None:
    drawn = delays(drop=0.1, duplicate=0.2, reorder=0.3)
    copies = [drawn.copies() for _ in range(DRAWS)]
    assert copies.count(0) / DRAWS == pytest.approx(0.1, abs=0.01)
    assert copies.count(2) / DRAWS == pytest.approx(0.2, abs=0.01)
    assert sum(drawn.overtakes() for _ in range(DRAWS)) / DRAWS == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize(
    "model", [{"near_s": -0.1}, {"bytes_per_s": 0.0}, {"loss": 1.0}, {"drop": -0.1}]
)
def test_an_impossible_link_is_refused(model: dict[str, float]) -> None:
    with pytest.raises(AssertionError):
        LinkModel(**model)
