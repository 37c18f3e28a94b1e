"""`swarmllm ledger show`, `prove`, `export` and `witnesses`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from rich.table import Table

from swarmllm.adapters.atomic_file import write_new
from swarmllm.adapters.ledger_files import EntryProof, export_lines
from swarmllm.adapters.record_files import moment
from swarmllm.cli.guard import OK
from swarmllm.cli.ledger.entries import Entry, entry_of, kinds_of
from swarmllm.cli.ledger.sources import (
    Source,
    checkpoint_bytes,
    cosigners,
    last_checkpoint,
    opened,
    progress,
)
from swarmllm.cli.output import answer, notice, people, print_record, write_stdout
from swarmllm.cli.screen import Line
from swarmllm.core.wording import several
from swarmllm.errors import LocalError, RemoteError, UsageError
from swarmllm.messages import ALARMS, LedgerAlarm
from swarmllm.runtime.config import Config
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.signed import open_signed

COUNT_MAX = 1_000_000


def show(
    config: Config,
    named: str | None,
    first: int | None,
    count: int,
    kinds: list[str],
    *,
    as_json: bool,
) -> int:
    if not 1 <= count <= COUNT_MAX:
        raise UsageError(f"--count is {count}, and it must be from 1 to {COUNT_MAX}")
    if first is not None and first < 0:
        raise UsageError(f"--from is {first}, and entries are counted from 0")
    wanted = kinds_of(kinds)
    with opened(config, named) as source, progress("reading the ledger"):
        entries = _chosen(source, first, count, wanted)
        if as_json:
            for entry in entries:
                print_record(entry.record())
            return OK
        found = list(entries)
    if not found:
        notice(f"No entry of {source.name} is like that.")
        return OK
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("entry", justify="right")
    for heading in ("when", "kind", "what"):
        table.add_column(heading, overflow="fold")
    for entry in found:
        table.add_row(str(entry.number), moment(entry.at_ms), Line(entry.kind), Line(entry.words()))
    answer().print(table)
    return OK


def _chosen(
    source: Source, first: int | None, count: int, wanted: frozenset[str]
) -> Iterator[Entry]:
    """The first `count` entries from `first` on; without one, the last."""
    ledger = source.ledger
    if first is None and not wanted:
        first = max(0, ledger.size - count)
    leaves = ledger.leaves(first or 0)
    entries = (
        entry
        for entry in (entry_of(number, bytes(leaf)) for number, leaf in leaves)
        if not wanted or entry.kind in wanted
    )
    if first is None:
        yield from deque(entries, maxlen=count)
        return
    for _, entry in zip(range(count), entries, strict=False):
        yield entry


def prove(config: Config, number: int, named: str | None, out: str | None, *, as_json: bool) -> int:
    with opened(config, named) as source:
        signed = last_checkpoint(source)
        if not 0 <= number < source.ledger.size:
            raise UsageError(
                f"there is no entry {number}: {source.name} has {source.ledger.size}, from 0 on"
            )
        if signed is None or number >= signed.checkpoint.size:
            covered = 0 if signed is None else signed.checkpoint.size
            raise LocalError(
                f"entry {number} is not signed yet: the last checkpoint covers {covered} entries,"
                " and there is one within a minute of every entry while the node runs"
            )
        [(_, leaf)] = source.ledger.leaves(number, 1)
        hashes = source.ledger.inclusion(number, signed.checkpoint.size)
        proof = EntryProof(number, bytes(leaf), hashes, checkpoint_bytes(signed))
    if out is None and not as_json:
        write_stdout(proof.text().decode())
        return OK
    if out is not None:
        write_new(user_path(out), proof.text(), "the proof")
    if as_json:
        told = {"number": number, "log": signed.checkpoint.peer, "size": signed.checkpoint.size}
        print_record({"event": "proof", **told, "file": out or "", "proof": proof.text().decode()})
    else:
        people().print(
            Line(
                f"{out} proves entry {number}; anybody can check it: swarmllm ledger verify {out}"
            ),
            soft_wrap=True,
        )
    return OK


def export(config: Config, out: str, *, as_json: bool) -> int:
    path = user_path(out)
    with opened(config, None) as source, progress("writing the ledger") as tell:
        signed = last_checkpoint(source)
        note = b"" if signed is None else checkpoint_bytes(signed)
        lines = export_lines(source.ledger.size, note, _told(source, tell))
        write_new(path, (line.encode() for line in lines), "the ledger")
        size = source.ledger.size
    if as_json:
        print_record({"event": "exported", "file": str(path), "entries": size})
    else:
        told = several(size, "entry", "entries")
        people().print(Line(f"{path} holds {told} of {source.name}."), soft_wrap=True)
    return OK


def _told(source: Source, tell: Callable[[int, int], None]) -> Iterator[tuple[int, bytes]]:
    for number, leaf in source.ledger.leaves():
        if number % 1_000 == 0:
            tell(number, source.ledger.size)
        yield number, bytes(leaf)


def witnesses(config: Config, named: str | None, *, as_json: bool) -> int:
    with opened(config, named) as source:
        signed = last_checkpoint(source)
        good, wrong = ((), ()) if signed is None else cosigners(signed)
        heads = source.ledger.heads()
        alarms = [_alarm(peer, data) for peer, data in source.ledger.alarms()]
    size = 0 if signed is None else signed.checkpoint.size
    watched = [(peer, int(note.split(b"\n")[1])) for peer, note in heads if note.count(b"\n") > 1]
    if as_json:
        print_record(
            {
                "event": "witnesses",
                "checkpoint": size,
                "log": "" if signed is None else signed.checkpoint.peer,
                "witnesses": [{"peer": one.witness, "at_s": one.at_s} for one in good],
                "faults": list(wrong),
                "watched": [{"peer": peer, "checkpoint": held} for peer, held in watched],
                "alarms": [{"peer": peer, "reason": reason} for peer, reason in alarms],
            }
        )
        return OK
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "node", ""):
        table.add_column(heading, overflow="fold")
    for one in good:
        table.add_row("cosigned by", Line(one.witness), Line(moment(1_000 * one.at_s)))
    for peer, held in watched:
        table.add_row("watches", Line(peer), Line(several(held, "entry", "entries")))
    for peer, reason in alarms:
        table.add_row(Line("alarm", "bold red"), Line(peer), Line(reason, "bold red"))
    summary = (
        f"The last checkpoint covers {several(size, 'entry', 'entries')}, and"
        f" {several(len(good), 'node has', 'nodes have')} cosigned it."
    )
    answer().print(Line(summary if signed is not None else "Nothing was signed yet."))
    if table.row_count:
        answer().print(table)
    for fault in wrong:
        answer().print(Line(fault, "yellow"))
    return OK


def _alarm(peer: str, data: bytes) -> tuple[str, str]:
    try:
        return peer, ALARMS[open_signed(data, (LedgerAlarm,)).record.what]
    except RemoteError as fault:
        return peer, f"an alarm that cannot be read ({fault})"
