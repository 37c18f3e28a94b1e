"""Handing records to a running node, and counting who has them on disk.

With `--peer` this program is a node for a moment, which connects to the peers named, hands the
records on and leaves: an operator needs a key and an address, not a node of their own. After the
network library is loaded, which takes a second, that is a matter of 0.2 to 0.4 s; a process of its
own, as any other node is one, took two more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from swarmllm.adapters.keyfile import KeyFile
from swarmllm.adapters.libp2p import open_network
from swarmllm.adapters.record_files import render, sheet_of
from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import complain, people, print_record
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import QUESTION, still_waiting
from swarmllm.core.halt.state import HaltState
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.ports import Network
from swarmllm.runtime.service.record import Record

# Beyond the time that the node was told to wait for acknowledgements; then the node itself is
# stuck.
GRACE_S: Final = 10.0
# For a node without a model; on a busy machine importing everything alone takes some seconds.
START_S: Final = 60.0
CONNECT_S: Final = 15.0
LOOK_EVERY_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of each record, and how many of the `peers` connected had the whole halt state
    on disk after `ms`."""

    outcomes: tuple[Record, ...]
    peers: int
    acknowledged: int
    ms: float

    @property
    def refused(self) -> tuple[str, ...]:
        return tuple(
            str(outcome.get("reason", ""))
            for outcome in self.outcomes
            if outcome.get("outcome") == "refused"
        )


def deliver(
    config: Config,
    records: Sequence[bytes],
    wait_s: float,
    *,
    as_json: bool,
    peers: Sequence[str],
    state: HaltState,
) -> Delivery:
    """Hand the records to the node on the data folder or, if `peers` are named, to one for this
    command alone that knows `state`."""
    found: list[Delivery] = []

    async def body() -> int:
        if not peers:
            found.append(await hand_over(config.data_dir, records, wait_s, as_json=as_json))
            return OK
        async with messenger(config, peers, state) as folder:
            found.append(await hand_over(folder, records, wait_s, as_json=as_json))
        return OK

    run(body)
    if not found:
        raise KeyboardInterrupt  # `run` ends when somebody asks it to; then so do we.
    return found[0]


async def hand_over(
    folder: Path, records: Sequence[bytes], wait_s: float, *, as_json: bool
) -> Delivery:
    outcomes: tuple[Record, ...] | None = None
    with trio.move_on_after(wait_s + GRACE_S):
        asked = {"records": [record.hex() for record in records], "wait_s": wait_s}
        async with asking(folder, "halt_publish", QUESTION, **asked) as answers:
            async for answer in answers:
                if as_json:
                    print_record(answer)
                match answer.get("event"):
                    case "imported":
                        outcomes = tuple(answer.get("outcomes") or ())
                    case "end" if outcomes is not None:
                        return Delivery(
                            outcomes,
                            int(answer["peers"]),
                            int(answer["acknowledged"]),
                            float(answer["ms"]),
                        )
        raise LocalError(
            f"the node on {folder} stopped before it had told whether others have the record;"
            " publish it again"
        )
    raise LocalError(
        f"the node on {folder} did not answer within {wait_s + GRACE_S:.0f} s; if it was suspended,"
        " `kill -CONT` with its process id lets it go on; otherwise end it and start it again"
    )


@asynccontextmanager
async def messenger(config: Config, peers: Sequence[str], state: HaltState) -> AsyncIterator[Path]:
    """A node within this program: no model, no look-ups, reachable by nobody, connected to at least
    one of the peers; its data folder. LocalError if none of them answers."""
    # A second, which other commands need not wait.
    from swarmllm.assembly import Parts, configure, network_options, open_node

    with temporary_folder() as outer:
        # Apart: a data folder holds what its node makes alone.
        folder, charter = outer / "node", outer / "charter"
        folder.mkdir(mode=0o700)
        charter.write_text(render([sheet_of(one.data) for one in state.charters]), encoding="ascii")
        settings = configure(
            data_dir=str(folder),
            swarm=config.swarm,
            charter=str(charter),
            model="none",
            listen_host="127.0.0.1",
            port=0,
            peers=tuple(peers),
            lan=False,
            offline=config.offline,
        )

        def network(keyring: KeyFile, driver: Driver) -> AbstractAsyncContextManager[Network]:
            return open_network(replace(network_options(settings, keyring, driver), dht=False))

        async with open_node(settings, parts=Parts(network=network)):
            with still_waiting("the peers named to answer"):
                await _connected(folder)
            yield folder


async def _connected(folder: Path) -> None:
    """Until one of them has said on its halt stream that it is of this swarm: what is published
    now reaches it at once."""
    with trio.move_on_after(CONNECT_S):
        while not (await ask(folder, "halt_status")).get("same_swarm"):  # noqa: ASYNC110  It tells when asked.
            await trio.sleep(LOOK_EVERY_S)
        return
    raise LocalError(
        f"none of the peers named answered within {CONNECT_S:.0f} s as a node of this swarm;"
        " check their addresses"
    )


def told(delivery: Delivery, what: str, *, as_json: bool) -> None:
    """Say what came of it. LocalError if the node refused any of the records."""
    if delivery.refused:
        for reason in delivery.refused[1:]:
            complain(f"refused: {reason}")
        raise LocalError(f"the node refused {what}: {delivery.refused[0]}")
    if as_json:
        return
    console = people()
    if delivery.outcomes and all(
        outcome.get("outcome") == "known" for outcome in delivery.outcomes
    ):
        console.print(f"{what} was known already.")
    console.print(acknowledged(delivery))


def acknowledged(delivery: Delivery) -> Line:
    if not delivery.peers:
        return Line(
            "No peer is connected: it reaches others when they connect,"
            " or by hand with `swarmllm halt export`.",
            "yellow",
        )
    of = (
        f"{delivery.acknowledged} of {delivery.peers} connected"
        f" peer{'s' if delivery.peers != 1 else ''}"
    )
    last = f"; the last acknowledged after {delivery.ms:.0f} ms" if delivery.acknowledged else ""
    text = f"{of} {'have' if delivery.acknowledged != 1 else 'has'} it on disk{last}."
    if delivery.acknowledged < delivery.peers:
        return Line(f"{text} The others are asked again until they have it.", "yellow")
    return Line(text, "green")
