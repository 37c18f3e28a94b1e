"""A validation report as people and programs see it."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table

from swarmllm.cli.screen import Line
from swarmllm.core.validation.objective import PARTS, Part
from swarmllm.core.validation.report import Comparison, Report, report_fields
from swarmllm.runtime.service.record import Record

STYLES: Final = {"better": "green", "worse": "red", "law broken": "bold red"}
_PARTS: Final = {part.name: part for part in PARTS}


def report_record(report: Report, file: str) -> Record:
    """For `--json`: all but the snapshot and the recording, which the file has."""
    found = report_fields(report)
    case = found.pop("case")
    change = {name: case[name] for name in ("setting", "from", "to", "base")}
    return {"event": "validated", **change, "digest": report.digest.hex(), "file": file, **found}


def report_view(report: Report) -> RenderableType:
    """The objective's parts without and with the change, the difference beyond noise or not, and
    the verdict."""
    case = report.case
    head = f"{case.setting.key}: {case.before} -> {case.value} ({case.setting.unit})"
    parts: list[RenderableType] = [Line(head, "bold"), ""]
    for test in report.tests:
        parts += [*_test_view(test), ""]
    parts += [Line(f"Note: {note}.", "dim") for note in report.notes]
    if report.unseen and report.unseen not in report.why:
        parts.append(Line(f"Note: {report.unseen}.", "yellow"))
    verdict = f"{report.verdict}: {report.why}."
    parts.append(Line(verdict[:1].upper() + verdict[1:], STYLES.get(report.verdict, "yellow")))
    return Group(*parts)


def _test_view(test: Comparison) -> list[RenderableType]:
    title = {
        "snapshot": "On the swarm as it is now",
        "replay": "On the recording of the last 24 hours",
    }[test.name]
    if test.objective is None:
        return [Line(f"{title}: a law broke after {test.pairs} pairs.")]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "without", "with", "change", "weight"):
        table.add_column(heading, justify="left" if not heading else "right")
    for one in test.parts:
        part = _PARTS[one.name]
        values = (one.before, one.after)
        table.add_row(
            part.about, *(_shown(part, value) for value in values), _change(part, *values),
            f"{part.weight:g}",
        )  # fmt: skip
    found = test.objective
    if not test.differs:
        said = f"{title}, {found.pairs} pairs: not one decision was another with the change"
        return [table, Line(said)]
    said = (
        f"{title}, {found.pairs} pairs: {found.mean:+.1f} % in all"
        f" ({found.low:+.1f} to {found.high:+.1f}; less is better): {found.finding}"
    )
    return [table, Line(said)]


def _shown(part: Part, value: float) -> str:
    match part.unit:
        case "s":
            return f"{1000 * value:.1f} ms"
        case "share":
            return f"{100 * value:.2f} %"
        case _:
            return f"{value:,.1f}"


def _change(part: Part, before: float, after: float) -> str:
    if part.kind == "share":
        return f"{100 * (after - before):+.2f}"
    return f"{100 * (after / before - 1):+.1f} %"
