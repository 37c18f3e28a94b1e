"""Who is online when: Weibull sessions in equilibrium, or a trace that somebody measured.

Session lengths of volunteers have heavy tails: many leave within minutes, few stay for days.
Sessions seen at a given moment are longer than sessions in general, because long ones are met more
often (length bias); a simulation that starts everybody's session at its own time 0 sees a wave of
early departures that no real swarm has. So each node starts in the middle of a session, or of an
absence, drawn with that bias, and what is still left of it is a uniform share.

Figures: sessions Weibull, scale 3.66 h, shape 0.608 (fits IPFS 2022: half gone in 2 h, 80 % in 8
h); absences Weibull, 413.7 min, 0.476 (KAD; Steiner et al. 2007).
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.errors import UsageError

Spell = tuple[float, float]
"""Online from (inclusive) until (exclusive), in seconds."""

TRACE_ROWS_MAX: Final = 1_000_000
INTERVALS: Final = ("node", "start_s", "end_s")
DURATIONS: Final = ("node", "online_s", "offline_s")


@dataclass(frozen=True, slots=True)
class Weibull:
    """Durations with P(longer than t) = exp(-(t / scale)^shape)."""

    scale_s: float
    shape: float

    def __post_init__(self) -> None:
        assert self.scale_s > 0, f"scale {self.scale_s} s"
        assert self.shape > 0, f"shape {self.shape}"

    @classmethod
    def with_mean(cls, mean_s: float, shape: float) -> Weibull:
        return cls(mean_s / math.gamma(1 + 1 / shape), shape)

    @property
    def mean_s(self) -> float:
        return self.scale_s * math.gamma(1 + 1 / self.shape)

    def draw(self, rng: random.Random) -> float:
        """A whole one."""
        return rng.weibullvariate(self.scale_s, self.shape)

    def draw_rest(self, rng: random.Random) -> float:
        """What is left of one that is met at a random moment. With the length bias (t /
        scale)^shape is Gamma(1 + 1 / shape)."""
        met = self.scale_s * math.pow(rng.gammavariate(1 + 1 / self.shape, 1.0), 1 / self.shape)
        return met * rng.random()

    def draws(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        return self.scale_s * rng.weibull(self.shape, count)

    def rests(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        met = self.scale_s * rng.gamma(1 + 1 / self.shape, 1.0, count) ** (1 / self.shape)
        return met * rng.random(count)


SESSIONS: Final = Weibull(3.66 * 3600, 0.608)
ABSENCES: Final = Weibull(413.7 * 60, 0.476)


def sessions_of_rate(leave_per_hour: float, shape: float = SESSIONS.shape) -> Weibull:
    """Sessions of which, in equilibrium, a share of `leave_per_hour` > 0 of those online ends each
    hour (0.6: 60 %)."""
    return Weibull.with_mean(3600 / leave_per_hour, shape)


@dataclass(frozen=True, slots=True)
class Churn:
    """Nodes that come and go for ever; `sessions` None: everybody stays. `absences` None: who
    leaves is replaced at once by another."""

    sessions: Weibull | None = SESSIONS
    absences: Weibull | None = ABSENCES

    @property
    def share_online(self) -> float:
        if self.sessions is None or self.absences is None:
            return 1.0
        return self.sessions.mean_s / (self.sessions.mean_s + self.absences.mean_s)

    def spells(self, rng: random.Random, until_s: float) -> list[Spell]:
        """One node's, within 0 and `until_s`; in order, none empty."""
        if self.sessions is None:
            return [(0.0, until_s)]
        found: list[Spell] = []
        now = 0.0
        is_first = True
        if self.absences is not None and rng.random() >= self.share_online:
            now, is_first = self.absences.draw_rest(rng), False
        while now < until_s:
            end = now + (self.sessions.draw_rest(rng) if is_first else self.sessions.draw(rng))
            is_first = False
            if end > now:
                found.append((now, min(end, until_s)))
            now = end + (self.absences.draw(rng) if self.absences is not None else 0.0)
        return found


def read_trace(path: Path) -> dict[str, tuple[Spell, ...]]:
    """The spells of each node of a CSV file, in order; UsageError names the line where it is
    malformed.

    Two forms, told apart by the header. `node,start_s,end_s`: a row is a spell online.
    `node,online_s,offline_s`: a row says how long the node was online and then offline; a node's
    rows follow one another from time 0, and an online_s of 0 lets it begin offline.
    """
    found: dict[str, list[Spell]] = {}
    clocks: dict[str, float] = {}
    header, rows = _rows(path)
    for line, (node, first, second) in rows:
        spells = found.setdefault(node, [])
        if header == INTERVALS:
            if second <= first:
                raise UsageError(
                    f"line {line} of {path}: end_s {second:g} is not after start_s {first:g}"
                )
            spells.append((first, second))
        else:
            start = clocks.get(node, 0.0)
            if first > 0:
                spells.append((start, start + first))
            clocks[node] = start + first + second
    return {node: _in_order(node, spells, path) for node, spells in sorted(found.items())}


def _in_order(node: str, spells: Sequence[Spell], path: Path) -> tuple[Spell, ...]:
    ordered = sorted(spells)
    for (start, end), (following, _) in pairwise(ordered):
        if following < end:
            raise UsageError(
                f"{path}: node {node!r} is online twice at {following:g} s (already since {start:g}"
                " s)"
            )
    return tuple(ordered)


def _rows(path: Path) -> tuple[tuple[str, ...], Iterator[tuple[int, tuple[str, float, float]]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the trace {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"the trace {path} is not UTF-8 text (byte {error.start})") from None
    lines = text.splitlines()
    header = tuple(word.strip() for word in lines[0].split(",")) if lines else ()
    if header not in {INTERVALS, DURATIONS}:
        raise UsageError(
            f"line 1 of {path} is neither {','.join(INTERVALS)} nor {','.join(DURATIONS)}:"
            f" {','.join(header)[:60]!r}"
        )
    if len(lines) - 1 > TRACE_ROWS_MAX:
        raise UsageError(f"the trace {path} has {len(lines) - 1} rows, more than {TRACE_ROWS_MAX}")
    if not any(line.strip() for line in lines[1:]):
        raise UsageError(f"the trace {path} has a header and no rows")
    return header, (
        (number, _row(line, number, header, path))
        for number, line in enumerate(lines[1:], 2)
        if line.strip()
    )


def _row(line: str, number: int, header: Sequence[str], path: Path) -> tuple[str, float, float]:
    try:
        (words,) = csv.reader([line], strict=True)
    except (csv.Error, ValueError):
        words = []
    words = [word.strip() for word in words]
    if len(words) != 3 or not words[0]:
        raise UsageError(f"line {number} of {path} is not {','.join(header)}: {line[:60]!r}")
    return (
        words[0],
        _seconds(words[1], header[1], number, path),
        _seconds(words[2], header[2], number, path),
    )


def _seconds(word: str, name: str, number: int, path: Path) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UsageError(f"line {number} of {path}: {name} {word!r} is no number of seconds")
    return value


def repeat(
    trace: Mapping[str, tuple[Spell, ...]], nodes: int, rng: random.Random
) -> list[tuple[Spell, ...]]:
    """The spells of `nodes` nodes: those of the trace's, each as often as any other, in random
    order."""
    assert trace, "an empty trace"
    names = sorted(trace)
    rounds, rest = divmod(nodes, len(names))
    chosen = names * rounds + rng.sample(names, rest)
    rng.shuffle(chosen)
    return [trace[name] for name in chosen]
