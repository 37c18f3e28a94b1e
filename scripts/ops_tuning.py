"""Worlds for the `ops` expert: simulated swarms with settings off what suits them, and what single
changes of a setting did there, measured.

    python -m scripts.ops_tuning [FOLDER] [--worlds N]     simulates; what is interrupted goes on

A world is a function of its number. Its swarm, its load and its settings are drawn at random, other
ones than those of the planted faults (`swarmllm.sims.planted.faults`) and from other seeds. Where
settings stand is drawn too, and what a change is called follows from two runs of one seed alone, so
that nothing here says what is usual: it has to be read off the metrics.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from swarmllm.core.agent.observation import observe
from swarmllm.core.agent.proposers import Situation, ladder, rungs_of
from swarmllm.core.settings import table as t
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import SETTINGS
from swarmllm.core.validation.objective import cost_of
from swarmllm.messages import Range
from swarmllm.sims.frame.store import Store
from swarmllm.sims.planted.faults import Place
from swarmllm.sims.planted.loop import BOUNDS, look

Found = Literal["better", "worse", "no difference"]
FOLDER: Final = Path(__file__).resolve().parent.parent / ".train" / "worlds"
SEED: Final = 40_000_000  # Of the first world; those of trials are elsewhere.
WORLDS: Final = 60
SUITED: Final = 0.7  # Of the worlds are such that the planted setting has something to decide.
TELLING: Final = 4.0  # Per cent of the objective between two runs: what is less is no difference.
DECOYS: Final = 0.15  # The share of the settings that stand anywhere on their ladder.
STEERING: Final[Mapping[Setting[Any], Range]] = {
    t.EXTRA: Range(0, 4),
    t.HEDGE_COST: Range(0, 60_000),
    t.BLUR: Range(10, 10_000),
    t.PATIENCE_MAX: Range(1_000, 60_000),
    t.PATIENCE_FLOOR: Range(20, 8_000),
    t.SHUFFLE_INTERVAL: Range(3_000, 30_000),
}
"""Settings of which the simulator shows something, and from where to where they are set at first:
somebody may have gone beyond the bounds."""


@dataclass(frozen=True, slots=True)
class Try:
    """One change, what the objective became (per cent; less is better), and some metrics then."""

    setting: str
    before: int
    after: int
    cost: float
    metrics: Mapping[str, float]

    @property
    def found(self) -> Found:
        if abs(self.cost) < TELLING:
            return "no difference"
        return "better" if self.cost < 0 else "worse"


@dataclass(frozen=True, slots=True)
class World:
    number: int
    metrics: Mapping[str, float]
    values: Mapping[str, int]
    tries: tuple[Try, ...]


def place_of(rng: random.Random) -> Place:
    """Three to sixteen experts, near or far, alike or not, under a light or a heavy load."""
    count = rng.choice((3, 4, 4, 5, 6, 6, 8, 8, 10, 14))
    usual_s = math.exp(rng.uniform(math.log(0.015), math.log(0.9)))
    uneven = rng.choice((0.0, 0.0, 0.2, 0.5, 1.0))
    steps = tuple(usual_s * rng.lognormvariate(0.0, uneven) for _ in range(count))
    stalls = rng.uniform(1 / 60, 1 / 15) if rng.random() < 0.2 else 0.0
    return Place(
        tuple(round(max(0.004, step), 4) for step in steps),
        models=rng.choice((4, 6, 8)),
        delay_s=round(rng.uniform(0.003, 0.03), 4),
        spread_s=round(rng.uniform(0.01, 0.06), 4),
        loss=round(rng.choice((0.003, 0.005, rng.uniform(0.01, 0.05))), 4),
        stalls=stalls,
        stall_s=round(rng.uniform(1.5, 5.0), 2),
        streams=rng.choice((1, 1, 2, 2, 3, 6)),
        tokens=rng.randint(12, 32),
        prompt=rng.choice((8, 16, 24, 40, 80, 110, 128)),
        sessions=rng.choice((4, 6, 8)),
    )


def suited(rng: random.Random, place: Place, planted: Setting[Any]) -> Place:
    """A place where this setting has more to decide."""
    count, step = len(place.steps_s), place.steps_s[0]
    match planted:
        case t.HEDGE_COST | t.BLUR:
            loss = round(rng.uniform(0.01, 0.04), 4)
            return replace(place, prompt=rng.randint(90, 128), tokens=32, loss=loss)
        case t.PATIENCE_MAX:
            steps = (round(rng.uniform(0.3, 1.2), 3),) * count
            return replace(place, steps_s=steps, prompt=rng.randint(70, 128), streams=1, tokens=16)
        case t.PATIENCE_FLOOR:
            often = rng.uniform(1 / 40, 1 / 15)
            return replace(place, stalls=often, steps_s=place.steps_s[: rng.randint(3, 4)])
        case t.SHUFFLE_INTERVAL:
            steps = (max(0.2, step),) * rng.randint(10, 18)
            return replace(place, steps_s=steps, streams=1, prompt=rng.randint(8, 24), tokens=16)
        case _:
            loss = round(rng.uniform(0.003, 0.05), 4)
            return replace(place, loss=loss, prompt=rng.randint(8, 110))


def values_of(rng: random.Random, planted: Setting[Any]) -> dict[Setting[Any], int]:
    """One setting that steers at any value, and some others too, within their bounds."""
    found = {
        one: rng.choice(ladder(bounds))
        for one, bounds in BOUNDS.items()
        if rng.random() < DECOYS and one is not planted
    }
    return found | {planted: rng.choice(ladder(STEERING[planted]))}


def tries_of(
    rng: random.Random, situation: Situation, planted: Setting[Any]
) -> list[tuple[Setting[Any], int]]:
    """What is tried: two values of the setting in question, one each of three others that steer,
    and one of the rest."""
    open_ = [
        (setting, value)
        for setting, rungs in rungs_of(situation).items()
        for value in rungs
        if situation.is_new(setting, value) and situation.can_show(setting, value)
    ]
    rng.shuffle(open_)
    order = [planted, *rng.sample([one for one in STEERING if one is not planted], 3)]
    found = [one for one in open_ if one[0] is planted][:1]
    for setting in order:
        its = [one for one in open_ if one[0] is setting and one not in found]
        found += its[:1]
    return found + [one for one in open_ if one[0] not in STEERING][:1]


def simulate(number: int) -> dict[str, Any]:
    """The world, as it is kept."""
    rng = random.Random(f"tuning {number}")
    place, planted = place_of(rng), rng.choice(list(STEERING))
    values = values_of(rng, planted)
    if rng.random() < SUITED:
        place = suited(rng, place, planted)
    seen = look(place, values, SEED + number)
    metrics = observe(seen.recording, seen.snapshot)
    tries = []
    for setting, value in tries_of(rng, Situation(metrics, values, BOUNDS, ()), planted):
        then = look(place, values | {setting: value}, SEED + number)
        tries.append(
            {
                "setting": setting.key,
                "before": values.get(setting, setting.default),
                "after": value,
                "cost": cost_of(then.figures) - cost_of(seen.figures),
                "metrics": dict(observe(then.recording, then.snapshot)),
            }
        )
    known = {one.key: value for one, value in values.items()}
    return {"metrics": dict(metrics), "values": known, "tries": tries}


def worlds(folder: Path, count: int) -> Iterator[World]:
    """The worlds 0 to `count`; those that are not kept in `folder` yet are simulated."""
    store = Store(folder)
    for number in range(count):
        held = store.get(str(number))
        if held is None:
            held = simulate(number)
            store.add(str(number), {"results": held})
        tries = tuple(Try(**one) for one in held["tries"])
        assert all(one.setting in SETTINGS for one in tries)
        yield World(number, held["metrics"], held["values"], tries)
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--worlds", type=int, default=WORLDS)
    args = parser.parse_args()
    for world in worlds(args.folder, args.worlds):
        found = ", ".join(
            f"{one.setting} {one.before} to {one.after} {one.cost:+.0f}" for one in world.tries
        )
        sys.stdout.write(f"{world.number}: {found}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
