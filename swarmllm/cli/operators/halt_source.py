"""The halt state that a command works on: the running node's, or the data folder's where none
runs, or that of a file.

Wherever the records come from, they are judged here again by the same rules as on every node. So
nothing is signed on the word of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256

from swarmllm.adapters.datadir import DataDir, holder_of, locked
from swarmllm.adapters.halt_folder import HaltFolder
from swarmllm.adapters.keyfile import KeyFile, ephemeral_key, load_or_create_key
from swarmllm.adapters.operator_keys import verify
from swarmllm.adapters.record_files import Sheet
from swarmllm.cli.guard import OK, run
from swarmllm.cli.waiting import QUESTION
from swarmllm.core.halt.charter import charter_hash, private_charter
from swarmllm.core.halt.state import Applied, HaltState, Known, validate
from swarmllm.core.halt.state_file import Boot, load, pack_genesis, pack_state
from swarmllm.errors import LocalError
from swarmllm.messages import Charter
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import NoNodeError, ask
from swarmllm.runtime.service.halt_fields import outcome_fields, state_fields
from swarmllm.runtime.service.record import Record
from swarmllm.wire.signed import open_record, sign_record


@dataclass(frozen=True, slots=True)
class Standing:
    """`where` names the source for people; `status` is what the running node said of itself, None
    if none runs."""

    state: HaltState
    where: str
    status: Record | None = None


def standing_of(config: Config) -> Standing:
    """The running node's state, or the data folder's. LocalError if there is neither."""
    found = standing_if_any(config)
    if found is None:
        raise NoNodeError(
            f"no node runs on {config.data_dir}, and none ever did; start one with `swarmllm join`,"
            " or name its --data-dir"
        )
    return found


def standing_if_any(config: Config) -> Standing | None:
    """The same; None where no node runs and none ever did."""
    return _of_node(config) or _of_folder(config)


def ask_node(config: Config, *ops: str) -> list[Record] | None:
    """The running node's answer to each question; None if no node runs."""
    found: list[Record] = []
    is_running = True

    async def body() -> int:
        nonlocal is_running
        try:
            for op in ops:
                found.append(await ask(config.data_dir, op, QUESTION))
        except NoNodeError:
            is_running = False
        return OK

    run(body)
    if not is_running:
        return None
    if len(found) < len(ops):
        raise KeyboardInterrupt  # `run` ends when somebody asks it to; then so do we.
    return found


def _of_node(config: Config) -> Standing | None:
    answers = ask_node(config, "halt_status", "halt_export")
    if answers is None:
        return None
    status, exported = answers
    where = f"the node on {config.data_dir}"
    try:
        swarm = bytes.fromhex(status["swarm"])
        records = [bytes.fromhex(record) for record in exported["records"]]
        flags = bool(status["stopped_here"]), bool(status["lost"])
    except (KeyError, TypeError, ValueError) as error:
        raise LocalError(
            f"{where} answered in a way that this version does not understand;"
            " use the same swarmllm for both"
        ) from error
    state = fold(HaltState(swarm), records, where)
    return Standing(replace(state, stopped_here=flags[0], lost=flags[1]), where, status)


def _of_folder(config: Config) -> Standing | None:
    """What a node on this data folder would start with. Changes nothing."""
    data = DataDir(config.data_dir)
    if holder_of(data.path) is not None:
        raise LocalError(f"the node on {data.path} is starting or stopping; try again in a moment")
    if not has_history(data):
        return None
    key = load_or_create_key(data.key_file) if data.key_file.exists() else ephemeral_key()
    return Standing(
        _boot(HaltFolder(data.path), key, None).state,
        f"the data folder {data.path} (no node runs on it)",
    )


def has_history(data: DataDir) -> bool:
    """Whether a node, or one of these commands, ever kept anything there. LocalError if it is no
    folder."""
    if data.path.exists() and not data.path.is_dir():
        raise LocalError(
            f"{data.path} is a file, not a folder; name the folder of a node with --data-dir"
        )
    return data.key_file.exists() or HaltFolder(data.path).load() != (None, None, None)


