"""An observation is finite numbers, whatever a clock or a stranger's record has brought."""

from __future__ import annotations

import math
import random
from dataclasses import fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.agent.domains import DOMAINS, domain_of_setting
from swarmllm.core.agent.observation import (
    ALARMS,
    BY_NAME,
    VALUE_MAX,
    alarms_of,
    heard_by,
    observe,
    urgency_of,
)
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


def test_what_the_node_itself_knows_is_bounded_like_the_rest() -> None:
    own = {"strikes": 3.0, "refused_share": math.nan, "storage_share": -1.0, "ledger_mb": 1e300}
    found = observe((), Snapshot((), 0, 0), own)
    assert found == {"experts": 0, "strikes": 3.0, "ledger_mb": VALUE_MAX}


def test_an_alarm_is_heard_by_its_own_domain_and_once() -> None:
    found = {"token_ms": 40.0, "strikes": 2.0, "refused_share": 0.1, "storage_share": 0.9}
    up = alarms_of(found)
    assert up == {"strikes", "storage_share"}
    heard = {domain: heard_by(domain, found, frozenset()) for domain in DOMAINS}
    assert {domain for domain in DOMAINS if urgency_of(heard[domain])[0] == "soon"} == {
        *("security", "storage"),
    }
    assert urgency_of(heard["storage"])[1] == "the disk of the data folder is 90% full"
    assert urgency_of(heard["security"])[1] == "peers have broken the protocol: 2 strikes lately"
    assert all(one["token_ms"] == 40.0 for one in heard.values())
    again = [heard_by(domain, found, up) for domain in DOMAINS]
    assert {urgency_of(one)[0] for one in again} == {"none"}
    assert all(BY_NAME[name].better == "less" for name in ALARMS)


def test_strikes_and_refusals_are_what_a_security_proposal_cites() -> None:
    bounds = {
        one: one.bounds
        for one in SETTINGS.values()
        if one.owner == "agent" and domain_of_setting(one) == "security"
    }
    for found, cited in (
        ({"token_ms": 40.0, "strikes": 2.0}, "strikes"),
        ({"token_ms": 40.0, "refused_share": 0.5}, "refused_share"),
    ):
        said = RuleProposer().propose(Situation(found, {}, bounds, ()), random.Random(1))
        assert said is not None
        assert said.evidence == (cited,)
        assert not said.fault(found, {}, bounds)
