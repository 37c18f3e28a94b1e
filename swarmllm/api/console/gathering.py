"""What each page of the console shows, asked of the service: records by name.

What a node cannot say, because a part of it is off, is a sentence in `fault` of that record. A node
that is still starting is asked for its status alone: the rest would wait until it has started.
"""

from __future__ import annotations

from typing import Final

from swarmllm.errors import SwarmError
from swarmllm.runtime.service.record import NO_PARAMS, Record
from swarmllm.runtime.service.service import Client

NEEDS: Final = {
    "chat": ("settings", "halt_status"),
    "swarm": (),
    "node": ("settings", "halt_status"),
    "safety": ("halt_status", "governance", "proposals", "settings"),
    "improvement": ("agent_status", "governance"),
}
"""What a page shows beside the status."""
WATCHED: Final = ("status", "halt_status", "proposals", "agent_status")
"""What a page is made again for when it changes."""


async def gathered(client: Client, page: str) -> dict[str, Record]:
    return await asked(client, ("status", *NEEDS[page]))


async def asked(client: Client, ops: tuple[str, ...]) -> dict[str, Record]:
    """The record of each op; the first is the status."""
    found = {"status": await _record(client, ops[0])}
    if found["status"].get("state") == "running":
        for op in ops[1:]:
            found[op] = await _record(client, op)
    return found


async def _record(client: Client, op: str) -> Record:
    try:
        async with client.call(op, NO_PARAMS) as records:
            [record] = [record async for record in records]
    except SwarmError as error:
        return {"fault": str(error)}
    return record
