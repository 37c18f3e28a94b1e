"""How much text does a swarm write in all, and how fast is each answer, by its size and by how many
answers are written at once?

Every node runs an expert, and some of them ask: `load` answers for each node of the swarm,
`streams` of them at each asker. An asker's own expert takes part in each of its tokens; the others
come over the network. Nodes connect to some thirty others of their own accord, and ask nobody else,
so that what one node sees hardly depends on the size of the swarm. That is measured here, as is
what an overload does: an expert has 16 places, and says Busy when all are taken.

The phases of the rollout are settings of their own: 0 and 1 are a single model (50 and 500 nodes, K
= 1), 2 is an ensemble (280 nodes, K = 4, 8 models), 3 writes answers in parallel (1,000 nodes, 4 at
each asker), and 4 is the same with 5,000 nodes. There `load` stays as given.

    python sims/scale.py --sweep load=0.1,0.5,1,2,4,8
    python sims/scale.py --sweep nodes=50,200,1000 --load 0.1
    python sims/scale.py --sweep streams=1,4,16,64 --nodes 64
    python sims/scale.py --sweep phase=0,1,2,3,4 --load 0.05

Everything is the exact World: each of the nodes decides for itself. 1,000 nodes take about a minute
for each 20 seconds at a load of 0.1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Final

from swarmllm.core.values import EngineLoad
from swarmllm.errors import UsageError
from swarmllm.sims.crowd import Asking, Request, add_experts, quantile, share
from swarmllm.sims.study import Lines, Parameter, Parameters, Result, Results, Study, Summary, main
from swarmllm.testing.world import SERVICES, Host, LinkModel, Spec, World

LINK: Final = LinkModel(near_s=0.02, span_s=0.15)
JOIN_GAP_S: Final = 20.0  # In which all join, whatever their number.
STREAMS_MAX: Final = 64  # Of one node, as `core.decoding.requests` has it.
FOREVER: Final = 1_000_000
PHASES: Final[dict[str, dict[str, int]]] = {
    "none": {},
    "0": {"nodes": 50, "k": 1, "models": 1, "streams": 1},
    "1": {"nodes": 500, "k": 1, "models": 1, "streams": 1},
    "2": {"nodes": 280, "k": 4, "models": 8, "streams": 1},
    "3": {"nodes": 1000, "k": 4, "models": 8, "streams": 4},
    "4": {"nodes": 5000, "k": 4, "models": 8, "streams": 4},
}


class Meter:
    """What the nodes did between `begin` and now; queues are looked at once a second."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._before = [self._of(host) for host in hosts]
        self._queues: list[int] = []
        self._world = hosts[0].world
        self._began_at = self._world.now
        self._look()

    def _look(self) -> None:
        self._queues += [_load(host).queue_depth for host in self._hosts]
        self._world.event_queue.after(1.0, self._look)

    def _of(self, host: Host) -> tuple[int, int, float, int]:
        assert host.engine is not None
        return host.engine.served, host.engine.refused, host.engine.busy_s, host.bytes_sent

    def results(self) -> dict[str, float]:
        seconds = self._world.now - self._began_at
        now = [self._of(host) for host in self._hosts]
        served, refused, busy_s, sent = (
            [after[i] - before[i] for after, before in zip(now, self._before, strict=True)]
            for i in range(4)
        )
        busiest = sorted(min(1.0, s / seconds) for s in busy_s)
        return {
            "busy": share(sum(refused), sum(served) + sum(refused)),
            "used": fmean(busiest),
            "used_p95": quantile(busiest, 0.95),
            "queue": fmean(self._queues),
            "connections": fmean(len(host.connections) for host in self._hosts),
            "connections_max": max(len(host.connections) for host in self._hosts),
            "kb_per_s": fmean(sent) / seconds / 1000,
            "kb_per_s_max": max(sent) / seconds / 1000,
        }


def _load(host: Host) -> EngineLoad:
    assert host.engine is not None
    return host.engine.load


def point(parameters: Parameters, seed: int) -> Results:
    p = {**parameters, **PHASES[parameters["phase"]]}
    world = World(seed, link=LINK, halts=False)
    service = SERVICES[p["service"]]
    specs = [Spec(model=i % p["models"], service=service) for i in range(p["nodes"])]
    hosts = add_experts(world, specs, JOIN_GAP_S / len(specs))
    world.run_for(p["settle_s"])
    count = askers_of(p)
    asking = Asking(
        world,
        world.rng.sample(hosts, count),
        Request(p["k"], p["extra"], FOREVER),
        FOREVER,
        streams_of(p),
    )
    world.run_for(p["warm_s"])
    meter = Meter(hosts)
    since = world.now
    world.run_for(p["seconds"])
    rates, gaps = [], []
    for answer in asking.answers:
        times = [at for at in answer.times if at >= since]
        rates.append(len(times) / p["seconds"])
        gaps += [after - before for before, after in pairwise(times)]
    gaps.sort()
    used = [
        chosen.k
        for answer in asking.answers
        for chosen, at in zip(answer.chosen, answer.times, strict=True)
        if at >= since
    ]
    return {
        "size": len(hosts),
        "streams_in_all": count * streams_of(p),
        "tokens_per_s": sum(rates),
        "per_stream": sum(rates) / (count * streams_of(p)),
        "per_stream_p5": quantile(sorted(rates), 0.05),
        "round_p50_s": quantile(gaps, 0.5),
        "round_p99_s": quantile(gaps, 0.99),
        "experts_per_token": fmean(used) if used else 0.0,
        "given_up": share(sum(bool(answer.ends) for answer in asking.answers), len(asking.answers)),
        **meter.results(),
    }


