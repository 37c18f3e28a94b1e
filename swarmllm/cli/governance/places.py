"""Where a command of governance looks and where it hands in what was signed: the running node, a
file on a machine that runs none, or peers by a node for this command alone."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import trio

from swarmllm.adapters.atomic_file import refuse_existing, write_new
from swarmllm.adapters.governance_file import WHAT, GovernanceFile, render_governance
from swarmllm.adapters.record_files import sheet_of
from swarmllm.cli.governance.paper import Paper, paper_of
from swarmllm.cli.guard import OK, run
from swarmllm.cli.operators.halt_source import standing_of
from swarmllm.cli.operators.publishing import messenger
from swarmllm.cli.waiting import QUESTION, still_waiting
from swarmllm.core.halt.state import HaltState, records_of
from swarmllm.core.wording import several
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import NoNodeError, ask, asking
from swarmllm.runtime.service.governance import RECORDS_MAX
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.user_path import user_path

T = TypeVar("T")
WAIT_S: Final = 10.0
LOOK_EVERY_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Way:
    """What was said of it. `state` is a file to take the swarm and its proposals from, `out` one to
    write what was signed to; peers are in the settings. `wait_s`: until a peer has it."""

    state: str | None = None
    out: str | None = None
    wait_s: float = WAIT_S


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of each record. `peers` were connected, and `same` of them are known to hold it
    (None: nobody waited for that). `fault`: why what was taken is not on the node's disk."""

    outcomes: tuple[Record, ...]
    peers: int
    same: int | None = None
    fault: str = ""


class Place(Protocol):
    """Where questions are answered."""

    def ask(self, op: str, /, **values: object) -> Record: ...


class RunningNode:
    def __init__(self, config: Config) -> None:
        self._config = config

    def ask(self, op: str, /, **values: object) -> Record:
        return question(self._config, op, **values)


def place_of(config: Config, way: Way) -> Place:
    """LocalError if there is none."""
    if config.peers:
        return _of_peers(config, None if way.state is None else paper_of(user_path(way.state)))
    if way.state is not None:
        return paper_of(user_path(way.state))
    return RunningNode(config)


def question(config: Config, op: str, /, **values: object) -> Record:
    """One question to the running node. LocalError if none runs."""

    async def body() -> Record:
        try:
            return await ask(config.data_dir, op, QUESTION, **values)
        except NoNodeError as error:
            raise NoNodeError(
                f"no node runs on {config.data_dir}; start one with `swarmllm join`, name its"
                " --data-dir, ask other nodes with --peer, or work on a file with --state"
            ) from error

    return _run(body)


# --- files ----------------------------------------------------------------------------------------


def held_by(config: Config) -> GovernanceFile:
    """Everything that the running node holds, or the peers named."""
    if config.peers:
        return _of_peers(config, None).file
    standing = standing_of(config)
    if standing.status is None:
        question(config, "governance")  # Which says what to do where no node runs.
    return _run(lambda: _held(config.data_dir, standing.state))


def file_path(out: str) -> Path:
    """Where a new file is to be written. LocalError if there is one."""
    path = user_path(out)
    refuse_existing(path, WHAT)
    return path


def write_file(path: Path, file: GovernanceFile) -> None:
    write_new(path, render_governance(file).encode("latin-1"), WHAT)


async def _held(folder: Path, state: HaltState) -> GovernanceFile:
    terms, cases = b"", []
    async with asking(folder, "governance_export", QUESTION) as answers:
        async for answer in answers:
            records = tuple(bytes.fromhex(one) for one in answer.get("records", ()))
            match answer.get("event"):
                case "governance_terms":
                    (terms,) = records
                case "governance_records":
                    cases.append(records)
                case _:
                    break
    return GovernanceFile(tuple(map(sheet_of, records_of(state))), terms, tuple(cases))


# --- handing in -----------------------------------------------------------------------------------


def hand_in(
    config: Config, records: Sequence[bytes], wait_s: float, state: HaltState | None
) -> Delivery:
    """To the running node or, if peers are named, to them, by a node for this command alone that
    knows `state` (None: that of the data folder). LocalError if no peer has it then: nobody else
    would."""
    if not config.peers:
        return _run(lambda: _submit(config.data_dir, records))

    known = standing_of(config).state if state is None else state

    async def body() -> Delivery:
        async with messenger(config, config.peers, known) as folder:
            done = await _submit(folder, records)
            with still_waiting("a peer to take it"):
                same = await _same(folder, wait_s)
            return replace(done, same=same)

    done = _run(body)
    if not done.same:
        raise LocalError(
            f"none of {several(done.peers, 'peer')} had it after {wait_s:g} s;"
            " hand it in again, or write it to a file with --out"
        )
    return done


async def _submit(folder: Path, records: Sequence[bytes]) -> Delivery:
    outcomes: list[Record] = []
    peers, fault = 0, ""
    for at in range(0, len(records), RECORDS_MAX):
        some = [one.hex() for one in records[at : at + RECORDS_MAX]]
        answer = await ask(folder, "submit", QUESTION, records=some)
        outcomes += answer["outcomes"]
        peers, fault = int(answer["peers"]), fault or str(answer["fault"])
    return Delivery(tuple(outcomes), peers, fault=fault)


async def _same(folder: Path, wait_s: float) -> int:
    """How many peers hold the same as this node; at least one, or time is up."""
    deadline = trio.current_time() + wait_s
    while True:  # It tells when asked.
        found = await ask(folder, "governance_peers", QUESTION)
        if found["complete"] or trio.current_time() >= deadline:
            return len(found["same"]) if found["complete"] else 0
        await trio.sleep(LOOK_EVERY_S)


def refuse_unwritten(what: str, delivery: Delivery) -> None:
    """LocalError if the running node has taken it and could not write it down. What a node of this
    command's own did not write is with the peers that have it."""
    if delivery.fault and delivery.same is None:
        raise LocalError(
            f"the node took {what}, passes it on and keeps trying to write it down; until then a"
            f" restart could lose it: {delivery.fault}"
        )


def _of_peers(config: Config, paper: Paper | None) -> Paper:
    """What the peers hold, judged here again."""
    state = standing_of(config).state if paper is None else paper.state

    async def body() -> GovernanceFile:
        async with messenger(config, config.peers, state) as folder:
            if paper is not None and paper.file.records:
                await _submit(folder, paper.file.records)
            with still_waiting("the proposals of the peers named"):
                if not await _same(folder, WAIT_S):
                    raise LocalError(
                        f"none of the peers named told its proposals within {WAIT_S:g} s;"
                        " try again, or name another one"
                    )
            exported = await ask(folder, "halt_export", QUESTION)
            halts = tuple(sheet_of(bytes.fromhex(one)) for one in exported["records"])
            held = await _held(folder, state)
            return GovernanceFile(halts, held.terms, held.cases)

    return Paper(_run(body), "what the peers named hold")


def _run(body: Callable[[], Coroutine[Any, Any, T]]) -> T:
    found: list[T] = []

    async def main() -> int:
        found.append(await body())
        return OK

    run(main)
    if not found:
        raise KeyboardInterrupt  # `run` ends when somebody asks it to; then so do we.
    return found[0]
