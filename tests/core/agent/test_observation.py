"""An observation is finite numbers, whatever a clock or a stranger's record has brought."""

from __future__ import annotations

import math
from dataclasses import fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.agent.observation import BY_NAME, VALUE_MAX, observe, urgency_of
from swarmllm.core.agent.proposers import RuleProposer, SearchProposer, Situation
from swarmllm.core.settings.table import SETTINGS
from swarmllm.core.validation.recording import Minute
from swarmllm.core.validation.snapshot import U32_MAX, ExpertFigures, Snapshot, snapshot_of
from tests.cli.governance.governed_node import view_of_experts

NUMBERS = st.sampled_from((0, 1, 7, 60_000, U32_MAX))
MINUTES = st.lists(
    st.builds(Minute, **{one.name: NUMBERS for one in fields(Minute)}), max_size=4
).map(tuple)
EXPERTS = st.lists(
    st.builds(ExpertFigures, **{one.name: NUMBERS for one in fields(ExpertFigures)}), max_size=4
).map(tuple)


@given(MINUTES, EXPERTS, st.integers(0, 10))
@settings(max_examples=150)
def test_zeros_and_absurd_numbers_give_numbers_that_can_be_proposed_on(
    minutes: tuple[Minute, ...], experts: tuple[ExpertFigures, ...], seed: int
) -> None:
    import random

    found = observe(minutes, Snapshot(experts, 3, 1))
    assert set(found) <= set(BY_NAME)
    assert all(math.isfinite(value) and 0 <= value <= VALUE_MAX for value in found.values())
    assert urgency_of(found)[0] in ("none", "soon", "now")
    bounds = {one: one.bounds for one in SETTINGS.values() if one.owner == "agent"}
    situation = Situation(found, {}, bounds, ())
    for proposer in (RuleProposer(), SearchProposer()):
        said = proposer.propose(situation, random.Random(seed))
        assert said is None or not said.fault(found, {}, bounds)


def test_a_round_trip_that_is_no_number_is_no_figure() -> None:
    view = view_of_experts()
    for wrong in (math.nan, math.inf, -math.inf, -1.0, 1e300):
        experts = tuple(replace(one, rtt_s=wrong, ping_s=wrong) for one in view.experts)
        found = observe((), snapshot_of(replace(view, experts=experts)))
        assert all(math.isfinite(value) for value in found.values()), wrong