def streams_of(p: Parameters) -> int:
    """At each asker: as wished, or fewer where the load is less than one asker's."""
    return max(1, min(int(p["streams"]), round(float(p["load"] * p["nodes"]))))


def askers_of(p: Parameters) -> int:
    return max(1, min(int(p["nodes"]), round(float(p["load"] * p["nodes"]) / streams_of(p))))


def check(parameters: Parameters) -> None:
    p = {**parameters, **PHASES[parameters["phase"]]}
    if p["models"] > p["nodes"]:
        raise UsageError(f"--models {p['models']} are more than --nodes {p['nodes']}")
    if p["load"] > p["streams"]:
        raise UsageError(
            f"--load {p['load']:g} is more than --streams {p['streams']},"
            " and every node asks already"
        )


def says(found: Sequence[Summary]) -> str:
    most = max(found, key=lambda s: s.get("tokens_per_s"))
    quick = max(found, key=lambda s: s.get("per_stream"))
    return (
        f"At most {most.get('tokens_per_s'):.0f} tokens/s in all,"
        f" with {most.get('streams_in_all'):.0f} answers at once on {most.get('size'):.0f} nodes"
        f" ({most.get('per_stream'):.2f} each, engines busy for {100 * most.get('used'):.0f} % of"
        f" the time, {100 * most.get('busy'):.1f} % of the questions answered with Busy);"
        f" an answer gets {quick.get('per_stream'):.2f} tokens/s where"
        f" {quick.get('streams_in_all'):.0f} are written by {quick.get('size'):.0f} nodes."
    )


STUDY: Final = Study(
    module="swarmllm.sims.scale",
    parameters=(
        Parameter("nodes", 40, "size of the swarm", low=1, high=20_000),
        Parameter("load", 1.0, "answers at once for each node of the swarm", low=0, high=64),
        Parameter("streams", 8, "answers at once of each asker", low=1, high=STREAMS_MAX),
        Parameter("k", 4, "experts whose lists make a token", low=1, high=32),
        Parameter("extra", 1, "more experts asked as insurance", low=0, high=32),
        Parameter("models", 8, "different models", low=1, high=1000),
        Parameter("service", "laptop-8b", "what the experts run on", choices=tuple(SERVICES)),
        Parameter(
            "phase",
            "none",
            "of the rollout, in place of nodes, k, models and streams",
            choices=tuple(PHASES),
        ),
        Parameter("settle_s", 20.0, "until the first question", "s", low=1, high=3600),
        Parameter("warm_s", 10.0, "of writing before it is measured", "s", low=0, high=3600),
        Parameter("seconds", 10.0, "of writing that are measured", "s", low=1, high=36_000),
    ),
    results=(
        Result("size", "nodes"),
        Result("streams_in_all", "answers written at once"),
        Result("tokens_per_s", "of the whole swarm", digits=1),
        Result("per_stream", "tokens/s of one answer", digits=2),
        Result("per_stream_p5", "of the slowest twentieth", "tokens/s", digits=2, table=False),
        Result("round_p50_s", "median time between two tokens", "s", digits=2),
        Result("round_p99_s", "99th percentile", "s", digits=2),
        Result("experts_per_token", "lists that made a token", digits=2),
        Result(
            "given_up", "share of the answers that ended for want of experts", digits=3, table=False
        ),
        Result("busy", "share of the questions that were answered with Busy", digits=3),
        Result("used", "share of the time that engines compute", digits=2),
        Result("used_p95", "of the busiest twentieth", digits=2, table=False),
        Result("queue", "rounds that wait at an engine", digits=2),
        Result("connections", "of a node", digits=1),
        Result("connections_max", "of the node with most", table=False),
        Result("kb_per_s", "sent by a node", "kB/s", digits=2),
        Result("kb_per_s_max", "by the one that sends most", "kB/s", table=False),
    ),
    point=point,
    sweep={"load": (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)},
    plots=(
        Lines("all", "Tokens per second of the whole swarm", "load", ("tokens_per_s",), "tokens/s"),
        Lines(
            "stream",
            "Tokens per second of one answer",
            "load",
            ("per_stream", "per_stream_p5"),
            "tokens/s",
        ),
        Lines("overload", "What an overload does", "load", ("used", "busy"), "share", log="x"),
        Lines("traffic", "What a node sends", "load", ("kb_per_s", "kb_per_s_max"), "kB/s"),
    ),
    check=check,
    says=says,
    runs=2,
)

if __name__ == "__main__":
    sys.exit(main("scale"))
