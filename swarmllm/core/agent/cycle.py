"""The self-improvement cycle: observe, propose, validate, review, measure, keep or take back.

A state machine with one thing under way at a time. What has to be done outside it (look at the
swarm, ask a proposer, simulate, sign) is an effect, and its result comes back as an event; whoever
drives it saves `state` before it performs an effect, so that a cycle goes on where it was after a
crash: asking again for what was under way does no harm. The phase says how far a cycle may go:

    0  observe                                   1  and suggest
    2  and simulate; what is better is suggested  3, 4  and propose it, to be voted on

A halt ends a cycle wherever it is, and what waits for votes is withdrawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from swarmllm.core.agent.observation import Observation, urgency_of
from swarmllm.core.agent.suggestion import Suggestion
from swarmllm.core.governance.canary import Samples, is_worse
from swarmllm.core.settings.setting import Setting

TRIED_MAX: Final = 64  # What was tried longest ago may be tried again.
HOUR_S: Final = 3600.0
WORSE: Final = "tokens cost more than before"


class Step(StrEnum):
    RESTING = "resting"
    OBSERVING = "observing"
    PROPOSING = "proposing"
    VALIDATING = "validating"
    FILING = "filing"
    REVIEWING = "reviewing"
    MEASURING = "measuring"
    TAKING_BACK = "taking back"
    WITHDRAWING = "withdrawing"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the charter grants. Seconds: from the end of a cycle to the next one, at most so long
    after cycles that came to nothing, and how soon after an alarm; `window_s` of measuring before
    and after a change; `review_s` until a proposal that nobody carries is withdrawn. `attempts`
    are proposals that one cycle may try."""

    interval_s: float = HOUR_S
    interval_max_s: float = 24 * HOUR_S
    soon_s: float = 300.0
    window_s: float = HOUR_S
    review_s: float = 7 * 24 * HOUR_S
    attempts: int = 4


@dataclass(frozen=True, slots=True)
class Around:
    """What the cycle has to know whenever it goes on. `is_runner`: this node's turn has come;
    `may_ask`: no user waits, and the budget has something left; `proposal`: the state of what waits
    for votes, as `proposals` shows it; `costs`: of the tokens of the last window. `wanted` are the
    verdicts that this cycle is for; not `is_filed`: the report is all that is to come of it."""

    phase: int
    is_halted: bool
    is_runner: bool
    may_ask: bool = True
    proposal: str = ""
    costs: Samples = field(default_factory=Samples)
    wanted: tuple[str, ...] = ("better",)
    is_filed: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """All that outlives a crash. Durations, not times: `waited_s` in this step so far, `rest_s` to
    wait in all while resting. `before`: the cost of tokens before the change, to be compared."""

    cycle: int = 0
    step: Step = Step.RESTING
    waited_s: float = 0.0
    rest_s: float = 0.0
    pause_s: float = 0.0
    attempts: int = 0
    suggestion: Suggestion | None = None
    report: bytes = b""
    proposal: bytes = b""
    before: Samples | None = None
    tried: tuple[tuple[Setting[Any], int], ...] = ()


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, or something around has changed."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The owner wants a cycle now, whoever's turn it is and however long it should rest."""


@dataclass(frozen=True, slots=True)
class Observed:
    observation: Observation


@dataclass(frozen=True, slots=True)
class Proposed:
    """`fault`: why nobody can act on the suggestion, or why there is none, empty if nothing is
    wrong. `by`: whose it is, in words."""

    suggestion: Suggestion | None
    fault: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Validated:
    """`report`: the digest of the report. Empty with a verdict that says why there is none."""

    verdict: str
    report: bytes = b""


@dataclass(frozen=True, slots=True)
class Filed:
    """The proposal's id; empty: it was refused, and `why`."""

    proposal: bytes
    why: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """The swarm's metrics as they are now, between cycles: is it time for one?"""

    observation: Observation


@dataclass(frozen=True, slots=True)
class Done:
    """What had no result to tell; `why` it could not be done, empty if it was."""

    why: str = ""


