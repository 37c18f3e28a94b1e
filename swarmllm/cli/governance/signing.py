"""Signing what governance asks for: the node drafts it, the key's owner sees that it says what was
wanted, signs, and the node takes it.

A draft is asked for twice: before the passphrase is typed, so that nobody types it for something
that would be refused, and after, because what is in force may have changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from swarmllm.adapters.operator_keys import OperatorKey, read_key
from swarmllm.cli.guard import OK, run
from swarmllm.cli.operators import passphrase
from swarmllm.cli.output import people, print_record
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import QUESTION
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages.governance import Proposal, Vote, Withdrawal
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import NoNodeError, ask
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.codec import decode
from swarmllm.wire.signed import sign_record

R = TypeVar("R", Proposal, Vote, Withdrawal)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: a key file (None: the node itself), and where its passphrase comes from."""

    key_file: str | None
    passphrase_file: str | None


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed and taken. `by` names the key for people; `peers` were connected."""

    draft: Record
    by: str
    peers: int


def question(config: Config, op: str, **values: object) -> Record:
    """One question to the running node. LocalError if none runs."""
    found: list[Record] = []

    async def body() -> int:
        try:
            found.append(await ask(config.data_dir, op, QUESTION, **values))
        except NoNodeError as error:
            raise NoNodeError(
                f"no node runs on {config.data_dir}, and governance is a matter of running nodes;"
                " start one with `swarmllm join`, or name its --data-dir"
            ) from error
        return OK

    run(body)
    if not found:
        raise KeyboardInterrupt  # `run` ends when somebody asks it to; then so do we.
    return found[0]


def sign(
    config: Config,
    signer: Signer,
    op: str,
    kind: type[R],
    is_wanted: Callable[[R], bool],
    show: Callable[[Record], None],
    **values: object,
) -> Signed:
    """Have the node draft a record by `op`, sign it, and hand it over. `show` tells people of the
    draft before they sign; `is_wanted` sees whether it is what they asked for."""
    key = None if signer.key_file is None else read_key(user_path(signer.key_file))
    asked = values if key is None else values | {"key": key.public_key.hex()}
    draft = question(config, op, **asked)
    _checked(draft, kind, is_wanted)
    show(draft)
    if key is None:
        data, by = str(draft["signed"]), "this node"
    else:
        by_key = passphrase.unseal(key, signer.passphrase_file)
        draft = question(config, op, **asked)
        record = _checked(draft, kind, is_wanted)
        data, by = sign_record(record, [(key.public_key, by_key)]).hex(), _named(key)
    answer = question(config, "submit", records=[data])
    (outcome,) = answer["outcomes"]
    if outcome["outcome"] == "refused":
        raise LocalError(f"the node refused the {kind.__name__.lower()}: {outcome['reason']}")
    return Signed(draft, by, int(answer["peers"]))


def _checked(draft: Record, kind: type[R], is_wanted: Callable[[R], bool]) -> R:
    """The record to be signed. LocalError if it is not the one that was asked for: nobody signs on
    a node's word."""
    try:
        record = decode(bytes.fromhex(str(draft.get("payload", ""))), (kind,))
    except (RemoteError, ValueError) as fault:
        raise LocalError(
            "the node answered in a way that this version does not understand;"
            " use the same swarmllm for both"
        ) from fault
    if not is_wanted(record):
        raise LocalError(
            f"the node drafted another {kind.__name__.lower()} than was asked for, so nothing was"
            " signed; find out what runs on this data folder"
        )
    return record


def _named(key: OperatorKey) -> str:
    return f"{key.name} ({key.id.hex()[:8]})"


def told(signed: Signed, event: str, said: str, *, as_json: bool, **values: object) -> None:
    """Say that it is done, and who else will know."""
    if as_json:
        print_record({"event": event, "signed_by": signed.by, "peers": signed.peers} | values)
        return
    peers = f"{signed.peers} connected peer{'' if signed.peers == 1 else 's'}"
    reach = f"It goes to {peers} now." if signed.peers else "It goes to peers when they connect."
    people().print(Line(f"{said}, signed by {signed.by}. {reach}", "green"), soft_wrap=True)
