"""A validation that ends early says *better* exactly where the whole one does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.settings.table import EXTRA
from swarmllm.core.validation.statistics import interval_of
from swarmllm.sims.validation.fitting import Fitted
from swarmllm.sims.validation.playing import Load, Played, Values
from swarmllm.sims.validation.sift import may_be_better, sift
from swarmllm.sims.validation.validate import Budget, Play, validate
from tests.core.validation.cases import case, recorded
from tests.sims.validation.made_up import by_nothing, made_up

CASE = case(EXTRA, 2, recording=recorded(3))
DIFFERENCES = st.lists(st.integers(-40, 40).map(float), min_size=8, max_size=8)


@given(DIFFERENCES)
def test_what_is_better_in_the_end_was_never_given_up(differences: list[float]) -> None:
    if interval_of(differences).finding == "better":
        assert all(may_be_better(differences[:known], 8) for known in range(9))


@given(DIFFERENCES)
def test_with_all_known_it_is_the_finding(differences: list[float]) -> None:
    assert may_be_better(differences, 8) == (interval_of(differences).finding == "better")


@given(st.lists(st.integers(-40, 40).map(float), min_size=1, max_size=7))
def test_what_is_not_given_up_can_still_be_better(known: list[float]) -> None:
    """So it is not given up too late: some rest would do."""
    missing, total = 8 - len(known), sum(known)
    rest = sum(one * one for one in known) / total if total < 0 else -1e6
    if may_be_better(known, 8):
        found = interval_of(known + [rest] * missing)
        assert found.high < 1e-3 * abs(found.mean)


@pytest.mark.parametrize("pairs", [8, 16])
def test_sifting_and_the_whole_agree(pairs: int) -> None:
    found, spared = set(), 0
    for shift in range(-40, 20, 2):
        play = made_up(partial(shifted, shift / 100), noise=0.15)
        few, all_ = Counted(play), Counted(play)
        report = sift(CASE, pairs, play=few)
        whole = validate(CASE, Budget(pairs, clock=lambda: 0.0), play=all_)
        assert (report is not None) == (whole.verdict == "better")
        assert report is None or report == whole
        found.add(whole.verdict)
        spared += all_.count - few.count
    assert found >= {"better", "no difference"}
    assert spared > 0


def shifted(shift: float, values: Values) -> float:
    return 1.0 + (shift if values.get(EXTRA) == 2 else 0.0)


def test_a_change_that_does_nothing_is_given_up_after_half() -> None:
    counted = Counted(lambda *_: Played(by_nothing(), "the same"))
    assert sift(CASE, play=counted) is None
    assert counted.count == 2 * 2 * 4  # Tests, sides, pairs.


def test_a_broken_law_is_no_better() -> None:
    def broken(*_: object) -> Played:
        raise AssertionError("a law")

    assert sift(CASE, play=broken) is None


@dataclass
class Counted:
    play: Play
    count: int = 0

    def __call__(self, fitted: Fitted, values: Values, seed: int, load: Load) -> Played:
        self.count += 1
        return self.play(fitted, values, seed, load)
