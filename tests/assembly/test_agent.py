"""The agent of a real node over doubles of engine and network: a cycle is seen, noted in the
ledger, and remembered; the node's expert is taken back and offered again.

In a private swarm, whose phase is 0: under a charter a node waits for its peers' orders at first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from swarmllm.adapters.ledger import LedgerFile
from swarmllm.assembly import LEDGER_FILE, open_node
from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.errors import LocalError
from swarmllm.messages import AgentStep
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.testing.memory_network import MemorySwarm
from swarmllm.wire.codec import decode
from tests.assembly.test_assembly import config_in, parts_on, run, scripted


@asynccontextmanager
async def node_in(folder: Path) -> AsyncIterator[LocalNode]:
    config = replace(config_in(folder), agent=True)
    async with (
        MemorySwarm() as wire,
        open_node(config, parts=parts_on(wire, scripted())) as node,
    ):
        await node.wait_ready()
        yield node


def test_a_task_is_a_cycle_whose_steps_are_in_the_ledger_and_outlives_the_node(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"

    async def body() -> None:
        async with node_in(tmp_path):
            async with asking(folder, "submit_self_task", type="write_test", follow=True) as found:
                records = [record async for record in found]
            assert (records[-1]["state"], records[-1]["result"]) == (
                *("done", "in phase 0 it only observes"),
            )
            status = await ask(folder, "agent_status")
            assert status["lanes"][0]["cycle"] >= 1
            assert any("metrics are known" in one["text"] for one in status["notes"])
        async with node_in(tmp_path):
            (task,) = (await ask(folder, "agent_tasks"))["tasks"]
            assert (task["task_id"], task["state"]) == (records[0]["task_id"], "done")

    run(body)
    with LedgerFile(folder / LEDGER_FILE) as file:
        leaves = [read_leaf(leaf) for _, leaf in file.leaves()]
    steps = [one for one in leaves if one.kind == LedgerKind.AGENT_STEP]
    assert "in phase 0 it only observes" in {
        decode(one.payload, (AgentStep,)).text for one in steps
    }


def test_an_expert_that_is_withdrawn_offers_no_place_and_is_used_by_its_node(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"

    async def body() -> None:
        async with node_in(tmp_path) as node:
            assert (await ask(folder, "withdraw_expert"))["registered"] is False
            (expert,) = (await ask(folder, "experts"))["experts"]
            assert expert["sessions_max"] == 0
            assert [piece async for piece in node.generate("hello", k=1, max_tokens=3)]
            await ask(folder, "register_expert")
            (expert,) = (await ask(folder, "experts"))["experts"]
            assert expert["sessions_max"] > 0
            with pytest.raises(LocalError, match="loads no other model"):
                await ask(folder, "register_expert", model="llama3-demo:code")

    run(body)


def test_an_expert_that_is_withdrawn_stays_so_over_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    async def places() -> int:
        (expert,) = (await ask(folder, "experts"))["experts"]
        return int(expert["sessions_max"])

    async def body() -> None:
        async with node_in(tmp_path):
            await ask(folder, "withdraw_expert")
        async with node_in(tmp_path):
            assert await places() == 0
            await ask(folder, "register_expert")
        async with node_in(tmp_path):
            assert await places() > 0

    run(body)
