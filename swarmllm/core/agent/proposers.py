"""Proposers without a model: rules that somebody wrote, a search, and chance.

They are what a model's proposals are measured against, and what the loop goes on with where no
model is better. All take the same: what was observed, what is in force, what was tried before.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from swarmllm.core.agent.observation import BY_NAME, METRICS, Observation
from swarmllm.core.agent.suggestion import BoundsOf, Suggestion, Values
from swarmllm.core.settings import table as t
from swarmllm.core.settings.setting import Setting
from swarmllm.core.validation.coverage import is_shown, text_side
from swarmllm.messages import Range

Tried = Collection[tuple[Setting[Any], int]]
"""Settings and values that were validated lately and were not better."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a proposer goes by."""

    observation: Observation
    values: Values
    bounds: BoundsOf
    tried: Tried

    def value(self, setting: Setting[Any]) -> int:
        return self.values.get(setting, setting.default)

    def is_new(self, setting: Setting[Any], value: int) -> bool:
        """Whether it may be set so, is not, and was not tried."""
        allowed = self.bounds.get(setting)
        return (
            allowed is not None
            and allowed.low <= value <= allowed.high
            and value != self.value(setting)
            and (setting, value) not in self.tried
        )

    def can_show(self, setting: Setting[Any], value: int) -> bool:
        """Whether a validation could call it better: the simulator shows something of it, and it
        costs the text nothing."""
        return is_shown(setting) and text_side(setting, self.value(setting), value) >= 0


class Proposer(Protocol):
    @property
    def name(self) -> str: ...

    def propose(self, situation: Situation, rng: random.Random) -> Suggestion | None:
        """The next thing to try; None if it has nothing."""


class RandomProposer:
    """Any setting at any value, evenly by its logarithm where its bounds are far apart."""

    name = "random"

    def propose(self, situation: Situation, rng: random.Random) -> Suggestion | None:
        settings = sorted(situation.bounds, key=lambda one: one.code)
        for _ in range(100):
            setting = rng.choice(settings)
            value = _drawn(situation.bounds[setting], rng)
            if situation.is_new(setting, value):
                return _of(situation, setting, value, "chosen by chance", ())
        return None


def _drawn(bounds: Range, rng: random.Random) -> int:
    if bounds.low > 0 and bounds.high >= 20 * bounds.low:
        return round(math.exp(rng.uniform(math.log(bounds.low), math.log(bounds.high))))
    return rng.randint(bounds.low, bounds.high)


class SearchProposer:
    """Coordinate search: one setting after another, in an order drawn anew each time around, a
    step up and a step down by a factor, and ever smaller steps."""

    name = "search"
    FACTORS: Final = (4.0, 2.0, 1.4)

    def propose(self, situation: Situation, rng: random.Random) -> Suggestion | None:
        settings = sorted(situation.bounds, key=lambda one: one.code)
        rng.shuffle(settings)
        for factor in self.FACTORS:
            for setting in settings:
                for value in self._steps(situation, setting, factor, rng):
                    if situation.is_new(setting, value) and situation.can_show(setting, value):
                        return _of(situation, setting, value, "the next step of a search", ())
        return None

    def _steps(
        self, situation: Situation, setting: Setting[Any], factor: float, rng: random.Random
    ) -> list[int]:
        now, bounds = situation.value(setting), situation.bounds[setting]
        up = max(now + 1, round(now * factor))
        down = min(now - 1, round(now / factor))
        steps = [min(bounds.high, up), max(bounds.low, down)]
        rng.shuffle(steps)
        return steps


