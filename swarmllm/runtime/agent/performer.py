"""Performs what the agent's part wants, one task each, and brings back what came of it.

Nothing here decides: what goes wrong is an answer like any other, a sentence that the cycle notes.
What is given up (`StopAgent`) is cancelled: an answer of experts ends, a simulation is killed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import trio

from swarmllm.core.agent.cycle import (
    Ask,
    Done,
    Event,
    File,
    Filed,
    Observe,
    Observed,
    Proposed,
    Simulate,
    TakeBack,
    Validated,
    Withdraw,
)
from swarmllm.core.agent.observation import Observation
from swarmllm.core.agent.suggestion import Suggestion
from swarmllm.core.effects import AgentEffect, RunAgent, StopAgent
from swarmllm.core.inputs import AgentDone, Input, ReportOffered
from swarmllm.core.settings.setting import Setting
from swarmllm.core.validation.report import VERDICTS, Report
from swarmllm.errors import SwarmError
from swarmllm.messages import PeerId
from swarmllm.runtime.agent.filing import Filing

WHY_MAX: Final = 180  # Of a sentence that is noted.

Experts = tuple[tuple[PeerId, tuple[str, ...]], ...]
Look = Callable[[], tuple[Observation, Experts]]
"""What this node knows now, and which experts it could ask."""

log = logging.getLogger("swarmllm.agent")


class Proposer(Protocol):
    """Who is asked what to change."""

    async def propose(self, order: RunAgent) -> tuple[Suggestion | None, str]:
        """What should be tried next, and who says so. None if there is nothing."""


class Validator(Protocol):
    """Who simulates a change of what is in force, in bounded time."""

    async def validate(self, setting: Setting[Any], value: int) -> Report: ...


class AgentPerformer:
    """`start` begins a task beside the node's other work; `feed` takes an input of the node."""

    def __init__(
        self,
        look: Look,
        proposer: Proposer,
        validator: Validator,
        filing: Filing,
        feed: Callable[[Input], Awaitable[None]],
        start: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._look, self._proposer, self._validator = look, proposer, validator
        self._filing, self._feed, self._start = filing, feed, start
        self._running: dict[int, trio.CancelScope] = {}

    def perform(self, effect: AgentEffect) -> None:
        """At once; what it begins goes on by itself."""
        match effect:
            case RunAgent():
                scope = self._running[effect.number] = trio.CancelScope()

                async def run() -> None:
                    await self._run(effect, scope)

                self._start(run)
            case StopAgent(number=number):
                found = self._running.get(number)
                if found is not None:
                    found.cancel()

    async def _run(self, order: RunAgent, scope: trio.CancelScope) -> None:
        try:
            with scope:
                experts: Experts = ()
                event: Event
                if isinstance(order.work, Observe):
                    observation, experts = self._look()
                    event = Observed(observation)
                else:
                    event = await self._do(order)
                await self._feed(AgentDone(order.number, event, experts))
        finally:
            del self._running[order.number]

    async def _do(self, order: RunAgent) -> Event:
        try:
            return await self._done(order)
        except SwarmError as fault:
            why = str(fault)[:WHY_MAX]
            log.info("the agent could not %s: %s", type(order.work).__name__, fault)
            match order.work:
                case Ask():
                    return Proposed(None, why)
                case Simulate():
                    return Validated(why)
                case File():
                    return Filed(b"", why)
                case _:
                    return Done(why)

    async def _done(self, order: RunAgent) -> Event:
        match order.work:
            case Ask():
                suggestion, by = await self._proposer.propose(order)
                return Proposed(suggestion, by=by)
            case Simulate(suggestion=suggestion):
                report = await self._validator.validate(suggestion.setting, suggestion.value)
                await self._feed(_offered(report))
                return Validated(report.verdict, report.digest)
            case File(suggestion=suggestion, report=digest, is_suggestion=is_suggestion):
                return Filed(self._filing.file(suggestion, digest, is_suggestion=is_suggestion))
            case TakeBack(proposal=proposal, why=why):
                self._filing.take_back(proposal, why)
            case Withdraw(proposal=proposal):
                self._filing.withdraw(proposal)
            case Observe():
                raise AssertionError("it is looked at in `_run`")
        return Done()


def _offered(report: Report) -> ReportOffered:
    case = report.case
    return ReportOffered(
        report.digest, case.setting.code, case.value, VERDICTS.index(report.verdict)
    )
