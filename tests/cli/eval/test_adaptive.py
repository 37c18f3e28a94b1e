"""A budget is kept, and what it buys lies between one expert and all of them."""

from __future__ import annotations

import numpy as np
import pytest

from swarmllm.cli.eval.adaptive import SHARES, SIGNALS, WEIGHTS, Spent, _spend, curve
from swarmllm.cli.eval.methods import learned, pooled
from swarmllm.core.decoding.gate import floored
from tests.cli.eval.made import PROMPT, document, logprobs_of

LENGTH = 800


def _curve(seed: int = 1) -> tuple[dict[tuple[str, str, float], Spent], np.ndarray]:
    doc = document("mixed", [(0, "low"), (300, "high"), (600, "low")], LENGTH, seed)
    logprobs = logprobs_of(doc)
    rng = np.random.default_rng(seed)
    signals = {name: rng.exponential(2.0, (LENGTH - PROMPT, 2)) for name in ("entropy", "peak")}
    return curve(logprobs, PROMPT, signals, np.random.default_rng(2)), logprobs


def test_a_share_of_nothing_is_the_best_expert_and_of_everything_the_whole_pool() -> None:
    found, logprobs = _curve()
    weights = floored(learned(logprobs[:PROMPT]))
    alone = -logprobs[PROMPT:, int(weights.argmax())].sum()
    for signal in SIGNALS:
        assert found["em", signal, 0.0].nats == pytest.approx(alone)
        assert found["em", signal, 0.0].asked == LENGTH - PROMPT
        assert found["em", signal, 1.0].nats == pytest.approx(
            pooled(logprobs[PROMPT:], weights).sum()
        )
        assert found["em", signal, 1.0].asked == 2 * (LENGTH - PROMPT)


def test_the_budget_is_about_what_was_asked_for() -> None:
    found, _ = _curve()
    for weights in WEIGHTS:
        for signal in ("entropy", "peak", "random"):
            for share in SHARES:
                asked = found[weights, signal, share].asked / (LENGTH - PROMPT)
                assert asked == pytest.approx(1 + share, abs=0.06)


def test_being_surprised_lately_shows_a_switch_that_chance_does_not() -> None:
    found, _ = _curve()
    for signal in ("recent", "excess"):
        assert found["em", signal, 0.3].nats < found["em", "random", 0.3].nats


def test_weights_are_those_of_the_last_token_that_all_were_asked_about() -> None:
    after = np.log([[0.5, 0.1], [0.5, 0.1], [0.1, 0.5], [0.1, 0.5]])
    nats = np.zeros(4)
    first = np.array([0, 0, 1, 1])
    wide = iter([False, False, True, False])
    signal = np.zeros((4, 2))
    found = _spend(after, nats, first, signal, lambda _: next(wide))
    # Expert 0 alone, alone, all (nats 0), and then expert 1, who by what was learned at the third
    # token is the better one.
    assert found.nats == pytest.approx(-np.log(0.5) * 3)
    assert found.asked == 1 + 1 + 2 + 1
