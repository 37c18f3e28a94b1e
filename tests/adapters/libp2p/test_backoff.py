"""Pauses between attempts: few for a peer that is away or comes and goes, none to speak of for one
that was lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.libp2p.backoff import Backoff

LEAST, MOST = 0.5, 60.0
held = st.floats(0.0, 1_000.0)


@given(st.lists(held, max_size=40))
def test_every_pause_is_within_its_bounds(times: list[float]) -> None:
    backoff = Backoff(LEAST, MOST)
    assert all(LEAST <= backoff.pause_s(one) <= MOST for one in times)


def test_failures_in_a_row_double_it() -> None:
    backoff = Backoff(LEAST, MOST)
    assert [backoff.pause_s(0.0) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


@given(st.lists(held, max_size=40))
def test_a_peer_that_stayed_longer_than_the_pause_is_sought_at_once(times: list[float]) -> None:
    backoff = Backoff(LEAST, MOST)
    for one in times:
        backoff.pause_s(one)
    assert backoff.pause_s(MOST + 1.0) == LEAST


@given(st.floats(0.0, LEAST))
def test_a_peer_that_leaves_at_once_is_left_alone(stay_s: float) -> None:
    backoff = Backoff(LEAST, MOST)
    assert [backoff.pause_s(stay_s) for _ in range(8)][-1] == MOST


def test_lost_every_ten_seconds_it_is_found_again_within_five() -> None:
    backoff = Backoff(LEAST, MOST)
    assert max(
        backoff.pause_s(stay_s) for _ in range(100) for stay_s in (10.0, 0.0, 0.0, 0.0)
    ) == pytest.approx(4.0)
