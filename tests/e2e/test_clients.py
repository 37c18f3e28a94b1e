"""A node without a model joins a swarm of a vocabulary that nobody told it, and generates."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmllm.cli.processes import NodeProcess, open_fleet
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.testing.gguf_fixture import (
    LARGER,
    SMALL,
    FixtureVocabulary,
    small_vocabulary,
    write_model,
)
from swarmllm.testing.gguf_vocabularies import sentence_piece
from swarmllm.wire.tokenizer import Tokenizer
from tests.e2e.replicas import ANSWER_S, START_S, arguments

pytestmark = pytest.mark.slow
TOKENS = 16


async def answer(node: NodeProcess) -> list[dict[str, Any]]:
    request = {"prompt": "The quick brown fox", "k": 3, "max_tokens": TOKENS, "temperature": 0.0}
    with trio.fail_after(ANSWER_S):
        async with asking(node.folder, "generate", **request) as records:
            return [record async for record in records]


def of(records: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [record for record in records if record["event"] == event]


@pytest.mark.parametrize(
    "words", [small_vocabulary(seed=7), sentence_piece()], ids=["byte-level BPE", "SentencePiece"]
)
def test_a_client_learns_the_vocabulary_from_its_peers_and_from_its_cache_the_next_time(
    tmp_path: Path, words: FixtureVocabulary | Tokenizer
) -> None:
    models = [
        write_model(tmp_path / f"{n}.gguf", shape, words, f"model {n}")
        for n, shape in enumerate((SMALL, LARGER, SMALL))
    ]
    odd = write_model(tmp_path / "odd.gguf", SMALL, small_vocabulary(seed=8), "odd one")
    swarm = f"clients-{secrets.token_hex(4)}"
    cache = tmp_path / "cache"

    async def body() -> None:
        async with open_fleet(tmp_path) as fleet:
            first = await fleet.start("0", arguments(models[0], swarm))
            address = (await first.wait_for("listening", START_S))["addrs"][0]
            joining = arguments(Path("none"), swarm, "--peer", address, "--cache-dir", str(cache))
            nodes = [first]
            for n, model in enumerate((*models[1:], odd), 1):
                found = await fleet.start(str(n), arguments(model, swarm, "--peer", address))
                nodes.append(found)
            for node in nodes:
                await node.wait_for("ready", START_S)
            for name in ("client", "again"):
                client = await fleet.start(name, joining)
                await client.wait_for("ready", START_S)
                records = await answer(client)
                assert len(of(records, "token")) == TOKENS
                (end,) = of(records, "end")
                assert end["reason"] == "length"
                asked = {use["peer"] for one in of(records, "token") for use in one["experts"]}
                assert asked <= {node.peer for node in nodes[:3]}
                status = await ask(client.folder, "status")
                assert {e["peer"] for e in status["experts"]} == {n.peer for n in nodes[:3]}
                (kept,) = cache.glob("tokenizer-*.gguf")
                if name == "client":
                    kept_at = kept.stat().st_mtime_ns
            assert kept.stat().st_mtime_ns == kept_at

    trio.run(body)
