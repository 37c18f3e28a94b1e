"""The agent's shell: what goes wrong is an answer like any other, and what is given up ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmllm.core.agent.cycle import (
    Ask,
    Done,
    File,
    Filed,
    Observe,
    Observed,
    Proposed,
    Simulate,
    TakeBack,
    Validated,
    Withdraw,
    Work,
)
from swarmllm.core.agent.proposers import Situation
from swarmllm.core.effects import RunAgent, StopAgent
from swarmllm.core.inputs import AgentDone, ReportOffered
from swarmllm.core.settings.table import EXTRA
from swarmllm.errors import HaltedError, LocalError
from swarmllm.runtime.agent.filing import Filing
from swarmllm.runtime.agent.performer import AgentPerformer
from swarmllm.runtime.agent.proposing import ModelProposer, SwarmProposer
from tests.core.agent.rig import CHANGE, EXPERTS, KNOWN, REPORT
from tests.core.agent.test_schema import GOOD
from tests.core.validation.cases import BETTER, case, report

MADE = report(case(EXTRA, 2), BETTER)
WORKS: tuple[Work, ...] = (
    *(Observe(), Ask(), Simulate(CHANGE), File(CHANGE, REPORT, False)),
    *(TakeBack(REPORT, "worse"), Withdraw(REPORT)),
)


class Everything:
    """Proposer, validator and filing at once; `fault`: each of them fails so."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault

    def _or_fail(self, found: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        return found

    async def propose(self, _order: RunAgent) -> Any:
        return self._or_fail((CHANGE, "a test"))

    async def validate(self, _setting: Any, _value: int) -> Any:
        return self._or_fail(MADE)

    def file(self, *_: Any, **__: Any) -> bytes:
        return cast(bytes, self._or_fail(REPORT))

    def take_back(self, *_: Any) -> bytes:
        return cast(bytes, self._or_fail(REPORT))

    def withdraw(self, *_: Any) -> None:
        self._or_fail(None)


def performed(
    parts: Any, *effects: Any, then: Callable[[AgentPerformer], None] = lambda _: None
) -> list[Any]:
    fed: list[Any] = []

    async def feed(event: Any) -> None:
        fed.append(event)

    async def body() -> None:
        async with trio.open_nursery() as nursery:
            performer = AgentPerformer(
                lambda: (KNOWN, EXPERTS),
                parts,
                parts,
                cast(Filing, parts),
                feed,
                nursery.start_soon,
            )
            for effect in effects:
                performer.perform(effect)
            await trio.testing.wait_all_tasks_blocked()
            then(performer)

    trio.run(body)
    return fed


def test_each_work_is_answered_with_its_number() -> None:
    orders = [RunAgent(number, "network", work) for number, work in enumerate(WORKS)]
    fed = performed(Everything(), *orders)
    done = {one.number: one for one in fed if isinstance(one, AgentDone)}
    assert [done[number].event for number in range(6)] == [
        Observed(KNOWN),
        Proposed(CHANGE, by="a test"),
        Validated("better", MADE.digest),
        Filed(REPORT),
        Done(),
        Done(),
    ]
    assert done[0].experts == EXPERTS
    assert [one for one in fed if isinstance(one, ReportOffered)] == [
        ReportOffered(MADE.digest, EXTRA.code, 2, 0)
    ]


@pytest.mark.parametrize("fault", [LocalError("x" * 999), HaltedError("governance is suspended")])
def test_what_goes_wrong_is_a_sentence_of_the_answer(fault: Exception) -> None:
    why = str(fault)[:180]
    orders = [RunAgent(number, "network", work) for number, work in enumerate(WORKS[1:])]
    fed = performed(Everything(fault), *orders)
    assert {one.number: one.event for one in fed} == {
        0: Proposed(None, why),
        1: Validated(why),
        2: Filed(b"", why),
        3: Done(why),
        4: Done(why),
    }


def test_what_is_given_up_is_cancelled_and_answers_nothing() -> None:
    class Slow(Everything):
        async def validate(self, _setting: Any, _value: int) -> Any:
            await trio.sleep_forever()

    order = RunAgent(7, "network", Simulate(CHANGE))
    fed = performed(Slow(), order, then=lambda performer: performer.perform(StopAgent(7)))
    assert fed == []
    performed(Everything(), StopAgent(99))


# --- proposers ------------------------------------------------------------------------------------


class Said:
    """An answer of the swarm."""

    def __init__(self, text: str, reason: str = "eos") -> None:
        self.result = SimpleNamespace(text=text, reason=reason)

    async def __aenter__(self) -> Said:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def __aiter__(self) -> Said:
        return self

    async def __anext__(self) -> Any:
        raise StopAsyncIteration


def asked(text: str, reason: str = "eos", attempt: int = 2, has_model: bool = True) -> Any:
    requests: list[Any] = []

    def answer(request: Any, among: Any) -> Any:
        requests.append((request, among))
        return Said(text, reason)

    proposer = SwarmProposer(ModelProposer(answer), lambda: has_model, random.Random(1))
    situation = Situation(KNOWN, {}, {EXTRA: EXTRA.bounds}, ())
    experts = frozenset({EXPERTS[0][0]})
    order = RunAgent(1, "scheduling", Ask(), situation, "a note", experts, attempt)
    suggestion, by = trio.run(proposer.propose, order)
    return suggestion, by, requests


def test_the_model_is_asked_of_its_own_experts_for_a_text_of_the_schema() -> None:
    import json

    suggestion, by, ((request, among),) = asked(json.dumps(GOOD))
    assert (suggestion.setting, suggestion.value, by) == (EXTRA, 2, "the model")
    assert among == {EXPERTS[0][0]}
    assert request.grammar.kind == "json_schema"
    assert '"a note"' in request.prompt
    request.check()


@pytest.mark.parametrize(
    ("text", "reason", "why"),
    [
        ('{"finding": "no end', "length", "was not finished within"),
        ("I will not", "eos", "is no proposal"),
        ("", "eos", "is no proposal"),
    ],
)
def test_where_the_model_gives_nothing_rules_and_search_propose_and_it_is_said(
    text: str, reason: str, why: str
) -> None:
    suggestion, by, _ = asked(text, reason)
    assert suggestion is not None
    assert by.startswith("rules and search, since ")
    assert why in by


def test_model_and_search_take_turns_and_without_experts_nobody_is_asked() -> None:
    import json

    assert asked(json.dumps(GOOD), attempt=1)[1:] == ("rules and search", [])
    assert asked(json.dumps(GOOD), has_model=False)[1:] == ("rules and search", [])
