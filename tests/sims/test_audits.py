"""The study of audits keeps the project's bar: who cheats in all answers is found within 100 audits
with 95 %, and who does not cheat never."""

from __future__ import annotations

import random

import numpy as np
import pytest

from swarmllm.core.trust.suspicion import POSITIONS, step
from swarmllm.sims.audits import CHEATS, FOUND, HIDDEN, HONEST, STUDY, drawn, lists, point

RUNS = 40


def found(cheat: str, **more: float | int) -> list[float]:
    parameters = {**STUDY.defaults, "cheat": cheat, **more}
    return [point(parameters, seed)["within_100"] for seed in range(RUNS)]


@pytest.mark.parametrize("cheat", FOUND)
def test_a_full_time_cheat_is_found(cheat: str) -> None:
    assert sum(found(cheat)) >= 0.95 * RUNS


@pytest.mark.parametrize("cheat", [*HONEST, *HIDDEN])
def test_who_is_within_rounding_is_never_excluded(cheat: str) -> None:
    assert sum(found(cheat)) == 0


def test_another_model_in_one_answer_of_twenty_is_found() -> None:
    assert sum(found("another-model", share=0.05)) >= 0.9 * RUNS


@pytest.mark.parametrize("cheat", HONEST)
def test_no_honest_position_speaks_against_its_expert(cheat: str) -> None:

    rng = random.Random(3)
    steps = [step(one) for _ in range(200) for one in drawn(lists()[cheat], rng)]
    assert max(steps) < 0
    assert len(steps) == 200 * POSITIONS


def test_every_kind_has_its_lists_and_they_are_differences() -> None:
    assert set(lists()) == set(CHEATS)
    for rows in lists().values():
        assert rows.shape[2] == 2
        assert rows.shape[1] >= POSITIONS
        assert (rows >= 0).all()
        assert (rows[..., 0] <= 1).all()
        assert np.isfinite(rows).all()
