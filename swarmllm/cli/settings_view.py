"""The settings that the swarm can change, as tables for people: those of the running node, or else
what a node would start with."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.table import Table

from swarmllm.adapters.datadir import holder_of
from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import answer, notice, print_record
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import QUESTION
from swarmllm.core.settings.holder import Settings
from swarmllm.core.wording import several
from swarmllm.runtime.config import Config
from swarmllm.runtime.config.pins import setting_of
from swarmllm.runtime.config.table import pinned
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.service.json_events import settings_record
from swarmllm.runtime.service.record import Record


def show_settings(config: Config, key: str | None, *, as_json: bool) -> int:
    """All of them, or the one with this key."""
    wanted = None if key is None else setting_of(key)
    record = _record(config)
    rows = [r for r in record["settings"] if wanted is None or r["key"] == wanted.key]
    if as_json:
        print_record(record | {"settings": rows})
        return OK
    if record["state"] == "none":
        notice("No node runs here: these are the defaults, and what your config pins.")
    answer().print(settings_table(rows) if wanted is None else setting_view(rows[0]))
    return OK


def _record(config: Config) -> Record:
    if holder_of(config.data_dir) is None:
        return settings_record("none", Settings(pinned(config)).view())
    found: list[Record] = []

    async def body() -> int:
        found.append(await ask(config.data_dir, "settings", QUESTION))
        return OK

    run(body)
    return found[0]


def settings_table(rows: list[Record]) -> RenderableType:
    """A row for each setting, what differs from the default in bold; and then what there is to say
    of some."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("setting", no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("unit")
    for heading in ("default", "bounds"):
        table.add_column(heading, justify="right")
    table.add_column("owner")
    for row in rows:
        is_usual = row["value"] == row["default"]
        table.add_row(
            row["key"],
            Line(row["value"], "" if is_usual else "bold"),
            row["unit"],
            Line(row["default"], "dim"),
            f"{row['low']} to {row['high']}",
            row["owner"],
        )
    said = [Line(f"{row['key']}: {text}") for row in rows if (text := _said(row))]
    return Group(table, "", *said) if said else table


def setting_view(row: Record) -> RenderableType:
    """One setting in full."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("setting", row["key"])
    table.add_row("value", _amount(row["value"], row["unit"]))
    if row["pinned"]:
        table.add_row("the swarm's", _amount(row["of_swarm"], row["unit"]))
    table.add_row("default", _amount(row["default"], row["unit"]))
    table.add_row("bounds", f"{row['low']} to {row['high']}")
    low, high = row["limits"]
    table.add_row("", f"beyond them by the whole electorate, from {low} to {high}")
    whose = "a few votes" if row["owner"] == "agent" else "the whole electorate"
    table.add_row("owner", f"{row['owner']}: within its bounds it is changed by {whose}")
    table.add_row("a higher value", row["effect"])
    if said := _said(row):
        table.add_row("now", said)
    return table


def _amount(value: int, unit: str) -> str:
    """With a unit that is a word, such as experts; ms is none."""
    is_word = unit != "ms" and unit.isalpha()
    return several(value, unit.removesuffix("s"), unit) if is_word else f"{value} {unit}"


def _said(row: Record) -> str:
    """Whether the owner has pinned it, and who changed it last."""
    found = []
    if row["pinned"]:
        found.append(f"pinned here; the swarm has {row['of_swarm']}")
    if row["changed_by"] is not None:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["changed"]))
        found.append(f"changed by {row['changed_by']}, {when}")
    return "; ".join(found)
