"""Sizes mix freely over one vocabulary; experts of another one never share an answer, and neither
side asks the other."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmllm.cli.processes import NodeProcess, open_fleet
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.testing.gguf_fixture import LARGER, SMALL, small_vocabulary, write_model
from tests.e2e.replicas import ANSWER_S, MEET_S, START_S, arguments

pytestmark = pytest.mark.slow
TOKENS = 16


async def experts_of(node: NodeProcess) -> set[str]:
    return {
        e["peer"]
        for e in (await ask(node.folder, "experts"))["experts"]
        if e["connected"] or e["local"]
    }


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(MEET_S):
        while True:
            if await holds():
                return
            await trio.sleep(0.1)


async def is_connected(node: NodeProcess, count: int) -> bool:
    return len((await ask(node.folder, "status"))["peers"]) >= count


async def write(node: NodeProcess) -> tuple[list[dict[str, Any]], list[str]]:
    """The token records of one answer that asks for two experts, and its notices."""
    tokens, notices = [], []
    with trio.fail_after(ANSWER_S):
        request = {
            "prompt": "The quick brown fox",
            "k": 2,
            "extra": 1,
            "max_tokens": TOKENS,
            "temperature": 0.0,
        }
        async with asking(node.folder, "generate", **request) as records:
            async for record in records:
                if record["event"] == "token":
                    tokens.append(record)
                elif record["event"] == "notice":
                    notices.append(record["text"])
    return tokens, notices


def test_two_sizes_answer_together_and_another_vocabulary_stays_out(tmp_path: Path) -> None:
    models = {
        "small": write_model(tmp_path / "small.gguf", SMALL, small_vocabulary()),
        "larger": write_model(tmp_path / "larger.gguf", LARGER, small_vocabulary()),
        "foreign": write_model(tmp_path / "foreign.gguf", SMALL, small_vocabulary(seed=5)),
    }
    swarm = f"mixed-{secrets.token_hex(4)}"

    async def body() -> None:
        async with open_fleet(tmp_path) as fleet:
            small = await fleet.start("small", arguments(models["small"], swarm))
            address = (await small.wait_for("listening", START_S))["addrs"][0]
            larger, foreign = [
                await fleet.start(n, arguments(models[n], swarm, "--peer", address))
                for n in ("larger", "foreign")
            ]
            for node in (small, larger, foreign):
                await node.wait_for("ready", START_S)
                await until(partial(is_connected, node, 2))
            family = {small.peer, larger.peer}

            async def is_met() -> bool:
                return await experts_of(small) == family == await experts_of(larger)

            await until(is_met)
            for asker in (small, larger):
                tokens, _ = await write(asker)
                assert len(tokens) == TOKENS
                assert {use["peer"] for token in tokens for use in token["experts"]} == family
            tokens, notices = await write(foreign)
            assert {use["peer"] for token in tokens for use in token["experts"]} == {foreign.peer}
            assert any("local expert alone" in text for text in notices), notices
            assert await experts_of(foreign) == {foreign.peer}

    trio.run(body)
