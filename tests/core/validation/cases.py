"""Small swarms, recordings and reports for tests of validation."""

from __future__ import annotations

from typing import Any

from swarmllm.core.settings.holder import NONE, Values
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import EXTRA
from swarmllm.core.validation.objective import PARTS
from swarmllm.core.validation.recording import Minute, Recording
from swarmllm.core.validation.report import Case, Comparison, PartResult, Report
from swarmllm.core.validation.snapshot import ExpertFigures, Snapshot
from swarmllm.core.validation.statistics import Interval

NO_BASE = bytes(32)


def swarm(experts: int = 5, models: int = 1, slow: int = 0, round_ms: int = 30) -> Snapshot:
    """`slow` of them take ten times as long."""
    rounds = [1000 * (round_ms if i >= slow else 10 * round_ms) for i in range(experts)]
    return Snapshot(
        tuple(ExpertFigures(i % models, rounds[i], 20_000, 800, 16, 16, 0) for i in range(experts)),
        experts,
        1,
    )


def recorded(minutes: int = 3, **what: int) -> Recording:
    """An answer of eight tokens each minute."""
    usual = {"answers": 1, "prompt_tokens": 8, "ended": 1, "tokens": 8, "experts": 5}
    return tuple(Minute(29_000_000 + number, **(usual | what)) for number in range(minutes))


def case(
    setting: Setting[Any] = EXTRA,
    value: int = 2,
    *,
    base: bytes = NO_BASE,
    values: Values = NONE,
    snapshot: Snapshot | None = None,
    recording: Recording = (),
) -> Case:
    return Case(setting, value, base, values, snapshot or swarm(), recording, {})


def result(low: float, high: float, *, name: str = "snapshot", law: str = "") -> Comparison:
    interval = None if law else Interval((low + high) / 2, low, high, 8)
    parts = () if law else tuple(PartResult(part.name, 0.1, 0.09) for part in PARTS)
    return Comparison(name, 8, interval, parts, True, law)


BETTER, WORSE, NOTHING = result(-4.0, -2.0), result(2.0, 4.0), result(-1.0, 2.0)


def report(about: Case, *tests: Comparison) -> Report:
    """Better, where no result is given."""
    chosen = tests or (BETTER,)
    return Report(about, "0" * 16, {one.name: 32 for one in chosen}, chosen, ())
