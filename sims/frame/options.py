"""What can be typed after a study's name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from swarmllm.errors import UsageError
from swarmllm.sims.study import Parameter, Study, Value, questions

RUNS_MAX: Final = 10_000
JOBS_MAX: Final = 1_024
SEED_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Options:
    """`given` are the parameters that were set, `sweep` those that take several values each. `jobs`
    0: one for each core."""

    given: Mapping[str, Value]
    sweep: Mapping[str, tuple[Value, ...]]
    seed: int
    runs: int
    jobs: int
    dask: str
    out: Path | None
    json: bool

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.runs)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}")


def parse(study: Study, arguments: Sequence[str]) -> Options:
    """UsageError for whatever makes no sense; SystemExit(0) after `--help`."""
    found: dict[str, Any] = vars(parser_of(study).parse_args(list(arguments)))
    given = {
        p.name: _given(p, found[p.name]) for p in study.parameters if found[p.name] is not None
    }
    sweep: dict[str, tuple[Value, ...]] = {}
    for text in found["SWEEP"] or []:
        name, values = _sweep(study, text)
        if name in sweep:
            raise UsageError(f"--sweep {name} stands there twice")
        if name in given:
            raise UsageError(f"{name} is both set and swept")
        sweep[name] = values
    return Options(
        given,
        sweep,
        seed=_whole("--seed", found["SEED"], 0, SEED_MAX),
        runs=_whole("--runs", found["RUNS"], 1, RUNS_MAX),
        jobs=_whole("--jobs", found["JOBS"], 0, JOBS_MAX),
        dask=found["DASK"],
        out=Path(found["OUT"]) if found["OUT"] else None,
        json=found["JSON"],
    )


def parser_of(study: Study) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"swarmllm simulate {study.name}",
        description=questions()[study.name],
        allow_abbrev=False,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    group = parser.add_argument_group("parameters")
    for parameter in study.parameters:
        _add(group, parameter)
    _add_frame_options(parser, study)
    return parser


def _add(group: argparse._ArgumentGroup, p: Parameter) -> None:
    unit = f" {p.unit}" if p.unit else ""
    words = p.help + (f" ({'|'.join(p.choices)})" if p.choices else "")
    default = p.show(p.default) + unit if p.default != "" else "none"
    if isinstance(p.default, bool):
        group.add_argument(
            p.option,
            dest=p.name,
            action=argparse.BooleanOptionalAction,
            default=None,
            help=words,
        )
    else:
        group.add_argument(
            p.option,
            dest=p.name,
            metavar="FILE" if p.is_file else "X",
            help=f"{words} [{default}]",
        )


def _add_frame_options(parser: argparse.ArgumentParser, study: Study) -> None:
    """The options that every study has; their names are upper case so that no parameter's can
    be the same."""
    grid = "  ".join(f"{name}={','.join(map(str, values))}" for name, values in study.sweep.items())
    group = parser.add_argument_group("the grid")
    group.add_argument(
        "--sweep",
        dest="SWEEP",
        metavar="NAME=V1,V2,...",
        action="append",
        help=f"every one of these values (repeatable: every combination)\n[{grid or 'no sweep'}]",
    )
    group.add_argument("--seed", dest="SEED", default="1", metavar="N", help="the first seed [1]")
    group.add_argument(
        "--runs",
        dest="RUNS",
        default=str(study.runs),
        metavar="N",
        help=f"seeds for each setting [{study.runs}]",
    )
    group = parser.add_argument_group("where it is computed")
    group.add_argument(
        "--jobs", dest="JOBS", default="0", metavar="N", help="processes [one for each core]"
    )
    group.add_argument(
        "--dask",
        dest="DASK",
        default="",
        metavar="ADDRESS",
        help="on this Dask scheduler, such as tcp://10.0.0.1:8786;\n"
        "local: on one started here for the purpose",
    )
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        dest="OUT",
        metavar="FOLDER",
        help="write points.jsonl, CSV files and pictures there;\n"
        "what is finished there already is not computed again",
    )
    group.add_argument(
        "--json", dest="JSON", action="store_true", help="print a record for each point"
    )


def _given(parameter: Parameter, found: str | bool) -> Value:
    return found if isinstance(found, bool) else parameter.parse(found)


def _sweep(study: Study, text: str) -> tuple[str, tuple[Value, ...]]:
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    parameter = study.parameter(name)
    if not equals:
        raise UsageError(f"--sweep {text!r} is not NAME=V1,V2,...")
    if parameter is None:
        raise UsageError(
            f"--sweep {name!r} is no parameter of {study.name};"
            f" there are {', '.join(p.name for p in study.parameters)}"
        )
    return name, tuple(dict.fromkeys(parameter.parse(value.strip()) for value in values.split(",")))


def _whole(option: str, text: str, low: int, high: int) -> int:
    value = Parameter(option[2:], 0, "", low=low, high=high).parse(text)
    assert isinstance(value, int)
    return value
