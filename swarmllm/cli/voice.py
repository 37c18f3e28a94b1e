"""Something that can answer: the node that runs on this data folder, or else one for this command alone.

Both give the same records, so whoever shows an answer need not know which it was. A node for one command has an identity that is kept
nowhere, knows the peers that this user's node has met before, and (unless told not to) loads the bundled expert, so that there is an
answer even where nobody else is.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final, Protocol

from swarmllm.adapters.datadir import DataDir, holder_of
from swarmllm.adapters.store import SqliteStore
from swarmllm.assembly import open_node
from swarmllm.cli.experts import expand_bundled
from swarmllm.cli.output import notice, people
from swarmllm.cli.waiting import ANSWER, QUESTION, still_waiting
from swarmllm.core.node import SAVED_PEERS
from swarmllm.runtime.config import Config
from swarmllm.runtime.control_socket import ask, asking
from swarmllm.runtime.generation import Answer, Wish
from swarmllm.runtime.local_node import LocalNode
from swarmllm.runtime.records import Record, end_record, part_record

GATHER_S: Final = 4.0  # Discovery on a LAN takes 2-3 s. Experts found later join in while the answer goes on.
FALLBACK: Final = "prose"  # The bundled expert whose texts most resemble what people try first.


class Voice(Protocol):
    @property
    def peer(self) -> str: ...

    def answering(self, wish: Wish) -> AbstractAsyncContextManager[AsyncIterator[Record]]:
        """The records of one answer; the last one is its end, or an error. Leaving the block early ends the answer."""


class _RunningNode:
    """The node that another process runs, through its socket."""

    def __init__(self, data_dir: Path, peer: str) -> None:
        self._data_dir = data_dir
        self.peer = peer

    def answering(self, wish: Wish) -> AbstractAsyncContextManager[AsyncIterator[Record]]:
        return asking(self._data_dir, "generate", ANSWER, **asdict(wish))


class _OwnNode:
    """A node in this process."""

    def __init__(self, node: LocalNode) -> None:
        self._node = node

    @property
    def peer(self) -> str:
        return self._node.peer

    @asynccontextmanager
    async def answering(self, wish: Wish) -> AsyncIterator[AsyncIterator[Record]]:
        async with self._node.answer(wish) as answer, aclosing(_records(answer)) as records:
            yield records


async def _records(answer: Answer) -> AsyncGenerator[Record]:
    while (part := await answer.next_part()) is not None:
        yield part_record(part)
    assert answer.result is not None
    yield end_record(answer.result)


@asynccontextmanager
async def open_voice(config: Config, *, local: bool) -> AsyncIterator[Voice]:
    """The running node, or a new one; standard error tells when it is a new one."""
    if holder_of(config.data_dir) is not None:
        status = await ask(config.data_dir, "status", QUESTION)
        yield _RunningNode(config.data_dir, str(status.get("peer", "")))
        return
    with tempfile.TemporaryDirectory(prefix="swarmllm-") as folder:
        async with _ephemeral(config, Path(folder), local=local) as node:
            yield _OwnNode(node)


@asynccontextmanager
async def _ephemeral(config: Config, folder: Path, *, local: bool) -> AsyncIterator[LocalNode]:
    own = f"the bundled expert {FALLBACK} of its own" if local else "no expert of its own"
    notice(f"No node runs here, so one is started for this command, with {own} (swarmllm join starts one that stays).")
    if local:
        with still_waiting(f"the expert {FALLBACK} to be made ready"):
            await expand_bundled(config.cache_dir, people(), [FALLBACK])
    model = f"demo:{FALLBACK}" if local else "none"
    _bring_saved_peers(config.data_dir, folder)
    async with AsyncExitStack() as stack:
        with still_waiting("the node to start"):
            node = await stack.enter_async_context(open_node(replace(config, data_dir=folder, model=model, port=0)))
        wanted = config.k
        found = await node.wait_ready(wanted, GATHER_S)
        if found < wanted:
            notice(f"{found} of {wanted} experts found so far; others join in when they are found.")
        yield node


def _bring_saved_peers(data_dir: Path, folder: Path) -> None:
    """What the user's own node remembers of the swarm; nothing if it never ran."""
    source = DataDir(data_dir).store_file
    if not source.is_file():
        return
    with SqliteStore(source, notice) as store:
        saved = store.load(SAVED_PEERS)
    if saved is not None:
        with SqliteStore(DataDir(folder).store_file, notice) as store:
            store.save(SAVED_PEERS, saved)
