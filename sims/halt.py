"""How long does it take from publishing a halt until the last node stops, by the swarm's size, and
whom do droppers, frozen nodes and partitions keep from hearing of it?

    swarmllm simulate halt [--sweep nodes=100,1000,10000,100000] [--droppers 0.3] [--frozen 0.2]
    [--parts 2 --heal-s 10]

A numpy model of the order's way alone, not of nodes: each passes it on once, at once, on the
halt stream of every connection (`--path control`), through a gossip mesh of `--mesh` neighbours
(`gossip`), or both. Connections are random and delays log-normal around a base by geography
(`sims.flood`). Silent droppers hear and say nothing; frozen nodes neither hear nor speak, and send
no tokens. Every 10 s each node tells a random neighbour the digest of what it knows, which finds
whom all else has missed. A node has stopped `--stop-ms` after it heard: the bound after which its
worker is killed. The bound printed beside is the shortest way there on the same delays, with
nothing lost and nobody taking any time. At a hundred nodes the model is compared with real nodes in
the exact world by `tests/sims/test_worlds.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarmllm.errors import UsageError
from swarmllm.sims.flood import Bools, Floats, arrivals, delays, hops, places_of
from swarmllm.sims.overlay import Ints, Overlay, random_overlay
from swarmllm.sims.study import (
    Curves,
    Lines,
    Parameter,
    Parameters,
    Result,
    Results,
    Study,
    Summary,
    main,
)

DIGEST_S: Final = 10.0  # HALT-20.
ROUNDS_MAX: Final = 30  # Rounds of digests that are waited for.
# TCP's shortest timer: what a lost segment costs, beside another way there.
RETRANSMIT_S: Final = 0.2
REDIAL_S: Final = 5.0  # After a partition every cut connection is back within this.
GRID_S: Final = tuple(i / 50 for i in range(101))  # Where the curve is read off: 0 to 2 s.


@dataclass(frozen=True, slots=True)
class _Path:
    """One way of passing it on: `way` and `opens` for each end (`sims.flood.arrivals`), `held` for
    each node. `delay` is the part of `way` that nothing can save."""

    overlay: Overlay
    delay: Floats
    way: Floats
    opens: Floats
    held: Floats


def point(parameters: Parameters, seed: int) -> Results:
    rng = np.random.default_rng(seed)
    nodes = parameters["nodes"]
    where = places_of(nodes, rng)
    dropper, frozen = _chosen(nodes, parameters["droppers"], parameters["frozen"], rng)
    honest = ~dropper & ~frozen
    part: Ints = np.asarray(rng.integers(0, parameters["parts"], nodes))
    first = int(rng.choice(np.flatnonzero(honest)))
    begun = np.where(np.arange(nodes) == first, 0.0, np.inf)
    connections = random_overlay(nodes, parameters["degree_low"], parameters["degree_high"], rng)
    halt_streams = _path(
        parameters, connections, parameters["process_ms"], where, frozen, part, rng
    )
    paths = [halt_streams] if parameters["path"] != "gossip" else []
    if parameters["path"] != "control":
        mesh = random_overlay(nodes, parameters["mesh"], parameters["mesh"], rng)
        paths.append(_path(parameters, mesh, parameters["gossip_ms"], where, frozen, part, rng))
    heard = _spread(paths, honest, begun)
    in_time = heard <= parameters["heal_s"] if parameters["heal_s"] else np.isfinite(heard)
    apart = int((honest & ~in_time).sum()) if parameters["parts"] > 1 else 0
    missed = int((honest & np.isinf(heard)).sum())
    if parameters["digests"]:
        heard = _digests(halt_streams, paths, honest, heard, rng)
    stopped = np.sort(heard[honest] + parameters["stop_ms"] / 1000)
    figures = {**_figures(stopped), "missed_while_apart": apart, "missed_by_flood": missed}
    return {**figures, **_bound(paths, honest, begun, first)}


def _chosen(
    nodes: int, droppers: float, frozen: float, rng: np.random.Generator
) -> tuple[Bools, Bools]:
    order = rng.permutation(nodes)
    dropping, freezing = round(nodes * droppers), round(nodes * frozen)
    chosen = np.zeros((2, nodes), bool)
    chosen[0, order[:dropping]] = True
    chosen[1, order[dropping : dropping + freezing]] = True
    return chosen[0], chosen[1]


def _path(
    parameters: Parameters,
    overlay: Overlay,
    held_ms: float,
    where: Ints,
    frozen: Bools,
    part: Ints,
    rng: np.random.Generator,
) -> _Path:
    delay = delays(overlay, where, rng) * parameters["delay_scale"]
    way = delay.copy()
    lost = rng.random(len(way)) < parameters["loss"]
    way[lost] += RETRANSMIT_S + way[lost]
    degree = overlay.degree[overlay.owner]
    # One neighbour after the other, in any order.
    way += np.floor(rng.random(len(way)) * degree) * parameters["send_ms"] / 1000
    there = overlay.owner[overlay.mate]
    opens = np.where(frozen[overlay.owner] | frozen[there], np.inf, 0.0)
    if parameters["parts"] > 1:
        back = rng.random(len(way)) * REDIAL_S
        back = parameters["heal_s"] + np.minimum(back, back[overlay.mate])
        if not parameters["heal_s"]:
            back[:] = np.inf
        opens = np.where(part[overlay.owner] != part[there], np.maximum(opens, back), opens)
    return _Path(overlay, delay, way, opens, held_ms / 1000 * rng.exponential(1.0, overlay.nodes))


def _spread(paths: Sequence[_Path], honest: Bools, begun: Floats) -> Floats:
    """Arrivals over all paths together: what one brings, the others carry on, until none brings
    anything sooner."""
    heard = begun
    while True:
        before = heard
        for path in paths:
            heard = arrivals(path.overlay, path.way, path.opens, path.held, honest, heard)
        if len(paths) == 1 or np.array_equal(before, heard):
            return heard


def _digests(
    halt_streams: _Path,
    paths: Sequence[_Path],
    honest: Bools,
    heard: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Whoever has not heard hears by a digest: of its own to a random neighbour, or of one of
    theirs to it. Rounds of 10 s."""
    phase = rng.random(len(heard)) * DIGEST_S
    speaking = np.flatnonzero(honest)
    speaking = speaking[halt_streams.overlay.degree[speaking] > 0]
    for number in range(ROUNDS_MAX):
        if not np.isinf(heard[honest]).any():
            break
        ends = halt_streams.overlay.random_ends(speaking, rng)
        other = halt_streams.overlay.owner[halt_streams.overlay.mate[ends]]
        when = phase[speaking] + number * DIGEST_S
        works = honest[other] & (halt_streams.opens[ends] <= when)
        mine, theirs, way, when = (
            speaking[works],
            other[works],
            halt_streams.way[ends[works]],
            when[works],
        )
        late = heard.copy()
        for knows, learns, ways in ((mine, theirs, 3), (theirs, mine, 2)):
            new = np.isinf(heard[learns]) & (heard[knows] <= when)
            np.minimum.at(
                late, learns[new], when[new] + halt_streams.held[knows[new]] + ways * way[new]
            )
        if not np.array_equal(late, heard):
            heard = _spread(paths, honest, late)
    return heard


