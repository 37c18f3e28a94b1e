"""The agent in the node, step by step: phases and tiers, halts, crashes, users, tasks, clocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from swarmllm.core.agent.budget import FULL_S
from swarmllm.core.agent.charter import Grant, naming
from swarmllm.core.agent.cycle import Ask, File, Observe, Simulate, Step
from swarmllm.core.agent.domains import DOMAINS
from swarmllm.core.agent.part import COSTS_LEAST, WATCH_S
from swarmllm.core.agent.saved import TASKS_KEY, key_of
from swarmllm.core.agent.tasks import TASKS_MAX, Order, TaskType
from swarmllm.core.effects import RunAgent, StopAgent
from swarmllm.core.facts import AnswerEnded, TokensAllowed, TokensForbidden
from swarmllm.core.governance.tiers import read_action
from swarmllm.core.inputs import AgentDone, Asked, CycleWanted, TaskSubmitted, TimerFired
from swarmllm.core.settings.table import EXTRA, WAIT_COST
from swarmllm.core.shell import infers
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages.governance import ClosePhase, SetSetting, Suggest
from swarmllm.wire.codec import encode
from tests.core.agent.rig import CHANGE, EXPERTS, REPORT, World, terms_of
from tests.core.governance.support import VOTERS, id_of

WANTED = SetSetting(EXTRA.code, 2)


def begun(phase: int, **others: Any) -> World:
    world = World(phase=phase, **others)
    world.give(CycleWanted("scheduling"))
    while world.answer():
        pass
    return world


# --- phases and tiers -----------------------------------------------------------------------------


def test_phase_0_reads_and_files_nothing() -> None:
    world = begun(0)
    assert list(world.works()) == ["Observe"]
    assert world.proposals() == []


def test_phase_1_suggests_and_simulates_nothing() -> None:
    world = begun(1)
    assert list(world.works()) == ["Observe", "Ask", "File"]
    (case,) = world.proposals()
    assert case.action == Suggest(encode(WANTED))
    world.node.look()
    assert world.node.value(EXTRA.code) == EXTRA.default


def test_a_suggestion_cannot_be_carried_by_votes() -> None:
    world = begun(1)
    (case,) = world.proposals()
    with pytest.raises(UsageError, match="nobody votes on it"):
        world.vote(case.id)


def test_phase_2_simulates_and_suggests_what_is_better_and_nothing_else() -> None:
    world = begun(2)
    assert list(world.works()) == ["Observe", "Ask", "Simulate", "File"]
    (case,) = world.proposals()
    assert (case.action, case.proposal.evidence) == (Suggest(encode(WANTED)), REPORT)
    refused = begun(2, verdict="worse")
    assert refused.proposals() == []
    assert refused.lane().step is Step.RESTING


def test_phase_3_deploys_a_minor_change_that_was_voted() -> None:
    world = begun(3)
    (case,) = world.proposals()
    assert (case.action, case.proposal.evidence) == (WANTED, REPORT)
    assert world.node.value(EXTRA.code) == EXTRA.default, "nobody has voted yet"
    world.vote(case.id)
    world.tick()
    assert world.node.value(EXTRA.code) == 2
    assert world.lane().step is Step.MEASURING


def test_phase_3_never_proposes_beyond_the_bounds_of_the_charter() -> None:
    far = replace(CHANGE, value=EXTRA.bounds.high + 1)
    world = begun(3, suggestions=[far])
    assert world.proposals() == []
    assert "Simulate" not in world.works()
    assert any("out of bounds" in text for text in world.texts())


def test_phase_3_does_not_deploy_without_votes_and_phase_4_does_as_chartered() -> None:
    alone = begun(4, terms=terms_of(4, unattended=1))
    alone.tick()
    assert alone.node.value(EXTRA.code) == 2
    for phase, unattended in ((3, 1), (4, 0)):
        waits = begun(phase, terms=terms_of(phase, unattended=unattended))
        waits.tick()
        assert waits.node.value(EXTRA.code) == EXTRA.default, (phase, unattended)
        assert waits.lane().step is Step.REVIEWING


def test_a_phase_that_is_closed_in_the_middle_of_a_cycle_holds_from_then_on() -> None:
    world = World(phase=3)
    world.is_held = lambda order: isinstance(order.work, Simulate)
    world.give(CycleWanted("scheduling"))
    while world.answer():
        pass
    closing = world.node.propose(ClosePhase(0))
    world.node.offer(closing)
    world.vote(id_of(closing))
    world.node.look()
    assert world.node.machine.phase == 0
    world.is_held = lambda _: False
    world.answer()
    assert [case.action for case in world.proposals()] == [ClosePhase(0)]
    assert world.texts()[-1] == "in phase 0 it only observes"


def test_the_tier_of_a_task_is_a_ceiling() -> None:
    """In a phase that deploys, a draft is a suggestion, and a test files nothing at all."""
    draft = World(phase=4, terms=terms_of(4, unattended=1))
    draft.give(TaskSubmitted(Order(TaskType.DRAFT_PROPOSAL), 1))
    draft.tick()
    assert [case.action for case in draft.proposals()] == [Suggest(encode(WANTED))]
    assert draft.part.tasks.all[0].proposal == draft.proposals()[0].id
    test = World(phase=4, verdict="law broken")
    test.give(TaskSubmitted(Order(TaskType.WRITE_TEST), 1))
    test.tick()
    assert test.proposals() == []
    (task,) = test.part.tasks.all
    assert task.state == "done"
    assert REPORT.hex()[:16] in task.result


# --- halts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, 5))
def test_after_a_halt_in_any_step_nothing_is_done_or_applied(step: int) -> None:
    world = World(phase=4, terms=terms_of(4, unattended=1))
    names = ("Observe", "Ask", "Simulate", "File")
    world.is_held = lambda order: type(order.work).__name__ == names[step - 1]
    world.give(CycleWanted("scheduling"))
    while world.answer():
        pass
    (running,) = world.held
    world.node.switch.halt()
    world.give(TokensForbidden(("halted",), by_order=True))
    assert world.stopped == [running.number]
    done = len(world.performed)
    late = AgentDone(running.number, world._done(running) if step < 4 else _filed(), EXPERTS)
    world.give(late)
    world.is_held = lambda _: False
    world.run(60)
    assert len(world.performed) == done, "while halted nothing is begun"
    assert world.proposals() == []
    assert world.node.value(EXTRA.code) == EXTRA.default


def _filed() -> Any:
    from swarmllm.core.agent.cycle import Filed

    return Filed(b"\1" * 32)


def test_what_the_agent_wants_is_dropped_like_inference_once_a_node_has_stopped() -> None:
    assert infers(RunAgent(1, "scheduling", Ask()))
    assert not infers(StopAgent(1))


def test_a_halt_takes_the_last_three_changes_of_the_agent_back() -> None:
    changes = [replace(CHANGE, value=value) for value in (2, 3, 4, 0)]
    hasty = terms_of(4, unattended=1, ext=naming(Grant(interval_min=1)))
    world = World(phase=4, terms=hasty, suggestions=list(changes))
    for change in changes:
        world.give(CycleWanted("scheduling"))
        while world.answer():
            pass
        world.tick()
        assert world.node.value(EXTRA.code) == change.value
        world.measure(0.1)
        world.run(70)
        assert world.lane().step is not Step.MEASURING
    world.node.switch.halt()
    world.give(TokensForbidden(("halted",), by_order=True))
    world.tick()
    assert world.node.value(EXTRA.code) == 2, "the first of four is left"
    world.run(130)
    assert world.node.value(EXTRA.code) == 2


def test_a_halt_while_votes_are_waited_for_withdraws_the_proposal_when_it_is_over() -> None:
    world = begun(3)
    (case,) = world.proposals()
    world.node.switch.halt()
    world.give(TokensForbidden(("halted",), by_order=True))
    world.tick()
    assert world.lane().step is Step.WITHDRAWING
    assert "Withdraw" not in world.works()
    world.node.switch.resume()
    world.tick()
    assert list(world.works())[-1] == "Withdraw"
    with pytest.raises(UsageError):
        world.vote(case.id)


# --- kill -9 --------------------------------------------------------------------------------------


def _life(world: World) -> None:
    """One cycle from the beginning to a change that is voted, measured, and kept."""
    world.give(CycleWanted("scheduling"))
    world.tick()


def test_killed_before_any_effect_it_goes_on_and_proposes_once() -> None:
    """kill -9 before each single effect, and before each answer: the same comes of it."""
    at = 0
    while True:
        world = World(phase=3, cost_s=0.1)
        world.disk[key_of("scheduling")] = b""  # Another file's: it begins anew, and says so.
        was_killed = world.run_killed(at, 90)
        assert len(world.proposals()) == 1, at
        (case,) = world.proposals()
        world.vote(case.id)
        world.run(10)
        assert world.node.value(EXTRA.code) == 2, at
        assert world.lane().step is Step.MEASURING, at
        if not was_killed:
            break
        at += 1
    assert at >= 12, "there are as many effects at least"


def test_killed_while_it_measures_it_still_takes_back_what_is_worse() -> None:
    at, hasty = 0, terms_of(3, ext=naming(Grant(interval_min=1)))
    while True:
        world = begun(3, terms=hasty)
        (case,) = world.proposals()
        world.measure(0.1)
        world.vote(case.id)
        world.tick()
        assert world.lane().step is Step.MEASURING
        world.run(50)
        world.boot()
        world.cost_s = 0.5
        was_killed = world.run_killed(at, 150)
        assert "TakeBack" in world.works(), at
        actions = [type(one.action).__name__ for one in world.proposals()]
        assert actions.count("Revert") == 1, (at, actions)
        if not was_killed:
            break
        at += 1
    assert at > 2


@pytest.mark.parametrize("value", [b"", b"\0" * 40, b"swarmllm-agent-1\n\x93\x01\x02\x03"])
def test_a_state_that_cannot_be_read_is_said_and_begins_anew(value: bytes) -> None:
    world = World(phase=3)
    world.disk[key_of("scheduling")] = value
    world.disk[TASKS_KEY] = value
    world.boot()
    world.tick()
    assert any("cannot be read, and begins anew" in text for text in world.texts())


# --- users come first -----------------------------------------------------------------------------


def test_a_users_answer_stops_what_experts_are_asked_and_it_is_asked_again_later() -> None:
    world = World(phase=3)
    world.is_held = lambda order: isinstance(order.work, Ask)
    world.give(CycleWanted("scheduling"))
    while world.answer():
        pass
    (asking,) = world.held
    world.give(Asked(7, GenerateRequest((1, 2), is_background=True)))
    assert world.stopped == [], "its own answer is no user's"
    world.give(Asked(8, GenerateRequest((1, 2))))
    assert world.stopped == [asking.number]
    world.run(60)
    assert [name for name in world.works() if name == "Ask"] == ["Ask"], "a user is written for"
    world.give(AnswerEnded(True, 5, 0, 8))
    world.tick(1)
    assert list(world.works()).count("Ask") == 1, "and may ask on"
    world.is_held = lambda _: False
    world.run(30)
    assert list(world.works()).count("Ask") == 2
    assert len(world.proposals()) == 1


def test_a_users_answer_stops_no_simulation_which_runs_at_the_lowest_priority() -> None:
    world = World(phase=3)
    world.is_held = lambda order: isinstance(order.work, Simulate)
    world.give(CycleWanted("scheduling"))
    while world.answer():
        pass
    world.give(Asked(8, GenerateRequest((1, 2))))
    assert world.stopped == []


def test_it_asks_no_more_than_its_share_of_the_time() -> None:
    grant = naming(Grant(share_permille=10))
    world = World(phase=3, terms=terms_of(3, ext=grant))
    world.is_held = lambda order: isinstance(order.work, Ask)
    world.give(CycleWanted("scheduling"))
    while world.answer():
        pass
    world.run(2 * FULL_S)  # The experts take four minutes.
    world.is_held = lambda _: False
    world.suggestions = [replace(CHANGE, value=99)]  # Of no use: it asks again.
    while world.answer():
        pass
    world.run(600)
    assert list(world.works()).count("Ask") == 1, "what it owes takes hours at a hundredth"


# --- tasks ----------------------------------------------------------------------------------------


def test_tasks_begin_by_priority_and_only_one_in_a_domain() -> None:
    world = World(phase=1)
    world.is_held = lambda order: True
    for priority in (1, 9, 5):
        world.give(TaskSubmitted(Order(TaskType.TUNE_SCHEDULER, priority=priority), 1))
    world.tick()
    states = {task.priority: task.state for task in world.part.tasks.all}
    assert states == {1: "queued", 9: "running", 5: "queued"}


def test_what_was_ordered_before_a_start_was_allowed_is_ordered_again() -> None:
    """A shell performs nothing of an agent before the kill switch has said that it may."""
    world = World(phase=3)
    world.is_held = lambda _: True
    world.measure(0.1, COSTS_LEAST)
    world.tick()
    (dropped,) = world.held
    world.give(TokensAllowed())
    assert (world.stopped, world.held) == ([dropped.number], [])
    world.is_held = lambda _: False
    world.tick()
    assert world.lane().step is Step.REVIEWING


def test_strikes_bring_the_security_cycle_forward_once_and_no_other() -> None:
    world = World(phase=3)
    for domain in ("security", "network"):
        world.give(CycleWanted(domain))
        world.tick()
        assert world.lane(domain).rests_s > 3_000
    world.known = {**world.known, "strikes": 2.0}
    world.run(2 * WATCH_S)
    why = "the next cycle comes sooner: peers have broken the protocol: 2 strikes lately"
    assert world.texts("security").count(why) == 1
    assert world.lane("security").rests_s < 300
    assert world.lane("network").rests_s > 3_000
    world.measure(0.1, COSTS_LEAST)
    world.run(600)
    assert world.lane("security").cycle == 2
    assert world.texts("security").count(why) == 1


def test_no_cycle_begins_by_itself_where_nobody_has_asked_anything() -> None:
    world = World(phase=3)
    world.run(600)
    assert set(world.works()) == {"Observe"}  # For alarms.
    world.measure(0.1, COSTS_LEAST - 1)
    world.tick()
    assert world.lane().step is Step.RESTING
    world.measure(0.1, 1)
    world.tick()
    assert world.lane().step is Step.REVIEWING


def test_before_it_is_known_who_there_is_one_domain_looks_at_a_time() -> None:
    world = World(phase=3)
    world.is_held = lambda order: isinstance(order.work, Observe)
    world.measure(0.1, COSTS_LEAST)
    world.tick()
    world.tick()
    assert [order.domain for order in world.held] == ["scheduling"]


def test_four_domains_work_at_once_with_experts_that_none_shares() -> None:
    world = World(phase=1)
    world.is_held = lambda order: isinstance(order.work, Ask)
    for domain in ("scheduling", "security", "storage", "network"):
        world.give(TaskSubmitted(Order(TaskType.TUNE_CONFIGURATION, domain), 1))
    for _ in DOMAINS:  # One looks after the other, until it is known who shares with whom.
        world.tick()
    asked = [order for order in world.held if isinstance(order.work, Ask)]
    groups = {lane.domain: (lane.others, lane.experts) for lane in world.part.view(world.now).lanes}
    apart = {members for _, members in groups.values()}
    assert len(asked) == len(apart), "one for each group of experts"
    assert sum(map(len, apart)) == len(EXPERTS)


def test_domains_that_share_too_few_experts_take_turns() -> None:
    world = World(phase=1)
    world.is_held = lambda order: isinstance(order.work, Ask)
    from tests.core.agent import rig

    few = EXPERTS[:2]
    original = rig.EXPERTS
    rig.EXPERTS = few
    try:
        for domain in ("scheduling", "network"):
            world.give(CycleWanted(domain))
            while world.answer():
                pass
        world.is_held = lambda _: False
        world.tick()
        lanes = [one for one in world.part.view(world.now).lanes if one.cycle]
        assert all(len(one.others) == 3 for one in lanes), "all four share them"
    finally:
        rig.EXPERTS = original


def test_a_task_survives_a_crash_and_an_expired_one_never_begins() -> None:
    world = World(phase=1)
    world.is_held = lambda order: True
    world.give(TaskSubmitted(Order(TaskType.TUNE_SCHEDULER, description="late"), 1))
    world.give(TaskSubmitted(Order(TaskType.TUNE_SCHEDULER, wait_s=1), 1))
    world.tick()
    world.boot()
    world.is_held = lambda _: False
    world.run(30)
    states = [task.state for task in world.part.tasks.all]
    assert states == ["done", "expired"]


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        (Order(TaskType.WRITE_TEST, "weather"), "there is no domain 'weather'"),
        (Order(TaskType.WRITE_TEST, description="x" * 513), "513 bytes, and it may have 512"),
        (Order(TaskType.WRITE_TEST, description="\ud800"), "not valid UTF-8"),
        (Order(TaskType.WRITE_TEST, priority=10), "the priority is 10"),
        (Order(TaskType.WRITE_TEST, wait_s=-1), "the deadline is -1 s"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(order: Order, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        World(phase=1).part.tasks.submit(order, 1)


def test_the_queue_of_tasks_is_bounded() -> None:
    tasks = World(phase=1).part.tasks
    for _ in range(TASKS_MAX):
        tasks.submit(Order(TaskType.WRITE_TEST), 1)
    with pytest.raises(LocalError, match="wait already"):
        tasks.submit(Order(TaskType.WRITE_TEST), 1)
    for number in range(1, TASKS_MAX):
        tasks.ended(number, "x" * 999)
    assert len(tasks.all) < TASKS_MAX
    assert max(len(task.result) for task in tasks.all) == 200


# --- whatever comes -------------------------------------------------------------------------------


def test_a_clock_that_jumps_over_a_cycle_applies_nothing_and_is_told() -> None:
    world = begun(3)
    (case,) = world.proposals()
    world.measure(0.1)
    world.vote(case.id)
    world.tick()
    assert world.lane().step is Step.MEASURING
    world.tick(40 * 86_400)
    assert world.lane().step is Step.MEASURING, "it was not measured for an hour"
    assert any("the clock jumped by 3456000 s" in text for text in world.texts())


def test_a_proposer_that_repeats_itself_ends_the_cycle() -> None:
    world = begun(3, verdict="no difference")
    assert list(world.works()).count("Ask") == 4
    assert world.texts()[-1] == "4 proposals were tried"
    assert world.proposals() == []


def test_a_validation_that_never_ends_holds_up_nothing_else() -> None:
    world = World(phase=3)
    world.is_held = lambda order: isinstance(order.work, Simulate)
    world.give(CycleWanted("scheduling"))
    world.run(600)
    assert world.lane().step is Step.VALIDATING
    world.suggestions = [replace(CHANGE, setting=WAIT_COST, value=WAIT_COST.default + 1)]
    world.give(CycleWanted("network"))
    while world.answer():
        pass
    assert "Ask" in world.works("network"), "another domain goes on"


def test_an_answer_to_nothing_changes_nothing() -> None:
    world = begun(3)
    before = world.lane()
    world.give(AgentDone(999, _filed()))
    assert world.lane() == before


def test_each_step_is_an_entry_of_the_ledger_and_none_is_longer_than_it_may_be() -> None:
    world = begun(3, suggestions=[replace(CHANGE, finding="x" * 200)])
    steps = [one.step for one in world.ledger]
    assert steps == ["observing", "proposing", "validating", "filing"]
    assert world.ledger[1].text == "router.hedging_extra at 2 is proposed by a test"
    assert all(len(one.text) <= 200 for one in world.ledger)


def test_the_action_of_each_proposal_is_on_the_closed_list() -> None:
    for phase in (1, 2, 3):
        for case in begun(phase).proposals():
            assert read_action(case.proposal.action) is not None


def test_whoever_is_no_agent_of_the_charter_runs_no_cycle_by_itself() -> None:
    world = World(phase=3, terms=terms_of(3, agent=()))
    world.run(60)
    assert world.performed == []
    assert "neither an agent nor a voter" in world.part.view(world.now).why
    assert VOTERS


def test_a_timer_without_anything_to_do_writes_nothing() -> None:
    world = World(phase=0, terms=terms_of(0, agent=()))
    world.run(30)
    assert world.ledger == []
    world.give(TimerFired())
    assert File.__name__ not in world.works()