def _boot(folder: HaltFolder, key: KeyFile, pinned: bytes | None) -> Boot:
    first, second, genesis = folder.load()
    private = sign_record(private_charter(key.public_key), [(key.public_key, key.sign)])
    return load(first, second, genesis, private, pinned)


@contextmanager
def folder_held(
    config: Config, pinned: bytes | None = None
) -> Iterator[tuple[Boot, Callable[[HaltState], None]]]:
    """The state of a data folder on which no node runs, and what saves another in its place
    (LocalError if that fails).

    The folder is locked meanwhile, so no node can start on a state that is about to change; it is
    made if there is none.
    """
    with locked(config.data_dir) as data:
        folder = HaltFolder(data.path)
        boot = _boot(folder, load_or_create_key(data.key_file), pinned)

        def save(state: HaltState) -> None:
            folder.save(pack_state(state, boot.generation + 1), pack_genesis(state.swarm))

        yield boot, save


# --- records --------------------------------------------------------------------------------------


def fold(state: HaltState, records: Sequence[bytes], where: str) -> HaltState:
    """The state with the records. LocalError if one of them is not valid on top of those before
    it."""
    for data in records:
        outcome = validate(state, data, verify)
        if isinstance(outcome, Applied):
            state = outcome.state
        elif not isinstance(outcome, Known):
            raise LocalError(
                f"{where} has a record that does not hold: {outcome.reason};"
                " take the records from another node of the swarm"
            )
    return state


def state_in(sheets: Sequence[Sheet], where: str) -> HaltState:
    """The state that the signed records of a file prove, from charter 1 on. LocalError if they do
    not begin with it."""
    signed = [sheet for sheet in sheets if sheet.data]
    if not signed or not isinstance(signed[0].record, Charter) or signed[0].record.version != 1:
        raise LocalError(
            f"{where} does not begin with the signed charter 1;"
            " export the records of a node with `swarmllm halt export`"
        )
    return fold(
        HaltState(charter_hash(open_record(signed[0].data))),
        [sheet.data for sheet in signed],
        where,
    )


def refuse_other_swarm(state: HaltState, sheets: Sequence[Sheet], where: str) -> None:
    """LocalError if the file has a charter that contradicts ours: then every other record in it is
    another swarm's too.

    A node would ignore such a charter as one that it has already; a person should be told.
    """
    for sheet in sheets:
        charter = sheet.record
        if not isinstance(charter, Charter):
            continue
        ours = state.swarm if charter.version == 1 else None
        if charter.version <= state.version:
            ours = charter_hash(state.charters[charter.version - 1])
        if ours not in {None, sha256(sheet.payload).digest()}:
            raise LocalError(
                f"{where} has another charter {charter.version} than swarm"
                f" {state.swarm.hex()[:16]}, so its records belong elsewhere;"
                " `swarmllm join --charter FILE` joins the swarm of a charter"
            )


def refuse_unsigned(sheets: Sequence[Sheet], where: str) -> None:
    """LocalError if a record in the file has no signature yet."""
    for sheet in sheets:
        if not sheet.data:
            kind = type(sheet.record).__name__.lower()
            raise LocalError(
                f"the {kind} in {where} has no signature yet;"
                f" sign it first with `swarmllm {kind} sign {where} --key FILE`"
            )


def judged(state: HaltState, records: Sequence[bytes]) -> tuple[HaltState, list[Record]]:
    """The state with whatever of the records is valid, and what became of each, as a node tells
    it."""
    outcomes: list[Record] = []
    for data in records:
        outcome = validate(state, data, verify)
        if isinstance(outcome, Applied):
            state = outcome.state
        outcomes.append(outcome_fields(outcome))
    return state, outcomes


# --- as a record ----------------------------------------------------------------------------------


def status_of(standing: Standing) -> Record:
    """`halt_status`, with the fields that a running node gives, and `running`."""
    if standing.status is not None:
        return standing.status | {"running": True}
    return {
        "event": "halt_status",
        "running": False,
        **state_fields(standing.state),
        "durable": True,
        "peers": [],
        "same_swarm": [],
        "acknowledged": [],
    }
