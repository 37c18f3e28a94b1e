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

RUNGS_FEW: Final = 6  # Steps of one.
STEP: Final = 4.0
FOOT: Final = 64  # Parts of the highest value that are the smallest step from 0.

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


# --- without knowledge ----------------------------------------------------------------------------


def ladder(bounds: Range) -> tuple[int, ...]:
    """The values of a setting that are worth trying, rising: its bounds, and between them steps by
    a factor of 4 at most, or every one where they are few."""
    low, high = bounds.low, bounds.high
    if high - low <= RUNGS_FEW:
        return tuple(range(low, high + 1))
    foot = max(low, high // FOOT, 1)
    steps = math.ceil(math.log(high / foot, STEP)) or 1
    rungs = {round(foot * (high / foot) ** (step / steps)) for step in range(steps + 1)}
    return tuple(sorted(rungs | {low, high}))


def rungs_of(situation: Situation) -> dict[Setting[Any], tuple[int, ...]]:
    """The ladder of each setting that is the agent's, by code."""
    settings = sorted(situation.bounds, key=lambda one: one.code)
    return {one: ladder(situation.bounds[one]) for one in settings}


class RandomProposer:
    """Any setting at any rung of its ladder."""

    name = "random"

    def propose(self, situation: Situation, rng: random.Random) -> Suggestion | None:
        rungs = [(one, value) for one, found in rungs_of(situation).items() for value in found]
        new = [one for one in rungs if situation.is_new(*one)]
        if not new:
            return None
        return suggestion_of(situation, *rng.choice(new), "chosen by chance", ())


class SearchProposer:
    """Coordinate search: one setting after another, in an order drawn anew each time, half of the
    way to either end of its ladder; then the next rungs."""

    name = "search"

    def propose(self, situation: Situation, rng: random.Random) -> Suggestion | None:
        ladders = list(rungs_of(situation).items())
        rng.shuffle(ladders)
        for is_wide in (True, False):
            for setting, rungs in ladders:
                for value in self._steps(situation.value(setting), rungs, rng, is_wide=is_wide):
                    if situation.is_new(setting, value) and situation.can_show(setting, value):
                        said = "the next step of a search"
                        return suggestion_of(situation, setting, value, said, ())
        return None

    def _steps(
        self, now: int, rungs: tuple[int, ...], rng: random.Random, *, is_wide: bool
    ) -> list[int]:
        above = [value for value in rungs if value > now]
        below = [value for value in rungs if value < now]
        steps = [above[len(above) // 2 if is_wide else 0]] if above else []
        steps += [below[(len(below) - 1) // 2 if is_wide else -1]] if below else []
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
    Rule("strikes", 0, t.PATIENCE_UNKNOWN, 0.25, "strangers break the protocol and are waited for"),
    Rule("refused_share", 0.2, t.SUSPECT_REST, 4, "experts that refuse are asked again too soon"),
    Rule("failovers", 0.5, t.PATIENCE_MAX, 2, "experts are given up while they take in a prompt"),
    Rule("late_share", 0.03, t.EXTRA, 1, "many rounds wait for one slow expert", plus=1),
    Rule("wasted_share", 0.4, t.EXTRA, 0.25, "many experts that answer are not waited for"),
    Rule("first_ratio", 15, t.EXTRA, 0.25, "the first token waits for a slow hedge"),
    Rule("busy_share", 0.8, t.EXTRA, 0, "experts are busy with work that nobody uses"),
    Rule("recomputed", 1.4, t.HEDGE_COST, 0.1, "hedges compute long texts to catch up"),
    Rule(
        "recomputed", 1.4, t.BLUR, 0.1, "answers go from expert to expert, each with all the text"
    ),
    Rule("recomputed", 1.4, t.PATIENCE_MAX, 2, "experts are given up while they take in a prompt"),
    Rule("stall_ratio", 6, t.PATIENCE_FLOOR, 0.1, "an expert that stands still is waited for"),
    Rule("experts", 10, t.SHUFFLE_INTERVAL, 4, "news of many experts cost more than they tell"),
    Rule("late_share", 0.03, t.PATIENCE_FLOOR, 0.1, "an expert that stands still is waited for"),
    Rule("late_share", 0.03, t.HEDGE_COST, 4, "insurance against slow experts is refused for cost"),
    Rule("failovers", 0.2, t.PATIENCE_FLOOR, 4, "experts are given up for a hiccup"),
    Rule("unfinished_share", 0.02, t.PATIENCE_MAX, 2, "answers end because experts are given up"),
    Rule("slow_ratio", 3, t.SUSPECT_REST, 4, "experts that failed are asked again too soon"),
    Rule("experts_lost", 20, t.SHUFFLE_INTERVAL, 0.5, "news of experts come too late"),
    Rule("token_ms", 150, t.EXPERTS, 0.5, "tokens cost more experts than they need"),
)
"""The first that applies, may be set and was not tried is proposed; then the next rung beyond."""


class RuleProposer:
    name = "rules"

    def propose(self, situation: Situation, rng: random.Random) -> Suggestion | None:
        for rule, value in self._wanted(situation):
            if situation.is_new(rule.setting, value) and situation.can_show(rule.setting, value):
                return suggestion_of(situation, rule.setting, value, rule.finding, (rule.metric,))
        return None

    def _wanted(self, situation: Situation) -> Iterator[tuple[Rule, int]]:
        for rule in RULES:
            bounds = situation.bounds.get(rule.setting)
            if bounds is None or situation.observation.get(rule.metric, 0.0) <= rule.above:
                continue
            now = situation.value(rule.setting)
            wanted, rungs = round(rule.factor * now) + rule.plus, ladder(bounds)
            nearest = min(rungs, key=lambda rung: abs(rung - wanted))
            further = [v for v in rungs if (v > nearest) == (wanted > now) and v != nearest]
            yield rule, nearest
            if further:  # In the same direction.
                yield rule, further[0] if wanted > now else further[-1]


@dataclass(frozen=True, slots=True)
class InTurn:
    """The first of several proposers that has something to propose."""

    name: str
    proposers: tuple[Proposer, ...]

    def propose(self, situation: Situation, rng: random.Random) -> Suggestion | None:
        found = (one.propose(situation, rng) for one in self.proposers)
        return next((one for one in found if one is not None), None)


def suggestion_of(
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
