"""Proposers without a model: a ladder within the bounds, rules that go by metrics, and searches
that propose nothing twice."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.agent.proposers import (
    RULES,
    RandomProposer,
    RuleProposer,
    SearchProposer,
    Situation,
    ladder,
)
from swarmllm.core.settings import table as t
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import SETTINGS
from swarmllm.messages import Range

BOUNDS = {one: one.bounds for one in SETTINGS.values() if one.owner == "agent"}


@given(st.integers(0, 10_000), st.integers(0, 100_000))
def test_a_ladder_rises_from_bound_to_bound_and_is_short(low: int, more: int) -> None:
    rungs = ladder(Range(low, low + more))
    assert list(rungs) == sorted(set(rungs))
    assert (rungs[0], rungs[-1]) == (low, low + more)
    assert len(rungs) <= 8


@pytest.mark.parametrize(
    ("metric", "value", "values", "setting", "proposed"),
    [
        ("late_share", 0.1, {t.EXTRA: 0}, t.EXTRA, 1),
        ("wasted_share", 0.5, {t.EXTRA: 4}, t.EXTRA, 1),
        ("first_ratio", 20, {t.EXTRA: 4}, t.EXTRA, 1),
        ("recomputed", 2, {t.HEDGE_COST: 2_000}, t.HEDGE_COST, 122),
        ("failovers", 3, {t.PATIENCE_MAX: 1_000}, t.PATIENCE_MAX, 5_000),
        ("stall_ratio", 9, {t.PATIENCE_FLOOR: 1_000}, t.PATIENCE_FLOOR, 74),
        ("experts", 16, {t.SHUFFLE_INTERVAL: 4_500}, t.SHUFFLE_INTERVAL, 20_000),
    ],
)
def test_the_first_rule_that_applies_is_followed(
    metric: str,
    value: float,
    values: dict[Setting[Any], int],
    setting: Setting[Any],
    proposed: int,
) -> None:
    situation = Situation({metric: value}, values, BOUNDS, ())
    found = RuleProposer().propose(situation, random.Random(1))
    assert found is not None
    assert (found.setting, found.value, found.evidence) == (setting, proposed, (metric,))


def test_a_rule_goes_one_rung_further_if_its_first_was_not_better() -> None:
    values: dict[Setting[Any], int] = {t.PATIENCE_MAX: 1_000}
    tried = [(t.PATIENCE_MAX, 5_000)]
    found = RuleProposer().propose(
        Situation({"failovers": 3.0}, values, BOUNDS, tried), random.Random(1)
    )
    assert found is not None
    assert (found.setting, found.value) == (t.PATIENCE_MAX, 17_321)


def test_no_rule_applies_where_all_is_well() -> None:
    well = {rule.metric: rule.above for rule in RULES}
    assert RuleProposer().propose(Situation(well, {}, BOUNDS, ()), random.Random(1)) is None


@pytest.mark.parametrize("proposer", [RandomProposer(), SearchProposer()])
@given(seed=st.integers(0, 2**32))
def test_nothing_is_proposed_twice_or_out_of_bounds(
    proposer: RandomProposer | SearchProposer, seed: int
) -> None:
    rng, observed = random.Random(seed), {"token_ms": 100.0}
    tried: list[tuple[Setting[Any], int]] = []
    for _ in range(12):
        found = proposer.propose(Situation(observed, {}, BOUNDS, tried), rng)
        assert found is not None
        assert not found.fault(observed, {}, BOUNDS)
        assert (found.setting, found.value) not in tried
        tried.append((found.setting, found.value))


def test_a_search_ends_and_leaves_out_what_no_validation_could_call_better() -> None:
    bounds: dict[Setting[Any], Range] = {
        t.EXPERTS: Range(1, 4),
        t.EXTRA: Range(0, 4),
        t.LEARNING_RATE: Range(1, 9),
    }
    tried: list[tuple[Setting[Any], int]] = []
    values: dict[Setting[Any], int] = {t.EXPERTS: 3, t.EXTRA: 1, t.LEARNING_RATE: 5}
    for _ in range(20):
        situation = Situation({"token_ms": 1.0}, values, bounds, tried)
        found = SearchProposer().propose(situation, random.Random(1))
        if found is None:
            break
        tried.append((found.setting, found.value))
    assert set(tried) <= {(t.EXPERTS, 4), *((t.EXTRA, value) for value in (0, 2, 3, 4))}
    assert (t.EXPERTS, 4) in tried
    assert len(tried) < 20
