"""Phases open by vote and by what the node itself knows, and close by a minor vote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from swarmllm.core.governance.phases import HEARD_MAX, Census, Knowledge, Windows, obstacle
from swarmllm.core.settings.table import EXPERTS
from swarmllm.errors import UsageError
from swarmllm.messages import PeerId
from swarmllm.messages.governance import (
    NO_EVIDENCE,
    ClosePhase,
    GovernanceTerms,
    OpenPhase,
    Revert,
    SetBounds,
    SetSetting,
)
from swarmllm.wire.codec import encode
from tests.core.governance.support import (
    AGENTS,
    DAY,
    EXPERTS_CODE,
    HOUR,
    REPORT,
    TERMS,
    VOTERS,
    Node,
    Switch,
    charter,
    id_of,
    plain_proposal,
    plain_vote,
)
from tests.core.halt.support import Person, founded, signed

EASY = replace(TERMS, phase_experts=(0, 3, 3, 3), stable_days=2, canary_permille=0)


def node_with(terms: GovernanceTerms = EASY, **more: Any) -> Node:
    return Node(switch=Switch(founded(charter(terms))), terms=terms, **more)


def hear(node: Node, experts: int, days: float = 0.0) -> None:
    """So many experts, all the time."""
    for _ in range(max(1, round(days * 48))):
        for number in range(experts):
            node.machine.census.hear(PeerId(f"expert {number}"), node.now)
        node.wait(days * DAY / max(1, round(days * 48)))


def carry(node: Node, action: Any, by: Person = VOTERS[0], **more: Any) -> bytes:
    """Proposed without asking the own node, voted by all, and waited out; the id."""
    state = node.switch.state
    outcome = node.machine.outcome
    assert outcome is not None
    height = 1 + max((c.proposal.height for c in node.machine.registry.cases.values()), default=0)
    base = bytes(32) if height == 1 else b"\1" * 32
    fields = {"swarm": state.swarm, "ctl_digest": state.digest, "height": height, "base": base}
    record = signed(plain_proposal(action, by, seq=height, **{**fields, **more}), by)
    id = id_of(record)
    node.offer(record, *(plain_vote(id, voter, swarm=state.swarm) for voter in VOTERS))
    return id


def test_phase_refused_below_its_size() -> None:  # GOV-19
    node = node_with()
    with pytest.raises(UsageError, match="needs 3 experts, and this node knows 0"):
        node.propose(OpenPhase(2))
    hear(node, 3)
    with pytest.raises(UsageError, match="needs 2 days with 3 experts"):
        node.propose(OpenPhase(2))
    id = carry(node, OpenPhase(2))  # Somebody's node thought otherwise: each looks for itself.
    hear(node, 3, days=1.5)
    assert node.machine.phase == 0
    assert "needs 2 days" in node.machine.progress.courses[id].waits
    hear(node, 3, days=1.0)
    assert node.machine.phase == 2
    with pytest.raises(UsageError, match="quality gate"):
        node.propose(OpenPhase(3), evidence=NO_EVIDENCE)


def test_the_defaults_are_those_of_the_design() -> None:
    known = Knowledge(experts=5_000, stable_s=(40 * DAY,) * 4)
    assert [obstacle(phase, REPORT, TERMS, known) for phase in (1, 2, 3, 4)] == [""] * 4
    for phase, experts in ((2, 280), (3, 1_000), (4, 5_000)):
        small = replace(known, experts=experts - 1)
        assert f"needs {experts} experts" in obstacle(phase, REPORT, TERMS, small)
        assert "30 days" in obstacle(phase, REPORT, TERMS, replace(known, stable_s=(29 * DAY,) * 4))
    assert obstacle(1, NO_EVIDENCE, TERMS, Knowledge()) == "", "phases 0 and 1 at any size"
    audited = replace(TERMS, phase_audits=(0, 7, 7, 7))
    assert "7 passed audits" in obstacle(2, REPORT, audited, known)


def test_phase_closes_on_minor_vote() -> None:  # GOV-18
    node = node_with(replace(EASY, phase_experts=(0, 0, 0, 0)))
    carry(node, OpenPhase(3), tier=4)
    node.wait(2 * DAY)
    assert node.machine.phase == 3
    state = node.switch.state
    closing = node.propose(ClosePhase(1))
    id = id_of(closing)
    node.offer(closing, *(plain_vote(id, by, swarm=state.swarm) for by in VOTERS[:2]))
    assert node.machine.phase == 1, "at once"
    carry(node, ClosePhase(2))
    assert node.machine.phase == 1, "closing never opens"


def test_a_phase_never_opens_by_itself() -> None:
    node = node_with()
    hear(node, 50, days=5.0)
    assert node.machine.phase == 0


def test_a_halt_suspends_the_phase() -> None:
    node = node_with(replace(EASY, phase_experts=(0, 0, 0, 0), phase=2))
    assert node.machine.phase == 2
    node.switch.halt()
    assert node.machine.phase == 0
    node.switch.resume()
    node.look()
    assert node.machine.phase == 2


@pytest.mark.parametrize("phase", range(5))
def test_an_agent_deploys_from_phase_three_on_and_only_suggests_before(phase: int) -> None:
    node = node_with(replace(EASY, phase=phase))
    id = carry(node, SetSetting(EXPERTS_CODE, 5), AGENTS[0])
    node.wait(2 * DAY)
    assert node.value(EXPERTS_CODE) == (5 if phase >= 3 else EXPERTS.default)
    assert node.machine.outcome is not None
    assert bool(node.machine.outcome.standings[id].void) == (phase < 3)


def test_in_phase_0_an_agent_proposes_nothing() -> None:
    node = node_with()
    with pytest.raises(UsageError, match="only reads"):
        node.propose(SetSetting(EXPERTS_CODE, 5), AGENTS[0])


@pytest.mark.parametrize("action", [OpenPhase(4), ClosePhase(0), SetBounds(EXPERTS_CODE, 1, 60)])
def test_an_agent_never_moves_its_own_fences(action: Any) -> None:
    node = node_with(replace(EASY, phase=3, phase_experts=(0, 0, 0, 0)))
    carry(node, action, AGENTS[0], tier=4)
    node.wait(3 * DAY)
    assert node.machine.phase == 3
    assert node.settings.bounds(EXPERTS) == EXPERTS.bounds


def test_closing_the_phase_takes_back_what_the_agent_deployed_under_it() -> None:
    node = node_with(replace(EASY, phase=3))
    carry(node, SetSetting(EXPERTS_CODE, 5), AGENTS[0])
    node.wait(HOUR)
    assert node.value(EXPERTS_CODE) == 5
    carry(node, ClosePhase(1))
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    assert "suggestion" in node.journal[-1][3]


@pytest.mark.parametrize("unattended", [0, 1])
def test_only_in_phase_four_and_where_the_charter_says_so_an_agent_needs_no_votes(
    unattended: int,
) -> None:
    for phase in (3, 4):
        node = node_with(replace(EASY, phase=phase, unattended=unattended))
        state = node.switch.state
        made = plain_proposal(
            SetSetting(EXPERTS_CODE, 5), AGENTS[0], swarm=state.swarm, ctl_digest=state.digest
        )
        node.offer(signed(made, AGENTS[0]))
        node.wait(2 * DAY)
        alone = phase == 4 and unattended
        assert node.value(EXPERTS_CODE) == (5 if alone else EXPERTS.default)
        major = replace(made, tier=4, seq=2)
        node.offer(signed(major, AGENTS[0]))
        assert node.machine.outcome is not None
        assert not node.machine.outcome.standings[id_of(signed(major, AGENTS[0]))].passed


def test_a_revert_takes_back_what_it_names_and_what_was_there_before_is_there_again() -> (
    None
):  # GOV-16
    node = node_with()
    first = carry(node, SetSetting(EXPERTS_CODE, 4))
    node.wait(HOUR)
    second = carry(node, SetSetting(EXPERTS_CODE, 6))
    node.wait(HOUR)
    assert node.value(EXPERTS_CODE) == 6
    record = node.propose(Revert(second))
    id = id_of(record)
    swarm = node.switch.state.swarm
    node.offer(record, *(plain_vote(id, by, swarm=swarm) for by in VOTERS[:2]))
    assert node.value(EXPERTS_CODE) == 4
    carry(node, Revert(first))
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    with pytest.raises(UsageError, match="nothing to revert"):
        node.propose(Revert(bytes(32)))


def test_bounds_are_moved_by_the_whole_electorate_and_move_the_tier() -> None:
    node = node_with()
    carry(node, SetBounds(EXPERTS_CODE, 1, 30), tier=4)
    node.wait(2 * DAY)
    assert node.settings.bounds(EXPERTS).high == 30
    record = node.propose(SetSetting(EXPERTS_CODE, 25))
    id = id_of(record)
    swarm = node.switch.state.swarm
    node.offer(record, *(plain_vote(id, by, swarm=swarm) for by in VOTERS[:2]))
    assert node.value(EXPERTS_CODE) == 25, "by deploy-minor now"


def test_the_census_is_bounded_and_forgets_who_was_not_heard_of_for_an_hour() -> None:
    census = Census()
    for number in range(HEARD_MAX + 10):
        census.hear(PeerId(str(number)), 0.0)
    assert len(census.peers(1.0)) == HEARD_MAX
    census.hear(PeerId("new"), 1_800.0)
    assert census.peers(2 * HOUR) == ()
    census.hear(PeerId("new"), 2 * HOUR)
    assert census.peers(2.5 * HOUR) == ("new",)


def test_a_short_dip_costs_its_time_and_a_long_one_everything() -> None:
    windows = Windows()
    for minute in range(0, 600, 10):
        windows.look(5, EASY, minute * 60.0)
    counted = windows.read(600 * 60.0)[1]
    assert counted == 600 * 60.0
    windows.look(1, EASY, 600 * 60.0)
    windows.look(1, EASY, 620 * 60.0)
    windows.look(5, EASY, 630 * 60.0)
    assert windows.read(630 * 60.0)[1] == counted, "a dip of half an hour does not count"
    windows.look(1, EASY, 640 * 60.0)
    windows.look(1, EASY, 710 * 60.0)
    assert windows.read(710 * 60.0)[1] == 0.0
    assert Windows((7.0, 8.0)).read(0.0) == (7.0, 8.0, 0.0, 0.0)
    assert encode(EASY)
