"""Lending on whole nodes: a pause in the middle of an answer costs no token, is told to the owner,
and is over when it should be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
import trio.testing

from swarmllm.adapters.keyfile import KeyFile
from swarmllm.assembly import Parts, open_node
from swarmllm.core.events import ServingPaused, ServingResumed
from swarmllm.core.serving.lending import MachineUse
from swarmllm.runtime.config import Config
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.ports import Network, halt_channel, ledger_channel
from swarmllm.runtime.service.json_events import Life
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.testing.memory_network import MemorySwarm
from swarmllm.testing.scripted_engine import ScriptedEngine
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.scripted_text import ScriptedText

QUIET = MachineUse(load=0.0, gpu=None, on_battery=None, minute=0)
TOKENS = 80


@dataclass(slots=True)
class Owner:
    """What somebody does with the machine."""

    sample: MachineUse = QUIET

    def look(self) -> MachineUse:
        return self.sample


def parts_of(
    wire: MemorySwarm, engine: ScriptedEngine | None = None, owner: Owner | None = None
) -> Parts:
    def network(keyring: KeyFile, driver: Driver) -> AbstractAsyncContextManager[Network]:
        channels = (
            halt_channel(driver, driver.charter_swarm),
            ledger_channel(driver.door("ledger")),
        )
        return wire.network(keyring.peer, lan=True, channels=channels)

    look = None if owner is None else owner.look
    return Parts(engine=engine, text=ScriptedText(frozenset()), network=network, look=look)


def config_in(folder: Path, **settings: object) -> Config:
    basics = Config(data_dir=folder / "data", cache_dir=folder / "cache", model="none")
    return replace(basics, **settings)  # type: ignore[arg-type]


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(60):
            await body()

    trio.run(limited)


async def written(node: LocalNode, at: int = -1, act: Callable[[], None] = lambda: None) -> str:
    text, count = "", 0
    async for piece in node.generate("hello", k=1, max_tokens=TOKENS, temperature=0.0):
        text, count = text + piece.text, count + 1
        if count == at:
            act()
    assert count == TOKENS
    return text


def test_the_owner_comes_back_in_the_middle_of_an_answer_and_it_goes_on_elsewhere(
    tmp_path: Path,
) -> None:
    owners, told = [Owner(), Owner()], list[Life]()

    async def body() -> None:
        async with MemorySwarm(delay_s=0.001) as wire, AsyncExitStack() as nodes:
            experts = []
            for number, owner in enumerate(owners):
                engine = ScriptedEngine(ScriptedModel("m", 7), service_s=0.02)
                config = config_in(tmp_path / str(number), yield_to_owner=True)
                parts = parts_of(wire, engine, owner)
                opened = open_node(config, tell=told.append, parts=parts)
                experts.append(await nodes.enter_async_context(opened))
            asking = open_node(config_in(tmp_path / "asking"), parts=parts_of(wire))
            node = await nodes.enter_async_context(asking)
            assert await node.wait_ready(2) == 2
            alone = await written(node)

            def come() -> None:
                busy = [number for number, e in enumerate(experts) if e.view().rounds_served_open]
                for number in busy or [0]:
                    owners[number].sample = replace(QUIET, load=0.85)

            assert await written(node, 10, come) == alone
            (paused,) = [one for one in told if isinstance(one, ServingPaused)]
            assert paused.reason.startswith("the owner is using the machine (load 85 %)")
            status = [await ask(tmp_path / str(n) / "data", "status") for n in range(2)]
            assert sorted(one["paused"] for one in status) == ["", paused.reason]
            assert all(one["state"] == "running" for one in status)

    run(body)


def test_outside_its_hours_a_node_starts_paused_says_so_and_answers_its_owner(
    tmp_path: Path,
) -> None:
    owner, told = Owner(replace(QUIET, minute=12 * 60)), list[Life]()

    async def body() -> None:
        engine = ScriptedEngine(ScriptedModel("m", 7), service_s=0.001)
        config = config_in(tmp_path, hours="22:00-07:00", yield_to_owner=True)
        async with (
            MemorySwarm() as wire,
            open_node(config, tell=told.append, parts=parts_of(wire, engine, owner)) as node,
        ):
            while not node.view().paused:
                await trio.lowlevel.checkpoint()
            assert await written(node)
            with node.events() as events:
                owner.sample = replace(QUIET, minute=22 * 60)
                while not isinstance(await anext(events), ServingResumed):
                    pass
            assert node.view().paused == ""
        assert [type(one) for one in told if isinstance(one, ServingPaused | ServingResumed)] == [
            ServingPaused,
            ServingResumed,
        ]

    run(body)


@pytest.mark.parametrize(("setting", "is_paused"), [("pause", True), ("serve", False)])
def test_a_laptop_on_its_battery_lends_nothing_unless_it_is_told_to(
    setting: str, is_paused: bool, tmp_path: Path
) -> None:
    owner = Owner(replace(QUIET, on_battery=True))

    async def body() -> None:
        engine = ScriptedEngine(ScriptedModel("m", 7), service_s=0.001)
        config = config_in(tmp_path, on_battery=setting)
        async with (
            MemorySwarm() as wire,
            open_node(config, parts=parts_of(wire, engine, owner)) as node,
        ):
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert ("battery" in node.view().paused) is is_paused

    run(body)
