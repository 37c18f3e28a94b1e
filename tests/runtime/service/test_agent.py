"""The questions about the agent and the node's expert, without a command or a socket."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import trio

from swarmllm.core.inputs import CycleWanted, OwnerOffers, TaskSubmitted
from swarmllm.errors import HaltedError, LocalError, SwarmError, UsageError
from swarmllm.messages import PeerId
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.service.agent import OPS, AgentService
from swarmllm.runtime.service.own_expert import ModelChange
from swarmllm.testing.scripted_model import ScriptedModel
from tests.cli.governance.governed_node import view_of_experts
from tests.core.agent.rig import World


class Expert:
    """Of the real one what the service sees. A change ends when it is looked at for a while."""

    reference = "demo:mine"

    def __init__(self) -> None:
        self.kept: list[bool] = []
        self.changes: list[ModelChange] = []

    def change(self, model: str) -> ModelChange:
        if "/" in model:
            raise UsageError(f"{model} is no model")
        self.changes.append(ModelChange(f"looking for {model}"))
        return self.changes[-1]

    async def offer(self, *, is_offered: bool) -> None:
        self.kept.append(is_offered)


class Shell:
    """A driver that gives inputs to the part of a rig and answers what it wants, a step a time."""

    def __init__(self, world: World | None) -> None:
        self.world = world
        self.fed: list[Any] = []
        card = ScriptedModel("mine").card
        self.view = replace(view_of_experts(), card=card, peer=PeerId("own"))
        part = None if world is None else world.part
        self.expert = Expert()
        self.service = AgentService(
            cast(Driver, self), part, lambda: self.view, lambda: 3, self.expert, lambda: 1, self.now
        )

    def now(self) -> float:
        return 0.0 if self.world is None else self.world.now

    async def feed(self, event: Any) -> None:
        self.fed.append(event)
        if self.world is not None and isinstance(event, CycleWanted | TaskSubmitted):
            self.world.give(event)

    def ask(self, op: str, **params: Any) -> list[dict[str, Any]]:
        async def tick() -> None:
            while self.world is not None:
                await trio.sleep(0.02)
                self.world.tick(1.0)

        async def body() -> list[dict[str, Any]]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tick)
                found = [dict(one) async for one in self.service.call(op, params)]
                nursery.cancel_scope.cancel()
            return found

        try:
            return trio.run(body)
        except BaseExceptionGroup as group:
            (fault,) = group.exceptions
            raise fault from None


def test_a_cycle_now_is_told_step_by_step_until_it_waits_for_votes() -> None:
    shell = Shell(World(phase=3))
    *steps, last = shell.ask("agent_run", domain="scheduling")
    assert [one["step"] for one in steps] == ["observing", "proposing", "validating", "filing"]
    assert (last["event"], last["step"], last["cycle"]) == ("agent_cycle", "reviewing", 1)
    assert len(last["proposal"]) == 64
    status = shell.ask("agent_status")[0]
    assert [one["domain"] for one in status["lanes"]] == [
        *("scheduling", "security", "storage", "network")
    ]
    assert status["lanes"][0]["proposal"] == last["proposal"]
    with pytest.raises(LocalError, match="is reviewing already"):
        shell.ask("agent_run", domain="scheduling")


def test_a_task_is_followed_to_the_id_of_its_proposal() -> None:
    shell = Shell(World(phase=3))
    said = "nobody's business"
    first, *_, last = shell.ask(
        "submit_self_task", type="tune_scheduler", description=said, follow=True
    )
    assert (first["state"], first["accepted"], first["action_tier"]) == ("queued", True, 3)
    assert (last["state"], last["task_id"]) == ("done", first["task_id"])
    assert len(last["proposal"]) == 64
    assert said not in str(shell.ask("agent_tasks")) + str(shell.ask("agent_status"))


@pytest.mark.parametrize(
    ("op", "params", "sentence"),
    [
        ("submit_self_task", {}, "there is no task ''"),
        ("submit_self_task", {"type": "rule_the_world"}, "there is no task 'rule_the_world'"),
        ("submit_self_task", {"type": ["x"]}, "'type' is a text, not list"),
        ("submit_self_task", {"type": "write_test", "domain": "x"}, "no domain 'x'"),
        ("submit_self_task", {"type": "write_test", "priority": True}, "a whole number, not bool"),
        ("submit_self_task", {"type": "write_test", "priority": 10}, "it must be 0 to 9"),
        ("submit_self_task", {"type": "write_test", "deadline_s": -1}, "0 to 30 days"),
        ("submit_self_task", {"type": "write_test", "follow": 1}, "true or false"),
        ("submit_self_task", {"type": "write_test", "description": "é" * 300}, "has 600 bytes"),
        ("agent_run", {"domain": "weather"}, "no domain 'weather'"),
        ("register_expert", {"model": 7}, "'model' is a text"),
        ("register_expert", {"model": "/etc/passwd"}, "/etc/passwd is no model"),
    ],
)
def test_parameters_that_make_no_sense_are_one_sentence_and_change_nothing(
    op: str, params: dict[str, Any], sentence: str
) -> None:
    shell = Shell(World(phase=3))
    with pytest.raises(UsageError, match=sentence):
        shell.ask(op, **params)
    assert shell.fed == []


def test_a_node_whose_agent_is_off_says_so_and_how_to_turn_it_on() -> None:
    shell = Shell(None)
    (status,) = shell.ask("agent_status")
    assert not status["enabled"]
    assert "--agent" in status["why"]
    assert shell.ask("agent_tasks")[0]["tasks"] == []
    for op, params in (("agent_run", {}), ("submit_self_task", {"type": "write_test"})):
        with pytest.raises(LocalError, match="--agent"):
            shell.ask(op, **params)


def test_while_halted_no_cycle_begins() -> None:
    shell = Shell(World(phase=3))
    shell.view = replace(shell.view, halted=("halted by ann",))
    with pytest.raises(HaltedError, match="halted by ann"):
        shell.ask("agent_run")
    assert shell.fed == []


def test_the_expert_is_taken_back_and_offered_again() -> None:
    shell = Shell(None)
    (gone,) = shell.ask("withdraw_expert")
    (back,) = shell.ask("register_expert", model="demo:mine")
    assert (gone["event"], gone["registered"]) == ("expert_withdrawn", False)
    assert (back["event"], back["registered"], back["expert_id"]) == (
        *("expert_registered", True, "own"),
    )
    assert shell.fed == [OwnerOffers(False), OwnerOffers(True)]
    assert shell.expert.kept == [False, True]
    assert shell.expert.changes == []
    shell.view = replace(shell.view, card=None)
    for op in ("register_expert", "withdraw_expert"):
        with pytest.raises(SwarmError, match="no expert"):
            shell.ask(op)


@pytest.mark.parametrize("fault", [None, LocalError("it cannot be loaded")])
def test_another_model_is_told_of_until_the_node_has_it(fault: LocalError | None) -> None:
    shell = Shell(None)
    other = ScriptedModel("other", 3).card

    async def loads() -> None:
        while not shell.expert.changes:  # noqa: ASYNC110  The node is asked meanwhile.
            await trio.sleep(0.01)
        (change,) = shell.expert.changes
        change.what, change.done, change.size = "fetching other", 3, 9
        await trio.sleep(0.2)
        change.fault, change.digest, change.is_over = fault, other.digest, True
        await trio.sleep(0.1)
        assert shell.fed == []  # The node has not heard of it yet.
        shell.view = replace(shell.view, card=other)

    found: list[dict[str, Any]] = []

    async def body() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(loads)
                async for one in shell.service.call("register_expert", {"model": "demo:other"}):
                    found.append(dict(one))

    if fault is not None:
        with pytest.RaisesGroup(pytest.RaisesExc(LocalError, match="it cannot be loaded")):
            trio.run(body)
        assert (shell.fed, shell.expert.kept) == ([], [])
        return
    trio.run(body)
    assert {"fetching other"} <= {one["what"] for one in found[:-1]}
    assert (found[-1]["event"], found[-1]["model_name"]) == ("expert_registered", other.name)
    assert (shell.fed, shell.expert.kept) == ([OwnerOffers(True)], [True])


def test_every_question_is_one_that_is_known() -> None:
    assert {"agent_status", "agent_tasks", "agent_run", "submit_self_task"} < OPS
