"""Laws of the weights: a distribution, order-free, led by evidence, never zero."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core import gate
from swarmllm.messages import PeerId

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
Evidence = st.dictionaries(st.integers(0, 20), st.floats(-70, 0), max_size=20)


@given(Evidence, Evidence, Evidence)
def test_weights_are_a_distribution_with_a_floor_whatever_the_evidence(
    a: dict[int, float], b: dict[int, float], c: dict[int, float]
) -> None:
    found = gate.weights({A: a, B: b, C: c}, [A, B, C])
    assert math.isclose(sum(found), 1.0, abs_tol=1e-9)
    assert min(found) >= gate.UNIFORM_SHARE / 3 - 1e-12


def test_replicas_weigh_the_same() -> None:
    seen = {t: -1.5 * t for t in range(10)}
    assert gate.weights({A: seen, B: dict(seen)}, [A, B]) == pytest.approx([0.5, 0.5])


def test_the_better_expert_weighs_more_and_order_does_not_matter() -> None:
    evidence = {A: dict.fromkeys(range(30), -1.0), B: dict.fromkeys(range(30), -3.0)}
    a, b = gate.weights(evidence, [A, B])
    assert a > 0.9
    assert gate.weights(evidence, [B, A]) == [b, a]


def test_an_expert_without_evidence_keeps_a_uniform_share() -> None:
    evidence = {A: dict.fromkeys(range(30), -1.0), B: dict.fromkeys(range(30), -9.0)}
    assert gate.weights(evidence, [A, B, C])[2] == pytest.approx(1 / 3)


def test_no_evidence_is_uniform() -> None:
    assert gate.weights({}, [A, B]) == [0.5, 0.5]
