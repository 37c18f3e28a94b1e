"""`swarmllm ledger verify`: is this ledger, or this proof of an entry, still what was signed?"""

from __future__ import annotations

from contextlib import suppress

from rich.table import Table

from swarmllm.adapters.data_marker import STORE
from swarmllm.adapters.ledger_files import check_proof, is_proof, read_proof
from swarmllm.adapters.operator_keys import verify as good_signature
from swarmllm.adapters.record_files import moment
from swarmllm.adapters.store import peek
from swarmllm.cli.guard import FAILED, OK
from swarmllm.cli.ledger.entries import entry_of
from swarmllm.cli.ledger.sources import Source, cosigners, last_checkpoint, opened, progress
from swarmllm.cli.output import answer, complain, print_record
from swarmllm.cli.screen import Line
from swarmllm.core.ledger.audit import Audit
from swarmllm.core.ledger.own_log import LAST_CHECKPOINT
from swarmllm.core.wording import several
from swarmllm.errors import LocalError, RemoteError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.checkpoint import SignedCheckpoint
from swarmllm.wire.identity import public_key_of


def verify(config: Config, named: str | None, peer: str | None, *, as_json: bool) -> int:
    if peer is not None:
        try:
            public_key_of(peer)  # type: ignore[arg-type]  # Any text.
        except RemoteError as fault:
            raise UsageError(f"--peer: {fault}") from fault
    if named is not None and is_proof(user_path(named)):
        return _verify_proof(named, peer, as_json=as_json)
    with opened(config, named) as source:
        with progress("verifying the ledger") as tell:
            audit, faults = source.ledger.audit(good_signature, tell, _remembered(source))
        signed: SignedCheckpoint | None = None
        with suppress(LocalError):  # It stands among the faults already.
            signed = last_checkpoint(source)
        good, wrong = ((), ()) if signed is None else cosigners(signed)
        faults = (*faults, *wrong, *_whose(signed, peer))
    record = {
        "event": "ledger_verified",
        "log": "" if signed is None else signed.checkpoint.peer,
        "entries": audit.size,
        "signed": audit.vouched,
        "witnesses": [one.witness for one in good],
        "ok": not faults,
        "faults": list(faults),
    }
    if as_json:
        print_record(record)
    else:
        _print(source, audit, signed, len(good))
        for sentence in faults:
            complain(sentence)
    return FAILED if faults else OK


def _remembered(source: Source) -> tuple[bytes, ...]:
    """What the node's store remembers of its ledger, which an old copy put back is behind."""
    note = None if source.folder is None else peek(source.folder / STORE, LAST_CHECKPOINT)
    return () if note is None else (note,)


def _whose(signed: SignedCheckpoint | None, peer: str | None) -> tuple[str, ...]:
    if peer is None:
        return ()
    if signed is None:
        return (f"nothing in it is signed, so it cannot be told to be that of {peer}",)
    found = signed.checkpoint.peer
    return () if found == peer else (f"it is the ledger of {found}, not of {peer}",)


def _print(source: Source, audit: Audit, signed: SignedCheckpoint | None, cosigned: int) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("ledger", Line(source.name))
    table.add_row("of node", Line("-" if signed is None else signed.checkpoint.peer))
    open_ones = audit.size - audit.vouched
    more = f", {open_ones} not yet" if open_ones else ""
    table.add_row("entries", f"{audit.size}: {audit.vouched} as they were signed{more}")
    told = several(cosigned, "node has", "nodes have")
    table.add_row("witnesses", f"{told} cosigned the last checkpoint")
    answer().print(table)


def _verify_proof(named: str, peer: str | None, *, as_json: bool) -> int:
    path = user_path(named)
    proof = read_proof(path)
    try:
        signed = check_proof(proof, good_signature)
    except RemoteError as fault:
        raise LocalError(f"{path} proves nothing: {fault}") from fault
    good, wrong = cosigners(signed)
    faults = (*wrong, *_whose(signed, peer))
    entry = entry_of(proof.number, proof.leaf)
    if as_json:
        print_record(
            {
                **entry.record(),
                "event": "entry_verified",
                "log": signed.checkpoint.peer,
                "size": signed.checkpoint.size,
                "witnesses": [one.witness for one in good],
                "ok": not faults,
                "faults": list(faults),
            }
        )
        return FAILED if faults else OK
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("entry", f"{proof.number} of {signed.checkpoint.size}")
    table.add_row("of node", Line(signed.checkpoint.peer))
    table.add_row("when", moment(entry.at_ms))
    table.add_row("kind", Line(entry.kind))
    table.add_row("what", Line(entry.words()))
    told = several(len(good), "node has", "nodes have")
    table.add_row("witnesses", f"{told} cosigned that checkpoint")
    answer().print(table)
    for sentence in faults:
        complain(sentence)
    return FAILED if faults else OK
