"""What is told of the kill switch when a node starts."""

from __future__ import annotations

import random

import trio

from swarmllm.core.inputs import OwnerStops
from swarmllm.runtime.booting import _perform, boot
from swarmllm.testing.memory_halts import MemoryHalts
from tests.clock import under_mock_clock
from tests.runtime.little_swarm import key


@under_mock_clock
async def test_a_stopped_node_says_at_its_start_what_shows_the_way_out() -> None:
    halts = MemoryHalts()
    orders, remarks = await boot(halts, key(1), None, random.Random(1))
    assert remarks == ()
    _perform(orders, orders.machine.handle(OwnerStops(), trio.current_time()))
    while await orders.save_next() is not None:
        pass
    _, remarks = await boot(halts, key(1), None, random.Random(1))
    assert remarks == (
        "This node writes no text: stopped by the owner of this node;"
        " `swarmllm halt status` shows what ends it",
    )
