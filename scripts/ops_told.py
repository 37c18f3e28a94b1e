"""Documents about changes of settings, told of the worlds of ops_tuning.py: what was measured, what
was tried, what came of it. The `ops` expert learns from them what `scripts/agent_model.py` asks.

    python -m scripts.ops_told FOLDER [--count N]

Metrics and settings have the names that a node gives them. Each world is told several times, its
tries in another order and its figures a little off, as another minute would have them: there are
few worlds, and what is to be learned is which figures matter, not which belong to a world.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.ops_grammar import say
from scripts.ops_tuning import WORLDS, Found, Try, World, worlds
from swarmllm.core.agent.observation import BY_NAME, METRICS
from swarmllm.core.settings.table import SETTINGS

TOLD: Final = 40  # Times, of each world.
TURNED: Final[Mapping[Found, int]] = {"better": 12, "no difference": 2, "worse": 12}
"""Times that a change is told the other way round, by what it is called then."""
JITTER: Final = 0.03  # Standard deviation of the logarithm of a figure.
MOVED: Final = 0.1  # What a metric changes by at least to be told, relatively.
VERDICTS: Final[tuple[Found, ...]] = ("better", "no difference", "worse")
VALIDATION: Final = 12  # One world in so many.


@dataclass(frozen=True, slots=True)
class Document:
    world: int
    register: str
    text: str


def is_validation(world: int) -> bool:
    return world % VALIDATION == VALIDATION - 1


def figure(value: float) -> str:
    """Two digits that count: a small model has to know each number by sight."""
    if value >= 10:
        digits = len(str(int(value))) - 2
        return str(round(value / 10**digits) * 10**digits)
    return f"{value:.2g}" if value >= 1e-3 else "0"


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Of all that are known, a line each, in their order."""
    lines = [f"{one.name}: {figure(metrics[one.name])}" for one in METRICS if one.name in metrics]
    return "\n".join(["## Metrics", *lines])


def question(metrics: Mapping[str, float]) -> str:
    """What stands before the first thing that is tried."""
    return f"{metrics_text(metrics)}\n\nTried:\n"


def change_text(setting: str, before: int, after: int) -> str:
    """A verdict follows, after a space."""
    return f"{setting} {before} to {after}:"


def jittered(rng: random.Random, metrics: Mapping[str, float]) -> dict[str, float]:
    return {
        name: value if value == int(value) else value * rng.lognormvariate(0.0, JITTER)
        for name, value in metrics.items()
    }


def _tries(rng: random.Random, world: World) -> str:
    lines = [
        f"{change_text(t.setting, t.before, t.after)} {t.found}" for t in _shuffled(rng, world)
    ]
    return question(jittered(rng, world.metrics)) + "\n".join(lines)


def _shuffled(rng: random.Random, world: World) -> list[Try]:
    return rng.sample(world.tries, len(world.tries))


def _moves(world: World, one: Try) -> list[tuple[str, float, float]]:
    """The metrics that went furthest, with what they were before and after."""
    known = [
        (name, before, one.metrics[name])
        for name, before in world.metrics.items()
        if name in one.metrics and BY_NAME[name].better != "none" and before > 0
    ]
    far = [move for move in known if abs(move[2] / move[1] - 1) > MOVED]
    return sorted(far, key=lambda move: -abs(move[2] / move[1] - 1))


def _outcome(rng: random.Random, world: World, one: Try) -> str:
    """In a sentence or two."""
    change = f"{one.setting} from {one.before} to {one.after}"
    if one.found == "no difference":
        return say(
            rng,
            "[To set|Setting|A change of] {change} [made no difference|changed nothing beyond"
            " noise|was for nothing].",
            change=change,
        )
    told = say(
        rng,
        "[With|After] {change} the swarm [served its users|did] {found} by {percent} %.",
        change=change,
        found=one.found,
        percent=figure(abs(one.cost)),
    )
    moves = [
        say(
            rng,
            "{name} [went|moved] from {before} to {after}",
            name=name,
            before=figure(before),
            after=figure(after),
        )
        for name, before, after in _moves(world, one)[:2]
    ]
    return told + (f" {' and '.join(moves)}." if moves else "")


