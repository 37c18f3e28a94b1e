"""A swarm of real nodes under a charter, for a client that is not ours: two experts, of which the
second only knows the first, and the keys that may halt them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from swarmllm.cli.operators.throwaway_keys import Ring
from swarmllm.cli.processes import NodeProcess, open_fleet
from swarmllm.runtime.local_api.client import asking
from swarmllm.testing.gguf_fixture import LARGER, SMALL, small_vocabulary, write_model
from tests.e2e.replicas import START_S, arguments

TOLD_S = 2.0  # Acknowledgements are not what is tried here.


@dataclass(frozen=True, slots=True)
class Swarm:
    """`address` is that of the first of `nodes`."""

    name: str
    ring: Ring
    nodes: tuple[NodeProcess, NodeProcess]
    address: str

    @property
    def flags(self) -> list[str]:
        """What the programs of this folder want to know."""
        charter = self.ring.state.swarm.hex()
        return ["--address", self.address, "--swarm", self.name, "--charter", charter]

    async def publish(self, record: bytes) -> None:
        """Hand an order to the second node, so that the first one has it from a peer."""
        told = {"records": [record.hex()], "wait_s": TOLD_S}
        async with asking(self.nodes[1].folder, "halt_publish", **told) as answers:
            events = [str(answer["event"]) async for answer in answers]
        assert "imported" in events, events


@asynccontextmanager
async def open_swarm(folder: Path) -> AsyncIterator[Swarm]:
    name = f"interop-{secrets.token_hex(4)}"
    ring = Ring()
    charter = ring.write(folder / "charter")
    words = small_vocabulary(seed=7)
    models = [
        write_model(folder / f"{n}.gguf", shape, words, f"model {n}")
        for n, shape in enumerate((SMALL, LARGER))
    ]
    flags = ("--charter", str(charter), "--cache-dir", str(folder / "cache"))
    async with open_fleet(folder) as fleet:
        first = await fleet.start("first", arguments(models[0], name, *flags))
        address = str((await first.wait_for("listening", START_S))["addrs"][0])
        second = await fleet.start("second", arguments(models[1], name, "--peer", address, *flags))
        for node in (first, second):
            await node.wait_for("ready", START_S)
        yield Swarm(name, ring, (first, second), address)
