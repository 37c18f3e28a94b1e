"""What audits have found, as tables for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import ago, answer, print_record, short_peer
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import QUESTION
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.service.record import Record

SHOWN_MAX = 40  # Audits; `--json` has all.
NOTHING = "No expert of another node has answered this node yet; there is nothing to audit."
STYLES = {"excluded": "bold red", "doubted": "yellow", "in dispute": "yellow"}


def show_audits(config: Config, *, as_json: bool) -> int:
    found: list[Record] = []

    async def body() -> int:
        found.append(await ask(config.data_dir, "audits", QUESTION))
        return OK

    run(body)
    (record,) = found
    if as_json:
        print_record(record)
    else:
        answer().print(audits_view(record))
    return OK


def audits_view(record: Record) -> RenderableType:
    """Each expert's standing, the last audits, and what they cost."""
    if not record["accounts"]:
        return Line(NOTHING)
    now = float(record["time"])
    given, spent = record["tokens_for_answers"], record["tokens_for_audits"]
    cost = (
        f"Experts computed {given} tokens for answers since this node started, {spent} for audits."
    )
    parts: list[RenderableType] = [_accounts(record["accounts"]), ""]
    if shown := record["audits"][-SHOWN_MAX:]:
        parts += [_audits(shown, now), ""]
    return Group(*parts, Line(cost, "dim"))


def _accounts(accounts: list[Record]) -> Table:
    table = _table("expert", "model", "standing", "trust", "why")
    for one in sorted(accounts, key=lambda one: (one["trust"], one["peer"])):
        table.add_row(
            short_peer(one["peer"]),
            one["digest"][:12],
            Line(one["standing"], STYLES.get(one["standing"], "")),
            f"{100 * one['trust']:.0f} %",
            Line(one["why"]),
        )
    return table


def _audits(audits: list[Record], now: float) -> Table:
    table = _table(
        "ago", "expert", "model", "verdict", "against", "by", "differs", "nats", "signed"
    )
    for one in reversed(audits):
        table.add_row(
            ago(max(0.0, now - one["at"])),
            short_peer(one["peer"]),
            str(one["model"]),
            Line(one["verdict"], "" if one["verdict"] == "agreed" else "yellow"),
            short_peer(one["against"]) if one["against"] else "-",
            ", ".join(map(short_peer, one["by"])),
            "-" if one["variation"] is None else f"{one['variation']:.3f}",
            "-" if one["nats"] is None else f"{one['nats']:.3f}",
            "yes" if one["signed"] else "no",
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold" if heading == "why" else "ellipsis")
    return table
