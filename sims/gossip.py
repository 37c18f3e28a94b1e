"""What does it cost each node to know fresh candidates, and how fresh are they, if the swarm has a
hundred nodes or a hundred thousand?

    swarmllm simulate gossip [--sweep nodes=100,1000,10000,100000] [--sweep
    scheme=shuffle,broadcast,topics] [--rule uniform]

Three schemes for capacity records, compared by bytes sent and received per node and second, and by
the pool: records that are at most 60 s old in a node's table.

- `shuffle`: a few records in each exchange with one connected peer (`core.capacity.exchange`): cost
  and pool do not depend on the size.
- `broadcast`: every record to everybody on one gossipsub topic, each `--publish-s`: cost grows with
  the size.
- `topics`: authors are spread over topics of `--shard` members each; a node publishes and listens
  on one of them, each `--topic-publish-s`. Cost does not grow, but gossipsub brings every record
  three to five times, members of a topic must find and connect to each other among all nodes, and
  everybody knows the same few for ever.

Numpy models of the spread itself: shuffles as in `sims.shuffles`, with nodes that come and go;
broadcasts by floods over a gossip mesh (`sims.flood`), counting duplicates; messages of gossipsub's
own (IHAVE, GRAFT) are left out, which flatters it. At a hundred nodes the shuffles are compared
with real nodes in the exact world by `tests/sims/test_worlds.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.errors import UsageError
from swarmllm.sims.flood import arrivals, copies, delays, places_of
from swarmllm.sims.overlay import random_overlay
from swarmllm.sims.sessions import SESSIONS, Weibull
from swarmllm.sims.shuffles import Scheme, Shuffles
from swarmllm.sims.study import Lines, Parameter, Parameters, Result, Results, Study, Summary, main

FRESH_S: Final = 60.0  # A candidate that was there a minute ago is worth asking.
POOL: Final = 64  # Fresh candidates that every node should have.
BUDGET: Final = 1_024  # Bytes per second and node, both ways together.
WARM_S: Final = 30.0  # Beyond a time to live, so that nothing is left of the beginning.
MEASURE_S: Final = 30.0
# Nodes that have been there so long count for the pool; newcomers have a figure of their own.
OLD_S: Final = 90.0
NEWCOMERS: Final = 200
WAIT_S: Final = 120.0
SAMPLE: Final = 20_000  # Connections and records that are looked at, where all would be too many.
GOSSIP_BYTES: Final = 190  # Around a record in gossipsub: author, number, topic, signature, RPC.
PLACES_MAX: Final = 4_096  # Of a table.
RECORDS_MAX: Final = 200_000_000  # In all tables, at 13 bytes each.
HELD_S: Final = 0.003  # Measured: 2.5 to 3 ms of work for a gossip message in py-libp2p.


def point(parameters: Parameters, seed: int) -> Results:
    rng = np.random.default_rng(seed)
    if parameters["scheme"] == "shuffle":
        return _shuffle(parameters, rng)
    if parameters["scheme"] == "broadcast":
        return _broadcast(parameters, parameters["nodes"], parameters["publish_s"], rng)
    return _topics(parameters, rng)


# --- shuffles -------------------------------------------------------------------------------------


def scheme_of(parameters: Parameters) -> Scheme:
    return Scheme(
        every_s=parameters["every_s"],
        records=parameters["records"],
        ttl_s=parameters["ttl_s"],
        rule=parameters["rule"],
        silent=parameters["partner"] == "silent",
        balanced=parameters["balanced"],
        greet=parameters["greet"],
        reseal_s=parameters["reseal_s"],
    )


def _shuffle(parameters: Parameters, rng: np.random.Generator) -> Results:
    hours = parameters["session_h"]
    sessions = Weibull(hours * 3600, SESSIONS.shape) if hours else None
    swarm = Shuffles(
        parameters["nodes"],
        scheme_of(parameters),
        rng,
        degree=(parameters["degree_low"], parameters["degree_high"]),
        sessions=sessions,
        rewire_s=parameters["rewire_s"],
    )
    swarm.run_until(parameters["ttl_s"] + WARM_S)
    swarm.records_moved[:] = 0
    swarm.messages_moved[:] = 0
    swarm.run_until(parameters["ttl_s"] + WARM_S + MEASURE_S)
    payload = (
        swarm.records_moved * parameters["record_bytes"]
        + swarm.messages_moved * parameters["message_bytes"]
    ) / MEASURE_S
    framed = payload + swarm.messages_moved * parameters["framing_bytes"] / MEASURE_S
    found = {
        **_bytes(payload, framed),
        **pool_of(swarm, rng),
        "connected_known": round(float((swarm.ages_of_neighbours(SAMPLE) <= FRESH_S).mean()), 4),
    }
    return {**found, "newcomer_s": _newcomers(swarm, rng) if parameters["newcomers"] else None}


def pool_of(swarm: Shuffles, rng: np.random.Generator) -> Results:
    """Of nodes that have been there for a while: what they know, and by how many each of them is
    known."""
    settled = np.flatnonzero(swarm.born <= swarm.now - OLD_S)
    fresh = swarm.fresh(FRESH_S)
    pool = fresh.sum(axis=1)
    known = np.bincount(swarm.authors[fresh], minlength=swarm.identities)[swarm.ids]
    some = rng.permutation(swarm.nodes)[: max(1, SAMPLE // 64)]
    ages = swarm.now - swarm.issued[some][fresh[some]]
    gone = ~swarm.alive()[swarm.authors[some][fresh[some]]]
    return {
        **_percentiles("pool", pool[settled], (5, 50)),
        **_percentiles("age_s", ages, (50, 95)),
        **_percentiles("tables", known[settled], (1, 50, 99)),
        "ghosts": round(float(gone.mean()), 5) if len(gone) else 0.0,
    }


def _newcomers(swarm: Shuffles, rng: np.random.Generator) -> float | None:
    """How long it takes 95 % of them to have a pool, or all there is; None: longer than two
    minutes."""
    wanted = min(POOL, int(0.9 * np.percentile(swarm.fresh(FRESH_S).sum(axis=1), 5)))
    new = rng.permutation(swarm.nodes)[: min(NEWCOMERS, math.ceil(swarm.nodes / 20))]
    begun = swarm.now
    for node in new:
        swarm.replace(int(node))
    ids = swarm.ids[new]
    waiting = np.ones(len(new), bool)
    while swarm.now < begun + WAIT_S:
        enough = swarm.fresh_of(new, FRESH_S) >= wanted
        waiting &= ~enough & (swarm.ids[new] == ids)
        if waiting.mean() <= 0.05:
            return round(swarm.now - begun, 1)
        swarm.run_until(swarm.now + 0.5)
    return None


def _bytes(payload: npt.NDArray[np.float64], framed: npt.NDArray[np.float64]) -> Results:
    return {
        "bytes_per_s": round(float(payload.mean()), 1),
        **_percentiles("bytes_per_s", payload, (95,)),
        "framed_bytes_per_s": round(float(framed.mean()), 1),
    }


def _percentiles(
    name: str, values: npt.NDArray[np.floating | np.integer], which: Sequence[int]
) -> Results:
    """An empty pool has age 0."""
    found = np.percentile(values, which) if len(values) else np.zeros(len(which))
    return {f"{name}_p{p}": round(float(value), 2) for p, value in zip(which, found, strict=True)}


# --- gossipsub ------------------------------------------------------------------------------------


def _broadcast(
    parameters: Parameters, members: int, every_s: float, rng: np.random.Generator
) -> Results:
    """One topic with so many members, each of whom publishes at its own times."""
    overlay = random_overlay(members, parameters["mesh"], parameters["mesh"], rng)
    way = delays(overlay, places_of(members, rng), rng)
    held = np.full(members, HELD_S)
    everybody = np.ones(members, bool)
    begun = np.where(np.arange(members) == rng.integers(members), 0.0, np.inf)
    heard = arrivals(overlay, way, np.zeros(len(way)), held, everybody, begun)
    # Received by a node for a record; so many are sent as well.
    each = copies(overlay, way, held, heard) / members
    reached = heard[np.isfinite(heard)]
    rate = members / every_s * 2 * each
    payload = np.full(1, rate * (parameters["record_bytes"] + GOSSIP_BYTES))
    framed = payload + rate * parameters["framing_bytes"]
    ages = rng.random(SAMPLE) * every_s + rng.choice(reached, SAMPLE)
    known = float((ages <= FRESH_S).mean()) * len(reached) / members
    others = (members - 1) * known
    return {
        **_bytes(payload, framed),
        "pool_p5": round(others, 2),
        "pool_p50": round(others, 2),
        **_percentiles("age_s", ages[ages <= FRESH_S], (50, 95)),
        **{f"tables_p{p}": round(others, 2) for p in (1, 50, 99)},
        "copies": round(each, 3),
        "connected_known": round(known, 4),
        "newcomer_s": round(min(1.0, POOL / max(1.0, others)) * every_s, 1),
    }


def _topics(parameters: Parameters, rng: np.random.Generator) -> Results:
    """Authors fall on topics by their ids, so that a topic has a Poisson number of members around
    its mean."""
    nodes, shard = parameters["nodes"], parameters["shard"]
    topics = max(1, round(nodes / shard))
    found = _broadcast(
        parameters, max(2, round(nodes / topics)), parameters["topic_publish_s"], rng
    )
    members = np.bincount(rng.integers(0, topics, nodes), minlength=topics)
    share = found["pool_p50"] / max(1, round(nodes / topics) - 1)
    pools = (np.repeat(members, members) - 1) * share
    connected = float(np.sum((members / nodes) ** 2)) * found["connected_known"]
    return {
        **found,
        **_percentiles("pool", pools, (5, 50)),
        **_percentiles("tables", pools, (1, 50, 99)),
        "connected_known": round(connected, 4),
    }


# --- the study ------------------------------------------------------------------------------------


def check(parameters: Parameters) -> None:
    if parameters["degree_low"] > parameters["degree_high"]:
        raise UsageError(
            f"--degree-low {parameters['degree_low']} is more than --degree-high"
            f" {parameters['degree_high']}"
        )
    places = scheme_of(parameters).places
    if places > PLACES_MAX:
        raise UsageError(
            f"--records {parameters['records']} each --every-s {parameters['every_s']:g} for"
            f" --ttl-s {parameters['ttl_s']:g} are tables of {places} records,"
            f" more than {PLACES_MAX}"
        )
    if places * parameters["nodes"] > RECORDS_MAX:
        raise UsageError(
            f"{parameters['nodes']:,} nodes with tables of {places} records are too many for memory"
        )


def says(found: Sequence[Summary]) -> str:
    by_scheme = {
        name: [s for s in found if s.parameters["scheme"] == name]
        for name in ("shuffle", "broadcast", "topics")
    }
    sentences: list[str] = []
    for name, some in by_scheme.items():
        if some:
            least, most = (f(s.get("bytes_per_s") for s in some) for f in (min, max))
            sizes = [s.parameters["nodes"] for s in some]
            size = (
                f"{min(sizes):,} nodes"
                if min(sizes) == max(sizes)
                else f"{min(sizes):,} to {max(sizes):,} nodes"
            )
            pools = min(s.get("pool_p5") for s in some)
            span = (
                f"{least:,.0f}" if round(least) == round(most) else f"{least:,.0f} to {most:,.0f}"
            )
            sentences.append(
                f"{name}, {size}: {span} bytes/s per node;"
                f" 95 % of nodes know at least {pools:.0f} fresh candidates."
            )
    return "\n".join(sentences)


STUDY = Study(
    "swarmllm.sims.gossip",
    parameters=(
        Parameter("nodes", 10_000, "size of the swarm", low=2, high=1_000_000),
        Parameter(
            "scheme", "shuffle", "how records spread", choices=("shuffle", "broadcast", "topics")
        ),
        Parameter("every_s", 5.5, "a node starts an exchange so often", "s", low=0.5, high=600),
        Parameter("records", 4, "records each way in an exchange", low=1, high=64),
        Parameter("ttl_s", 90.0, "a record is forgotten at this age", "s", low=5, high=600),
        Parameter(
            "rule",
            "count",
            "which records are passed on",
            choices=("count", "youngest", "half", "uniform"),
        ),
        Parameter(
            "partner",
            "silent",
            "with whom: who has been silent longest, or anybody",
            choices=("silent", "random"),
        ),
        Parameter("balanced", True, "exchanges that others start count as own ones"),
        Parameter("greet", 24, "exchanges of a newcomer at once", low=0, high=1_000),
        Parameter(
            "reseal_s", 4.0, "how old one's own record may be when it is sent", "s", low=0, high=60
        ),
        Parameter("record_bytes", 275, "a sealed record", "bytes", low=1, high=512),
        Parameter(
            "message_bytes", 30, "around the records of a message", "bytes", low=0, high=1_000
        ),
        Parameter(
            "framing_bytes", 110, "TCP/IP, Noise and yamux, a message", "bytes", low=0, high=1_000
        ),
        Parameter("degree_low", 32, "connections of a node, at least", low=1, high=1_000),
        Parameter("degree_high", 64, "connections of a node, at most", low=1, high=1_000),
        Parameter(
            "rewire_s",
            300.0,
            "a connection lasts so long on average (0: for ever)",
            "s",
            low=0,
            high=1e6,
        ),
        Parameter(
            "session_h",
            3.66,
            "scale of the Weibull sessions, shape 0.608 (0: nobody leaves)",
            "h",
            low=0,
            high=10_000,
        ),
        Parameter("newcomers", True, "measure newcomers, too"),
        Parameter("mesh", 6, "broadcast, topics: neighbours in the gossip mesh", low=1, high=100),
        Parameter("publish_s", 3.0, "broadcast: each publishes so often", "s", low=0.1, high=600),
        Parameter("shard", 96, "topics: members of a topic", low=2, high=100_000),
        Parameter(
            "topic_publish_s", 30.0, "topics: each publishes so often", "s", low=0.1, high=600
        ),
    ),
    results=(
        Result("bytes_per_s", "sent and received by a node, mean"),
        Result("bytes_per_s_p95", "of 95 % of the nodes, at most"),
        Result("framed_bytes_per_s", "with what lies below", table=False),
        Result("pool_p5", "fresh candidates of 95 % of the nodes, at least"),
        Result("pool_p50", "of half of them"),
        Result("age_s_p50", "of the pool", "s", 1),
        Result("age_s_p95", "of the pool", "s", 1, table=False),
        Result("tables_p1", "tables that 99 % of the nodes stand in, at least"),
        Result("tables_p99", "tables that 99 % of the nodes stand in, at most"),
        Result(
            "connected_known", "share of connected peers of whom a fresh record is known", digits=2
        ),
        Result("ghosts", "share of the pool that has left", digits=4),
        Result("newcomer_s", "until 95 % of newcomers have a pool", "s", 1),
        Result("copies", "that a node receives of each message", digits=2, table=False),
    ),
    point=point,
    sweep={"nodes": (100, 1_000, 10_000, 100_000), "scheme": ("shuffle", "broadcast", "topics")},
    plots=(
        Lines(
            "bytes",
            "Capacity records: what they cost each node",
            "nodes",
            ("bytes_per_s",),
            "bytes per second, sent and received",
            "xy",
            (float(BUDGET), "goal: 1 KB/s"),
        ),
        Lines(
            "pool",
            f"Fresh candidates (at most {FRESH_S:.0f} s old) that 95 % of the nodes have at least",
            "nodes",
            ("pool_p5",),
            "records in the table",
            "xy",
            (float(POOL), f"goal: {POOL}"),
        ),
        Lines(
            "age",
            "How old the records of fresh candidates are",
            "nodes",
            ("age_s_p50",),
            "seconds since issued, median",
            "x",
        ),
    ),
    check=check,
    says=says,
)

if __name__ == "__main__":
    sys.exit(main("gossip"))
