"""The grid: which settings and seeds a command line asks for, and how each single point is named
and asked for again."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from swarmllm.errors import UsageError
from swarmllm.sims.study import Parameters, Results, Study, Value

POINTS_MAX: Final = 100_000  # A line of a kilobyte each; more is a mistyped sweep.


@dataclass(frozen=True, slots=True)
class Point:
    """One setting with one seed; `values` in the order of the study's parameters."""

    values: tuple[tuple[str, Value], ...]
    seed: int

    @property
    def parameters(self) -> dict[str, Value]:
        return dict(self.values)


def grid(
    study: Study,
    given: Mapping[str, Value],
    sweep: Mapping[str, Sequence[Value]],
    seeds: Sequence[int],
) -> list[Point]:
    """All points in order: the first swept parameter changes slowest, seeds change fastest.

    A sweep that is asked for takes the place of the study's own; without one the study's own holds
    for all that is not `given`.
    """
    wanted = sweep or {name: values for name, values in study.sweep.items() if name not in given}
    count = len(seeds)
    for values in wanted.values():
        count *= len(values)
    if count > POINTS_MAX:
        raise UsageError(f"a sweep over {count} points is more than {POINTS_MAX}")
    points: list[Point] = []
    for values in product(*wanted.values()):
        setting = {**study.defaults, **given, **dict(zip(wanted, values, strict=True))}
        study.check(setting)
        points += [Point(tuple(setting.items()), seed) for seed in seeds]
    return points


def replay(study: Study, point: Point) -> str:
    """The command that computes exactly this point."""
    words = ["swarmllm", "simulate", study.name, "--seed", str(point.seed), "--runs", "1"]
    for parameter in study.parameters:
        value = point.parameters[parameter.name]
        if isinstance(value, bool):
            words += [parameter.option if value else f"--no-{parameter.option[2:]}"]
        elif value != "":
            words += [parameter.option, parameter.show(value)]
    return shlex.join(words)


def key(study: Study, point: Point, version: str) -> str:
    """The same key: the same results. Files count with what is in them."""
    parameters: dict[str, object] = dict(point.parameters)
    for parameter in study.parameters:
        path = point.parameters[parameter.name]
        if parameter.is_file and path:
            parameters[parameter.name] = digest_of(Path(str(path)))
    text = json.dumps([study.name, version, parameters, point.seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest_of(path: Path) -> str:
    """UsageError if the file cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None


def record(study: Study, point: Point, results: Results) -> dict[str, object]:
    """What `--json` prints, without the time."""
    shown: Parameters = point.parameters
    return {
        "event": "point",
        "study": study.name,
        "parameters": dict(shown),
        "results": dict(results),
        "seed": point.seed,
        "replay": replay(study, point),
    }