Event = Tick | Begin | Observed | Proposed | Validated | Filed | Seen | Done


# --- effects --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Observe:
    """Answered by Observed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Answered by Proposed."""


@dataclass(frozen=True, slots=True)
class Simulate:
    """Answered by Validated."""

    suggestion: Suggestion


@dataclass(frozen=True, slots=True)
class File:
    """Sign the proposal, or the suggestion, if the same does not wait already. Answered by
    Filed."""

    suggestion: Suggestion
    report: bytes
    is_suggestion: bool


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Propose to revert the change. Answered by Done."""

    proposal: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Answered by Done."""

    proposal: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """What happened in this step, for the ledger and for people."""

    cycle: int
    step: Step
    text: str


Work = Observe | Ask | Simulate | File | TakeBack | Withdraw
"""What is done outside; one at a time."""
Effect = Work | Note


# --- the machine ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Cycle:
    """`state` is to be saved before effects are performed. `is_waiting`: an effect is under way
    and its event is awaited; not so after a restart, when `Tick` asks for it again."""

    terms: Terms
    state: State = field(default_factory=State)
    is_waiting: bool = False
    _at: float | None = None  # The last event.
    _notes: list[Note] = field(default_factory=list)

    def handle(self, event: Event, around: Around, now: float) -> Sequence[Effect]:
        """Time that goes backwards is no time: a clock set back delays, and skips nothing."""
        passed_s = 0.0 if self._at is None else max(0.0, now - self._at)
        self.state = replace(self.state, waited_s=self.state.waited_s + passed_s)
        self._at = now
        self._notes = []
        effect = None if self._stopped(event, around) else self._next(event, around)
        return [*self._notes, *([effect] if effect is not None else [])]

    def next_deadline(self) -> float:
        """When a Tick is wanted, on the clock of `now`; -infinity before the first one."""
        if self._at is None:
            return -math.inf
        state = self.state
        waits = {
            Step.RESTING: state.rest_s,
            Step.MEASURING: self.terms.window_s,
            Step.REVIEWING: self.terms.review_s,
        }
        return self._at + max(0.0, waits.get(state.step, 0.0) - state.waited_s)

    def interrupted(self) -> None:
        """What was under way was stopped, or is forgotten: `Tick` asks for it again. Without an
        observation nothing can be proposed, so the cycle looks at the swarm again first."""
        was_asking, self.is_waiting = self.is_waiting, False
        state = self.state
        if state.step is Step.PROPOSING:
            attempts = max(0, state.attempts - 1) if was_asking else state.attempts
            self.state = replace(state, step=Step.OBSERVING, waited_s=0.0, attempts=attempts)

    def _stopped(self, event: Event, around: Around) -> bool:
        """Whether a halt has ended what was under way."""
        state = self.state
        at_rest = state.step in (Step.RESTING, Step.WITHDRAWING, Step.TAKING_BACK)
        if not around.is_halted or at_rest:
            return False
        why = "the swarm was halted"
        if isinstance(event, Filed) and event.proposal and state.step is Step.FILING:
            state = self.state = replace(state, proposal=event.proposal)
        if state.step in (Step.FILING, Step.REVIEWING) and state.proposal:
            self._note(f"{why}: the proposal is to be withdrawn")
            self._go(Step.WITHDRAWING, None)  # Nobody signs anything meanwhile.
        else:
            self._end(why, worth=True)
        return True

    def _next(self, event: Event, around: Around) -> Effect | None:
        step = self.state.step
        if isinstance(event, Begin):
            return self._rested(around, is_wanted=True) if step is Step.RESTING else None
        if isinstance(event, Tick):
            if step is Step.RESTING:
                return self._rested(around)
            if step is Step.REVIEWING:
                return self._reviewed(around)
            if step is Step.MEASURING:
                return self._measured(around)
            return None if self.is_waiting else self._again(around)
        if isinstance(event, Seen):
            rest_s, why = hurried(self.state, event.observation, self.terms)
            if why:
                self._note(f"the next cycle comes sooner: {why}")
                self.state = replace(self.state, rest_s=rest_s)
            return None
        if not self.is_waiting:
            return None  # The answer to what was given up.
        self.is_waiting = False
        match step, event:
            case Step.OBSERVING, Observed(observation=observation):
                return self._observed(observation, around)
            case Step.PROPOSING, Proposed():
                return self._proposed(event, around)
            case Step.VALIDATING, Validated(verdict=verdict, report=report):
                return self._validated(verdict, report, around)
            case Step.FILING, Filed(proposal=proposal, why=why):
                return self._filed(proposal, why, around)
            case ((Step.TAKING_BACK | Step.WITHDRAWING), Done(why=why)):
                self._end(f"that could not be done: {why}" if why else "done", worth=False)
            case _:
                raise AssertionError(f"{event} while {step}")
        return None

    def _again(self, around: Around) -> Effect | None:
        """Ask for what is under way: for the first time when it may be, or after a restart."""
        state = self.state
        match state.step:
            case Step.OBSERVING:
                return self._go(state.step, Observe())
            case Step.PROPOSING:
                return self._go(state.step, Ask()) if around.may_ask else None
            case Step.VALIDATING if state.suggestion is not None:
                return self._tried_out(state.suggestion, around)
            case Step.FILING if state.suggestion is not None:
                return self._file(state.suggestion, state.report, around)
            case Step.TAKING_BACK if not around.is_halted:
                return self._go(state.step, TakeBack(state.proposal, WORSE))
            case Step.WITHDRAWING if not around.is_halted:
                return self._go(state.step, Withdraw(state.proposal))
        return None

    # --- step by step -----------------------------------------------------------------------------

    def _rested(self, around: Around, *, is_wanted: bool = False) -> Effect | None:
        state = self.state
        is_due = around.is_runner and state.waited_s >= state.rest_s
        if around.is_halted or not (is_wanted or is_due):
            return None
        self.state = replace(state, cycle=state.cycle + 1, attempts=0)
        return self._go(Step.OBSERVING, Observe())

    def _observed(self, observation: Observation, around: Around) -> Effect | None:
        self._note(f"{len(observation)} metrics are known")
        if not observation or observation.get("experts") == 0:
            self._end("nothing is known of the swarm yet", worth=False)
            return None
        if around.phase < 1:
            self._end("in phase 0 it only observes", worth=True)
            return None
        return self._propose(around)

    def _propose(self, around: Around) -> Effect | None:
        if self.state.attempts >= self.terms.attempts:
            self._end(f"{self.terms.attempts} proposals were tried", worth=False)
            return None
        self.state = replace(self.state, attempts=self.state.attempts + 1)
        return self._go(Step.PROPOSING, Ask() if around.may_ask else None)

    def _proposed(self, proposed: Proposed, around: Around) -> Effect | None:
        suggestion, fault = proposed.suggestion, proposed.fault
        by = f" by {proposed.by}" if proposed.by else ""
        if suggestion is None:
            self._end(f"there is nothing to propose{fault and ': '}{fault}", worth=False)
            return None
        if fault:
            self._note(f"nobody can act on the proposal{by}: {fault}")
            return self._propose(around)
        self.state = replace(self.state, suggestion=suggestion, report=b"")
        self._note(f"{suggestion.setting.key} at {suggestion.value} is proposed{by}")
        return self._tried_out(suggestion, around)

    def _tried_out(self, suggestion: Suggestion, around: Around) -> Effect | None:
        """Simulate it where the phase allows that."""
        if around.phase < 2:
            return self._file(suggestion, b"", around)
        return self._go(Step.VALIDATING, Simulate(suggestion))

    def _file(self, suggestion: Suggestion, report: bytes, around: Around) -> Effect | None:
        """The phase may have been closed since this cycle began."""
        if around.phase < 1:
            self._end("in phase 0 it only observes", worth=True)
            return None
        return self._go(Step.FILING, File(suggestion, report, around.phase < 3))

    def _validated(self, verdict: str, report: bytes, around: Around) -> Effect | None:
        suggestion = self.state.suggestion
        assert suggestion is not None
        self._note(f"{suggestion.setting.key} at {suggestion.value}: {verdict}")
        if verdict not in around.wanted or not report:
            tried = (*self.state.tried, (suggestion.setting, suggestion.value))[-TRIED_MAX:]
            self.state = replace(self.state, tried=tried)
            return self._propose(around)
        self.state = replace(self.state, report=report)
        if not around.is_filed:
            self._tried()
            self._end(f"report {report.hex()[:16]} is what was looked for", worth=True)
            return None
        return self._file(suggestion, report, around)

    def _filed(self, proposal: bytes, why: str, around: Around) -> Effect | None:
        if not proposal:
            self._end(f"it was not filed: {why}", worth=False)
        elif around.phase < 3:
            self._end(f"suggestion {proposal.hex()[:16]} is filed", worth=True)
        else:
            self.state = replace(self.state, proposal=proposal)
            self._note(f"proposal {proposal.hex()[:16]} waits for votes")
            self._go(Step.REVIEWING, None)
        return None

    def _reviewed(self, around: Around) -> Effect | None:
        state = self.state
        if around.proposal == "enacted":
            self._note("the change is in force; it is measured")
            self.state = replace(state, before=state.before or around.costs)
            return self._go(Step.MEASURING, None)
        is_tried = around.proposal in ("passed", "canary") and state.before is None
        if is_tried and around.costs.count:
            # This node may be a canary: from now on its tokens are those of the change.
            self.state = replace(state, before=around.costs)
        if around.proposal in ("withdrawn", "void", "superseded", ""):
            self._tried()
            self._end(f"the proposal is {around.proposal or 'gone'}", worth=True)
        elif around.proposal == "open" and state.waited_s >= self.terms.review_s:
            self._note("nobody has carried the proposal: it is withdrawn")
            return self._go(Step.WITHDRAWING, Withdraw(state.proposal))
        return None

    def _measured(self, around: Around) -> Effect | None:
        state = self.state
        if around.proposal != "enacted":
            self._tried()
            self._end(f"the change is {around.proposal or 'gone'}", worth=True)
        elif state.waited_s >= self.terms.window_s:
            if state.before is not None and is_worse(state.before, around.costs):
                self._tried()
                self._note("tokens cost more than before, beyond noise: it is to be taken back")
                return self._go(Step.TAKING_BACK, TakeBack(state.proposal, WORSE))
            self._end("the change is kept", worth=True)
        return None

    # --- how it goes on ---------------------------------------------------------------------------

    def _tried(self) -> None:
        suggestion = self.state.suggestion
        if suggestion is not None:
            tried = (*self.state.tried, (suggestion.setting, suggestion.value))
            self.state = replace(self.state, tried=tried[-TRIED_MAX:])

    def _go(self, step: Step, effect: Effect | None) -> Effect | None:
        self.state = replace(self.state, step=step, waited_s=0.0)
        self.is_waiting = effect is not None
        return effect

    def _end(self, why: str, *, worth: bool) -> None:
        """Rest; the longer, the more cycles in a row have come to nothing."""
        self._note(why)
        terms, pause_s = self.terms, self.state.pause_s
        pause_s = (
            terms.interval_s if worth or not pause_s else min(terms.interval_max_s, 2 * pause_s)
        )
        self.state = replace(
            self.state,
            step=Step.RESTING,
            waited_s=0.0,
            rest_s=pause_s,
            pause_s=pause_s,
            suggestion=None,
            report=b"",
            proposal=b"",
            before=None,
        )
        self.is_waiting = False

    def _note(self, text: str) -> None:
        self._notes.append(Note(self.state.cycle, self.state.step, text))


def hurried(state: State, observation: Observation, terms: Terms) -> tuple[float, str]:
    """How long a cycle that rests should rest in all after an alarm, and why in a sentence (empty:
    as long as before)."""
    urgency, why = urgency_of(observation)
    rest_s = 0.0 if urgency == "now" else terms.soon_s
    is_sooner = urgency != "none" and state.step is Step.RESTING and rest_s < state.rest_s
    return (rest_s, why) if is_sooner else (state.rest_s, "")
