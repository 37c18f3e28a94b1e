"""`join --model` with five GGUF families: three real processes of each meet, and chat in its own
format."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmllm.cli.processes import open_fleet
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.testing.gguf_families import FAMILIES
from swarmllm.testing.gguf_fixture import write_model
from tests.e2e.replicas import ANSWER_S, MEET_S, START_S, arguments

pytestmark = pytest.mark.slow
TOKENS = 8
QUESTION = {"role": "user", "content": "the quick brown fox?"}


async def until_met(folder: Path, peers: set[str]) -> None:
    with trio.fail_after(MEET_S):
        while True:
            known = (await ask(folder, "experts"))["experts"]
            if {e["peer"] for e in known if e["connected"] or e["local"]} == peers:
                return
            await trio.sleep(0.1)


async def chat(folder: Path) -> tuple[set[str], dict[str, Any]]:
    """Who took part in the answer to one question, and its last record."""
    request = {"messages": [QUESTION], "k": 3, "max_tokens": TOKENS, "temperature": 0.0}
    asked: set[str] = set()
    with trio.fail_after(ANSWER_S):
        async with asking(folder, "generate", **request) as records:
            async for record in records:
                if record["event"] == "token":
                    asked |= {use["peer"] for use in record["experts"]}
                elif record["event"] == "end":
                    return asked, record
    raise AssertionError("the answer has no end")


@pytest.mark.parametrize("name", FAMILIES)
def test_three_nodes_of_one_family_meet_and_chat(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    models = [
        write_model(tmp_path / f"{seed}.gguf", family.shape(seed), family.words())
        for seed in range(3)
    ]
    swarm = f"family-{secrets.token_hex(4)}"

    async def body() -> None:
        async with open_fleet(tmp_path) as fleet:
            first = await fleet.start("node 0", arguments(models[0], swarm))
            address = (await first.wait_for("listening", START_S))["addrs"][0]
            others = [
                await fleet.start(f"node {at}", arguments(models[at], swarm, "--peer", address))
                for at in (1, 2)
            ]
            nodes = [first, *others]
            for node in nodes:
                await node.wait_for("ready", START_S)
            peers = {node.peer for node in nodes}
            await until_met(first.folder, peers)
            asked, end = await chat(first.folder)
            assert asked == peers
            assert end["reason"] in {"length", "eos"}

    trio.run(body)
