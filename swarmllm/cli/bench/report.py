"""A measurement, and how people and machines see it: always beside the best value that theory
allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.table import Table

from swarmllm.cli.output import print_record
from swarmllm.cli.screen import Line

BETTER: Final = {
    "tokens/s": "more",
    "answers": "more",
    "bytes": "less",
    "ms": "less",
    "s": "less",
    "tokens": "less",
    "nodes": "less",
    "cores": "less",
    "steps": "less",
}


IN_DOUBT: Final = 1.05  # A share above this is no scatter of two measurements.


@dataclass(frozen=True, slots=True)
class Measurement:
    """`ceiling` is the best value that is possible in theory, in the same unit (for bytes and
    times: the least); `goal` is the value to reach, if one was set. `parameters` tell the case,
    `details` what else was seen in it (for machines alone)."""

    name: str
    value: float
    unit: str
    ceiling: float
    parameters: Mapping[str, object] = field(default_factory=dict)
    goal: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How much of what is possible was reached, 1 at best."""
        if self.value == self.ceiling:
            return 1.0
        least, most = sorted((self.value, self.ceiling))
        above = (
            self.value > self.ceiling if BETTER[self.unit] == "more" else self.value < self.ceiling
        )
        ratio = least / most if most > 0 else 0.0
        return 1 / ratio if above and ratio > 0 else ratio

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if BETTER[self.unit] == "more" else self.value <= self.goal

    def record(self) -> dict[str, object]:
        found: dict[str, object] = {
            "event": "measurement",
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "ceiling": round(self.ceiling, 4),
            "ratio": round(self.ratio, 4),
            "parameters": dict(self.parameters),
            "details": dict(self.details),
        }
        if self.goal is not None:
            found |= {"goal": round(self.goal, 4), "reached": self.reached}
        return found


class Report:
    """Measurements as they come; printed at once for machines, as one table at the end for
    people."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.measurements: list[Measurement] = []

    def add(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
        if self._as_json:
            print_record(measurement.record())


def figure(value: float) -> str:
    """Three digits that count, and no powers of ten."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(measurements: Sequence[Measurement]) -> Table:
    """What was measured, what is possible, and what to know about both."""
    shown = Table(
        title="measured, beside what is possible",
        title_justify="left",
        caption=_reading(measurements),
        caption_justify="left",
        pad_edge=False,
    )
    shown.add_column("what")
    shown.add_column("with", style="dim")
    for heading in ("measured", "possible", "share"):
        shown.add_column(heading, justify="right")
    shown.add_column("goal", justify="right")
    last = ""
    for m in measurements:
        if last and m.name != last:
            shown.add_section()
        with_ = ", ".join(
            f"{name.replace('_', ' ')} {value}" for name, value in m.parameters.items()
        )
        shown.add_row(
            m.name if m.name != last else "",
            with_,
            f"{figure(m.value)} {m.unit}",
            f"{figure(m.ceiling)} {m.unit}",
            f"{100 * m.ratio:.0f} %",
            _goal(m),
        )
        last = m.name
    return shown


def _goal(measurement: Measurement) -> Line:
    if measurement.goal is None:
        return Line()
    sign = "≥" if BETTER[measurement.unit] == "more" else "≤"
    wanted = f"{sign} {figure(measurement.goal)} {measurement.unit}"
    return (
        Line(f"{wanted}, reached", "green")
        if measurement.reached
        else Line(f"{wanted}, missed", "red")
    )


def _reading(measurements: Sequence[Measurement]) -> str:
    """How to read the table."""
    known = (
        "possible: what no program can better, or the least work that this machine must do for it;"
        " share: how much of that was reached; goal: what this version is to reach."
    )
    if all(m.ratio <= IN_DOUBT for m in measurements):
        return known
    return (
        f"{known} A share above 100 % is no merit: other programs kept the machine busy while the"
        " possible was measured. Measure again when it is idle."
    )
