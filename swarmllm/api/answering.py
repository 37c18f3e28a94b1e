"""Several answers written at once, as one stream of what comes of any of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import trio

from swarmllm.api.problem import Problem, problem_of
from swarmllm.errors import SwarmError
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.service import Client

Item = tuple[int, Record | Problem]


@asynccontextmanager
async def answering(
    client: Client, questions: Sequence[Mapping[str, object]]
) -> AsyncIterator[trio.MemoryReceiveChannel[Item]]:
    """Each record with the place of its question. Leaving the block ends all of them; none is
    written further ahead than it is read."""
    sender, receiver = trio.open_memory_channel[Item](0)

    async def write(place: int, sender: trio.MemorySendChannel[Item]) -> None:
        async with sender:
            try:
                async with client.call("generate", questions[place]) as records:
                    async for record in records:
                        await sender.send((place, record))
            except SwarmError as error:
                await sender.send((place, problem_of(error)))

    async with trio.open_nursery() as nursery:
        async with sender:
            for place in range(len(questions)):
                nursery.start_soon(write, place, sender.clone())
        yield receiver
        nursery.cancel_scope.cancel()
