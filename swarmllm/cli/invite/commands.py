"""An invite of the node that runs here, as a line and as a QR code; and any invite in words."""

from __future__ import annotations

import io
import re
from typing import Final

import segno
from rich.table import Table

from swarmllm.adapters.operator_keys import verify
from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import answer, notice, print_record, write_stdout
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import QUESTION
from swarmllm.core.wording import several
from swarmllm.errors import UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.invited import moment, now_ms, read_invited
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.service.inviting import EXPIRES_MAX_S, invite_record
from swarmllm.runtime.service.record import Record

UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}


def make_invite(
    config: Config, expires: str, uses: int | None, *, is_drawn: bool, as_json: bool
) -> int:
    """The line alone goes to standard output, so that it can be piped on."""
    params: dict[str, object] = {"expires_s": duration_s(expires)}
    if uses is not None:
        params["uses"] = uses
    record = _asked(config, params)
    if as_json:
        print_record(record)
        return OK
    line = str(record["line"])
    write_stdout(line + "\n")
    if is_drawn:
        write_stdout(drawn(line))
    for remark in record["remarks"]:
        notice(f"{str(remark)[:1].upper()}{str(remark)[1:]}.")
    notice(f"{_good(record)} Others join with: swarmllm join LINE")
    return OK


def _good(record: Record) -> str:
    until, uses = f"Good until {moment(record['expires_ms'])}", record["uses"]
    if not uses:
        return f"{until}."
    return f"{until}, for {several(uses, 'node')} to join while this one runs."


def duration_s(text: str) -> int:
    """Of 30m, 12h or 7d. UsageError for anything else, and for more than an invite may have."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text.strip())
    if found is None:
        raise UsageError(
            f"--expires {text[:40]!r} is no length of time; write it as 30m, 12h or 7d"
        )
    seconds = int(found[1]) * UNITS[found[2]]
    if seconds > EXPIRES_MAX_S:
        longest = EXPIRES_MAX_S / UNITS["d"]
        raise UsageError(
            f"--expires {text[:40]!r} is too long; an invite is good for {longest:.0f}d"
        )
    return seconds


def drawn(line: str) -> str:
    """A QR code in half blocks, for a terminal with light letters on a dark ground or the
    reverse."""
    code = io.StringIO()
    segno.make(line, error="l", boost_error=False, micro=False).terminal(code, compact=True)
    return code.getvalue()


def show_invite(line: str, *, as_json: bool) -> int:
    """What it says, also when it has run out."""
    invited = read_invited(line, verify)
    record, now = invite_record(invited), now_ms()
    record["expired"] = now >= invited.invite.expires_ms
    if as_json:
        print_record(record)
    else:
        answer().print(_table(record))
    return OK


def _table(record: Record) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    kind = "closed" if record["closed"] else "open"
    table.add_row("swarm", f"“{record['swarm']}”, {kind}, id {record['swarm_id']}")
    table.add_row("charter", f"version {record['charter_version']}, {record['charter_hash']}")
    table.add_row("vocabulary", record["vocabulary"] or "not known to the inviter")
    table.add_row("inviter", record["inviter"])
    for addr in record["addrs"]:
        table.add_row("address", addr)
    table.add_row("made", moment(record["issued_ms"]))
    ends = moment(record["expires_ms"])
    late = Line(f"{ends}: it has run out", "bold red")
    table.add_row("good until", late if record["expired"] else ends)
    return table


def _asked(config: Config, params: dict[str, object]) -> Record:
    found: list[Record] = []

    async def body() -> int:
        found.append(await ask(config.data_dir, "invite", QUESTION, **params))
        return OK

    run(body)
    return found[0]