def _dialogue(rng: random.Random, world: World) -> str:
    shown = _shuffled(rng, world)[:3]
    turns = [f"Q: {say(rng, '[What was measured?|How is the swarm?|What do you see?]')}"]
    turns.append(f"A: {metrics_text(jittered(rng, world.metrics))}")
    for one in shown:
        asked = say(
            rng,
            "[Would it help to set|Should we set|What came of setting] {setting} to {after}?",
            setting=one.setting,
            after=one.after,
        )
        turns += [f"Q: {asked} It is {one.before}.", f"A: {_outcome(rng, world, one)}"]
    return "\n\n".join(turns)


def _proposal(rng: random.Random, world: World) -> str:
    """The change that helped most, as a node's agent would propose it; else that there is none."""
    best = min(world.tries, key=lambda one: one.cost)
    head = metrics_text(jittered(rng, world.metrics))
    if best.found != "better":
        return f"{head}\n\n" + say(rng, "[Nothing that was tried helps|No change was better] here.")
    moves = _moves(world, best)
    evidence = [name for name, _, _ in moves[:2]] or ["token_ms"]
    found = {
        "finding": SETTINGS[best.setting].effect.split(":")[0],
        "evidence": evidence,
        "action": {"kind": "set", "setting": best.setting, "value": best.after},
        "expected": {"metric": evidence[0], "direction": BY_NAME[evidence[0]].better},
        "confidence": 80 if best.cost < -10 else 50,
    }
    return f"{head}\n\nProposal:\n{json.dumps(found)}\n\n{_outcome(rng, world, best)}"


REGISTERS: Final[Mapping[str, Callable[[random.Random, World], str]]] = {
    "tries": _tries,
    "dialogue": _dialogue,
    "proposal": _proposal,
}
WEIGHTS: Final = (8, 1, 2)


def tell(world: World, count: int = TOLD, seed: str = "") -> Iterator[Document]:
    for place in range(count):
        rng = random.Random(f"told {world.number} {place} {seed}")
        register = rng.choices(list(REGISTERS), WEIGHTS)[0]
        yield Document(world.number, register, REGISTERS[register](rng, world))


def turned(world: World) -> Iterator[tuple[World, int]]:
    """The worlds that tries have made of this one, each with the way back and the ways to other
    values of the same setting; and how often to tell of it."""
    for one in world.tries:
        others = [(one.before, 0.0)]
        others += [
            (two.after, two.cost)
            for two in world.tries
            if two.setting == one.setting and two.after != one.after
        ]
        bounds = SETTINGS[one.setting].bounds
        ways = tuple(
            Try(one.setting, one.after, value, cost - one.cost, _metrics_at(world, one, value))
            for value, cost in others
            if bounds.low <= value <= bounds.high
        )
        if ways:
            values = {**world.values, one.setting: one.after}
            yield World(world.number, one.metrics, values, ways), TURNED[ways[0].found]


def _metrics_at(world: World, one: Try, value: int) -> Mapping[str, float]:
    if value == one.before:
        return world.metrics
    return next(t.metrics for t in world.tries if (t.setting, t.after) == (one.setting, value))


def documents(folder: Path, count: int = WORLDS) -> Iterator[Document]:
    """Of all worlds that `folder` keeps, and those that it does not keep yet."""
    for world in worlds(folder, count):
        yield from tell(world)
        for place, (other, often) in enumerate(turned(world)):
            yield from tell(other, often, str(place))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=5, help="worlds to tell of")
    args = parser.parse_args()
    for document in documents(args.folder, args.count):
        sys.stdout.write(f"--- world {document.world}, {document.register}\n{document.text}\n\n")


if __name__ == "__main__":
    main()
