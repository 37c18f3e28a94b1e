"""The observation: from a recording and a snapshot to metrics, whatever they hold."""

from __future__ import annotations

import math
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.agent.observation import BY_NAME, VALUE_MAX, observe
from swarmllm.core.validation.recording import Minute
from swarmllm.core.validation.snapshot import ExpertFigures, Snapshot

NOBODY = Snapshot(())


def test_what_experts_compute_in_vain_is_seen() -> None:
    """Ten tokens by three experts of five who were asked, and a prompt of twenty for each."""
    minute = Minute(1, answers=1, prompt_tokens=20, tokens=10, asked=50, sent=150, used=30)
    found = observe((minute,), NOBODY)
    assert found["wasted_share"] == pytest.approx(0.4)
    assert found["recomputed"] == pytest.approx(1.0)


def test_a_first_round_is_seen_beside_a_later_one() -> None:
    minute = Minute(1, tokens=10, p50_ms=100, p99_ms=800, first_ms=1_500)
    found = observe((minute,), NOBODY)
    assert (found["first_ratio"], found["stall_ratio"]) == (15, 8)


def test_an_answer_of_one_token_has_a_first_round_alone() -> None:
    found = observe((Minute(1, tokens=1, first_ms=300),), NOBODY)
    assert found["first_token_ms"] == 300
    assert not {"token_ms", "first_ratio", "stall_ratio"} & found.keys()


counts = st.integers(0, 2**32 - 1)
minutes = st.builds(Minute, *[counts] * len(astuple(Minute(0))))
experts = st.builds(ExpertFigures, *[counts] * 7)


@given(st.lists(minutes, max_size=4), st.lists(experts, max_size=4))
def test_metrics_are_finite_and_known_whatever_was_recorded(
    recording: list[Minute], known: list[ExpertFigures]
) -> None:
    for name, value in observe(tuple(recording), Snapshot(tuple(known))).items():
        assert name in BY_NAME
        assert math.isfinite(value)
        assert 0 <= value <= VALUE_MAX
