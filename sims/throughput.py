"""How many tokens a second does one answer get, by the experts asked for each token and the
distance to them, and how near is that to what is possible?

One token takes one round: the text goes out, each expert makes one step, the lists come back. So
the ceiling is 1 / (round trip + step), at the median times. Times on the internet vary (log-normal,
`jitter`), and a round waits for the slowest of K; `expected` is what order statistics give for
waiting for the first K of K + `extra`, if experts are asked blindly. The exact World shows what the
node makes of it: with replicas of one model (`models` 1) a round is over with any K answers; with
different models it waits a little longer (up to half as long again) for one that weighs much,
because a token without it would be worse. A share of the experts may be slow by a factor: the node
is not told, and has to find out.

    python sims/throughput.py --sweep k=2,4,8,16 --sweep one_way_ms=25,50,100,200
    python sims/throughput.py --sweep extra=0,1,2 --sweep slow_share=0,0.25,0.5 --models 1

Measured from the first token on, for the first one also waits for the prompt. The experts do
nothing else. The estimate that the project began with is 3.2 tokens/s at K = 4 and 100 ms.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Final

import numpy as np

from swarmllm.errors import UsageError
from swarmllm.sims.crowd import Asking, Request, add_askers, add_experts, gaps_of, quantile, share
from swarmllm.sims.study import Lines, Parameter, Parameters, Result, Results, Study, Summary, main
from swarmllm.testing.world import SERVICES, LinkModel, Service, Spec, World

SETTLE_S: Final = 30.0
REFERENCE: Final = 3.2
DRAWS: Final = 20_000  # For the expectation: its error is below half a per cent.


def point(p: Parameters, seed: int) -> Results:
    service = SERVICES[p["service"]]
    world = World(seed, link=LinkModel(p["one_way_ms"] / 1000, sigma=p["jitter"]), halts=False)
    slow = round(p["slow_share"] * p["experts"])
    specs = [
        Spec(
            model=i % p["models"],
            service=slower(service, p["slow_factor"]) if i < slow else service,
            kind="slow" * (i < slow),
        )
        for i in world.rng.sample(range(p["experts"]), p["experts"])
    ]
    add_experts(world, specs)
    askers = add_askers(world, 1)
    world.run_for(SETTLE_S)
    asking = Asking(world, askers, Request(p["k"], p["extra"], p["tokens"]), each=p["answers"])
    asking.run()
    gaps = sorted(gap for answer in asking.answers for gap in gaps_of(answer))
    used = [use for answer in asking.answers for chosen in answer.chosen for use in chosen.experts]
    one_way_s = p["one_way_ms"] / 1000
    ceiling = 1 / (2 * one_way_s + service.step_s + service.per_session_s)
    rate = len(gaps) / sum(gaps)
    return {
        "tokens_per_s": rate,
        "ceiling": ceiling,
        "of_ceiling": rate / ceiling,
        "expected": 1 / expected_round_s(p, service, one_way_s),
        "round_p50_ms": 1000 * quantile(gaps, 0.5),
        "round_p99_ms": 1000 * quantile(gaps, 0.99),
        "first_token_s": fmean(answer.times[0] - answer.asked_at for answer in asking.answers),
        "thin_tokens": share(
            sum(c.k < p["k"] for a in asking.answers for c in a.chosen),
            sum(len(a.tokens) for a in asking.answers),
        ),
        "slow_used": share(
            sum(world.host_of(use.peer).spec.kind == "slow" for use in used), len(used)
        ),
    }


def slower(service: Service, factor: float) -> Service:
    return Service(
        service.step_s * factor, service.per_session_s * factor, service.per_token_s * factor
    )


def expected_round_s(p: Parameters, service: Service, one_way_s: float) -> float:
    """The mean time until the first K of K + extra experts have answered, asked blindly: two
    journeys and a step each."""
    rng = np.random.default_rng(1)
    shape = (DRAWS, p["k"] + p["extra"])
    journeys = one_way_s * (
        rng.lognormal(0.0, p["jitter"], shape) + rng.lognormal(0.0, p["jitter"], shape)
    )
    step_s = service.step_s + service.per_session_s
    steps = np.where(rng.random(shape) < p["slow_share"], step_s * p["slow_factor"], step_s)
    return float(np.sort(journeys + steps, axis=1)[:, p["k"] - 1].mean())


def check(p: Parameters) -> None:
    if p["experts"] < p["k"] + p["extra"]:
        raise UsageError(
            f"--experts {p['experts']} are fewer than --k {p['k']} and --extra {p['extra']}"
            " together"
        )
    if p["models"] > p["experts"]:
        raise UsageError(f"--models {p['models']} are more than --experts {p['experts']}")


def says(found: Sequence[Summary]) -> str:
    best = max(found, key=lambda s: s.get("of_ceiling"))
    worst = min(found, key=lambda s: s.get("of_ceiling"))
    anchor = [s for s in found if s.parameters["k"] == 4 and s.parameters["one_way_ms"] == 100.0]
    text = (
        f"One answer gets {100 * worst.get('of_ceiling'):.0f} to {100 * best.get('of_ceiling'):.0f}"
        " % of the ceiling of one token per round,"
        f" from K = {worst.parameters['k']} at {worst.parameters['one_way_ms']:g} ms to K ="
        f" {best.parameters['k']} at {best.parameters['one_way_ms']:g} ms"
    )
    if anchor:
        at = anchor[0]
        text += (
            f"; at K = 4 and 100 ms one-way {at.get('tokens_per_s'):.2f} tokens/s, where the"
            f" ceiling is {at.get('ceiling'):.2f} and the project's first estimate was {REFERENCE}"
        )
    return text + "."


STUDY: Final = Study(
    module="swarmllm.sims.throughput",
    parameters=(
        Parameter("k", 4, "experts whose lists make a token", low=1, high=64),
        Parameter("one_way_ms", 100.0, "median time of a message", "ms", low=0, high=10_000),
        Parameter("extra", 1, "more experts asked as insurance", low=0, high=64),
        Parameter("service", "desktop-8b", "what the experts run on", choices=tuple(SERVICES)),
        Parameter("jitter", 0.4, "sigma of the log-normal times of messages", low=0, high=2),
        Parameter("slow_share", 0.0, "share of the experts that are slow", low=0, high=1),
        Parameter("slow_factor", 10.0, "how much slower they compute", low=1, high=1000),
        Parameter("experts", 32, "size of the swarm", low=1, high=1000),
        Parameter("models", 32, "different models among them", low=1, high=1000),
        Parameter("tokens", 64, "tokens of an answer", low=2, high=8192),
        Parameter("answers", 2, "answers, one after the other", low=1, high=1000),
    ),
    results=(
        Result("tokens_per_s", "of one answer, from its first token on", digits=2),
        Result("ceiling", "1 / (round trip + step), at median times", "tokens/s", digits=2),
        Result("expected", "of the first K of K + extra, asked blindly", "tokens/s", digits=2),
        Result("of_ceiling", "measured / ceiling", digits=3),
        Result("round_p50_ms", "median time between two tokens", "ms"),
        Result("round_p99_ms", "99th percentile", "ms"),
        Result(
            "first_token_s", "until the first token: the prompt, by twice K models", "s", digits=2
        ),
        Result("thin_tokens", "share of the tokens made by fewer than K", digits=3),
        Result(
            "slow_used", "share of the lists that came from slow experts", digits=3, table=False
        ),
    ),
    point=point,
    sweep={"k": (2, 4, 8, 16), "one_way_ms": (25.0, 50.0, 100.0, 200.0)},
    plots=(
        Lines(
            "tokens",
            "Tokens per second of one answer",
            "one_way_ms",
            ("tokens_per_s",),
            "tokens/s",
            log="xy",
            guide="ceiling",
            limit=(REFERENCE, "the project's first estimate at K = 4, 100 ms"),
        ),
        Lines(
            "share",
            "How near to the ceiling of one token per round",
            "one_way_ms",
            ("of_ceiling",),
            "share of the ceiling",
        ),
        Lines(
            "expected",
            "Beside what the first K of K + extra are expected to take",
            "k",
            ("tokens_per_s",),
            "tokens/s",
            guide="expected",
        ),
    ),
    check=check,
    says=says,
)

if __name__ == "__main__":
    sys.exit(main("throughput"))
