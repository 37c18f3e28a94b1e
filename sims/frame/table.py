"""What people read: a table on standard error, one line for each setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Table

from swarmllm.sims.study import Parameter, Result, Study, Summary

NEVER: Final = "never"  # A time that did not come.
NOTHING: Final = "–"


def table_of(study: Study, summaries: Sequence[Summary]) -> Table:
    """Swept parameters first, then the study's results with ± half of the 95 % interval."""
    varied = [p for p in study.parameters if len({s.parameters[p.name] for s in summaries}) > 1]
    seeds = max(len(s.seeds) for s in summaries)
    table = Table(
        title=f"{study.name}: mean of {seeds} seeds ± 95 % interval"
        if seeds > 1
        else f"{study.name}: one seed"
    )
    for parameter in varied:
        table.add_column(parameter.label, justify="right", style="bold")
    shown = [r for r in study.results if r.table]
    for result in shown:
        table.add_column(result.label, justify="right")
    for summary in summaries:
        table.add_row(
            *(_setting(parameter, summary) for parameter in varied),
            *(cell(result, summary) for result in shown),
        )
    return table


def _setting(parameter: Parameter, summary: Summary) -> str:
    value = summary.parameters[parameter.name]
    is_number = isinstance(parameter.default, int | float)
    if is_number and not isinstance(parameter.default, bool):
        return f"{value:,}"
    return parameter.show(value)


def cell(result: Result, summary: Summary) -> str:
    mean = summary.means.get(result.name)
    if mean is None:
        return NEVER if result.unit == "s" else NOTHING
    text = f"{mean.value:,.{result.digits}f}"
    if mean.n > 1:
        text += f" ±{mean.half:,.{result.digits}f}"
    return text if mean.n == len(summary.seeds) else f"{text} ({mean.n} of {len(summary.seeds)})"
