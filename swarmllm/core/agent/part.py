"""The agent as a part of the node: a self-improvement cycle for each domain, and the tasks that its
owner gave it.

A cycle decides (`core.agent.cycle`); this says what it has to know, keeps it over restarts, enters
each step into the ledger, and gives way: a user's answer stops what the agent has asked of experts,
and a halt stops all that is under way. What a cycle wants done is the effect `RunAgent`; nothing
here signs, simulates or asks.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from swarmllm.core.agent import saved
from swarmllm.core.agent.budget import Budget
from swarmllm.core.agent.charter import Grant
from swarmllm.core.agent.cycle import (
    Around,
    Ask,
    Begin,
    Event,
    Filed,
    Note,
    Observe,
    Observed,
    Proposed,
    Seen,
    State,
    Step,
    Tick,
    Work,
)
from swarmllm.core.agent.domains import DOMAINS
from swarmllm.core.agent.lane import Lane, LaneView, load_lanes
from swarmllm.core.agent.notes import Notes, StepNote
from swarmllm.core.agent.observation import alarms_of, heard_by
from swarmllm.core.agent.proposers import Situation
from swarmllm.core.agent.subsets import subsets_of
from swarmllm.core.agent.surroundings import Surroundings
from swarmllm.core.agent.tasks import TUNE, Task, Tasks
from swarmllm.core.effects import NodeEffect, RunAgent, Save, StopAgent
from swarmllm.core.facts import (
    AnswerEnded,
    Fact,
    HaltStateChanged,
    SettingChanged,
    TokenMeasured,
    TokensAllowed,
    TokensForbidden,
)
from swarmllm.core.governance.canary import samples_of
from swarmllm.core.inputs import AgentDone, Asked, CycleWanted, Input, TaskSubmitted, TimerFired
from swarmllm.core.part import Part, Told
from swarmllm.errors import SwarmError

TICK_S: Final = 5.0
WATCH_S: Final = 60.0  # How often the swarm is looked at between cycles, for alarms.
JUMP_S: Final = 60.0  # More between two looks was no time of ours: the machine slept.
SAVE_EVERY_S: Final = 600.0  # How long a cycle has waited; what a crash loses only prolongs.
COSTS_MAX: Final = 2_048  # Of the last tokens.
COSTS_LEAST: Final = 100  # Tokens that say something of a swarm.
EXPERTS_MAX: Final = 512
SUBSET_LEAST: Final = 3  # Experts; fewer are no panel, and domains share theirs.
DECLARED: Final = 2.0  # Merit of an expert in a domain that it claims.


@dataclass(frozen=True, slots=True)
class AgentView:
    """`why` it does less than it is there for, in a sentence; empty: nothing keeps it. `left_s` of
    its budget. The last notes, the newest at the end."""

    phase: int
    why: str
    grant: Grant
    left_s: float
    lanes: tuple[LaneView, ...]
    tasks: tuple[Task, ...]
    notes: tuple[StepNote, ...]


class AgentPart(Part):
    """`load` gives what the store holds."""

    inputs = (
        *(AgentDone, CycleWanted, TaskSubmitted, Asked, AnswerEnded, TokenMeasured),
        *(HaltStateChanged, TokensForbidden, TokensAllowed, SettingChanged),
    )

    def __init__(self, surroundings: Surroundings, load: Callable[[str], bytes | None]) -> None:
        self._sees = surroundings
        self._lanes, tasks, self._lost = load_lanes(load)
        held = {lane.task for lane in self._lanes.values()}
        self.tasks = Tasks(
            replace(task, state="queued") if _was_dropped(task, held) else task for task in tasks
        )
        self._budget = Budget()
        self._costs: deque[tuple[float, float]] = deque(maxlen=COSTS_MAX)
        self._notes = Notes()
        self._next_number = 1
        self._look_at = -math.inf
        self._clock_s = 0.0  # Of the cycles: it goes with `now`, and does not jump.
        self._passed_at: float | None = None
        self._watch, self._watch_at = 0, WATCH_S  # Its number, on the clock of the cycles.
        self._jumped_s = 0.0
        self._alarms: frozenset[str] = frozenset()  # As the swarm was looked at last.

    # --- the part ---------------------------------------------------------------------------------

    def handle(self, event: Input | Fact, now: float) -> Told:
        match event:
            case TokenMeasured(cost_s=cost_s):
                self._costs.append((now, cost_s))
            case Asked(request=request) if not event.order.is_background:
                self._budget.user_came(request)
                return [e for one in self._lanes.values() if one.is_asking for e in self._stop(one)]
            case AnswerEnded(request=request):
                self._budget.user_left(request, self._clock_s)
            case TokensForbidden():
                self._look_at = -math.inf
                return [e for one in self._lanes.values() for e in self._stop(one)]
            case TokensAllowed():
                # What was ordered before was not performed: at a start, for instance.
                self._look_at = -math.inf
                return [e for one in self._lanes.values() for e in self._stop(one)]
            case HaltStateChanged() | SettingChanged():
                self._look_at = -math.inf  # Not now: nothing stands between a halt and the flag.
            case AgentDone() | CycleWanted() | TaskSubmitted() | TimerFired():
                self._pass(now)
                return self._timely(event, now)
            case _:
                assert isinstance(event, Asked), event
        return ()

    def next_deadline(self) -> float:
        return self._look_at

    def view(self, now: float) -> AgentView:
        """What `swarmllm agent status` shows."""
        sees = self._sees
        return AgentView(
            phase=sees.machine.phase,
            why=sees.obstacle,
            grant=sees.grant,
            left_s=self._budget.left_s,
            lanes=tuple(
                lane.view(sees.is_runner(lane.domain, now)) for lane in self._lanes.values()
            ),
            tasks=self.tasks.all,
            notes=self._notes.all,
        )

    def _timely(
        self, event: AgentDone | CycleWanted | TaskSubmitted | TimerFired, now: float
    ) -> list[NodeEffect]:
        match event:
            case AgentDone():
                return self._done(event, now)
            case CycleWanted(domain=domain):
                return self._advance(self._lanes[domain], Begin(), now)
            case TaskSubmitted():
                return self._submitted(event)
            case TimerFired():
                return self._look(now)

    # --- time, users and the kill switch ----------------------------------------------------------

    def _pass(self, now: float) -> None:
        """Time goes by for cycles and budget. A machine that slept has used none of it."""
        passed_s = 0.0 if self._passed_at is None else max(0.0, now - self._passed_at)
        if passed_s > JUMP_S:
            self._jumped_s, passed_s = passed_s, JUMP_S
        self._passed_at = now
        self._clock_s += passed_s
        grant = self._sees.grant
        self._budget.share = grant.share_permille / 1000
        self._budget.fill(self._clock_s)
        for lane in self._lanes.values():
            lane.cycle.terms = grant.terms

    def _stop(self, lane: Lane) -> list[NodeEffect]:
        """What is under way is given up, and asked for again when it may be."""
        if not lane.number:
            return []
        number = lane.release(self._budget, self._clock_s)
        lane.cycle.interrupted()
        return [StopAgent(number)]

    # --- cycles -----------------------------------------------------------------------------------

    def _look(self, now: float) -> list[NodeEffect]:
        self._look_at = now + TICK_S
        effects: list[NodeEffect] = []
        for sentence in self._oddities():
            note = Note(0, Step.RESTING, sentence)
            effects.append(self._notes.enter(note, DOMAINS[0], self._sees.unix_ms(now)))
        for lane in self._lanes.values():
            effects += self._advance(lane, self._due(lane, now), now)
        if self._clock_s >= self._watch_at and not self._sees.is_halted:
            self._watch_at = self._clock_s + WATCH_S
            self._watch = self._number()
            effects.append(RunAgent(self._watch, DOMAINS[0], Observe()))
        return effects

    def _oddities(self) -> Iterator[str]:
        if self._lost:
            yield self._lost
            self._lost = ""
        if self._jumped_s:
            yield f"the clock jumped by {self._jumped_s:.0f} s: cycles go on as if it had not"
            self._jumped_s = 0.0

    def _due(self, lane: Lane, now: float) -> Event:
        """A task that waits begins at once, where experts and kill switch allow it."""
        rests = lane.cycle.state.step is Step.RESTING
        if not rests or self._is_taken(lane) or self._sees.is_halted:
            return Tick()
        task = self.tasks.next(lane.domain, self._sees.unix_ms(now))
        if task is None:
            return Tick()
        self.tasks.began(task)
        lane.task = task.number
        return Begin()

    def _is_taken(self, lane: Lane) -> bool:
        """Whether the experts of this lane are at another one's cycle: they are too few to divide,
        or nobody has looked yet how many there are."""
        busy = [one for one in self._lanes.values() if one is not lane and one.is_busy]
        return any(
            not one.subset.domains
            or lane.domain in one.subset.domains
            or one.domain in lane.subset.domains
            for one in busy
        )

    def _done(self, done: AgentDone, now: float) -> list[NodeEffect]:
        event = done.event
        if isinstance(event, Observed) and done.number == self._watch:
            observation, before = event.observation, self._alarms
            self._alarms = alarms_of(observation)
            heard = [
                (one, Seen(heard_by(one.domain, observation, before)))
                for one in self._lanes.values()
            ]
            return [effect for one, seen in heard for effect in self._advance(one, seen, now)]
        lane = next((one for one in self._lanes.values() if one.number == done.number), None)
        if lane is None:
            return []  # It was given up.
        lane.release(self._budget, self._clock_s)
        match event:
            case Observed(observation=observation):
                lane.observation = observation
                self._divide(lane, done, now)
            case Proposed(suggestion=suggestion) if suggestion is not None:
                sees = self._sees
                values, bounds = sees.values(), sees.bounds(lane.domain)
                event = replace(event, fault=suggestion.fault(lane.observation, values, bounds))
            case _:
                pass
        return self._advance(lane, event, now)

    def _divide(self, lane: Lane, done: AgentDone, now: float) -> None:
        """Which experts this cycle asks."""
        known = {
            peer: {domain: DECLARED for domain in claimed if domain in DOMAINS}
            for peer, claimed in done.experts[:EXPERTS_MAX]
        }
        groups = subsets_of(self._sees.epoch(now), DOMAINS, known, SUBSET_LEAST)
        lane.subset = next(one for one in groups if lane.domain in one.domains)

    def _advance(self, lane: Lane, event: Event, now: float) -> list[NodeEffect]:
        """One event to one cycle, and all that follows from it, in order: it is on disk before it
        is done."""
        before = lane.cycle.state
        told = lane.cycle.handle(event, self._around(lane, now), self._clock_s)
        notes = [one for one in told if isinstance(one, Note)]
        self._end_task(lane, event, before, notes)
        effects = self._save(lane, before, now)
        at_ms = self._sees.unix_ms(now)
        effects += [self._notes.enter(note, lane.domain, at_ms) for note in notes]
        for work in told:
            if not isinstance(work, Note):
                effects.append(self._run(lane, work))
        if lane.number and not lane.cycle.is_waiting:
            effects.append(StopAgent(lane.release(self._budget, self._clock_s)))
        return effects

    def _around(self, lane: Lane, now: float) -> Around:
        sees, state = self._sees, lane.cycle.state
        task = self.tasks.get(lane.task)
        kind = TUNE if task is None else task.kind
        since = now - lane.cycle.terms.window_s
        return Around(
            phase=min(sees.machine.phase, kind.phase_max),
            is_halted=sees.is_halted,
            # And there is something to go by: this node has written some answers since it started.
            is_runner=len(self._costs) >= COSTS_LEAST
            and not self._is_taken(lane)
            and sees.is_runner(lane.domain, now),
            may_ask=self._budget.may_ask(self._clock_s),
            proposal=sees.state_of(state.proposal),
            costs=samples_of(cost for at, cost in self._costs if state.proposal and at > since),
            wanted=kind.wanted,
            is_filed="better" in kind.wanted,
        )

    def _end_task(self, lane: Lane, event: Event, before: State, notes: list[Note]) -> None:
        """A task is done with its proposal, or with its cycle."""
        filed = event.proposal if isinstance(event, Filed) else b""
        is_over = before.step is not Step.RESTING and lane.cycle.state.step is Step.RESTING
        if lane.task and (filed or is_over):
            self.tasks.ended(lane.task, notes[-1].text if notes else "", filed)
            lane.task = 0

    def _number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def _run(self, lane: Lane, work: Work) -> RunAgent:
        number = self._number()
        lane.number, lane.work, lane.asked_s = number, work, self._clock_s
        if not isinstance(work, Ask):
            return RunAgent(number, lane.domain, work)
        sees, state, task = self._sees, lane.cycle.state, self.tasks.get(lane.task)
        bounds = sees.bounds(lane.domain)
        situation = Situation(lane.observation, sees.values(), bounds, state.tried)
        said = "" if task is None else task.description
        experts = frozenset(lane.subset.experts) or None
        return RunAgent(number, lane.domain, work, situation, said, experts, state.attempts)

    # --- what is kept -----------------------------------------------------------------------------

    def _save(self, lane: Lane, before: State, now: float) -> list[NodeEffect]:
        """Not for the seconds alone that it has waited."""
        state = lane.cycle.state
        effects: list[NodeEffect] = []
        if self.tasks.changed():
            effects.append(Save(saved.TASKS_KEY, saved.pack_tasks(self.tasks.all)))
        is_same = replace(before, waited_s=state.waited_s) == state
        if not is_same or now >= lane.saved_at + SAVE_EVERY_S:
            lane.saved_at = now
            effects.append(Save(saved.key_of(lane.domain), saved.pack_state(state, lane.task)))
        return effects

    def _submitted(self, event: TaskSubmitted) -> list[NodeEffect]:
        try:
            self.tasks.submit(event.order, event.unix_ms)
        except SwarmError:
            return []  # Whoever asked looked before: others were quicker.
        self.tasks.changed()
        self._look_at = -math.inf
        return [Save(saved.TASKS_KEY, saved.pack_tasks(self.tasks.all))]


def _was_dropped(task: Task, held: set[int]) -> bool:
    """Whether it ran, and no cycle remembers it."""
    return task.state == "running" and task.number not in held
