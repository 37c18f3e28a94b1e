"""A validation that ends as soon as it can no longer come to *better*.

Most changes that a search tries do nothing, and whoever looks for one that helps need not know
exactly how much nothing. Once the pairs that are left could not make the interval end below 0,
whatever they brought, the rest is not run: curtailed sampling, which changes no verdict of *better*
(`tests/sims/validation/test_sift.py` compares it with the whole).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from swarmllm.core.settings.setting import Setting
from swarmllm.core.validation.report import Case, Report
from swarmllm.core.validation.statistics import LOOKS, PAIRS_MIN, interval_of, is_decided, look_at
from swarmllm.sims.validation.fitting import Fitted
from swarmllm.sims.validation.playing import Load, Played, play
from swarmllm.sims.validation.validate import Budget, Play, Validation, validate

SLACK: Final = 1e-5  # For what is rounded in a report: rather a pair too many.


def may_be_better(differences: Sequence[float], pairs: int) -> bool:
    """Whether a mean of `pairs` differences that begins with these can be below 0 beyond noise.

    Student's t depends on the cosine between the differences and a constant alone; those that are
    missing bring it down furthest if all are the same.
    """
    differences = differences[:pairs]
    quantile, missing = LOOKS[pairs], pairs - len(differences)
    total = math.fsum(differences)
    squares = math.fsum(one * one for one in differences)
    if total < 0:  # Then each that is missing should be squares / total, and else far below 0.
        cosine = math.sqrt((total * total + missing * squares) / (pairs * squares))
    else:
        cosine = math.sqrt(missing / pairs)
    return cosine >= (1 - SLACK) * quantile / math.sqrt(pairs - 1 + quantile * quantile)


@dataclass(slots=True)
class _Once:
    """Plays each run once: the seed tells tests and pairs apart."""

    play: Play
    played: dict[tuple[int, tuple[tuple[str, int], ...]], Played] = field(default_factory=dict)

    def __call__(
        self, fitted: Fitted, values: Mapping[Setting[Any], int], seed: int, load: Load
    ) -> Played:
        key = seed, tuple(sorted((one.key, value) for one, value in values.items()))
        if key not in self.played:
            self.played[key] = self.play(fitted, values, seed, load)
        return self.played[key]


def sift(case: Case, pairs: int = PAIRS_MIN, play: Play = play) -> Report | None:
    """The report of `validate` with so many pairs for each test; None as soon as it is certain that
    its verdict would not be *better*."""
    once, budget = _Once(play), Budget(pairs, clock=lambda: 0.0)
    validation = Validation(case, budget, play=once)
    has_hope = False
    for name, load in validation.loads().items():
        found = _hope(validation, name, load, look_at(pairs))
        if found is None:
            return None
        has_hope = has_hope or found
    if not has_hope:
        return None
    report = validate(case, budget, play=once)  # With what was played, and what was left out.
    return report if report.verdict == "better" else None


def _hope(validation: Validation, name: str, load: Load, looks: Sequence[int]) -> bool | None:
    """Whether this test is better; None if it is worse, or if a law is broken."""
    differences: list[float] = []
    while any(may_be_better(differences, look) for look in looks):
        if len(differences) in looks:
            found = interval_of(differences)
            if is_decided(found) or len(differences) == looks[-1]:
                return None if found.finding == "worse" else found.finding == "better"
        pair = validation.pair(name, load, len(differences))
        if isinstance(pair, str):
            return None
        differences.append(validation.difference(pair))
    return False
