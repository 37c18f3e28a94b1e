"""The observation: what a node's own numbers say of the swarm, from which the agent proposes.

Numbers only: no text, no name, no address. Each metric is declared here once, with its unit and
which way is better; proposals cite metrics by these names, and a person reads the same table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Final, Literal

from swarmllm.core.agent.domains import SECURITY, STORAGE
from swarmllm.core.validation.recording import Minute, Recording
from swarmllm.core.validation.snapshot import Snapshot

VALUE_MAX: Final = 1e9  # Of any metric: what is more is a broken clock.


@dataclass(frozen=True, slots=True)
class Metric:
    """`better` is the direction in which the swarm's users gain; `none`: neither."""

    name: str
    unit: str
    better: Literal["less", "more", "none"]
    about: str


METRICS: Final = (
    Metric("token_ms", "ms", "less", "median time of a round"),
    Metric("token_p99_ms", "ms", "less", "time that 99 of 100 rounds take at most"),
    Metric("late_share", "share", "less", "rounds that took three times the median"),
    Metric("stall_ratio", "ratio", "less", "the slowest of a hundred rounds beside the median one"),
    Metric("first_token_ms", "ms", "less", "median time of a first round, prompts taken in"),
    Metric("first_ratio", "ratio", "less", "a first round beside a later one"),
    Metric("wasted_share", "share", "less", "experts' answers that no token was made of"),
    Metric("recomputed", "ratio", "less", "tokens that experts compute, where 1 is each text once"),
    Metric("unfinished_share", "share", "less", "answers that were not written to their end"),
    Metric("failovers", "per answer", "less", "experts that were lost in the middle of an answer"),
    Metric("tokens_per_s", "1/s", "more", "tokens of all answers"),
    Metric("answers_per_min", "1/min", "none", "answers that began"),
    Metric("prompt_tokens", "tokens", "none", "length of a prompt"),
    Metric("experts", "experts", "more", "experts that can be asked"),
    Metric("experts_lost", "1/h", "less", "of a hundred experts, how many went away in an hour"),
    Metric("peers_left", "1/h", "less", "peers whose connection ended"),
    Metric("busy_share", "share", "less", "sessions of all experts that are taken"),
    Metric("round_trip_ms", "ms", "less", "median time of a ping to an expert"),
    Metric("slow_ratio", "ratio", "less", "the slowest expert's round beside the median one's"),
    Metric("strikes", "strikes", "less", "breaches of the protocol in a quarter of an hour"),
    Metric("refused_share", "share", "less", "questions that experts would not answer lately"),
    Metric("storage_share", "share", "less", "how full the disk of the data folder is"),
    Metric("ledger_mb", "MB", "less", "size of this node's ledger"),
)
BY_NAME: Final = {metric.name: metric for metric in METRICS}

NOTHING: Final[Mapping[str, float]] = MappingProxyType({})
Observation = Mapping[str, float]
"""Some of `METRICS` by name, each finite and at least 0; what is not known is left out."""


def observe(
    recording: Recording, snapshot: Snapshot, own: Mapping[str, float] = NOTHING
) -> Observation:
    """What is known of the swarm from this node's recording and snapshot, and `own`, which neither
    has: a swarm that is simulated does not know it."""
    found = {**_of_minutes(recording), **_of_experts(snapshot), **own}
    return {
        name: min(VALUE_MAX, value)
        for name, value in found.items()
        if math.isfinite(value) and value >= 0
    }


def _of_minutes(recording: Recording) -> dict[str, float]:
    def total(name: str) -> int:
        return sum(getattr(one, name) for one in recording)

    found: dict[str, float] = {}
    working = [one for one in recording if one.tokens]
    answers, ended, tokens = total("answers"), total("ended"), total("tokens")
    timed = [one for one in working if one.p50_ms]
    if timed:
        found["token_ms"] = _weighed(timed, "p50_ms")
        found["token_p99_ms"] = _weighed(timed, "p99_ms")
        found["stall_ratio"] = found["token_p99_ms"] / found["token_ms"]
    if firsts := [one for one in working if one.first_ms]:
        found["first_token_ms"] = _weighed(firsts, "first_ms")
        if timed:
            found["first_ratio"] = found["first_token_ms"] / found["token_ms"]
    if working:
        found["late_share"] = total("late") / tokens
        found["tokens_per_s"] = tokens / (60 * len(working))
        found |= _of_work(
            total("asked"), total("used"), total("sent"), tokens, total("prompt_tokens")
        )
    if ended:
        found["unfinished_share"] = total("unfinished") / ended
    if answers:
        found["failovers"] = total("failovers") / answers
        found["prompt_tokens"] = total("prompt_tokens") / answers
    if recording:
        hours = len(recording) / 60
        found["answers_per_min"] = answers / len(recording)
        found["peers_left"] = total("left") / hours
        known = total("experts") / len(recording)
        if known:
            found["experts_lost"] = 100 * total("experts_went") / known / hours
    return found


