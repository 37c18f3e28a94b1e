"""The node that a command asks: the node that runs on this data folder, or else one for this
command alone.

Both give the same records, so whoever shows an answer need not know which it was. A node for one
command has an identity that is kept nowhere, knows the peers that this user's node has met before,
and (unless told not to) loads an expert that is on this machine, so that there is an answer even
where nobody else is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from swarmllm.adapters.datadir import DataDir, holder_of
from swarmllm.adapters.models.catalog import SMOLLM2_135M
from swarmllm.adapters.models.library import place_of
from swarmllm.adapters.store import SqliteStore, peek
from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.assembly import open_node
from swarmllm.assembly.invite import accepted
from swarmllm.cli.fetching import fetched
from swarmllm.cli.first_model import TINY, last_resort
from swarmllm.cli.output import notice
from swarmllm.cli.waiting import ANSWER, QUESTION, still_waiting
from swarmllm.core.peers.saving import SAVED_PEERS
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import EXPERTS
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.config.table import pinned
from swarmllm.runtime.local_api.client import SocketClient, ask
from swarmllm.runtime.model_reference import NONE, Auto, SmolLM2
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.request import TextRequest, params_of
from swarmllm.runtime.service.service import Client, Service

# Discovery on a LAN takes 2-3 s. Experts found later join in while the answer goes on.
GATHER_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class NodeClient:
    """What a command asks, and the id of the node that answers it."""

    node: Client
    peer: str

    def answering(self, request: TextRequest) -> AbstractAsyncContextManager[AsyncIterator[Record]]:
        """The records of one answer; the last one is its end. Leaving the block early ends the
        answer."""
        return self.node.call("generate", params_of(request))


@asynccontextmanager
async def open_client(config: Config, *, local: bool) -> AsyncIterator[NodeClient]:
    """The running node, or a new one; standard error tells when it is a new one. LocalError in a
    folder that has joined a closed swarm, which lets in nodes and no commands."""
    if holder_of(config.data_dir) is not None:
        status = await ask(config.data_dir, "status", QUESTION)
        yield NodeClient(SocketClient(config.data_dir, ANSWER), str(status.get("peer", "")))
        return
    config, vocabulary = _as_joined(config)
    with temporary_folder() as folder:
        async with _ephemeral(config, folder, vocabulary, local=local) as node:
            service = Service(node.defaults)
            service.open(node)
            yield NodeClient(service, node.peer)


def _as_joined(config: Config) -> tuple[Config, str]:
    """The settings that the user's own node has by its invite, and the vocabulary that it names."""
    taken = accepted(config)
    config, invited = taken.config, taken.invited
    if config.closed:
        raise LocalError(
            f"the swarm “{config.swarm}” is closed, and a node for one command is no member of it;"
            " start yours with `swarmllm join`, and ask it"
        )
    return replace(config, invite=""), "" if invited is None else invited.invite.vocabulary.hex()


@asynccontextmanager
async def _ephemeral(
    config: Config, folder: Path, vocabulary: str, *, local: bool
) -> AsyncIterator[LocalNode]:
    local = local and _has_model_of(vocabulary, config)
    own = "an expert of its own" if local else "no expert of its own"
    notice(
        "No node runs here, so one is started for this command,"
        f" with {own} (swarmllm join starts one that stays)."
    )
    model = NONE
    if local:
        found = await fetched(Auto(), config)
        model = str(found.reference)
        if found.remark:
            notice(found.remark + ".")
    _bring_saved_peers(config.data_dir, folder)
    async with AsyncExitStack() as stack:
        with still_waiting("the node to start"):
            node = await stack.enter_async_context(
                open_node(replace(config, data_dir=folder, model=model, port=0))
            )
        wanted = Settings(pinned(config))[EXPERTS]
        count = await node.wait_ready(wanted, GATHER_S)
        if count < wanted:
            notice(f"{count} of {wanted} experts found so far; others join in when they are found.")
        yield node


def _has_model_of(vocabulary: str, config: Config) -> bool:
    """Whether what is loaded without a name could answer in the swarm of an invite."""
    if place_of(SmolLM2(), config.cache_dir) is not None:
        return vocabulary in {"", SMOLLM2_135M.vocabulary}
    return last_resort(vocabulary) == TINY


def _bring_saved_peers(data_dir: Path, folder: Path) -> None:
    """What the user's own node remembers of the swarm; nothing if it never ran."""
    try:
        saved = peek(DataDir(data_dir).store_file, SAVED_PEERS)
    except LocalError as fault:
        notice(f"The peers that the node of this folder has met before are not known: {fault}.")
        return
    if saved is not None:
        with SqliteStore(DataDir(folder).store_file, notice) as store:
            store.save(SAVED_PEERS, saved)