def _bound(paths: Sequence[_Path], honest: Bools, begun: Floats, first: int) -> Results:
    """What no node could make faster: the same ways and delays, with nothing lost and nobody taking
    any time."""
    ideal = [replace(path, way=path.delay, held=np.zeros(len(begun))) for path in paths]
    reached = _spread(ideal, honest, begun)[honest]
    furthest = min(int(hops(path.overlay, honest, first)[honest].max()) for path in paths)
    return {"bound_s": round(float(reached[np.isfinite(reached)].max()), 6), "hops": furthest}


def _figures(ordered: Floats) -> Results:
    """Of when each honest running node stops, in order."""
    count = len(ordered)

    def until(share: float) -> float | None:
        """When so many of the honest nodes that run have stopped; None: never."""
        value = float(ordered[max(0, math.ceil(share * count) - 1)])
        return round(value, 6) if math.isfinite(value) else None

    return {
        "half_s": until(0.5),
        "most_s": until(0.99),
        "last_s": until(1.0),
        "unreached": int(np.isinf(ordered).sum()),
        "times_s": list(GRID_S),
        "stopped_share": [
            round(float(np.searchsorted(ordered, t, side="right")) / count, 6) for t in GRID_S
        ],
    }


def check(parameters: Parameters) -> None:
    if parameters["degree_low"] > parameters["degree_high"]:
        raise UsageError(
            f"--degree-low {parameters['degree_low']} is more than --degree-high"
            f" {parameters['degree_high']}"
        )
    nodes = parameters["nodes"]
    if round(nodes * parameters["droppers"]) + round(nodes * parameters["frozen"]) >= nodes:
        raise UsageError(
            f"--droppers {parameters['droppers']} and --frozen {parameters['frozen']} leave nobody"
            f" of --nodes {nodes} to stop"
        )


