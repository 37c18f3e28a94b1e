from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swarmllm.core.agent.cycle import (
    Around,
    Ask,
    Cycle,
    Done,
    Effect,
    Event,
    File,
    Filed,
    Note,
    Observe,
    Observed,
    Proposed,
    Seen,
    Simulate,
    Step,
    TakeBack,
    Terms,
    Tick,
    Validated,
    Withdraw,
)
from swarmllm.core.agent.suggestion import Suggestion
from swarmllm.core.governance.canary import Samples, samples_of
from swarmllm.core.settings.table import EXTRA

TERMS = Terms(interval_s=100, interval_max_s=800, soon_s=20, window_s=50, review_s=1000, attempts=3)
KNOWN = {"late_share": 0.2, "token_ms": 40.0}
CHANGE = Suggestion(EXTRA, 2, "many are late", ("late_share",), "late_share")
REPORT, ID = b"\7" * 32, b"\1" * 32
QUICK = samples_of([0.1, 0.11] * 10)
SLOW = samples_of([0.3, 0.31] * 10)


@dataclass
class Driven:
    """A cycle and the effect that it waits for, as a driver sees them."""

    cycle: Cycle
    now: float = 1000.0

    def tell(self, event: Event, around: Around, passed_s: float = 0.0) -> Effect | None:
        self.now += passed_s
        effects = self.cycle.handle(event, around, self.now)
        rest = [one for one in effects if not isinstance(one, Note)]
        assert len(rest) <= 1, "one thing at a time"
        return rest[0] if rest else None


def around(phase: int = 3, **others: object) -> Around:
    return Around(phase, is_halted=False, is_runner=True, **others)  # type: ignore[arg-type]


def started() -> Driven:
    driven = Driven(Cycle(TERMS))
    assert driven.tell(Tick(), around()) == Observe()
    return driven


def validated(phase: int) -> Driven:
    driven = started()
    assert driven.tell(Observed(KNOWN), around(phase)) == Ask()
    assert driven.tell(Proposed(CHANGE), around(phase)) == Simulate(CHANGE)
    return driven


def in_force() -> Driven:
    driven = validated(3)
    assert driven.tell(Validated("better", REPORT), around()) == File(CHANGE, REPORT, False)
    assert driven.tell(Filed(ID), around()) is None
    assert driven.tell(Tick(), around(proposal="open"), 200) is None
    assert driven.tell(Tick(), around(proposal="canary"), 200) is None
    assert driven.tell(Tick(), around(proposal="enacted", costs=QUICK)) is None
    assert driven.cycle.state.step is Step.MEASURING
    return driven


def test_phase_0_only_observes() -> None:
    driven = started()
    assert driven.tell(Observed(KNOWN), around(0)) is None
    assert driven.cycle.state.step is Step.RESTING


def test_phase_1_suggests_without_a_simulation() -> None:
    driven = started()
    driven.tell(Observed(KNOWN), around(1))
    assert driven.tell(Proposed(CHANGE), around(1)) == File(CHANGE, b"", True)
    assert driven.tell(Filed(ID), around(1)) is None
    assert driven.cycle.state.step is Step.RESTING


def test_phase_2_suggests_what_a_simulation_found_better() -> None:
    driven = validated(2)
    assert driven.tell(Validated("better", REPORT), around(2)) == File(CHANGE, REPORT, True)


def test_phase_3_waits_for_votes_and_keeps_what_is_no_worse() -> None:
    driven = in_force()
    assert driven.tell(Tick(), around(proposal="enacted", costs=SLOW), 49) is None
    assert driven.cycle.state.before is not None, "it is measured still"
    assert driven.tell(Tick(), around(proposal="enacted", costs=QUICK), 1) is None
    assert driven.cycle.state.step is Step.RESTING


def test_what_is_worse_beyond_noise_is_taken_back_and_not_tried_again_soon() -> None:
    driven = in_force()
    effect = driven.tell(Tick(), around(proposal="enacted", costs=SLOW), 50)
    assert effect == TakeBack(ID, "tokens cost more than before")
    assert (EXTRA, 2) in driven.cycle.state.tried
    assert driven.tell(Done(), around()) is None
    assert driven.cycle.state.step is Step.RESTING


def test_what_a_canary_of_this_node_measured_is_not_taken_for_the_time_before() -> None:
    driven = validated(3)
    driven.tell(Validated("better", REPORT), around())
    driven.tell(Filed(ID), around())
    driven.tell(Tick(), around(proposal="open", costs=QUICK), 5)
    driven.tell(Tick(), around(proposal="canary", costs=QUICK), 5)
    driven.tell(Tick(), around(proposal="canary", costs=SLOW), 5)
    driven.tell(Tick(), around(proposal="enacted", costs=SLOW), 5)
    assert driven.cycle.state.before == QUICK
    effect = driven.tell(Tick(), around(proposal="enacted", costs=SLOW), 50)
    assert effect == TakeBack(ID, "tokens cost more than before")


def test_a_suggestion_that_is_no_better_makes_room_for_the_next() -> None:
    driven = validated(3)
    assert driven.tell(Validated("no difference", REPORT), around()) == Ask()
    assert (EXTRA, 2) in driven.cycle.state.tried
    for _ in range(2):
        assert driven.tell(Proposed(CHANGE, "it is 2 already"), around()) in (Ask(), None)
    assert driven.cycle.state.step is Step.RESTING, "three attempts and no more"


def test_what_nobody_carries_is_withdrawn() -> None:
    driven = validated(3)
    driven.tell(Validated("better", REPORT), around())
    driven.tell(Filed(ID), around())
    assert driven.tell(Tick(), around(proposal="open"), 999) is None
    assert driven.tell(Tick(), around(proposal="open"), 1) == Withdraw(ID)


