"""What a study declares: its parameters, one pure function from parameters and seed to results, and
what is worth showing.

    python sims/NAME.py ...  =  swarmllm simulate NAME ...

A module `swarmllm.sims.NAME` is a study if it assigns `STUDY` at its top level; the first paragraph
of its docstring is the question. `point` must stand at the top level too and be a function of its
arguments alone: it runs in other processes, on other machines, and again for a replay.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

from swarmllm.errors import UsageError

Value = int | float | str | bool
Parameters = Mapping[str, Any]
"""Name to value; `Parameter.parse` and `check` have seen to it that each has the type of its
default."""
Results = Mapping[str, Any]
"""Name to a number, None (it never happened), or a list of numbers (a curve)."""

RUNS: Final = 3  # Seeds per point, enough for an interval to be seen.


def label_of(name: str, unit: str) -> str:
    """For people: a name that ends in its unit does not say it twice."""
    return (
        f"{name.removesuffix('_' + unit).replace('_', ' ')} ({unit})"
        if unit
        else name.replace("_", " ")
    )


@dataclass(frozen=True, slots=True)
class Parameter:
    """The type is that of the default: a bool is a flag, a str with `choices` one of these, any
    other str a file's path (or empty)."""

    name: str
    default: Value
    help: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def label(self) -> str:
        return label_of(self.name, self.unit)

    @property
    def is_file(self) -> bool:
        return isinstance(self.default, str) and not self.choices

    def parse(self, text: str) -> Value:
        """UsageError if `text` is no value of this parameter."""
        if isinstance(self.default, bool):
            if text not in {"true", "false"}:
                raise UsageError(f"{self.option} {text!r} is neither true nor false")
            return text == "true"
        if isinstance(self.default, str):
            if self.choices and text not in self.choices:
                raise UsageError(f"{self.option} {text!r} is none of {', '.join(self.choices)}")
            return text
        kind, words = (
            (int, "a whole number") if isinstance(self.default, int) else (float, "a number")
        )
        try:
            value = kind(text)
        except ValueError:
            raise UsageError(f"{self.option} {text!r} is not {words}") from None
        if not self.low <= value <= self.high:  # A nan is within nothing.
            raise UsageError(f"{self.option} {text} is not within {self.low:g} and {self.high:g}")
        return value

    def show(self, value: Value) -> str:
        """What `parse` reads as exactly this value."""
        return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Result:
    """One of a point's results as the table shows it; those whose `table` is False are in the
    records and files only."""

    name: str
    help: str
    unit: str = ""
    digits: int = 0
    table: bool = True

    @property
    def label(self) -> str:
        return label_of(self.name, self.unit)


@dataclass(frozen=True, slots=True)
class Lines:
    """A picture: `ys` (results) over parameter `x`, one line for each value of whatever else was
    swept.

    If `x` was not swept, whichever numbers were stand in its place. `limit` is a value worth a
    dotted line, with its words; `guide` is a result that is drawn dotted beside each line of the
    first of `ys`: what is possible, expected or fair there.
    """

    name: str
    title: str
    x: str
    ys: tuple[str, ...]
    y_label: str
    log: Literal["", "x", "y", "xy"] = ""
    limit: tuple[float, str] | None = None
    guide: str = ""


@dataclass(frozen=True, slots=True)
class Curves:
    """A picture: result `y` over result `x`, both lists, one line for each point of the grid."""

    name: str
    title: str
    x: str
    y: str
    x_label: str
    y_label: str
    log: Literal["", "x", "y", "xy"] = ""


Plot = Lines | Curves


@dataclass(frozen=True, slots=True)
class Mean:
    """`value` over `n` seeds with half of its 95 % interval (0 with one seed)."""

    value: float
    half: float
    n: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What all seeds of one setting gave. `means` lacks what none of them had; `curves` are
    averaged point by point."""

    parameters: Parameters
    seeds: tuple[int, ...]
    means: Mapping[str, Mean]
    curves: Mapping[str, tuple[float, ...]]

    def get(self, name: str) -> float:
        """The mean; nan if no seed had a value."""
        found = self.means.get(name)
        return math.nan if found is None else found.value


def _nothing(_parameters: Parameters) -> None:
    return None


def _silent(_found: Sequence[Summary]) -> str:
    return ""


def _holds(_results: Results) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Study:
    """`module` is where `point` stands. `sweep` is the grid when nothing else is asked for. `check`
    raises UsageError for parameters that are possible one by one but not together; `says` puts what
    was found into a sentence; where `holds` is False for some point's results, the command ends
    with 1."""

    module: str
    parameters: tuple[Parameter, ...]
    results: tuple[Result, ...]
    point: Callable[[Parameters, int], Results]
    sweep: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    plots: tuple[Plot, ...] = ()
    check: Callable[[Parameters], None] = _nothing
    says: Callable[[Sequence[Summary]], str] = _silent
    holds: Callable[[Results], bool] = _holds
    runs: int = RUNS

    @property
    def name(self) -> str:
        return self.module.rpartition(".")[2]

    @property
    def defaults(self) -> dict[str, Value]:
        return {p.name: p.default for p in self.parameters}

    def parameter(self, name: str) -> Parameter | None:
        return next((p for p in self.parameters if p.name == name), None)


@lru_cache(maxsize=1)
def questions() -> dict[str, str]:
    """The studies there are, by name, with their questions; read off the sources, so that listing
    them imports none of them."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(_assigns_study(node) for node in tree.body):
            paragraph = (ast.get_docstring(tree) or "").split("\n\n", maxsplit=1)[0]
            found[path.stem] = " ".join(paragraph.split())
    return found


def _assigns_study(node: ast.stmt) -> bool:
    targets = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign)
        else []
    )
    return any(isinstance(target, ast.Name) and target.id == "STUDY" for target in targets)


def find(name: str) -> Study:
    """The study of that name. UsageError if there is none."""
    known = questions()
    if name not in known:
        raise UsageError(f"there is no study {name!r}; there are {', '.join(known)}")
    study = import_module(f"swarmllm.sims.{name}").STUDY
    assert isinstance(study, Study), name
    return study


def main(name: str) -> int:
    """What `python sims/NAME.py` does: the exit code."""
    from swarmllm.sims.frame.script import run_script

    return run_script(name)
