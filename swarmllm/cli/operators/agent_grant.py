"""What people grant an agent in the terms of a charter: how often, how much, and what counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from swarmllm.core.agent.charter import (
    ATTEMPTS_MAX,
    INTERVAL_MAX,
    SHARE_MAX,
    Grant,
    grant_in,
    naming,
)
from swarmllm.core.validation.objective import parts_with
from swarmllm.errors import UsageError
from swarmllm.wire.ext import AGENT_TERMS, addition, additions


@dataclass(frozen=True, slots=True)
class GrantGiven:
    """None (or nothing) for what stays, or its default."""

    minutes: int | None = None
    permille: int | None = None
    attempts: int | None = None
    weights: Sequence[str] = ()


NOTHING: Final = GrantGiven()


def granted(given: GrantGiven, ext: bytes) -> bytes:
    """The `ext` of terms with what was given. UsageError for what makes no sense."""
    if given == NOTHING:
        return ext
    now = grant_in(ext)
    minutes = now.interval_min if given.minutes is None else given.minutes
    made = replace(
        now,
        interval_min=_within("--agent-interval", minutes, 1, INTERVAL_MAX),
        interval_max_min=max(minutes, now.interval_max_min),
        share_permille=_within(
            *("--agent-share", now.share_permille if given.permille is None else given.permille),
            *(0, SHARE_MAX),
        ),
        attempts=_within(
            *("--agent-attempts", now.attempts if given.attempts is None else given.attempts),
            *(1, ATTEMPTS_MAX),
        ),
        weights={**now.weights, **dict(map(_weight, given.weights))},
    )
    parts_with(made.weights)
    others = {kind: one for kind, one in additions(ext).items() if kind != AGENT_TERMS}
    return b"".join(addition(kind, one) for kind, one in others.items()) + naming(made)


def grant_fields(ext: bytes) -> dict[str, Any]:
    """As JSON fields."""
    found = grant_in(ext)
    return {
        "interval_min": found.interval_min,
        "share_permille": found.share_permille,
        "attempts": found.attempts,
        "weights": dict(found.weights),
    }


def grant_sentence(ext: bytes) -> str:
    """For people."""
    found: Grant = grant_in(ext)
    weights = ", ".join(f"{name} weighs {value:g}" for name, value in found.weights.items())
    return (
        f"a cycle every {found.interval_min} minutes at most, {found.share_permille / 10:g} % of"
        f" the experts' time, {found.attempts} proposals in a cycle"
        f"{'; ' if weights else ''}{weights}"
    )


def _within(flag: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise UsageError(f"{flag} is {value}; it must be {low} to {high}")
    return value


def _weight(word: str) -> tuple[str, float]:
    parted = re.fullmatch(r"([a-z_]+)=([0-9]{1,4}(?:\.[0-9]{1,3})?)", word)
    if parted is None:
        raise UsageError(f"--weight {word[:60]!r} is not of the form PART=NUMBER, as token=1.5")
    return parted[1], float(parted[2])
