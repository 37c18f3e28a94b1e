"""Where the answer is known, the methods give it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.cli.eval.methods import (
    EVIDENCE,
    all_methods,
    best_of,
    even,
    learned,
    pooled,
    running_means,
    segment_experts,
    softmax,
    sweeps,
    trajectory,
)
from tests.cli.eval.made import PROMPT, RIGHT, distributions, document, logprobs_of


def test_a_pool_gives_the_weighted_mean_of_probabilities() -> None:
    logprobs = np.log([[0.5, 0.1], [0.2, 0.4]])
    assert pooled(logprobs, np.array([0.25, 0.75])) == pytest.approx(-np.log([0.2, 0.35]))
    each_its_own = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert pooled(logprobs, each_its_own) == pytest.approx(-np.log([0.5, 0.4]))


def test_em_finds_the_weights_that_a_text_was_drawn_with() -> None:
    rng = np.random.default_rng(3)
    probs = distributions()
    mixture = np.array([0.8, 0.2]) @ probs
    tokens = rng.choice(len(mixture), 4000, p=mixture)
    found = learned(np.log(probs[:, tokens]).T)
    assert found == pytest.approx([0.8, 0.2], abs=0.03)
    assert found.sum() == pytest.approx(1)


def test_soft_bayes_follows_a_switch_and_predicts_before_it_learns() -> None:
    doc = document("mixed", [(0, "low"), (100, "high")], 200, 1)
    path = trajectory(even(2), logprobs_of(doc))
    assert path[0].tolist() == [0.5, 0.5]
    assert path[99, 0] > 0.95
    assert path[160, 1] > 0.95
    changed = logprobs_of(doc)
    changed[50] = [-1.0, -9.0]
    assert (trajectory(even(2), changed)[:51] == path[:51]).all()
    assert not np.array_equal(trajectory(even(2), changed)[51], path[51])


def test_the_best_by_prompt_is_judged_by_the_prompt_alone() -> None:
    doc = document("mixed", [(0, "low"), (PROMPT, "high")], 160, 2)
    logprobs = logprobs_of(doc)
    assert best_of(logprobs[:PROMPT]) == 0
    found = all_methods(logprobs, PROMPT, doc.segments, RIGHT)
    assert found["prompt_perplexity"] == pytest.approx(-logprobs[PROMPT:, 0])
    assert found["label"] == pytest.approx(-logprobs[PROMPT:, 0])
    assert found["label_oracle"] == pytest.approx(-logprobs[PROMPT:, 1])


def test_after_a_switch_the_order_of_methods_is_as_theory_has_it() -> None:
    doc = document("mixed", [(0, "low"), (96, "high"), (192, "low")], 288, 4)
    nats = {
        name: float(values.mean())
        for name, values in all_methods(logprobs_of(doc), PROMPT, doc.segments, RIGHT).items()
    }
    assert nats["label_oracle"] < nats["em_soft_bayes"] < nats["uniform"]
    assert nats["em_soft_bayes"] < nats["em"] < nats["label"]
    assert nats["running_perplexity over 16"] < nats["prompt_perplexity"]


@given(st.integers(0, 10_000))
def test_an_arithmetic_pool_is_never_more_than_log_k_worse_than_any_member(seed: int) -> None:
    logprobs = np.random.default_rng(seed).normal(-5, 3, (20, 4)).clip(-20, -0.01)
    assert (pooled(logprobs, even(4)) <= (-logprobs).min(axis=1) + np.log(4) + 1e-9).all()


def test_a_low_temperature_takes_the_best_and_a_high_one_the_mean() -> None:
    scores = np.array([-2.0, -1.0, -3.0])
    assert softmax(scores, 0.01) == pytest.approx([0, 1, 0])
    assert softmax(scores, 1000.0) == pytest.approx([1 / 3] * 3, abs=1e-3)
    assert softmax(scores, 1.0) == pytest.approx(np.exp(scores) / np.exp(scores).sum())


def test_running_means_look_back_and_never_at_what_they_predict() -> None:
    logprobs = np.arange(12.0).reshape(6, 2)
    found = running_means(logprobs, 2, window=3)
    assert found[0] == pytest.approx(logprobs[:2].mean(axis=0))
    assert found[3] == pytest.approx(logprobs[2:5].mean(axis=0))


def test_without_a_right_expert_there_is_no_label() -> None:
    doc = document("low", [(0, "low")], 160, 3)
    found = all_methods(logprobs_of(doc), PROMPT, doc.segments, {"low": None})
    assert "label" not in found
    assert "label_oracle" not in found
    assert segment_experts([(0, "a"), (2, "b")], {"a": 1, "b": 0}, 5) == [1, 1, 0, 0, 0]
    assert segment_experts([(0, "a"), (2, "b")], {"a": 1}, 5) is None


def test_a_floor_of_everything_is_the_uniform_mean_and_evidence_is_judged_on_the_same_tokens() -> (
    None
):
    doc = document("low", [(0, "low")], 160, 5)
    logprobs = logprobs_of(doc)
    found = sweeps(logprobs, PROMPT)
    assert found["floor", 1.0, 0.0] == pytest.approx(pooled(logprobs[PROMPT:], even(2)).sum())
    assert found["floor", 0.0, 0.0] == pytest.approx(
        pooled(logprobs[PROMPT:], learned(logprobs[:PROMPT])).sum()
    )
    tokens = 160 - EVIDENCE[-1]
    assert all(found["evidence", float(n), 0.0] < 12 * tokens for n in EVIDENCE)
    assert not any(key[0] == "evidence" for key in sweeps(logprobs[: EVIDENCE[-1]], PROMPT))


def test_one_expert_alone_is_every_pool() -> None:
    doc = document("low", [(0, "low")], 160, 6)
    alone = logprobs_of(doc)[:, :1]
    found = all_methods(alone, PROMPT, doc.segments, {"low": 0})
    for nats in found.values():
        assert nats == pytest.approx(-alone[PROMPT:, 0])
