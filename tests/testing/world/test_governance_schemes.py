"""Each scheme comes to the point at which one vote, one report or one write decides."""

from __future__ import annotations

import pytest

from swarmllm.core.governance.outcome import Outcome
from swarmllm.messages.governance import CanaryReport
from swarmllm.testing.world import Host
from swarmllm.testing.world.governance_schemes import SCHEMES, SchemingFaults
from swarmllm.testing.world.governed import SMALL, GovernedRun

HALF_A_MINUTE_S = 30.0


class Scene:
    """The governed world of a seed, before anything happens in it."""

    def __init__(self, seed: int) -> None:
        run = GovernedRun(seed, SMALL)
        self.world, self.government, self.faults = run.world, run.government, run.faults
        run.killer.is_over = True
        for member in run.scenario.members:
            self.world.add(member.spec)
        self.world.run_for(HALF_A_MINUTE_S)
        self.host: Host = self.world.hosts[0]
        self.government.tell_terms(self.host)
        self.world.run_for(HALF_A_MINUTE_S)

    def scheme(self, name: str) -> None:
        SCHEMES[name](self.faults, self.host)

    @property
    def outcome(self) -> Outcome:
        found = self.government.machine(self.host).outcome
        assert found is not None
        return found


@pytest.fixture
def open_phase() -> Scene:
    """Five voters, two votes for a minor change, one agent, phase 4, no canaries."""
    return Scene(2)


@pytest.fixture
def closed_phase() -> Scene:
    """Three voters, three votes for a minor change, one agent, phase 0."""
    return Scene(5)


def test_all_happen_in_every_world(closed_phase: Scene) -> None:
    faults = closed_phase.faults
    assert isinstance(faults, SchemingFaults)
    assert all(faults.weights[name] > 0 for name in SCHEMES)


def test_the_last_vote_is_forged_in_vain(closed_phase: Scene) -> None:
    closed_phase.scheme("forge_the_last_vote")
    (standing,) = closed_phase.outcome.standings.values()
    assert (standing.yes, standing.needs, standing.passed) == (2, 3, False)


def test_what_nobody_knows_has_the_votes_of_a_minor_change(open_phase: Scene) -> None:
    open_phase.scheme("carry_what_nobody_knows")
    (standing,) = open_phase.outcome.standings.values()
    assert (standing.yes, standing.needs, standing.passed) == (2, 3, False)


def test_more_is_carried_than_a_halt_takes_back(open_phase: Scene) -> None:
    open_phase.scheme("carry_many_and_halt")
    passed = [id for id, one in open_phase.outcome.standings.items() if one.passed]
    assert len(passed) == 5
    open_phase.world.run_for(15.0)
    assert open_phase.government.machine(open_phase.host).obstacle
    assert sum(bool(open_phase.outcome.standings[id].void) for id in passed) == 3
    open_phase.world.run_for(60.0)
    assert not open_phase.government.machine(open_phase.host).obstacle


def test_an_agent_oversteps_and_a_phase_is_closed_upwards(closed_phase: Scene) -> None:
    closed_phase.scheme("overstep")
    (standing,) = closed_phase.outcome.standings.values()
    assert standing.passed
    assert "suggestion" in standing.void
    closed_phase.scheme("close_upwards")
    assert sum(one.passed for one in closed_phase.outcome.standings.values()) >= 2
    closed_phase.world.run_for(HALF_A_MINUTE_S)
    assert (
        closed_phase.outcome.phase == closed_phase.government.machine(closed_phase.host).phase == 0
    )


def test_an_agent_contradicts_its_canary(open_phase: Scene) -> None:
    open_phase.scheme("carry_many_and_halt")
    for _ in range(20):
        open_phase.scheme("contradict_canaries")
    said = [
        [which for kind, _, which in case.says if kind is CanaryReport]
        for case in open_phase.government.cases(open_phase.host)
    ]
    assert any(len(one) == 2 for one in said), "he says both of one"
    assert any(one.void for one in open_phase.outcome.standings.values())


def test_what_is_in_force_is_reverted_while_its_successor_cannot_be_written(
    open_phase: Scene,
) -> None:
    open_phase.scheme("revert_while_the_disk_is_full")
    changes = open_phase.government.machine(open_phase.host).changes
    open_phase.world.run_for(4.0)
    first = changes.wanted
    open_phase.world.run_for(2.0)
    assert open_phase.host.disk.full
    phase = next(target for target in first if target.kind == "phase")
    assert changes.wanted[phase] != first[phase]
    assert open_phase.outcome.standings[first[phase][0]].void
    assert phase not in changes.live, "and nothing is in force there meanwhile"
    open_phase.world.run_for(10.0)
    assert changes.live[phase] == changes.wanted[phase]


def test_what_has_lost_its_votes_is_kept_over_two_weeks_away(open_phase: Scene) -> None:
    open_phase.scheme("undo_and_be_away")
    (id,) = open_phase.outcome.standings
    lives = open_phase.host.life
    open_phase.world.run_for(HALF_A_MINUTE_S)
    assert open_phase.host.life > lives
    machine = open_phase.government.machine(open_phase.host)
    assert not open_phase.outcome.standings[id].passed
    assert machine.progress.is_expired(id, open_phase.host.clock())
    assert id in machine.registry.cases