def says(found: Sequence[Summary]) -> str:
    last = found[-1]
    nodes = f"Of {last.parameters['nodes']:,} nodes"
    if "last_s" not in last.means:
        return (
            f"{nodes} {last.get('unreached'):.0f} that are honest and run never hear of the halt."
        )
    half, most, all_, bound = (last.get(name) for name in ("half_s", "most_s", "last_s", "bound_s"))
    times = f"half have stopped after {half:.2f} s, 99 % after {most:.2f} s, all after {all_:.2f} s"
    return f"{nodes} {times}; the ways alone take {bound:.2f} s."


STUDY = Study(
    "swarmllm.sims.halt",
    parameters=(
        Parameter("nodes", 10_000, "size of the swarm", low=2, high=1_000_000),
        Parameter(
            "path", "control", "what carries the order", choices=("control", "gossip", "both")
        ),
        Parameter("degree_low", 32, "connections of a node, at least", low=1, high=1_000),
        Parameter("degree_high", 64, "connections of a node, at most", low=1, high=1_000),
        Parameter("mesh", 6, "neighbours in the gossip mesh", low=1, high=100),
        Parameter("droppers", 0.0, "share of nodes that hear and pass nothing on", low=0, high=1),
        Parameter("frozen", 0.0, "share of nodes that are suspended", low=0, high=1),
        Parameter("parts", 1, "parts that cannot reach each other", low=1, high=1_000),
        Parameter("heal_s", 10.0, "when they can again (0: never)", "s", low=0, high=86_400),
        Parameter("delay_scale", 1.0, "all delays are so much longer", low=0.01, high=100),
        Parameter("loss", 0.01, "share of messages of which a segment is lost", low=0, high=1),
        Parameter(
            "process_ms",
            2.0,
            "mean time to check an order and hand it on",
            "ms",
            low=0,
            high=10_000,
        ),
        Parameter("gossip_ms", 3.0, "the same in gossip", "ms", low=0, high=10_000),
        Parameter("send_ms", 0.2, "time to write to one neighbour", "ms", low=0, high=1_000),
        Parameter("stop_ms", 50.0, "from hearing to the last token", "ms", low=0, high=10_000),
        Parameter("digests", True, "each node tells a random neighbour its digest every 10 s"),
    ),
    results=(
        Result("half_s", "until half of the honest running nodes have stopped", "s", 3),
        Result("most_s", "until 99 % have", "s", 3),
        Result("last_s", "until all have", "s", 3),
        Result("bound_s", "the delays alone on the shortest ways", "s", 3),
        Result("hops", "connections to the furthest", digits=1),
        Result("missed_while_apart", "not reached before the parts were joined again", digits=1),
        Result("missed_by_flood", "reached by digests only", digits=1),
        Result("unreached", "never reached", digits=1),
    ),
    point=point,
    sweep={"nodes": (100, 1_000, 10_000, 100_000)},
    plots=(
        Lines(
            "size",
            "Time until a halted swarm has stopped",
            "nodes",
            ("half_s", "most_s", "last_s", "bound_s"),
            "seconds after publication",
            "x",
            (1.0, "promise: 1 s"),
        ),
        Curves(
            "course",
            "How a halt spreads",
            "times_s",
            "stopped_share",
            "seconds after publication",
            "share of honest nodes stopped",
        ),
    ),
    check=check,
    says=says,
    runs=5,
)

if __name__ == "__main__":
    sys.exit(main("halt"))
