"""What the chapters of a demonstration of votes share: nodes, voters, and questions at all nodes
until they say what is waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from swarmllm.cli.demo_cast import Cast
from swarmllm.cli.demo_view import DemoView
from swarmllm.cli.demo_voters import Voters
from swarmllm.cli.processes import NodeProcess
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.service.record import Record

PROGRAM: Final = ("swarmllm.cli.demo_node",)
SPREAD_S: Final = 30.0  # For what one node has to reach all; on an idle machine, milliseconds.
LOOK_EVERY_S: Final = 0.1


@dataclass
class Stage:
    """What all chapters need."""

    view: DemoView
    nodes: list[NodeProcess]
    voters: Voters
    cast: Cast
    folder: Path
    ids: list[str] = field(default_factory=list)  # Of the small changes.

    # --- questions --------------------------------------------------------------------------------

    async def proposal(self, node: NodeProcess, id: str) -> Record | None:
        """As this node sees it; None if it has not come there."""
        found = (await ask(node.folder, "proposals"))["proposals"]
        return next((one for one in found if one["id"] == id), None)

    async def settings(self, node: NodeProcess) -> dict[str, Record]:
        rows = (await ask(node.folder, "settings"))["settings"]
        return {row["key"]: row for row in rows}

    async def values(self, key: str) -> list[int]:
        """Of one setting, on all nodes."""
        return [(await self.settings(node))[key]["value"] for node in self.nodes]

    async def everywhere(self, id: str, is_so: Callable[[Record], bool]) -> list[Record]:
        """The proposal as all nodes see it, once it is so on each. What they said last, if that
        does not come."""
        found: list[Record] = []

        async def look() -> bool:
            seen = [await self.proposal(node, id) for node in self.nodes]
            found[:] = [one for one in seen if one is not None]
            return len(found) == len(self.nodes) and all(is_so(one) for one in found)

        await until(look)
        return found

    async def voted(self, id: str, *names: str, through: int = 1) -> None:
        for name in names:
            await self.voters.vote(self.nodes[through].folder, name, id)


async def until(look: Callable[[], Awaitable[bool]], within_s: float = SPREAD_S) -> bool:
    """Whether it came to be so in time."""
    with trio.move_on_after(within_s):
        while not await look():  # noqa: ASYNC110  Nodes tell it when asked.
            await trio.sleep(LOOK_EVERY_S)
        return True
    return False
