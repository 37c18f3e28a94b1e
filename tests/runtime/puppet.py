"""A driver whose node does what a test tells it to."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
import trio.testing

from swarmllm.core.effects import Effect
from swarmllm.core.inputs import Input
from swarmllm.messages import NO_HALT_DIGEST, CapacityRecord
from swarmllm.runtime.driver import Clock, Driver
from swarmllm.runtime.suspend_detector import SuspendDetector
from swarmllm.testing.memory_network import MemoryNetwork, MemorySwarm
from swarmllm.testing.memory_store import MemoryStore
from tests.runtime.little_swarm import key

RECORD = CapacityRecord(1, 1, "m", bytes(32), bytes(32), 1, 64, 16, 0, 1, 1, (), (), NO_HALT_DIGEST)
STRANGER = key(9).peer


class Puppet:
    """A machine that does what a test tells it to."""

    def __init__(self, effects: Callable[[Input], list[Effect]] = lambda _: []) -> None:
        self.inputs: list[tuple[float, Input]] = []
        self.effects = effects
        self.deadline = math.inf
        self._changed = trio.Event()

    def handle(self, event: Input, now: float) -> list[Effect]:
        self.inputs.append((now, event))
        self._changed.set()
        self._changed = trio.Event()
        return self.effects(event)

    def next_deadline(self) -> float:
        return self.deadline

    async def has(self, kind: type, count: int = 1) -> None:
        while self.count(kind) < count:
            await self._changed.wait()

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for _, event in self.inputs)


@asynccontextmanager
async def driving(
    machine: Puppet,
    store: MemoryStore | None = None,
    suspend_detector: SuspendDetector | None = None,
    clock: Clock = trio.current_time,
) -> AsyncIterator[tuple[Driver, MemoryNetwork]]:
    driver = Driver(
        *(machine, key(1), store or MemoryStore(), clock), suspend_detector=suspend_detector
    )
    async with (
        MemorySwarm() as swarm,
        swarm.network(key(1).peer) as network,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(driver.run, network, None)
        yield driver, network
        driver.stop()