def test_users_come_first() -> None:
    driven = started()
    busy = around(may_ask=False)
    assert driven.tell(Observed(KNOWN), busy) is None
    assert driven.tell(Tick(), busy, 5) is None
    assert driven.tell(Tick(), around(), 5) == Ask()
    assert driven.tell(Tick(), around(), 5) is None, "asked once"


def test_cycles_that_come_to_nothing_come_ever_more_rarely() -> None:
    driven, rests = Driven(Cycle(TERMS)), []
    for _ in range(6):
        assert driven.tell(Tick(), around(), driven.cycle.state.rest_s) == Observe()
        driven.tell(Observed(KNOWN), around())
        driven.tell(Proposed(None), around())
        rests.append(driven.cycle.state.rest_s)
    assert rests == [100, 200, 400, 800, 800, 800]


def test_an_alarm_brings_the_next_cycle_forward() -> None:
    driven = started()
    driven.tell(Observed({}), around())
    full = {"busy_share": 0.9}
    assert driven.tell(Seen(full), around(), 10) is None
    assert driven.cycle.state.rest_s == TERMS.soon_s
    assert driven.tell(Tick(), around(), 9) is None
    assert driven.tell(Tick(), around(), 1) == Observe()
    driven.tell(Observed({}), around())
    driven.tell(Seen({"busy_share": 0.97}), around())
    assert driven.tell(Tick(), around()) == Observe(), "at once"


def test_the_next_cycle_is_another_nodes() -> None:
    driven = Driven(Cycle(TERMS))
    assert driven.tell(Tick(), Around(3, is_halted=False, is_runner=False)) is None


# --- whatever happens -----------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """A driver that crashes, swarms that halt, events that come late, clocks that jump."""

    def __init__(self) -> None:
        super().__init__()
        self.driven = Driven(Cycle(TERMS))
        self.phase, self.is_halted, self.proposal = 3, False, ""
        self.costs = QUICK
        self.pending: Effect | None = None
        self.simulated = 0
        self.is_better = False

    def look(self) -> Around:
        return Around(self.phase, self.is_halted, True, proposal=self.proposal, costs=self.costs)

    def tell(self, event: Event, passed_s: float = 0.0) -> None:
        step = self.driven.cycle.state.step
        effect = self.driven.tell(event, self.look(), passed_s)
        if effect is None:
            if not self.driven.cycle.is_waiting:
                self.pending = None
            return
        assert not self.is_halted, f"{effect} while halted"
        self.pending = effect
        match effect:
            case Observe():
                self.simulated = 0
            case Simulate():
                assert self.phase >= 2
                self.simulated += 1
            case File(report=report, is_suggestion=is_suggestion):
                assert is_suggestion == (self.phase < 3)
                assert self.phase >= 1
                assert not report or self.is_better, "what was not found better is proposed"
                self.proposal = "open"
            case TakeBack(proposal=proposal):
                assert proposal == ID
                assert step in (Step.MEASURING, Step.TAKING_BACK)
            case _:
                pass

    @rule(passed_s=st.sampled_from((0.0, 5.0, 60.0, 5000.0, -700.0)))
    def time_passes(self, passed_s: float) -> None:
        self.tell(Tick(), passed_s)

    @precondition(lambda self: self.pending is not None)
    @rule(well=st.booleans())
    def the_effect_is_done(self, well: bool) -> None:
        effect, self.pending = self.pending, None
        answers: dict[type, Event] = {
            Observe: Observed(KNOWN if well else {}),
            Ask: Proposed(CHANGE if well else None),
            Simulate: Validated("better", REPORT) if well else Validated("worse", REPORT),
            File: Filed(ID) if well else Filed(b"", "the disk is full"),
            TakeBack: Done(),
            Withdraw: Done(),
        }
        self.is_better = (isinstance(effect, Simulate) and well) or (
            self.is_better and not isinstance(effect, Observe | Ask)
        )
        self.tell(answers[type(effect)])

    @rule(state=st.sampled_from(("open", "passed", "canary", "enacted", "void", "withdrawn", "")))
    def the_votes_say(self, state: str) -> None:
        self.proposal = state
        self.tell(Tick())

    @rule(slow=st.booleans())
    def tokens_cost(self, slow: bool) -> None:
        self.costs = SLOW if slow else QUICK

    @rule()
    def the_swarm_is_halted_or_goes_on(self) -> None:
        self.is_halted = not self.is_halted
        self.tell(Tick())

    @rule(phase=st.integers(0, 4))
    def the_phase_changes(self, phase: int) -> None:
        self.phase = phase

    @rule()
    def the_node_is_killed_and_starts_again(self) -> None:
        self.driven = Driven(Cycle(TERMS, self.driven.cycle.state), self.driven.now)
        self.pending = None
        before = self.driven.cycle.state
        self.tell(Tick())
        after = self.driven.cycle.state
        assert after.cycle - before.cycle in (0, 1)

    @invariant()
    def a_cycle_tries_no_more_than_it_may(self) -> None:
        # Once more for each restart, since asking again does no harm; what counts is attempts.
        assert self.driven.cycle.state.attempts <= TERMS.attempts


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAnyOrder = AnyOrder.TestCase


def test_samples_of_nothing_are_no_reason_to_take_back() -> None:
    driven = in_force()
    assert driven.tell(Tick(), around(proposal="enacted", costs=Samples()), 50) is None
    assert driven.cycle.state.step is Step.RESTING
