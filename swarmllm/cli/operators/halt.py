"""`swarmllm halt`: one operator's signature stops the swarm; and the records of it are looked at
and carried by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.table import Table

from swarmllm.adapters.atomic_file import refuse_existing, write_new
from swarmllm.adapters.operator_keys import OperatorKey, read_key
from swarmllm.adapters.record_files import Sheet, moment, read_sheets, render, sheet_of
from swarmllm.cli.guard import FAILED, OK
from swarmllm.cli.operators import passphrase
from swarmllm.cli.operators.charter_terms import hand_over_terms
from swarmllm.cli.operators.halt_source import (
    Standing,
    folder_held,
    judged,
    refuse_other_swarm,
    refuse_unsigned,
    standing_if_any,
    standing_of,
    state_in,
    status_of,
)
from swarmllm.cli.operators.publishing import Delivery, deliver, told
from swarmllm.cli.output import answer, complain, people, print_record, short_peer
from swarmllm.cli.screen import Line
from swarmllm.core.halt.charter import CHARTERS_MAX, charter_hash
from swarmllm.core.halt.state import next_halt, records_of
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages import HALT_REASONS, Charter, Halt, Resume
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import NoNodeError
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.signed import open_record, sign_record

WHAT: Final = "the file of records"


def publish(
    config: Config,
    key_file: str,
    *,
    reason: str,
    passphrase_file: str | None,
    state_file: str | None,
    out: str | None,
    wait_s: float,
    as_json: bool,
) -> int:
    """Sign a HALT and hand it to the running node, or to the peers named in the settings; `out`
    keeps it as a file besides."""
    code = reason_code(reason)
    key = read_key(user_path(key_file))
    path = user_path(out) if out else None
    if path is not None:
        refuse_existing(path, WHAT)
    standing = _known(config, state_file)
    next_halt(
        standing.state, key.public_key, code, _now_ms()
    )  # A key that may not halt is told so before its passphrase is typed.
    goes_out = standing.status is not None or bool(config.peers)
    if not goes_out and path is None:
        raise NoNodeError(
            f"no node runs on {config.data_dir} to publish through; start one with `swarmllm join`,"
            " name peers with --peer, or write the order to a file with --out"
        )
    sign = passphrase.unseal(key, passphrase_file)
    # Typing takes time, and a number must be higher than any seen by now.
    standing = _known(config, state_file)
    order = next_halt(standing.state, key.public_key, code, _now_ms())
    data = sign_record(order, [(key.public_key, sign)])
    if path is not None:
        write_new(
            path,
            render(
                [*map(sheet_of, (one.data for one in standing.state.charters)), sheet_of(data)]
            ).encode(),
            WHAT,
        )
    delivery = None
    if goes_out:
        delivery = deliver(
            config, [data], wait_s, as_json=as_json, peers=config.peers, state=standing.state
        )
    _published(order, key, delivery, path, as_json=as_json)
    return OK


def _known(config: Config, state_file: str | None) -> Standing:
    if state_file is None:
        return standing_of(config)
    return Standing(state_in(read_sheets(user_path(state_file)), state_file), state_file)


def _published(
    order: Halt, key: OperatorKey, delivery: Delivery | None, path: Path | None, *, as_json: bool
) -> None:
    if not as_json:
        why = HALT_REASONS.get(order.reason_code, "")
        signed = (
            Line("HALT signed by ")
            .append(key.name, "bold")
            .append(f" ({key.id.hex()}), order {order.seq}, reason: {why}.")
        )
        people().print(signed, soft_wrap=True)
        if path is not None:
            people().print(
                Line(f"Written to {path}; `swarmllm halt import {path}` applies it on any node."),
                soft_wrap=True,
            )
    if delivery is not None:
        told(delivery, "The order", as_json=as_json)
    if as_json:
        counted = (
            {}
            if delivery is None
            else {"peers": delivery.peers, "acknowledged": delivery.acknowledged, "ms": delivery.ms}
        )
        by = {
            "signed_by": [{"name": key.name, "key_id": key.id.hex()}],
            "swarm": order.swarm.hex(),
            "seq": order.seq,
        }
        reason = {
            "reason": HALT_REASONS[order.reason_code],
            "file": None if path is None else str(path),
        }
        print_record({"event": "published", "type": "halt"} | by | reason | counted)


def reason_code(reason: str) -> int:
    codes = {name: code for code, name in HALT_REASONS.items()}
    if reason not in codes:
        raise UsageError(f"{reason[:40]!r} is no reason for a halt; use one of {', '.join(codes)}")
    return codes[reason]


# --- looking at it --------------------------------------------------------------------------------


def status(config: Config, *, as_json: bool) -> int:
    """Exit code 0 whether halted or not: that the question was answered is what it tells."""
    standing = standing_of(config)
    record = status_of(standing)
    if as_json:
        print_record(record)
    else:
        answer().print(_status_table(standing, record))
    return OK


def _status_table(standing: Standing, record: Record) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    halted = [str(sentence) for sentence in record["halted"]]
    table.add_row(
        "state",
        Line("; ".join(halted), style="red") if halted else Line("not halted", style="green"),
    )
    table.add_row("of", Line(standing.where))
    table.add_row("swarm", str(record["swarm"]))
    charter = record.get("charter")
    table.add_row(
        "charter",
        "not come yet" if not charter else f"{record['charter_version']}, {_roles(charter)}",
    )
    for halt in record["standing"]:
        when = moment(round(float(halt["issued"]) * 1000))
        table.add_row(
            "halt", f"{halt['key']}, order {halt['seq']}, reason: {halt['reason']}, {when}"
        )
    peers, acknowledged = record["peers"], set(record["acknowledged"])
    if record["running"]:
        table.add_row(
            "peers", f"{len(peers)} connected, {len(acknowledged)} with the same state on disk"
        )
        behind = [short_peer(str(peer)) for peer in peers if peer not in acknowledged]
        if behind:
            table.add_row("", Line(f"not yet: {', '.join(behind)}", style="yellow"))
    if not record["durable"]:
        table.add_row("disk", Line("the state is not on disk yet", style="yellow"))
    if standing.state.standing:
        table.add_row(
            "next",
            Line("swarmllm resume propose --out FILE, signed by the resume quorum", style="cyan"),
        )
    elif record["stopped_here"] or record["lost"]:
        table.add_row("next", Line("swarmllm start", style="cyan"))
    return table


def _roles(charter: Record) -> str:
    resume = f"{charter['resume_threshold']} of {len(charter['resume'])} to resume"
    return (
        f"{len(charter['halt'])} may halt, {resume},"
        f" {charter['root_threshold']} of {len(charter['root'])} to change it"
    )


# --- by hand --------------------------------------------------------------------------------------


def export(config: Config, out: str, *, as_json: bool) -> int:
    path = user_path(out)
    refuse_existing(path, WHAT)
    standing = standing_of(config)
    records = list(records_of(standing.state))
    if not records:
        raise LocalError(
            f"{standing.where} has no records yet, not even a charter;"
            " connect it to its swarm first"
        )
    write_new(path, render([sheet_of(data) for data in records]).encode(), WHAT)
    if as_json:
        print_record(
            {
                "event": "exported",
                "file": str(path),
                "records": len(records),
                "digest": standing.state.digest.hex(),
            }
        )
    else:
        people().print(
            Line(f"{len(records)} records of {standing.where} are in {path}."), soft_wrap=True
        )
    return OK


def import_files(config: Config, files: Sequence[str], *, wait_s: float, as_json: bool) -> int:
    """Apply the records of files: by the running node, or in the data folder where none runs. Exit
    code 1 if one is refused."""
    # All of them, before any of them counts.
    read = [(name, read_sheets(user_path(name))) for name in files]
    for name, found in read:
        refuse_unsigned(found, name)
    in_order = sorted((sheet for _, found in read for sheet in found), key=_place)
    records = [sheet.data for sheet in in_order]
    standing = standing_if_any(config)
    if standing is None and config.peers:
        standing = Standing(state_in(in_order, files[0]), files[0])
    if standing is not None:
        for name, sheets in read:
            refuse_other_swarm(standing.state, sheets, name)
    if standing is not None and (standing.status is not None or config.peers):
        delivery = deliver(
            config, records, wait_s, as_json=as_json, peers=config.peers, state=standing.state
        )
        outcomes = delivery.outcomes
    else:
        delivery = None
        pinned = _swarm_of(in_order) if standing is None else None
        outcomes = _into_folder(config, read, records, pinned, as_json=as_json)
    refused = _outcomes(in_order, outcomes, as_json=as_json)
    if refused:
        complain(f"{refused} of {len(records)} records were refused")
        return FAILED
    if delivery is not None:
        told(
            delivery,
            "Everything in it" if len(files) == 1 else "Everything in them",
            as_json=as_json,
        )
        if standing is not None and standing.status is not None:
            hand_over_terms(config, [user_path(name) for name in files], as_json=as_json)
    elif not as_json:
        people().print(
            Line(f"No node runs on {config.data_dir}: the next `swarmllm join` starts with this."),
            soft_wrap=True,
        )
    return OK


def _place(sheet: Sheet) -> int:
    """Charters first and in order, for the others can only be checked under them."""
    return sheet.record.version if isinstance(sheet.record, Charter) else CHARTERS_MAX + 1


def _into_folder(
    config: Config,
    read: Sequence[tuple[str, Sequence[Sheet]]],
    records: Sequence[bytes],
    pinned: bytes | None,
    *,
    as_json: bool,
) -> tuple[Record, ...]:
    with folder_held(config, pinned) as (boot, save):
        for name, sheets in read:
            refuse_other_swarm(boot.state, sheets, name)
        state, outcomes = judged(boot.state, records)
        if any(outcome["outcome"] == "applied" for outcome in outcomes):
            save(state)
    if as_json:
        print_record(
            {"event": "imported", "outcomes": outcomes, "digest": state.digest.hex(), "peers": 0}
        )
    return tuple(outcomes)


def _swarm_of(sheets: Sequence[Sheet]) -> bytes | None:
    """The swarm of charter 1 in the files: a folder in which no node ever ran takes it as its
    own."""
    first = next(
        (
            sheet
            for sheet in sheets
            if isinstance(sheet.record, Charter) and sheet.record.version == 1
        ),
        None,
    )
    return None if first is None else charter_hash(open_record(first.data))


def _outcomes(sheets: Sequence[Sheet], outcomes: Sequence[Record], *, as_json: bool) -> int:
    """Tell people what became of each record; how many were refused."""
    if len(outcomes) != len(sheets):
        raise LocalError(
            f"the node told of {len(outcomes)} records where {len(sheets)} were given;"
            " use the same swarmllm for both"
        )
    refused = 0
    for sheet, outcome in zip(sheets, outcomes, strict=True):
        what = outcome.get("outcome")
        refused += what == "refused"
        if not as_json:
            style = {"applied": "green", "known": "dim"}.get(str(what), "red")
            said = {"applied": "applied", "known": "known already"}.get(
                str(what), f"refused: {outcome.get('reason')}"
            )
            people().print(Line(f"{_titled(sheet)}: {said}", style=style), soft_wrap=True)
        elif what == "refused":
            complain(f"{_titled(sheet)}: {outcome.get('reason')}")
    return refused


def _titled(sheet: Sheet) -> str:
    match sheet.record:
        case Halt(key=key, seq=seq):
            return f"HALT {seq} of key {key.hex()}"
        case Resume(lifts=lifts):
            return f"RESUME of {len(lifts)} halts"
        case charter:
            return f"CHARTER {charter.version}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
