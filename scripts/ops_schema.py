"""What an improvement proposal may say: one JSON object on one line, every key known, every value
within its range.

    {"action":"set","setting":"extra","from":1,"to":2,"tier":"deploy-minor","expect":{"round_ms_p95":-0.3},"because":"..."}

Four actions: `watch` a metric, `pause` an expert (advice to its operator), `try` values of a
setting in simulation, `set` a setting. The tier follows from the action and the setting, never from
what the proposal claims; whatever is not known here is `deploy-major`. `expect` is the relative
change of each metric that would confirm the proposal, so that it can be measured and reverted.
Pure: no file, clock or chance, so that whoever judges a proposal judges it by this module alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Action = Literal["watch", "pause", "try", "set"]
Tier = Literal["read-only", "suggest", "sandbox-test", "deploy-minor", "deploy-major"]

TEXT_MAX: Final = 600  # Characters of a whole proposal: it is read by people, one line each.
BECAUSE_MAX: Final = 240
VALUES_MAX: Final = 4  # Of a trial: each is a simulation.
EXPECT_MAX: Final = 2  # Metrics: with more, one of them moves by chance.
CHANGE_MIN: Final = -0.99  # Relative changes: nothing falls by more than everything ...
CHANGE_MAX: Final = 9.0  # ... or is believed to grow tenfold.


@dataclass(frozen=True, slots=True)
class Setting:
    """A number that may be changed within `low..high`, and who has to agree. `unit` is empty for
    counts."""

    low: int
    high: int
    unit: str
    tier: Tier
    meaning: str


SETTINGS: Final[Mapping[str, Setting]] = {
    "k": Setting(1, 16, "", "deploy-minor", "experts whose answers are pooled for a token"),
    "extra": Setting(0, 6, "", "deploy-minor", "experts asked beyond k as insurance"),
    "sessions_max": Setting(1, 64, "", "deploy-minor", "texts that an expert keeps in its cache"),
    "look_up_every_s": Setting(
        5, 600, "s", "deploy-minor", "seconds between two look-ups of experts in the DHT"
    ),
    "look_up_below": Setting(1, 64, "", "deploy-minor", "experts known at which look-ups stop"),
    "publish_every_s": Setting(
        2, 60, "s", "deploy-major", "seconds between two capacity records of an expert"
    ),
}

METRICS: Final[Mapping[str, str]] = {
    "tokens_per_s": "tokens per second of one answer",
    "round_ms_p50": "median milliseconds of a round",
    "round_ms_p95": "95th percentile of a round, in milliseconds",
    "round_ms_max": "the longest round, in milliseconds",
    "bytes_per_token": "bytes received from experts per token",
    "asks_per_token": "questions sent to experts per token",
    "needs": "times an expert had lost the text and asked for it again",
    "failovers": "times another expert had to take over",
    "short_rounds": "rounds with fewer than k answers, per cent",
    "local_only": "tokens chosen by the local expert alone",
    "agreement": "mean overlap of the experts' lists, 0 to 1",
    "records_per_s": "capacity records heard per second",
    "expired": "experts forgotten for want of a record",
    "look_ups": "DHT look-ups per minute",
    "experts_known": "experts known",
}

EXPERT_NAME: Final = re.compile(r"[a-z][a-z0-9-]{1,31}")

KEYS: Final[Mapping[Action, tuple[str, ...]]] = {
    "watch": ("action", "metric", "tier", "because"),
    "pause": ("action", "expert", "tier", "expect", "because"),
    "try": ("action", "setting", "from", "values", "tier", "expect", "because"),
    "set": ("action", "setting", "from", "to", "tier", "expect", "because"),
}


class ProposalError(ValueError):
    """What is wrong with a proposal, in one sentence."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """`subject` is a setting, an expert or a metric; `values` has one number for `set`, several for
    `try`, none otherwise."""

    action: Action
    subject: str
    before: int | None
    values: tuple[int, ...]
    tier: Tier
    expect: tuple[tuple[str, float], ...]
    because: str

    def text(self) -> str:
        """The one line; `validate` undoes it."""
        found: dict[str, Any] = {"action": self.action}
        match self.action:
            case "watch":
                found["metric"] = self.subject
            case "pause":
                found["expert"] = self.subject
            case "try":
                found |= {"setting": self.subject, "from": self.before, "values": list(self.values)}
            case "set":
                found |= {"setting": self.subject, "from": self.before, "to": self.values[0]}
        found["tier"] = self.tier
        if self.action != "watch":
            found["expect"] = dict(self.expect)
        return json.dumps(
            found | {"because": self.because}, separators=(",", ":"), ensure_ascii=False
        )


def tier_of(action: str, subject: str) -> Tier:
    """Who has to agree to `action` on `subject`; anything unknown is the highest tier."""
    match action:
        case "watch":
            return "read-only"
        case "pause":
            return "suggest"
        case "try" if subject in SETTINGS:
            return "sandbox-test"
        case "set" if subject in SETTINGS:
            return SETTINGS[subject].tier
        case _:
            return "deploy-major"


def validate(text: str) -> Proposal:
    """The proposal that one line of text is. ProposalError: it is none, and why."""
    if len(text) > TEXT_MAX or "\n" in text.strip():
        raise ProposalError(f"a proposal is one line of at most {TEXT_MAX} characters")
    try:
        found = json.loads(text, object_pairs_hook=_without_repeats)
    except (json.JSONDecodeError, RecursionError) as e:
        raise ProposalError(f"a proposal is one JSON object: {e}") from e
    if not isinstance(found, dict):
        raise ProposalError("a proposal is one JSON object")
    action = _action(found.get("action"))
    if set(found) != set(KEYS[action]):
        raise ProposalError(f"{action} has exactly the keys {', '.join(KEYS[action])}")
    subject = _subject(action, found)
    tier = tier_of(action, subject)
    if found["tier"] != tier:
        raise ProposalError(f"the tier of {action} {subject} is {tier}, not {found['tier']!r}")
    before, values = _values(action, subject, found)
    because = found["because"]
    if not isinstance(because, str) or not 1 <= len(because) <= BECAUSE_MAX:
        raise ProposalError(f"because must be a sentence of at most {BECAUSE_MAX} characters")
    expect = _expect(found["expect"]) if "expect" in found else ()
    return Proposal(action, subject, before, values, tier, expect, because)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ProposalError("a key stands twice")
    return dict(pairs)


def _action(found: object) -> Action:
    match found:
        case "watch" | "pause" | "try" | "set":
            return found
        case _:
            raise ProposalError(f"the action must be one of {', '.join(KEYS)}, not {found!r}")


def _subject(action: Action, found: dict[str, Any]) -> str:
    match action:
        case "watch":
            subject, known, what = found["metric"], found["metric"] in list(METRICS), "metric"
        case "pause":
            subject, what = found["expert"], "expert"
            known = isinstance(subject, str) and EXPERT_NAME.fullmatch(subject) is not None
        case _:
            subject, known, what = found["setting"], found["setting"] in list(SETTINGS), "setting"
    if not isinstance(subject, str) or not known:
        raise ProposalError(f"there is no {what} {subject!r}")
    return subject


def _values(
    action: Action, subject: str, found: dict[str, Any]
) -> tuple[int | None, tuple[int, ...]]:
    """(the value now, the values proposed), all of them different and within the setting's
    range."""
    if action not in ("try", "set"):
        return None, ()
    setting = SETTINGS[subject]
    before = found["from"]
    values = [found["to"]] if action == "set" else found["values"]
    if not isinstance(values, list) or not 1 <= len(values) <= VALUES_MAX:
        raise ProposalError(f"values must be a list of 1 to {VALUES_MAX} numbers")
    for value in (before, *values):
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not setting.low <= value <= setting.high
        ):
            raise ProposalError(
                f"{subject} is a whole number from {setting.low} to {setting.high}, not {value!r}"
            )
    if len({before, *values}) != len(values) + 1:
        raise ProposalError(
            f"the values of {subject} must differ from {before} and from each other"
        )
    return before, tuple(values)


def _expect(found: Any) -> tuple[tuple[str, float], ...]:
    if not isinstance(found, dict) or not 1 <= len(found) <= EXPECT_MAX:
        raise ProposalError(f"expect names 1 to {EXPECT_MAX} metrics")
    for metric, change in found.items():
        if metric not in METRICS:
            raise ProposalError(f"there is no metric {metric!r}")
        if (
            not isinstance(change, int | float)
            or isinstance(change, bool)
            or not CHANGE_MIN <= change <= CHANGE_MAX
        ):
            raise ProposalError(
                f"the change of {metric} is a number from {CHANGE_MIN} to {CHANGE_MAX},"
                f" not {change!r}"
            )
    return tuple((metric, float(change)) for metric, change in found.items())
