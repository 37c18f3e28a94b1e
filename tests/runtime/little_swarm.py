"""A swarm in one trio loop: real drivers and nodes over the doubles of network, engine and text."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swarmllm.adapters.grammar.grammars import Grammars
from swarmllm.adapters.keyfile import KeyFile
from swarmllm.core.halt.charter import Pin
from swarmllm.core.metrics.observer import Observer
from swarmllm.core.node import Node, NodeConfig
from swarmllm.messages import PeerId
from swarmllm.runtime.booting import boot
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.halt_performer import HaltPerformer
from swarmllm.runtime.ports import halt_channel
from swarmllm.runtime.sealing import sealing_with
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.testing.memory_halts import MemoryHalts
from swarmllm.testing.memory_network import MemoryNetwork, MemorySwarm
from swarmllm.testing.memory_store import MemoryStore
from swarmllm.testing.scripted_engine import ScriptedEngine
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.scripted_text import ScriptedText
from swarmllm.testing.sealing import MemoSessions


def key(number: int) -> KeyFile:
    """The same identity at every run."""
    return KeyFile(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


@dataclass
class Member:
    peer: PeerId
    node: Node
    driver: Driver
    local: LocalNode
    network: MemoryNetwork
    engine: ScriptedEngine | None
    store: MemoryStore
    halts: MemoryHalts
    orders: HaltPerformer | None

    @property
    def halted(self) -> tuple[str, ...]:
        return self.local.view().halted

    def kill(self) -> None:
        """As SIGKILL, for all that others can see: its driver runs on, and reaches nobody."""
        self.network.swarm.kill(self.peer)

    def freeze(self) -> None:
        self.network.swarm.freeze(self.peer)
        if self.engine is not None:
            self.engine.freeze()

    def thaw(self) -> None:
        self.network.swarm.thaw(self.peer)
        if self.engine is not None:
            self.engine.thaw()


@dataclass
class LittleSwarm:
    wire: MemorySwarm
    members: list[Member]

    async def wait_met(self) -> None:
        """Until every member can ask every expert, itself included."""
        experts = sum(m.engine is not None for m in self.members)
        for member in self.members:
            assert await member.local.wait_ready(experts, timeout_s=60) == experts


@asynccontextmanager
async def little_swarm(
    seeds: list[int | None],
    *,
    delay_s: float = 0.01,
    service_s: float = 0.005,
    context_max: int = 4096,
    stop_tokens: frozenset[int] = frozenset(),
    pin: Pin | None = None,
    chat_template: str = "",
    grammars: Grammars | None = None,
    sessions: MemoSessions | None = None,
) -> AsyncIterator[LittleSwarm]:
    """`seeds[i]` is the model seed of member i; None for one without an expert. With `pin` all have
    a kill switch, of that swarm. `chat_template`: empty for role labels. With `sessions`, which
    knows their signatures, all audit each other's experts."""
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(MemorySwarm(delay_s=delay_s))
        members = []
        for i, seed in enumerate(seeds):
            model = (
                None
                if seed is None
                else ScriptedModel(f"model-{seed}", seed, context_max=context_max)
            )
            members.append(
                await stack.enter_async_context(
                    joined(
                        *(wire, i + 1, model, service_s, stop_tokens, pin),
                        chat_template=chat_template,
                        grammars=grammars,
                        sessions=sessions,
                    )
                )
            )
        yield LittleSwarm(wire, members)


@asynccontextmanager
async def joined(
    wire: MemorySwarm,
    number: int,
    model: ScriptedModel | None,
    service_s: float = 0.005,
    stop_tokens: frozenset[int] = frozenset(),
    pin: Pin | None = None,
    halts: MemoryHalts | None = None,
    chat_template: str = "",
    grammars: Grammars | None = None,
    sessions: MemoSessions | None = None,
) -> AsyncIterator[Member]:
    """One more member. `halts` is what it remembers of the kill switch from an earlier life."""
    keyring, store, rng = key(number), MemoryStore(), random.Random(number)
    halts = MemoryHalts() if halts is None else halts
    orders = None
    if pin is not None:
        orders, _ = await boot(halts, keyring, pin, rng)
    machine = None if orders is None else orders.machine
    trust = None if sessions is None else sessions.trust(keyring.peer, random.Random(number), 1e9)
    node = Node(
        *(NodeConfig(bytes(32)), keyring.peer, 1_000_000 + number, rng, sealing_with(keyring)),
        machine,
        trust=trust,
    )
    observer = Observer()
    driver = Driver(node, keyring, store, orders=orders, watch=observer.observe)
    async with AsyncExitStack() as stack:
        engine = (
            None
            if model is None
            else await stack.enter_async_context(ScriptedEngine(model, service_s=service_s))
        )
        if engine is not None and orders is not None:
            orders.take_engine(engine)
        channels = (halt_channel(driver, driver.charter_swarm),) if orders is not None else ()
        network = await stack.enter_async_context(wire.network(keyring.peer, channels=channels))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run, network, engine)
            text = ScriptedText(stop_tokens, chat_template=chat_template)
            local = LocalNode(
                *(node, driver, network, text), grammars=grammars or Grammars(), observer=observer
            )
            yield Member(keyring.peer, node, driver, local, network, engine, store, halts, orders)
            driver.stop()