# --- rules ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """If `metric` is above `above`, `setting` should go to `factor` times what it is (0: to its
    lowest, infinity: to its highest) plus `plus`."""

    metric: str
    above: float
    setting: Setting[Any]
    factor: float
    finding: str
    plus: int = 0


RULES: Final = (
    Rule("late_share", 0.03, t.EXTRA, 1, "many rounds wait for one slow expert", plus=1),
    Rule(
        "late_share", 0.03, t.HEDGE_COST, 0.25, "insurance against slow experts is priced too high"
    ),
    Rule("late_share", 0.03, t.STRAGGLER_RATIO, 0.5, "stragglers are waited for too long"),
    Rule("late_share", 0.03, t.STRAGGLER_FLOOR, 0.5, "stragglers are waited for too long"),
    Rule("late_share", 0.03, t.LATE_RATIO, 0.7, "late experts hold up tokens"),
    Rule("late_share", 0.03, t.LATE_FLOOR, 0.25, "late experts hold up tokens"),
    Rule("failovers", 0.2, t.PATIENCE_FLOOR, 4, "experts are given up for a hiccup"),
    Rule("failovers", 0.2, t.STRAGGLER_FLOOR, 4, "experts are given up too early"),
    Rule("failovers", 0.2, t.STRAGGLER_RATIO, 2, "experts are given up too early"),
    Rule("unfinished_share", 0.02, t.PATIENCE_MAX, 2, "answers end because experts are given up"),
    Rule("unfinished_share", 0.02, t.PATIENCE_FLOOR, 4, "answers end because experts are given up"),
    Rule("slow_ratio", 3, t.WAIT_COST, 2, "slow experts are asked as if they were quick"),
    Rule("slow_ratio", 3, t.PATIENCE_FLOOR, 0.25, "a dead expert is waited for too long"),
    Rule("slow_ratio", 3, t.SUSPECT_REST, 4, "experts that failed are asked again too soon"),
    Rule("experts_lost", 20, t.SHUFFLE_INTERVAL, 0.5, "news of experts come too late"),
    Rule("busy_share", 0.8, t.EXTRA, 0, "experts are busy with work that nobody uses"),
    Rule("busy_share", 0.8, t.SESSIONS_OFFERED, 2, "there are too few places"),
    Rule("token_ms", 150, t.FIRST_WAIT, 0.25, "first tokens wait for experts that matter little"),
    Rule("token_ms", 150, t.EXPERTS, 0.5, "tokens cost more experts than they need"),
)
"""The first that applies, may be set and was not tried is proposed."""


class RuleProposer:
    name = "rules"

    def propose(self, situation: Situation, rng: random.Random) -> Suggestion | None:
        for rule, value in self._wanted(situation):
            if situation.is_new(rule.setting, value) and situation.can_show(rule.setting, value):
                return _of(situation, rule.setting, value, rule.finding, (rule.metric,))
        return None

    def _wanted(self, situation: Situation) -> Iterator[tuple[Rule, int]]:
        for rule in RULES:
            bounds = situation.bounds.get(rule.setting)
            if bounds is None or situation.observation.get(rule.metric, 0.0) <= rule.above:
                continue
            wanted = round(rule.factor * situation.value(rule.setting)) + rule.plus
            yield rule, max(bounds.low, min(bounds.high, wanted))


@dataclass(frozen=True, slots=True)
class InTurn:
    """The first of several proposers that has something to propose."""

    name: str
    proposers: tuple[Proposer, ...]

    def propose(self, situation: Situation, rng: random.Random) -> Suggestion | None:
        found = (one.propose(situation, rng) for one in self.proposers)
        return next((one for one in found if one is not None), None)


def _of(
    situation: Situation,
    setting: Setting[Any],
    value: int,
    finding: str,
    evidence: tuple[str, ...],
) -> Suggestion | None:
    """The suggestion; None if nothing at all is known that it could cite."""
    known = [metric.name for metric in METRICS if metric.name in situation.observation]
    cited = tuple(name for name in evidence if name in situation.observation) or tuple(known[:1])
    if not cited:
        return None
    expected = next((name for name in cited if BY_NAME[name].better != "none"), cited[0])
    return Suggestion(setting, value, finding, cited, expected)
