"""`swarmllm proposals`, `phase` and `tiers`: what the running node knows of governance."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table

from swarmllm.adapters.record_files import moment
from swarmllm.cli.governance.places import Way, place_of, question
from swarmllm.cli.governance.propose import id_of
from swarmllm.cli.guard import OK
from swarmllm.cli.output import ago, answer, print_record
from swarmllm.cli.screen import Line
from swarmllm.core.wording import several
from swarmllm.runtime.config import Config
from swarmllm.runtime.service.governance_fields import short_keys, span
from swarmllm.runtime.service.record import Record

STYLES: Final = {
    "open": "cyan",
    "passed": "yellow",
    "canary": "yellow",
    "enacted": "green",
    "void": "red",
    "withdrawn": "dim",
    "superseded": "dim",
}
CHANGES_SHOWN: Final = 8


def proposals(config: Config, way: Way, *, as_json: bool) -> int:
    record = place_of(config, way).ask("proposals")
    if as_json:
        print_record(record)
    else:
        answer().print(_proposals_view(record))
    return OK


def proposal(config: Config, prefix: str, way: Way, *, as_json: bool) -> int:
    record = place_of(config, way).ask("proposal", id=id_of(prefix))
    if as_json:
        print_record(record)
    else:
        answer().print(_proposal_view(record))
    return OK


def phase(config: Config, *, as_json: bool) -> int:
    record = question(config, "governance")
    if as_json:
        print_record(record)
    else:
        answer().print(_phase_view(record))
    return OK


def tiers(config: Config, *, as_json: bool) -> int:
    record = question(config, "tiers")
    if as_json:
        print_record(record)
    else:
        answer().print(_tiers_view(record))
    return OK


# --- proposals ------------------------------------------------------------------------------------


def _proposals_view(record: Record) -> RenderableType:
    parts: list[RenderableType] = _suspended(record)
    if not record["proposals"]:
        return Group(*parts, Line("There are no proposals. `swarmllm propose --help` makes one."))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("proposal", "state", "tier", "votes", "action", "waits for"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "proposal")
    for one in record["proposals"]:
        table.add_row(
            one["id"][:16],
            Line(one["state"], STYLES.get(one["state"], "")),
            one["tier_name"],
            _count(one),
            one["action"]["text"],
            Line(one["waits"], "dim"),
        )
    return Group(*parts, table)


def _count(one: Record) -> str:
    if one["needs"] is None:
        return "-"
    against = f", {len(one['no'])} against" if one["no"] else ""
    return f"{len(one['yes'])} of {one['needs']}{against}"


def _proposal_view(one: Record) -> Table:
    table = _two_columns()
    table.add_row("proposal", one["id"])
    table.add_row("action", one["action"]["text"])
    table.add_row("state", Line(one["state"], STYLES.get(one["state"], "")))
    if one["waits"]:
        table.add_row("waits for", one["waits"])
    tier = f"{one['tier_name']}: {one['why_tier']}"
    if one["escalated"]:
        tier += f" (asked for as tier {one['asked']})"
    table.add_row("tier", tier)
    if one["lacks"]:
        lacks = f"nothing comes of it, whatever the votes: {one['lacks']}"
        table.add_row("", Line(lacks, "yellow"))
    table.add_row("votes", _count(one))
    for name, heading in (("yes", "for"), ("no", "against"), ("double", "voted twice")):
        if one[name]:
            table.add_row("", f"{heading}: {short_keys(one[name])}")
    whose = "the agent" if one["by_agent"] else "a voter"
    table.add_row("author", f"{one['author']} ({whose})")
    table.add_row("why", Line(one["why"] or "not said"))
    table.add_row("evidence", one["evidence"] or "none")
    table.add_row("issued", f"{moment(round(one['issued'] * 1000))}, says its author")
    table.add_row("here since", f"{ago(one['seen_s'])} by this node's own clock")
    return table


# --- phase and tiers ------------------------------------------------------------------------------


def _phase_view(record: Record) -> RenderableType:
    table = _two_columns()
    table.add_row("phase", str(record["phase"]))
    _add_voters(table, record)
    days = ", ".join(f"{one:g}" for one in record["stable_days"])
    table.add_row("this node knows", several(record["experts"], "expert"))
    table.add_row("days with enough", f"{days} (phases 1 to 4)")
    table.add_row("audits", "none were made, and none count as passed: this version makes none")
    held = record["held_out"]
    if held:
        said = f"over the text {held['name']} ({held['digest']})"
        table.add_row("quality gate", said if held["name"] else "no report passes it here")
    model = record["model"]
    if model:
        table.add_row("default model", f"{model['reference']} (SHA-256 {model['digest'][:16]})")
    for one in record["phases"]:
        text = one["missing"].removeprefix(f"phase {one['phase']} ")
        text = text or "could be opened, by a vote"
        table.add_row(f"phase {one['phase']}", Line(text, "yellow" if one["missing"] else "green"))
    for entry in record["journal"][: -CHANGES_SHOWN - 1 : -1]:
        table.add_row("changed", _change(entry))
    return Group(*_suspended(record), table)


def _change(entry: Record) -> str:
    by = f"proposal {entry['proposal'][:16]}" if entry["proposal"] else "the charter"
    why = f"taken back: {entry['taken_back']}" if entry["taken_back"] else f"by {by}"
    old, new = entry["old"] or "-", entry["new"] or "-"
    return f"{entry['what']}: {old} -> {new}, {moment(round(entry['at'] * 1000))}, {why}"


def _tiers_view(record: Record) -> RenderableType:
    head = _two_columns()
    _add_voters(head, record)
    parts: list[RenderableType] = [*_suspended(record), head]
    for one in record["tiers"]:
        table = _two_columns()
        table.add_row(f"tier {one['tier']}", Line(one["name"], "bold"))
        table.add_row("may", one["may"])
        if one["cannot"]:
            table.add_row("cannot", one["cannot"])
        table.add_row("needs", one["gate"])
        table.add_row("the agent", one["agent"])
        missing = one["missing"]
        table.add_row("now", Line(missing or "possible", "yellow" if missing else "green"))
        parts += ["", table]
    return Group(*parts)


def _add_voters(table: Table, record: Record) -> None:
    if not record["charter_version"]:
        return
    able = len(record["voters"])
    taken_out = f", of whom {able} can vote" if able < record["electorate"] else ""
    who = f" ({short_keys(record['voters'])})" if able else ""
    table.add_row("charter", str(record["charter_version"]))
    table.add_row("voters", f"{record['electorate']}{taken_out}{who}")
    table.add_row("agents", short_keys(record["agents"]) or "none")
    minor, major = record["minor_needs"], record["major_needs"]
    if minor is not None:
        table.add_row("minor change", _needed(minor, "canary", record["canary_s"]))
        table.add_row("major change", _needed(major, "review", record["review_s"]))


def _needed(votes: int, what: str, seconds: float) -> str:
    count = several(votes, "vote")
    return f"{count}, then {what} for {span(seconds)}" if seconds else f"{count}, and no {what}"


def _suspended(record: Record) -> list[RenderableType]:
    if not record["obstacle"]:
        return []
    said = f"Nothing is put into force here now: {record['obstacle']}."
    return [Line(said, "bold yellow"), ""]


def _two_columns() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table
