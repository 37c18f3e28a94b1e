"""The loop: an agent's cycles in a simulated swarm with a planted fault.

`core.agent.cycle.Cycle` decides; this drives it. What a node would do is done by the same code: its
own part records the minutes, its view gives the snapshot, `validate` simulates. Votes are assumed:
what a validation calls better is carried at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

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
    Simulate,
    Step,
    TakeBack,
    Terms,
    Tick,
    Validated,
)
from swarmllm.core.agent.domains import domain_of_setting
from swarmllm.core.agent.observation import Observation, observe
from swarmllm.core.agent.proposers import Proposer, Situation
from swarmllm.core.agent.suggestion import BoundsOf, Suggestion
from swarmllm.core.agent.tasks import TUNE, TaskKind
from swarmllm.core.governance.canary import Samples, samples_of
from swarmllm.core.part import Part
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import SETTINGS
from swarmllm.core.validation.coverage import is_shown, text_side
from swarmllm.core.validation.objective import Figures
from swarmllm.core.validation.part import RecordingPart
from swarmllm.core.validation.recording import Recording
from swarmllm.core.validation.report import Case
from swarmllm.core.validation.snapshot import Snapshot, snapshot_of
from swarmllm.core.validation.statistics import PAIRS_MIN
from swarmllm.sims.frame.store import Store
from swarmllm.sims.planted.faults import Place
from swarmllm.sims.validation.fitting import Fitted
from swarmllm.sims.validation.playing import Load, Played, Run, steady
from swarmllm.sims.validation.sift import sift
from swarmllm.sims.validation.validate import Budget, key_of, validate
from swarmllm.testing.world import Host
from swarmllm.testing.world.laws import all_laws

MINUTE: Final = 29_000_000.0  # Since 1970, when the simulated clock shows 0.
NO_REPORT: Final = bytes(32)  # What is filed before it may be simulated.
LOOK_AFTER_S: Final = 2.0  # Of an answer under way, for the snapshot.
BOUNDS: Final = {one: one.bounds for one in SETTINGS.values() if one.owner == "agent"}

Values = Mapping[Setting[Any], int]
Verdict = tuple[str, bytes, float]
"""On a case; the digest of the report, and the seconds that were simulated."""
Validator = Callable[[Case], Verdict]


@dataclass(frozen=True, slots=True)
class Looked:
    """What a node knows after some answers: its recording, its snapshot, what tokens took; and what
    it does not know, the figures of the whole swarm."""

    recording: Recording
    snapshot: Snapshot
    costs: Samples
    figures: Figures = field(default_factory=dict)


Look = Callable[[Place, Values, int], Looked]
"""Of a swarm, under these values, from this seed."""


def look(place: Place, values: Values, seed: int) -> Looked:
    recorders: list[RecordingPart] = []

    def parts(_host: Host) -> tuple[Part, ...]:
        if recorders:
            return ()  # The first host is the one that asks.
        recorders.append(RecordingPart(MINUTE, 0.0, lambda _key: None))
        return (recorders[0],)

    run = Run(place.fitted(), values, seed, all_laws, parts)
    seen: list[Snapshot] = []
    world = run.world

    def take() -> None:
        seen.append(snapshot_of(run.asker.node.view(world.now)))

    world.event_queue.after(LOOK_AFTER_S, take)
    figures = run.play(steady).figures
    costs = [chosen.round_s for one in world.answers for chosen in one.chosen]
    return Looked(recorders[0].recording(world.now), seen[0], samples_of(costs), figures)


def case_of(suggestion: Suggestion, values: Values, looked: Looked) -> Case:
    """What is to be validated where these values are in force."""
    known = dict(values), looked.snapshot, looked.recording
    return Case(suggestion.setting, suggestion.value, b"", *known, {})


@dataclass(slots=True)
class Player:
    """Plays runs, and counts the seconds that are simulated in them."""

    seconds: float = 0.0

    def __call__(self, fitted: Fitted, values: Values, seed: int, load: Load) -> Played:
        run = Run(fitted, values, seed, all_laws)
        found = run.play(load)
        self.seconds += run.world.now
        return found


def simulated(case: Case, store: Store | None = None) -> Verdict:
    """`store` keeps what was found, for whoever validates the same again."""
    setting, before, after = case.setting, case.before, case.value
    if not is_shown(setting) or text_side(setting, before, after) < 0:
        return "not shown", b"", 0.0  # Whatever the figures: it could not be called better.
    key = f"validation {key_of(case)}"
    held = None if store is None else store.get(key)
    if held is not None:
        return held["verdict"], bytes.fromhex(held["digest"]), held["seconds"]
    player = Player()
    budget = Budget(PAIRS_MIN, clock=lambda: 0.0)  # By pairs alone: the same on every machine.
    report = validate(case, budget, play=player)
    if store is not None:
        found = {"verdict": report.verdict, "digest": report.digest.hex()}
        store.add(key, {"results": found | {"seconds": player.seconds}})
    return report.verdict, report.digest, player.seconds


def sifted(case: Case, store: Store | None = None, pairs: int = PAIRS_MIN) -> Verdict:
    """The same for whoever wants what is *better* alone, in as few runs as that takes."""
    setting, before, after = case.setting, case.before, case.value
    if not is_shown(setting) or text_side(setting, before, after) < 0:
        return "not shown", b"", 0.0
    key = f"sifted {pairs} {key_of(case)}"
    held = None if store is None else store.get(key)
    if held is not None:
        return held["verdict"], bytes.fromhex(held["digest"]), held["seconds"]
    player = Player()
    report = sift(case, pairs, play=player)
    verdict, digest = ("not better", b"") if report is None else ("better", report.digest)
    if store is not None:
        found = {"verdict": verdict, "digest": digest.hex(), "seconds": player.seconds}
        store.add(key, {"results": found})
    return verdict, digest, player.seconds


@dataclass(slots=True)
class Loop:
    """`values` are in force. It ends after `validations_max` validations, once `changes_max`
    changes were found good and are kept, or after `cycles_max` cycles. `kind`: of the task that the
    cycles are for; with a `domain` they may change its settings alone. What chance decides
    follows from `seed` and `draw`. The rest says what was done."""

    place: Place
    values: dict[Setting[Any], int]
    proposer: Proposer
    seed: int
    validations_max: int
    validator: Validator = simulated
    look: Look = look
    changes_max: int = 1
    cycles_max: int = 1_000
    kind: TaskKind = TUNE
    domain: str = ""
    draw: str = ""
    suggested: int = 0
    actionable: int = 0
    validations: int = 0
    improving: int = 0
    enacted: int = 0
    taken_back: int = 0
    simulated_s: float = 0.0
    notes: list[Note] = field(default_factory=list)
    filed: list[File] = field(default_factory=list)
    found: list[tuple[Suggestion, str]] = field(default_factory=list)
    _observation: Observation = field(default_factory=dict)
    _looked: Looked | None = None
    _filed: dict[bytes, Setting[Any]] = field(default_factory=dict)
    _earlier: dict[bytes, int] = field(default_factory=dict)
    _enacted: File | None = None
    _is_over: bool = False
    _looks: int = 0
    _now: float = 0.0
    _rng: random.Random = field(init=False)
    _cycle: Cycle = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.seed} {self.proposer.name} {self.draw}")
        self._cycle = Cycle(Terms(attempts=self.validations_max))

    def run(self) -> None:
        """Until there is nothing more to propose, or all validations are spent."""
        event: Event = Tick()
        while not self._is_over:
            effects = self._cycle.handle(event, self._around(), self._now)
            self.notes += [one for one in effects if isinstance(one, Note)]
            wanted = next((one for one in effects if not isinstance(one, Note)), None)
            if wanted is not None:
                event = self._perform(wanted)
                continue
            event = Tick()
            step = self._cycle.state.step
            kept = self.enacted - self.taken_back
            is_over = (
                self._spent()
                or kept >= self.changes_max
                or self._cycle.state.cycle >= self.cycles_max
            )
            if step is Step.PROPOSING or (step is Step.RESTING and is_over):
                return  # It may ask no more.
            if step in (Step.RESTING, Step.MEASURING):
                self._now = max(self._now, self._cycle.next_deadline())
            if step is Step.MEASURING and self._enacted is not None:
                self._enact(self._enacted)

    @property
    def _bounds(self) -> BoundsOf:
        mine = self.domain
        return {
            one: bounds
            for one, bounds in BOUNDS.items()
            if not mine or domain_of_setting(one) == mine
        }

    def _spent(self) -> bool:
        return self.validations >= self.validations_max

    def _around(self) -> Around:
        costs = Samples() if self._looked is None else self._looked.costs
        state = "enacted" if self._cycle.state.proposal else ""
        kind = self.kind
        return Around(
            kind.phase_max,
            is_halted=False,
            is_runner=True,
            may_ask=not self._spent(),
            proposal=state,
            costs=costs,
            wanted=kind.wanted,
            is_filed="better" in kind.wanted,
        )

    def _look(self) -> Looked:
        self._looks += 1
        self._looked = self.look(self.place, self.values, self.seed + 1_000 * self._looks)
        return self._looked

    def _perform(self, effect: Effect) -> Event:
        match effect:
            case Observe():
                looked = self._look()
                self._observation = observe(looked.recording, looked.snapshot)
                return Observed(self._observation)
            case Ask():
                return self._ask()
            case Simulate(suggestion=suggestion):
                return self._simulate(suggestion)
            case File():
                self.filed.append(effect)
                self._enacted = None if effect.is_suggestion else effect
                return Filed(effect.report or NO_REPORT)
            case TakeBack(proposal=proposal):
                self.taken_back += 1
                self.values[self._filed[proposal]] = self._earlier[proposal]
                return Done()
            case _:
                raise AssertionError(effect)

    def _ask(self) -> Event:
        tried = self._cycle.state.tried
        situation = Situation(self._observation, dict(self.values), self._bounds, tried)
        suggestion = self.proposer.propose(situation, self._rng)
        if suggestion is None:
            self._is_over = True
            return Proposed(None)
        self.suggested += 1
        fault = suggestion.fault(self._observation, self.values, self._bounds)
        self.actionable += not fault
        return Proposed(suggestion, fault)

    def _simulate(self, suggestion: Suggestion) -> Event:
        assert self._looked is not None
        case = case_of(suggestion, self.values, self._looked)
        verdict, digest, simulated_s = self.validator(case)
        self.validations += 1
        self.improving += verdict == "better"
        self.found.append((suggestion, verdict))
        self.simulated_s += simulated_s
        return Validated(verdict, digest)

    def _enact(self, filed: File) -> None:
        """The change is in force, and a window of it was measured."""
        suggestion = filed.suggestion
        self._filed[filed.report] = suggestion.setting
        self._earlier[filed.report] = self.values.get(
            suggestion.setting, suggestion.setting.default
        )
        self.values[suggestion.setting] = suggestion.value
        self._enacted = None
        self.enacted += 1
        self._look()
