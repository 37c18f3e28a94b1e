"""Signing what governance asks for: a node drafts it, or the same code on the records of a file;
the key's owner sees that it says what was wanted, signs, and hands it in.

A draft is asked for twice: before the passphrase is typed, so that nobody types it for something
that would be refused, and after, because what is in force may have changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from swarmllm.adapters.governance_file import GovernanceFile, case_of, opened
from swarmllm.adapters.operator_keys import OperatorKey, read_key
from swarmllm.cli.governance.paper import Paper
from swarmllm.cli.governance.places import (
    Delivery,
    Way,
    file_path,
    hand_in,
    held_by,
    place_of,
    refuse_unwritten,
    write_file,
)
from swarmllm.cli.operators import passphrase
from swarmllm.cli.output import people, print_record
from swarmllm.cli.screen import Line
from swarmllm.core.wording import several
from swarmllm.errors import LocalError, RemoteError, UsageError
from swarmllm.messages.governance import Proposal, Vote, Withdrawal
from swarmllm.runtime.config import Config
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
    """What was signed. `by` names the key for people; `delivery` None: it was not handed in;
    `path` None: nor written to a file."""

    draft: Record
    by: str
    delivery: Delivery | None
    path: Path | None


def sign(
    config: Config,
    signer: Signer,
    op: str,
    kind: type[R],
    is_wanted: Callable[[R], bool],
    show: Callable[[Record], None],
    way: Way,
    **values: object,
) -> Signed:
    """Have a record drafted by `op`, sign it, and hand it in. `show` tells people of the draft
    before they sign; `is_wanted` sees whether it is what they asked for."""
    key = None if signer.key_file is None else read_key(user_path(signer.key_file))
    path = None if way.out is None else file_path(way.out)
    place = place_of(config, way)
    paper = place if isinstance(place, Paper) else None
    _check_leads_somewhere(key, path, paper, config)
    asked = values if key is None else values | {"key": key.public_key.hex()}
    draft = place.ask(op, **asked)
    _checked(draft, kind, is_wanted)
    show(draft)
    if key is None:
        data, by = bytes.fromhex(str(draft["signed"])), "this node"
    else:
        by_key = passphrase.unseal(key, signer.passphrase_file)
        draft = place.ask(op, **asked)
        record = _checked(draft, kind, is_wanted)
        data, by = sign_record(record, [(key.public_key, by_key)]), _named(key)
    if path is not None:
        _write(path, held_by(config) if paper is None else paper.file, data)
    if paper is not None and not config.peers:
        return Signed(draft, by, None, path)
    delivery = _hand_in(config, way, paper, data)
    if delivery.outcomes[-1]["outcome"] == "refused":
        reason = delivery.outcomes[-1]["reason"]
        raise LocalError(f"the node refused the {kind.__name__.lower()}: {reason}")
    refuse_unwritten(f"the {kind.__name__.lower()}", delivery)
    return Signed(draft, by, delivery, path)


def _write(path: Path, held: GovernanceFile, data: bytes) -> None:
    """What was signed, with what it is about."""
    write_file(path, replace(held, cases=((*_about(held, data), data),)))


def _hand_in(config: Config, way: Way, paper: Paper | None, data: bytes) -> Delivery:
    """What was signed, and for a node of this command's own what it is about."""
    if paper is None:
        return hand_in(config, [data], way.wait_s, None)
    terms = [paper.file.terms] if paper.file.terms else []
    about = [*terms, *_about(paper.file, data), data]
    return hand_in(config, about, way.wait_s, paper.state)


def _check_leads_somewhere(
    key: OperatorKey | None, path: Path | None, paper: Paper | None, config: Config
) -> None:
    """LocalError or UsageError, before anything is typed, for what could come to nothing."""
    if paper is not None and key is None:
        raise UsageError("no node signs here with its own key; name yours with --key")
    if paper is not None and path is None and not config.peers:
        raise UsageError(
            "what is signed on a file has to go somewhere: write it with --out FILE, or hand it to"
            " nodes with --peer"
        )


def _about(held: GovernanceFile, data: bytes) -> tuple[bytes, ...]:
    """The proposal that a record is about, with what was signed to it before."""
    id = case_of(opened(data))
    return next((case for case in held.cases if case_of(opened(case[0])) == id), ())


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
    delivery, path = signed.delivery, signed.path
    if as_json:
        reach = {
            "peers": 0 if delivery is None else delivery.peers,
            "same": None if delivery is None else delivery.same,
            "file": None if path is None else str(path),
        }
        print_record({"event": event, "signed_by": signed.by} | reach | values)
        return
    people().print(
        Line(f"{said}, signed by {signed.by}. {reach_of(delivery)}".strip(), "green"),
        soft_wrap=True,
    )
    if path is not None:
        people().print(
            Line(f"Written to {path}; `swarmllm proposals import {path}` hands it to any node."),
            soft_wrap=True,
        )


def reach_of(delivery: Delivery | None) -> str:
    """Who has it, in a sentence; empty if nobody was given it."""
    if delivery is None:
        return ""
    peers = several(delivery.peers, "connected peer")
    if delivery.same is not None:
        return f"{delivery.same} of {peers} {'has' if delivery.same == 1 else 'have'} it."
    return f"It goes to {peers} now." if delivery.peers else "It goes to peers when they connect."
