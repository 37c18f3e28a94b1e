"""Nodes that join from homes, an office, and IPv6 alone: who meets whom, and what it says of how it
is reached."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmllm.cli.processes import NodeProcess
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.testing.gguf_fixture import write_model
from tests.reach.lab import MISSING, Lab, open_lab

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

START_S = 120.0  # Processes of five nodes on a busy machine with two cores.
MEET_S = 60.0
TOKENS = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "replica.gguf")


@asynccontextmanager
async def opened(*hosts: str) -> AsyncIterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="swarmllm-lab-") as folder:
        async with open_lab(Path(folder), *hosts) as lab:
            yield lab


async def peers_of(node: NodeProcess) -> set[str]:
    return set((await ask(node.folder, "status"))["peers"])


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = MEET_S) -> None:
    """Nodes tell nobody when something comes to hold there."""
    with trio.fail_after(within_s):
        while not await holds():  # noqa: ASYNC110
            await trio.sleep(0.1)


async def _knows(node: NodeProcess, others: tuple[NodeProcess, ...]) -> bool:
    return {other.peer for other in others} <= await peers_of(node)


async def meet(node: NodeProcess, *others: NodeProcess) -> None:
    """Until the node is connected to all the others."""
    await until(lambda: _knows(node, others))


async def write(node: NodeProcess) -> dict[str, Any]:
    """A short answer's end."""
    request = {"prompt": "The quick brown fox", "max_tokens": TOKENS, "temperature": 0.0}
    with trio.fail_after(START_S):
        async with asking(node.folder, "generate", **request) as records:
            async for record in records:
                if record["event"] == "end":
                    return record
    raise AssertionError("the answer has no end")


def test_a_home_joins_by_the_address_of_a_public_node_and_writes_with_its_expert(
    model: Path,
) -> None:
    async def main() -> None:
        async with opened("relay", "home-a") as lab:
            relay = await lab.join("relay", "--model", str(model))
            await relay.wait_for("ready", START_S)
            home = await lab.join("home-a", "--model", "none", "--peer", lab.addr("relay"))
            await home.wait_for("ready", START_S)
            await meet(home, relay)
            assert (await write(home))["tokens"] == TOKENS

    trio.run(main)
