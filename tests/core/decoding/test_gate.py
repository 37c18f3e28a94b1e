"""Laws of the weights: a distribution, order-free, led by evidence, never zero, and the best that a
fixed mixture can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.decoding import gate
from swarmllm.core.decoding.gate import Gate, em, floored, soft_bayes
from swarmllm.core.settings.table import UNIFORM_SHARE
from swarmllm.messages import PeerId

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
EVEN = {A: 1.0, B: 1.0, C: 1.0}
Evidence = st.dictionaries(st.integers(0, 20), st.floats(-70, 0), max_size=20)


def informed(
    evidence: dict[PeerId, dict[int, float]], turns: tuple[range, ...] = (range(40),)
) -> Gate:
    found = Gate(turns)
    for source, known in evidence.items():
        for position, logprob in known.items():
            found.learn(source, position, logprob)
    return found


@given(
    Evidence,
    Evidence,
    Evidence,
    st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
    st.integers(0, 20),
)
def test_shares_are_a_distribution_with_a_floor_whatever_the_evidence(
    a: dict[int, float], b: dict[int, float], c: dict[int, float], priors: list[float], cut: int
) -> None:
    found = informed({A: a, B: b, C: c}, (range(cut), range(cut, 21)))
    shares = found.shares(dict(zip((A, B, C), priors, strict=True)))
    assert sum(shares.values()) == pytest.approx(1.0)
    for model, prior in zip((A, B, C), priors, strict=True):
        assert shares[model] >= UNIFORM_SHARE.usual * prior / sum(priors) - 1e-12


def test_without_evidence_the_shares_are_the_priors() -> None:
    assert Gate([range(9)]).shares({A: 3.0, B: 1.0}) == pytest.approx({A: 0.75, B: 0.25})


def test_the_better_model_weighs_more_and_order_does_not_matter() -> None:
    evidence = {A: dict.fromkeys(range(30), -1.0), B: dict.fromkeys(range(30), -3.0)}
    found = informed(evidence).shares({A: 1.0, B: 1.0})
    assert found[A] > 0.9
    assert informed(dict(reversed(evidence.items()))).shares({B: 1.0, A: 1.0}) == found


def test_a_prior_is_worth_a_few_tokens_and_no_more() -> None:
    strong = {A: 1.0, B: 1000.0}
    little = informed({A: {0: -1.0}, B: {0: -2.0}}).shares(strong)
    much = informed({A: dict.fromkeys(range(40), -1.0), B: dict.fromkeys(range(40), -2.0)}).shares(
        strong
    )
    assert little[B] > little[A]
    assert much[A] > 0.75


def test_a_model_without_evidence_keeps_its_part_of_the_prior() -> None:
    evidence = {A: dict.fromkeys(range(30), -1.0), B: dict.fromkeys(range(30), -9.0)}
    assert informed(evidence).shares(EVEN)[C] == pytest.approx(1 / 3)


def test_a_scrap_of_evidence_does_not_shrink_what_the_others_have_in_common() -> None:
    evidence = {A: dict.fromkeys(range(30), -1.0), B: dict.fromkeys(range(30), -9.0), C: {31: -0.1}}
    assert informed(evidence).shares(EVEN)[A] > 0.5


def test_what_was_heard_first_stands() -> None:
    found = informed({A: dict.fromkeys(range(9), -1.0), B: dict.fromkeys(range(9), -5.0)})
    before = found.shares({A: 1.0, B: 1.0})
    for position in range(9):
        found.learn(B, position, 0.0)
    assert found.shares({A: 1.0, B: 1.0}) == before


def test_em_finds_the_mixture_that_the_text_was_drawn_from() -> None:
    rng = np.random.default_rng(4)
    p = rng.dirichlet(np.full(50, 0.1), size=3) + 1e-9
    truth = np.array([0.7, 0.25, 0.05])
    drawn = rng.choice(50, size=4000, p=truth @ p / (truth @ p).sum())
    found = em(np.log(p[:, drawn].T), np.full(3, 1 / 3))
    assert found == pytest.approx(truth, abs=0.04)


@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 6))
def test_em_never_makes_the_text_less_likely_than_the_prior_does_beyond_what_the_prior_counts_for(
    seed: int, tokens: int, experts: int
) -> None:
    rng = np.random.default_rng(seed)
    logs, prior = -rng.exponential(3, size=(tokens, experts)), rng.dirichlet(np.ones(experts))

    def objective(w: gate.Floats) -> float:
        likely = float(np.log(np.exp(logs) @ w).sum())
        return likely + gate.PRIOR_COUNT * experts * float(prior @ np.log(w))

    assert objective(em(logs, prior)) >= objective(prior) - 1e-9


def test_soft_bayes_follows_a_text_that_changes_its_domain() -> None:
    good, bad = np.array([-1.0, -4.0]), np.array([-4.0, -1.0])
    w = np.array([0.5, 0.5])
    for _ in range(60):
        w = soft_bayes(w, good)
    assert w[0] > 0.9
    for _ in range(60):
        w = soft_bayes(w, bad)
    assert w[1] > 0.9


@given(st.lists(st.floats(-80, 0), min_size=2, max_size=5), st.floats(0.01, 0.9), st.floats(0, 0.5))
def test_soft_bayes_keeps_a_distribution_and_no_share_below_its_part(
    logs: list[float], eta: float, share: float
) -> None:
    w = np.full(len(logs), 1 / len(logs))
    for _ in range(20):
        w = soft_bayes(w, np.array(logs), eta, share)
    assert w.sum() == pytest.approx(1.0)
    assert w.min() >= share / len(logs) - 1e-12


def test_a_later_turn_outweighs_an_earlier_one() -> None:
    first, second = range(30), range(50, 110)
    known_a = dict.fromkeys(first, -1.0) | dict.fromkeys(second, -4.0)
    known_b = dict.fromkeys(first, -4.0) | dict.fromkeys(second, -1.0)
    assert informed({A: known_a, B: known_b}, (first, second)).shares({A: 1.0, B: 1.0})[B] > 0.8


def test_merit_compares_with_the_pool_of_all_that_were_asked() -> None:
    found = informed(
        {A: dict.fromkeys(range(10), -1.0), B: dict.fromkeys(range(10), -5.0)}
    ).merits()
    assert 0 < found[A] < np.log(2)
    assert found[A] - found[B] == pytest.approx(4.0)
    assert informed({A: dict.fromkeys(range(10), -1.0)}).merits() == {A: pytest.approx(0.0)}
    assert Gate([range(9)]).merits() == {}


def test_the_floor_is_spread_as_the_prior_has_it() -> None:
    assert floored(np.array([1.0, 0.0, 0.0]), 0.3) == pytest.approx([0.8, 0.1, 0.1])
    assert floored(np.array([1.0, 0.0]), 0.2, np.array([0.25, 0.75])) == pytest.approx([0.85, 0.15])


def test_a_word_that_does_not_count_changes_nothing_of_the_others_weights() -> None:
    evidence = {A: dict.fromkeys(range(30), -1.0), B: dict.fromkeys(range(30), -3.0)}
    boast = evidence | {C: dict.fromkeys(range(30), 0.0)}
    alone = informed(evidence).shares({A: 1.0, B: 1.0})
    found = informed(boast).shares(EVEN, {A: 0.0, B: 0.0})
    assert found[C] == pytest.approx(1 / 3)
    assert found[A] / found[B] == pytest.approx(alone[A] / alone[B], rel=0.2)


def test_a_boast_is_taken_for_as_much_less_as_it_is_too_good() -> None:
    evidence = {A: dict.fromkeys(range(30), -3.0), B: dict.fromkeys(range(30), 0.0)}
    gate = informed(evidence)
    assert gate.shares({A: 1.0, B: 1.0})[B] > 0.9
    assert gate.shares({A: 1.0, B: 1.0}, {A: 0.0, B: 3.0})[B] == pytest.approx(0.5)
    assert gate.shares({A: 1.0, B: 1.0}, {A: 0.0, B: 6.0})[B] < 0.1
