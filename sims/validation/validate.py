"""Validate a proposed setting: run the swarm with and without it, seed by seed, until the
difference is beyond noise or the budget is used up.

    report = validate(case, Budget(), tell=print)
    report.verdict, report.why, report.digest

One function for whoever validates: the command, an agent, a voter who repeats it. It takes time and
a processor, so a running node calls it in another process. Same case, same code, same number of
pairs: the same report, byte for byte, on every machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from statistics import fmean
from typing import Any, Final

from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import EXPERTS, EXTRA
from swarmllm.core.validation.coverage import is_shown
from swarmllm.core.validation.objective import Figures, Part, cost_of, parts_with
from swarmllm.core.validation.recording import busy_minutes
from swarmllm.core.validation.report import (
    DIGITS,
    TESTS,
    TEXT_MAX,
    Case,
    Comparison,
    PartResult,
    Report,
    case_fields,
    encode_fields,
)
from swarmllm.core.validation.statistics import (
    PAIRS_MAX,
    PAIRS_MIN,
    Interval,
    interval_of,
    is_decided,
    look_at,
)
from swarmllm.errors import LocalError
from swarmllm.sims.frame.code import version_of
from swarmllm.sims.frame.store import Store
from swarmllm.sims.validation.fitting import Fitted, fit
from swarmllm.sims.validation.playing import Load, Played, play, recorded, steady

MODULE: Final = "swarmllm.sims.validation.validate"
WALL_S: Final = 300.0
NO_REPLAY: Final = "nothing was replayed: no answer was asked of this node within the last 24 hours"

Play = Callable[[Fitted, Mapping[Setting[Any], int], int, Load], Played]
"""One run: of this swarm, under these settings, from this seed, with this load. `Broken` if a law
does not hold."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `pairs_max` pairs for each test (8, 16 or 32), or as many for each as `pairs` says;
    and no new look once `wall_s` seconds are over on `clock`."""

    pairs_max: int = PAIRS_MAX
    wall_s: float = WALL_S
    pairs: Mapping[str, int] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Progress:
    """`pair` of `pairs_max` of this test is done; what the last look has found."""

    test: str
    pair: int
    pairs_max: int
    found: Interval | None


class OutOfTimeError(LocalError):
    """The budget was over before the fewest pairs that say anything."""


def key_of(case: Case) -> str:
    """What a validation is found again by: its whole input and the code that runs it."""
    return sha256(encode_fields({"code": version_of(MODULE)} | case_fields(case))).hexdigest()


def validate(
    case: Case,
    budget: Budget,
    tell: Callable[[Progress], None] = lambda _: None,
    *,
    play: Play = play,
    store: Store | None = None,
) -> Report:
    """`tell` hears of each pair. `store` keeps runs, so that what is interrupted goes on where it
    was. LocalError if the budget is over before anything can be said."""
    return Validation(case, budget, tell, play, store).report()


class Validation:
    """One case under way: its tests, and their pairs one at a time."""

    def __init__(
        self,
        case: Case,
        budget: Budget,
        tell: Callable[[Progress], None] = lambda _: None,
        play: Play = play,
        store: Store | None = None,
    ) -> None:
        self.case = case
        self.budget = budget
        self._tell, self._play, self._store = tell, play, store
        self._key = key_of(case)
        self._parts = parts_with(case.weights)
        self._ends_at = budget.clock() + budget.wall_s
        settings = Settings(values=case.values)
        k = settings[EXPERTS]
        self._fitted: Fitted = fit(case.snapshot, case.recording, k + settings[EXTRA], k)

    def report(self) -> Report:
        case, notes, loads = self.case, list(self._fitted.notes), self.loads()
        if len(loads) < len(TESTS):
            notes.append(NO_REPLAY)
        tests: list[Comparison] = []
        pairs_max: dict[str, int] = {}
        for name in TESTS:
            if name not in loads or (tests and tests[-1].law):
                continue
            found, pairs_max[name] = self._test(name, loads[name])
            tests.append(found)
        return Report(case, version_of(MODULE), pairs_max, tuple(tests), tuple(notes))

    def loads(self) -> dict[str, Load]:
        """By test, in their order."""
        loads: dict[str, Load] = {"snapshot": steady}
        if busy_minutes(self.case.recording):
            loads["replay"] = recorded(self.case.recording)
        return loads

    def _test(self, name: str, load: Load) -> tuple[Comparison, int]:
        """What one test came to, and to how many pairs it was bounded: fewer if time was over."""
        pairs_max = self.budget.pairs.get(name, self.budget.pairs_max)
        if not is_shown(self.case.setting):
            pairs_max = PAIRS_MIN  # For the laws; the figures say nothing.
        looks = look_at(pairs_max)
        pairs: list[tuple[Played, Played]] = []
        found: Interval | None = None
        for look in looks:
            while len(pairs) < look:
                if self.budget.clock() > self._ends_at:
                    return self._out_of_time(name, pairs, found)
                pair = self.pair(name, load, len(pairs))
                if isinstance(pair, str):
                    return Comparison(name, len(pairs), None, (), True, pair), pairs_max
                pairs.append(pair)
                self._tell(Progress(name, len(pairs), pairs_max, found))
            found = self._interval(pairs)
            if is_decided(found):
                break
        assert found is not None
        return self._result(name, pairs, found), pairs_max

    def _out_of_time(
        self, name: str, pairs: list[tuple[Played, Played]], found: Interval | None
    ) -> tuple[Comparison, int]:
        if found is None:
            raise OutOfTimeError(
                f"{self.budget.wall_s:.0f} s were over after {len(pairs)} pairs of the {name} test,"
                f" and {PAIRS_MIN} are the least that say anything; give it more time (--seconds)"
            )
        return self._result(name, pairs[: found.pairs], found), found.pairs

    def _interval(self, pairs: Sequence[tuple[Played, Played]]) -> Interval:
        found = interval_of([self.difference(pair) for pair in pairs])
        return Interval(
            round(found.mean, DIGITS),
            round(found.low, DIGITS),
            round(found.high, DIGITS),
            found.pairs,
        )

    def difference(self, pair: tuple[Played, Played]) -> float:
        """Of the objective, with the change less without it."""
        before, after = pair
        return cost_of(after.figures, self._parts) - cost_of(before.figures, self._parts)

    def _result(
        self, name: str, pairs: Sequence[tuple[Played, Played]], found: Interval
    ) -> Comparison:
        parts = tuple(_part(part, pairs) for part in self._parts)
        differs = any(before.trace != after.trace for before, after in pairs)
        return Comparison(name, len(pairs), found, parts, differs)

    def pair(self, name: str, load: Load, number: int) -> tuple[Played, Played] | str:
        """Without and with the change, from one seed; or the law that does not hold."""
        case = self.case
        seed = int.from_bytes(sha256(f"{self._key} {name} {number}".encode()).digest()[:6], "big")
        before = self._run(load, case.values, seed, f"{name} {number} before")
        if isinstance(before, str):
            return f"without the change too: {before}"[:TEXT_MAX]
        changed = {**case.values, case.setting: case.value}
        after = self._run(load, changed, seed, f"{name} {number} after")
        return after if isinstance(after, str) else (before, after)

    def _run(
        self, load: Load, values: Mapping[Setting[Any], int], seed: int, key: str
    ) -> Played | str:
        held = None if self._store is None else self._store.get(f"{self._key} {key}")
        if held is not None:
            figures: Figures = held["figures"]
            return Played(figures, held["trace"])
        try:
            played = self._play(self._fitted, values, seed, load)
        except AssertionError as broken:  # A law's `Broken`, or an assertion of the node itself.
            return (str(broken) or "an assertion of the node does not hold")[: TEXT_MAX - 40]
        if self._store is not None:
            results = {"figures": dict(played.figures), "trace": played.trace}
            self._store.add(f"{self._key} {key}", {"results": results})
        return played


def _part(part: Part, pairs: Sequence[tuple[Played, Played]]) -> PartResult:
    before, after = (fmean(pair[side].figures[part.name] for pair in pairs) for side in (0, 1))
    return PartResult(part.name, round(before, DIGITS), round(after, DIGITS))
