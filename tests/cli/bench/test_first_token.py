"""Laws of the first token's measurement: prompts have the length that is told, and what is possible
is a round trip and the engines' reading."""

from __future__ import annotations

import random

import pytest

from swarmllm.cli.bench.first_token import GOAL, LENGTHS, prompt_of, row


def test_prompts_are_as_long_as_they_are_said_to_be_and_all_different() -> None:
    rng = random.Random(1)
    for length in LENGTHS:
        one, two = prompt_of(length, rng), prompt_of(length, rng)
        assert len(one) == len(two) == length - 1  # Every text begins with one token more.
        assert one != two
        assert one[: len(one) // 2] != two[: len(two) // 2]  # So nothing is read already.


@pytest.mark.parametrize(("ms", "reached"), [(240.0, True), (300.0, False)])
def test_the_least_is_a_round_trip_and_the_reading(ms: float, reached: bool) -> None:
    found = row(256, [(ms / 1000, 0.2), (ms / 1000, 0.2), (9.0, 0.2)], 0.2, 0.05)
    assert found.value == pytest.approx(ms)
    assert found.ceiling == pytest.approx(250.0)
    assert found.goal == pytest.approx(GOAL * 250.0)
    assert found.reached is reached
