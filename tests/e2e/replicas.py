"""Four real node processes with replicas of one model, found through one address, to be asked and
to be killed."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import trio

from swarmllm.adapters.llama.engine import WORKER
from swarmllm.cli.processes import JOIN, Fleet, NodeProcess, open_fleet
from swarmllm.runtime.local_api.client import ask, asking

START_S = 120.0  # Processes of four nodes on a busy machine with two cores.
MEET_S = 60.0
ANSWER_S = 90.0
PROMPT = "The quick brown fox"
TOKENS = 120
KILL_AT = 20  # Late enough to be in the middle, early enough to leave most of the answer.


@dataclass(slots=True)
class Replicas:
    """`asker` writes the answers; `others` help. All serve the same model."""

    fleet: Fleet
    model: Path
    swarm: str
    asker: NodeProcess
    others: list[NodeProcess] = field(default_factory=list)
    _names: int = 0

    async def add(self, count: int, *more: str) -> None:
        """Start more nodes that know the asker's address and nothing else, and wait until it can
        ask them."""
        address = (await self.asker.wait_for("listening", START_S))["addrs"][0]
        for _ in range(count):
            self._names += 1
            self.others.append(
                await self.fleet.start(
                    f"node {self._names}",
                    arguments(self.model, self.swarm, "--peer", address, *more),
                )
            )
        for node in self.others:
            await node.wait_for("ready", START_S)
        await self.meet()

    async def meet(self) -> None:
        """Until the asker can ask every one of the others, and itself."""
        wanted = {self.asker.peer, *(node.peer for node in self.others)}
        with trio.fail_after(MEET_S):
            while True:
                experts = (await ask(self.asker.folder, "experts"))["experts"]
                ready = {
                    e["peer"]
                    for e in experts
                    if (e["connected"] or e["local"]) and not e["resting"]
                }
                if ready == wanted:
                    return
                await trio.sleep(0.1)

    async def write(
        self, k: int, at: Callable[[], Awaitable[None]] | None = None
    ) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
        """One greedy answer; `at` is called once in its middle. Returns the text, the token records
        and the end record."""
        tokens: list[dict[str, Any]] = []
        request = {"prompt": PROMPT, "k": k, "extra": 1, "max_tokens": TOKENS, "temperature": 0.0}
        with trio.fail_after(ANSWER_S):
            async with asking(self.asker.folder, "generate", **request) as records:
                async for record in records:
                    if record["event"] == "token":
                        tokens.append(record)
                        if len(tokens) == KILL_AT and at is not None:
                            await at()
                    elif record["event"] == "end":
                        return record["text"], tokens, record
        raise AssertionError(f"the answer stopped after {len(tokens)} tokens without an end")

    def worker(self) -> psutil.Process:
        """The asker's own engine, which is not its tokenizer's process."""
        (worker,) = (p for p in self.asker.workers() if WORKER in p.cmdline())
        return worker


def arguments(model: Path, swarm: str, *more: str) -> list[str]:
    return [
        "--model",
        str(model),
        "--swarm",
        swarm,
        "--no-lan",
        "--listen",
        "127.0.0.1",
        "--port",
        "0",
        "--threads",
        "1",
        "--context",
        "256",
        "--reproducible",
        *more,
    ]


@asynccontextmanager
async def open_replicas(
    model: Path, program: Sequence[str] = JOIN, *, is_alone_first: bool = True
) -> AsyncIterator[Replicas]:
    """One node, which is waited for if it is to do something alone."""
    swarm = f"e2e-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="swarmllm-e2e-") as folder:
        async with open_fleet(Path(folder), program) as fleet:
            asker = await fleet.start("asker", arguments(model, swarm))
            if is_alone_first:
                await asker.wait_for("ready", START_S)
            yield Replicas(fleet, model, swarm, asker)
