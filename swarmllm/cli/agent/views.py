"""The agent as people see it: each domain's cycle, the last steps as a timeline, and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table

from swarmllm.adapters.record_files import moment
from swarmllm.cli.output import ago
from swarmllm.cli.screen import Line
from swarmllm.core.wording import several
from swarmllm.runtime.service.record import Record

NOTES_SHOWN: Final = 12


def status_view(record: Record) -> RenderableType:
    if not record["enabled"]:
        return Line(f"{_sentence(record['why'])} The swarm is in phase {record['phase']}.")
    budget = record["budget"]
    head = (
        f"The swarm is in phase {record['phase']}. The agent may take"
        f" {budget['share_permille'] / 10:g} % of the experts' time, and has"
        f" {budget['left_s']:.0f} s of it left."
    )
    parts: list[RenderableType] = [Line(head)]
    if record["why"]:
        parts.append(Line(_sentence(record["why"]), "yellow"))
    parts += ["", _lanes(record["lanes"]), "", *_timeline(record["notes"])]
    return Group(*parts)


def _lanes(lanes: Sequence[Record]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("domain", "cycle", "now", "experts", "turn"):
        table.add_column(heading, overflow="fold")
    for lane in lanes:
        shared = f", shared with {', '.join(lane['merged_with'])}" if lane["merged_with"] else ""
        table.add_row(
            Line(lane["domain"]),
            str(lane["cycle"]),
            Line(_now(lane)),
            Line(several(len(lane["experts"]), "expert") + shared),
            "this node's" if lane["runner"] else "another node's",
        )
    return table


def _now(lane: Record) -> str:
    if lane["step"] == "resting":
        return f"rests for {ago(lane['rests_s'])}" if lane["rests_s"] else "rests"
    if lane["proposal"]:
        return f"{lane['step']} {lane['proposal'][:16]}"
    return str(lane["step"])


def _timeline(notes: Sequence[Record]) -> list[RenderableType]:
    if not notes:
        return [Line("Nothing was done yet.", "dim")]
    return [step_line(one) for one in notes[-NOTES_SHOWN:]]


def step_line(note: Record) -> Line:
    head = f"{moment(note['at_ms'])}  {note['domain']} {note['cycle']}"
    return Line(f"{head}  {note['did']}: {note['text']}")


def tasks_view(tasks: Sequence[Record]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("task", "type", "domain", "priority", "state", "result"):
        table.add_column(heading, overflow="fold")
    for one in tasks:
        table.add_row(
            *(Line(one["task_id"]), Line(one["type"]), Line(one["domain"])),
            *(str(one["priority"]), Line(one["state"]), Line(_result(one))),
        )
    return table


def task_line(one: Record) -> Line:
    said = f"Task {one['task_id']} ({one['type']}, {one['domain']}) is {one['state']}"
    if one["result"]:
        return Line(f"{said}: {_result(one)}.")
    return Line(f"{said}; its result goes no further than {one['tier_name']}.")


def _result(one: Record) -> str:
    filed = f" ({one['proposal'][:16]})" if one["proposal"] else ""
    return f"{one['result']}{filed}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
