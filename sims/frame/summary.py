"""What many seeds say together: means with 95 % intervals, by setting."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Final

from swarmllm.sims.frame.points import Point
from swarmllm.sims.study import Mean, Results, Study, Summary, Value

# Student's t, 97.5 %, for 1, 2, ... degrees of freedom; from 30 on the normal value is within 4 %.
STUDENT: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045,
)  # fmt: skip
NORMAL: Final = 1.96


def mean_of(values: Sequence[float]) -> Mean:
    """Of at least one value; the interval is Student's, for seeds are drawn alike and
    independently."""
    n = len(values)
    if n == 1:
        return Mean(float(values[0]), 0.0, 1)
    t = STUDENT[n - 2] if n - 2 < len(STUDENT) else NORMAL
    return Mean(fmean(values), t * stdev(values) / math.sqrt(n), n)


def summarise(found: Iterable[tuple[Point, Results]]) -> list[Summary]:
    """One summary for each setting, in the order in which settings first come."""
    groups: dict[tuple[tuple[str, Value], ...], list[tuple[int, Results]]] = {}
    for point, results in found:
        groups.setdefault(point.values, []).append((point.seed, results))
    return [_summary(dict(values), group) for values, group in groups.items()]


def _summary(parameters: Mapping[str, Value], group: Sequence[tuple[int, Results]]) -> Summary:
    means: dict[str, Mean] = {}
    curves: dict[str, tuple[float, ...]] = {}
    names = list(dict.fromkeys(name for _, results in group for name in results))
    for name in names:
        values = [results[name] for _, results in group if results.get(name) is not None]
        if not values:
            continue
        if isinstance(values[0], list):
            curves[name] = tuple(fmean(column) for column in zip(*values, strict=True))
        else:
            means[name] = mean_of(values)
    return Summary(parameters, tuple(seed for seed, _ in group), means, curves)


def write_points(path: Path, found: Sequence[tuple[Point, Results]]) -> None:
    """One row a point; curves are in points.jsonl alone."""
    names = list(
        dict.fromkeys(
            n for _, results in found for n, value in results.items() if not isinstance(value, list)
        )
    )
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*found[0][0].parameters, "seed", *names])
        for point, results in found:
            rows.writerow(
                [
                    *point.parameters.values(),
                    point.seed,
                    *("" if results.get(n) is None else results[n] for n in names),
                ]
            )


def write_summaries(path: Path, study: Study, summaries: Sequence[Summary]) -> None:
    """One row a setting: each result's mean, the ends of its interval, and how many seeds had a
    value."""
    names = list(dict.fromkeys(name for summary in summaries for name in summary.means))
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        heads = [f"{name}{end}" for name in names for end in ("", "_low", "_high", "_seeds")]
        rows.writerow([*(p.name for p in study.parameters), "seeds", *heads])
        for summary in summaries:
            row: list[object] = [*summary.parameters.values(), len(summary.seeds)]
            for name in names:
                mean = summary.means.get(name)
                row += (
                    ["", "", "", 0]
                    if mean is None
                    else [mean.value, mean.value - mean.half, mean.value + mean.half, mean.n]
                )
            rows.writerow(row)