def _of_work(asked: int, used: int, sent: int, tokens: int, prompts: int) -> dict[str, float]:
    """What experts computed in vain. Once means: those who are asked at the same time take in each
    prompt, and then a token a round."""
    if not asked:
        return {}
    at_once = asked / tokens
    return {
        "wasted_share": max(0.0, 1 - used / asked),
        "recomputed": sent / (asked + at_once * prompts),
    }


def _weighed(minutes: Sequence[Minute], name: str) -> float:
    """The mean of a minute's figure, each counting as often as it has tokens."""
    weight = sum(one.tokens for one in minutes)
    return math.fsum(getattr(one, name) * one.tokens for one in minutes) / weight


def _of_experts(snapshot: Snapshot) -> dict[str, float]:
    others = [one for one in snapshot.experts if not one.own]
    found: dict[str, float] = {"experts": len(snapshot.experts)}
    places = sum(one.sessions_max for one in snapshot.experts)
    if places:
        free = sum(min(one.sessions_free, one.sessions_max) for one in snapshot.experts)
        found["busy_share"] = 1 - free / places
    pings = [one.ping_us / 1000 for one in others if one.ping_us]
    if pings:
        found["round_trip_ms"] = median(pings)
    rounds = [one.round_us for one in others if one.round_us]
    if len(rounds) > 1:
        found["slow_ratio"] = max(rounds) / median(rounds)
    return found


def table_of(observation: Observation) -> list[tuple[str, str, str]]:
    """Name, value with its unit and meaning of each metric that is known, in their order: for
    people and for a model's prompt."""
    return [
        (metric.name, f"{observation[metric.name]:.4g} {metric.unit}", metric.about)
        for metric in METRICS
        if metric.name in observation
    ]


# --- alarms ---------------------------------------------------------------------------------------

Urgency = Literal["none", "soon", "now"]
LOAD_HIGH, LOAD_FULL, FINISHED_LOW = 0.80, 0.95, 0.90


def urgency_of(observation: Observation) -> tuple[Urgency, str]:
    """Whether the next cycle should come earlier than its time, and why in a sentence."""
    busy = observation.get("busy_share", 0.0)
    finished = 1 - observation.get("unfinished_share", 0.0)
    if busy > LOAD_FULL:
        return "now", f"{100 * busy:.0f} % of all sessions are taken"
    if finished < FINISHED_LOW:
        return "soon", f"only {100 * finished:.0f} % of the answers are written to their end"
    if busy > LOAD_HIGH:
        return "soon", f"{100 * busy:.0f} % of all sessions are taken"
    for name in sorted(alarms_of(observation)):
        return "soon", ALARMS[name].says.format(observation[name])
    return "none", ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """More than `above` of a metric brings the next cycle of `domain` forward; `says` why."""

    domain: str
    above: float
    says: str


ALARMS: Final = {
    "strikes": Alarm(SECURITY, 0.0, "peers have broken the protocol: {:.0f} strikes lately"),
    "refused_share": Alarm(SECURITY, 0.2, "experts have refused {:.0%} of the questions lately"),
    "storage_share": Alarm(STORAGE, 0.85, "the disk of the data folder is {:.0%} full"),
}


def alarms_of(observation: Observation) -> frozenset[str]:
    """Which of `ALARMS` are over their bound."""
    return frozenset(n for n, alarm in ALARMS.items() if observation.get(n, 0.0) > alarm.above)


def heard_by(domain: str, observation: Observation, before: frozenset[str]) -> Observation:
    """What a cycle of this domain sees between cycles: of alarms, its own that have come up since
    `before`. One that stays, such as a full disk, does not call for a cycle again and again."""
    return {
        name: value
        for name, value in observation.items()
        if name not in ALARMS or (ALARMS[name].domain == domain and name not in before)
    }
