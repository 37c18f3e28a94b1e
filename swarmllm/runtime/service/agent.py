"""What a node is asked about its agent and its expert: how cycles are, tasks, a cycle now; to offer
the expert to others, or take it back.

Everything here is read by anybody on this machine who may ask the node at all, and gives no right
that a signature does not: what an agent files is voted on like any proposal.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import trio

from swarmllm.core.agent.cycle import Step
from swarmllm.core.agent.domains import DOMAINS
from swarmllm.core.agent.notes import StepNote
from swarmllm.core.agent.part import AgentPart, AgentView
from swarmllm.core.agent.tasks import KINDS, Order, Task, TaskType
from swarmllm.core.inputs import CycleWanted, OwnerOffers, TaskSubmitted
from swarmllm.core.peers.view import NodeView
from swarmllm.errors import HaltedError, LocalError, UsageError
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.service.governance_fields import TIER_NAMES
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.service.own_expert import ModelChange, OwnExpert
from swarmllm.runtime.service.record import Record

AGENT_OPS: Final = frozenset({"agent_status", "agent_tasks", "agent_run", "submit_self_task"})
EXPERT_OPS: Final = frozenset({"register_expert", "withdraw_expert"})
OPS: Final = AGENT_OPS | EXPERT_OPS
LOOK_EVERY_S: Final = 0.05
TELL_EVERY_S: Final = 1.0
TAKEN_S: Final = 5.0  # Until a task that was handed in is on the list.
OFF: Final = (
    "the agent is off on this node; start it with `swarmllm join --agent`, or set `agent = true`"
)


class AgentService:
    """`part` None: the agent is off."""

    def __init__(
        self,
        driver: Driver,
        part: AgentPart | None,
        view: Callable[[], NodeView],
        phase: Callable[[], int],
        expert: OwnExpert,
        unix_ms: Callable[[], int],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._driver, self._part, self._node_view = driver, part, view
        self._phase, self._expert = phase, expert
        self._unix_ms, self._clock = unix_ms, clock

    async def call(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        """The records that answer one of `OPS`. UsageError for parameters that make no sense,
        LocalError if the agent is off, HaltedError for what cannot begin while the node is
        halted."""
        match op:
            case "agent_status":
                yield self._status()
            case "agent_tasks":
                tasks = [] if self._part is None else list(self._part.tasks.all)
                yield record_of("agent_tasks", tasks=[task_fields(one) for one in tasks])
            case "agent_run":
                async with aclosing(self._run(_domain(params, DOMAINS[0]))) as records:
                    async for record in records:
                        yield record
            case "submit_self_task":
                order, follow = order_of(params), _flag(params, "follow")
                async with aclosing(self._submit(order, follow)) as records:
                    async for record in records:
                        yield record
            case "register_expert":
                async with aclosing(self._register(_text(params, "model"))) as records:
                    async for record in records:
                        yield record
            case "withdraw_expert":
                yield await self._withdraw()
            case other:
                raise UsageError(f"the node knows no op {other[:40]!r} of the agent")

    # --- the agent --------------------------------------------------------------------------------

    def _on(self) -> AgentPart:
        if self._part is None:
            raise LocalError(OFF)
        return self._part

    def _view(self) -> AgentView:
        return self._on().view(self._clock())

    def _status(self) -> Record:
        if self._part is None:
            return record_of("agent_status", enabled=False, why=OFF, phase=self._phase())
        view, halted = self._view(), list(self._node_view().halted)
        return record_of(
            "agent_status",
            enabled=True,
            why=view.why,
            phase=view.phase,
            halted=halted,
            budget={
                "share_permille": view.grant.share_permille,
                "left_s": round(view.left_s, 1),
            },
            interval_min=view.grant.interval_min,
            lanes=[_lane(view, number) for number in range(len(view.lanes))],
            tasks=[task_fields(one) for one in view.tasks if not one.is_over],
            notes=[note_fields(one) for one in view.notes],
        )

    async def _run(self, domain: str) -> AsyncGenerator[Record]:
        """A cycle now, step by step, until it rests or waits for people."""
        part = self._on()
        self._refuse_halted()
        lane = self._lane(domain)
        if lane.step is not Step.RESTING:
            raise LocalError(
                f"the cycle of {domain} is {lane.step} already; `swarmllm agent status` shows it"
            )
        seen = _Seen(part.view(self._clock()).notes)
        before = lane.cycle
        await self._driver.feed(CycleWanted(domain))
        while True:
            lane = self._lane(domain)
            for note in seen.news(self._view().notes, domain):
                yield record_of("agent_step", **note_fields(note))
            if lane.cycle > before and lane.step in PAUSES:
                break
            self._refuse_halted()
            await trio.sleep(LOOK_EVERY_S)
        yield record_of(
            "agent_cycle",
            domain=domain,
            cycle=lane.cycle,
            step=str(lane.step),
            proposal=lane.proposal.hex(),
            outcome=seen.last,
        )

    def _lane(self, domain: str) -> Any:
        return next(one for one in self._view().lanes if one.domain == domain)

    async def _submit(self, order: Order, follow: bool) -> AsyncGenerator[Record]:
        """The task as it was taken; with `follow` each step, and the task when it is over."""
        part = self._on()
        order.check()
        part.tasks.check_room()
        known = {task.number for task in part.tasks.all}
        seen = _Seen(self._view().notes)
        await self._driver.feed(TaskSubmitted(order, self._unix_ms()))
        number = await self._number(known, order)
        task = part.tasks.get(number)
        assert task is not None
        yield record_of("agent_task", accepted=True, **task_fields(task))
        while follow and task is not None:
            for note in seen.news(self._view().notes, task.domain):
                yield record_of("agent_step", **note_fields(note))
            if task.is_over:
                break
            await trio.sleep(LOOK_EVERY_S)
            task = part.tasks.get(number)
        if follow and task is not None:
            yield record_of("agent_task", accepted=True, **task_fields(task))

    async def _number(self, known: set[int], order: Order) -> int:
        """Of the task that was handed in. LocalError if it is not taken."""
        part = self._on()
        with trio.move_on_after(TAKEN_S):
            while True:
                for task in part.tasks.all:
                    same = (task.type, task.description) == (order.type, order.description)
                    if task.number not in known and same:
                        return task.number
                await trio.sleep(LOOK_EVERY_S)
        raise LocalError("the node took no task within 5 s; `swarmllm agent tasks` shows its list")

    def _refuse_halted(self) -> None:
        if halted := self._node_view().halted:
            raise HaltedError(f"the agent stands still: {halted[0]}")

    # --- the expert -------------------------------------------------------------------------------

    async def _register(self, model: str) -> AsyncGenerator[Record]:
        """Offer this node's expert to others, with another model if one is named: a node has one
        expert, so that takes the place of the one before. `progress` records while it comes."""
        view = self._node_view()
        card = view.card
        if card is None:
            raise LocalError(
                "this node has no expert; start it with one: swarmllm join --model REFERENCE"
            )
        said = "it is offered to the swarm"
        if model not in ("", self._expert.reference, card.name, card.digest.hex()):
            said = f"it is offered to the swarm in place of {card.name}"
            async with aclosing(self._loaded(self._expert.change(model))) as records:
                async for record in records:
                    yield record
        await self._expert.offer(is_offered=True)
        await self._driver.feed(OwnerOffers(True))
        yield self._offered(self._node_view(), said, is_offered=True)

    async def _loaded(self, change: ModelChange) -> AsyncGenerator[Record]:
        """How it goes, until it is there. What went wrong is raised."""
        told_at, told = -math.inf, ""
        while not change.is_over:
            if change.what != told or self._clock() >= told_at + TELL_EVERY_S:
                told_at, told = self._clock(), change.what
                yield record_of(
                    "progress", what=told, done=change.done, total=change.size, unit="bytes"
                )
            await trio.sleep(LOOK_EVERY_S)
        if change.fault is not None:
            raise change.fault
        with trio.move_on_after(TAKEN_S):
            while not self._has(change.digest):  # noqa: ASYNC110  The view is looked at, as above.
                await trio.sleep(LOOK_EVERY_S)
            return
        raise LocalError("the model is loaded, and the node has not heard of it; start it again")

    def _has(self, digest: bytes) -> bool:
        card = self._node_view().card
        return card is not None and card.digest == digest

    async def _withdraw(self) -> Record:
        view = self._node_view()
        if view.card is None:
            raise LocalError("this node has no expert that could be withdrawn")
        await self._expert.offer(is_offered=False)
        await self._driver.feed(OwnerOffers(False))
        said = "others are told that it has no place; this node goes on using it"
        return self._offered(view, said, is_offered=False)

    def _offered(self, view: NodeView, message: str, *, is_offered: bool) -> Record:
        card, load = view.card, view.load
        assert card is not None
        return record_of(
            "expert_registered" if is_offered else "expert_withdrawn",
            expert_id=view.peer,
            model_name=card.name,
            capacity_tokens_per_s=0.0 if load is None else round(load.tokens_per_s, 2),
            sessions_max=0 if load is None else load.sessions_max,
            vocabulary=card.vocab_fingerprint.hex(),
            registered=is_offered,
            message=message,
        )


PAUSES: Final = frozenset({Step.RESTING, Step.REVIEWING, Step.MEASURING})
"""Steps in which a cycle waits for people, or for time."""


@dataclass(slots=True)
class _Seen:
    """Which notes were shown."""

    notes: tuple[StepNote, ...]
    last: str = ""

    def news(self, notes: tuple[StepNote, ...], domain: str) -> list[StepNote]:
        found = [one for one in notes if one not in self.notes and one.domain == domain]
        self.notes = notes
        if found:
            self.last = found[-1].text
        return found


# --- fields ---------------------------------------------------------------------------------------


def task_fields(task: Task) -> Record:
    """The digest stands for its description, which is nobody's but its owner's."""
    tier = task.kind.tier
    return {
        "task_id": task.id,
        "number": task.number,
        "type": str(task.type),
        "domain": task.domain,
        "priority": task.priority,
        "state": task.state,
        "action_tier": int(tier),
        "tier_name": TIER_NAMES[tier],
        "approval_status": _approval(task),
        "digest": task.digest.hex(),
        "submitted_ms": task.submitted_ms,
        "expires_ms": task.expires_ms,
        "result": task.result,
        "proposal": task.proposal.hex(),
    }


def _approval(task: Task) -> str:
    if task.proposal:
        return "filed"
    return {"queued": "waiting", "running": "in progress"}.get(task.state, "nothing filed")


DID: Final = {
    "observing": "seen",
    "proposing": "said",
    "validating": "tried",
    "filing": "decided",
    "reviewing": "decided",
    "measuring": "happened",
    "taking back": "happened",
    "withdrawing": "happened",
    "resting": "noted",
}
"""What a step is to whoever reads the timeline."""


def note_fields(note: StepNote) -> Record:
    return {
        "at_ms": note.at_ms,
        "domain": note.domain,
        "cycle": note.cycle,
        "step": note.step,
        "did": DID.get(note.step, note.step),
        "text": note.text,
    }


def _lane(view: AgentView, number: int) -> Record:
    lane = view.lanes[number]
    return {
        "domain": lane.domain,
        "experts": list(lane.experts),
        "merged_with": list(lane.others),
        "runner": lane.is_runner,
        "cycle": lane.cycle,
        "step": str(lane.step),
        "rests_s": round(lane.rests_s, 1),
        "waited_s": round(lane.waited_s, 1),
        "proposal": lane.proposal.hex(),
        "task": lane.task,
    }


# --- parameters -----------------------------------------------------------------------------------


def order_of(params: Mapping[str, object]) -> Order:
    """UsageError for what is no task."""
    name = _text(params, "type")
    if name not in KINDS:
        raise UsageError(f"there is no task {name[:40]!r}; there is {', '.join(KINDS)}")
    return Order(
        TaskType(name),
        _domain(params, ""),
        _text(params, "description"),
        _whole(params, "priority"),
        _whole(params, "deadline_s"),
    )


def _domain(params: Mapping[str, object], usual: str) -> str:
    domain = _text(params, "domain") or usual
    if domain and domain not in DOMAINS:
        raise UsageError(f"there is no domain {domain[:40]!r}; there is {', '.join(DOMAINS)}")
    return domain


def _text(params: Mapping[str, object], name: str) -> str:
    value = params.get(name, "")
    if not isinstance(value, str):
        raise UsageError(f"the field {name!r} is a text, not {type(value).__name__}")
    return value


def _whole(params: Mapping[str, object], name: str) -> int:
    value = params.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"the field {name!r} is a whole number, not {type(value).__name__}")
    return value


def _flag(params: Mapping[str, object], name: str) -> bool:
    value = params.get(name, False)
    if not isinstance(value, bool):
        raise UsageError(f"the field {name!r} is true or false, not {type(value).__name__}")
    return value
