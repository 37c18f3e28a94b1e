"""Which share of a requester's questions, and of the weight in its tokens, do liars and Sybils get,
with and without the defences?

`share` of the `experts` are liars, each an identity of its own. What they do (`kind`): `boaster`
claims the largest and fastest model in its capacity record and is `slow_factor` times slower than
the others; `poisoner` answers with another text's distribution; `silent` takes every question and
answers none; `flatterer` poisons, and says of every prompt that it would have written exactly that.
What they say of their model (`claims`): each `own`, all `one`, or an `honest` one, as if they were
replicas of it.

The requesters ask `before` times, and then `after` times while it is counted whom. Their defences
are their own measurements: round trips (the record's rate and queue are believed only until the
first answer), rest after a missed deadline, the gate's weights by the prompt, and merit (how well
an expert knew earlier prompts). Without `defended` the requesters' routers forget all that they
measure and take the best-looking of all replicas in place of the better of two: the same code with
a router that remembers nothing, not a copy of it. The gate's weights within an answer stay.

    python sims/sybil.py --sweep share=0,0.2,0.4,0.6 --sweep kind=boaster,poisoner,silent,flatterer
    --sweep defended=true,false

The goal: 10 liars of 50 get no more than a fair share (0.2) after 20 requests each. (Of another
model than everybody else's, an identity is worth more questions than a replica: 10 liars with
models `own` beside 8 honest models offer 10 of 18.) Against flatterers there is no defence here:
what an expert says of a prompt that it sees cannot be checked by whoever has no other holder of
that model to ask.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from swarmllm.errors import UsageError
from swarmllm.messages import PeerId, Score
from swarmllm.sims.crowd import Asking, Request, add_askers, add_experts, measure, share
from swarmllm.sims.study import Lines, Parameter, Parameters, Result, Results, Study, Summary, main
from swarmllm.sims.throughput import slower
from swarmllm.testing.world import (
    HONEST,
    SERVICES,
    Answer,
    Behaviour,
    Checker,
    Host,
    LinkModel,
    Spec,
    World,
)
from swarmllm.testing.world.behaviours import Boaster, Flatterer, Poisoner, Silent

SETTLE_S: Final = 60.0
LINK: Final = LinkModel(near_s=0.02, span_s=0.1)
PARAMS_CLAIMED: Final = 2**62
RATE_CLAIMED: Final = 2**32 - 1


def boaster() -> Behaviour:
    return Boaster(rate=RATE_CLAIMED, context=0, n_params=PARAMS_CLAIMED)


KINDS: Final[dict[str, Callable[[], Behaviour]]] = {
    "boaster": boaster,
    "poisoner": Poisoner,
    "silent": Silent,
    "flatterer": Flatterer,
}
CLAIMS: Final = ("own", "one", "honest")
LIARS_MODEL: Final = 1_000_000
GOAL: Final = 0.2


class Questions(Checker):
    """Counts the rounds that each peer is asked for."""

    def __init__(self) -> None:
        self.asked: Counter[PeerId] = Counter()

    def leaves(self, host: Host, peer: PeerId, message: Any) -> None:
        if isinstance(message, Score):
            self.asked[peer] += 1


class EveryOne(random.Random):
    """Its samples are the whole population: of "the better of two" it makes "the best of all"."""

    def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
        return list(population)


def point(p: Parameters, seed: int) -> Results:
    questions = Questions()
    world = World(seed, link=LINK, halts=False, checkers=(questions,))
    liars = round(p["share"] * p["experts"])
    add_experts(world, [honest_spec(p, i) for i in range(p["experts"] - liars)])
    for i in range(liars):
        world.add(liar_spec(p, i), KINDS[p["kind"]]())
        world.run_for(0.1)
    askers = add_askers(world, p["askers"])
    world.run_for(SETTLE_S)
    if not p["defended"]:
        for host in askers:
            undefend(host)
    request = Request(p["k"], p["extra"], p["tokens"])
    Asking(world, askers, request, each=p["before"]).run()
    questions.asked.clear()
    asking = Asking(world, askers, request, each=p["after"])
    asking.run()
    lies = {host.peer for host in world.hosts if host.behaviour is not HONEST}
    to_liars = sum(count for peer, count in questions.asked.items() if peer in lies)
    weight, tokens = weight_of(asking.answers, lies)
    measured = measure(asking.answers, p["k"])
    return {
        "asked": share(to_liars, sum(questions.asked.values())),
        "weight": share(weight, tokens),
        "fair": liars / p["experts"],
        "finished": measured["finished"],
        "tokens_per_s": measured["tokens_per_s"],
        "pause_p99_s": measured["pause_p99_s"],
    }


def honest_spec(p: Parameters, number: int) -> Spec:
    return Spec(model=number % p["models"], service=SERVICES[p["service"]])


def liar_spec(p: Parameters, number: int) -> Spec:
    service = SERVICES[p["service"]]
    model = {"own": LIARS_MODEL + number, "one": LIARS_MODEL, "honest": number % p["models"]}[
        p["claims"]
    ]
    return Spec(
        model=model,
        service=slower(service, p["slow_factor"]) if p["kind"] == "boaster" else service,
        kind="liar",
    )


def undefend(host: Host) -> None:
    """Its router remembers nothing from now on, and takes whoever looks best."""
    router: Any = host.node._router
    for name in ("replied", "missed", "weighed"):
        setattr(router, name, _forget)
    router._rng = EveryOne(0)


def _forget(*_measured: object) -> None:
    return None


def weight_of(answers: Sequence[Answer], lies: set[PeerId]) -> tuple[float, int]:
    """The weight that liars had in all tokens together, and how many tokens there were."""
    chosen = [token for answer in answers for token in answer.chosen]
    return sum(use.weight for token in chosen for use in token.experts if use.peer in lies), len(
        chosen
    )


def check(p: Parameters) -> None:
    honest = p["experts"] - round(p["share"] * p["experts"])
    if honest < p["models"]:
        raise UsageError(
            f"--share {p['share']:g} leaves {honest} honest experts,"
            f" fewer than --models {p['models']}"
        )


def says(found: Sequence[Summary]) -> str:
    parts = []
    for defended in (True, False):
        here = [s for s in found if s.parameters["defended"] is defended and s.get("fair") > 0]
        if here:
            size = min((s.get("fair") for s in here), key=lambda fair: abs(fair - GOAL))
            shares = [
                f"{s.parameters['kind']}s {100 * s.get('asked'):.0f} ({100 * s.get('weight'):.0f})"
                for s in here
                if s.get("fair") == size
            ]
            parts.append(f"{'with' if defended else 'without'} the defences, {', '.join(shares)}")
    if not parts:
        return "There are no liars."
    return (
        "Per cent of the questions (and of the weight)"
        f" that liars get who are {100 * size:.0f} % of the swarm: {'; '.join(parts)}."
    )


STUDY: Final = Study(
    module="swarmllm.sims.sybil",
    parameters=(
        Parameter("share", 0.2, "share of the experts that lie", low=0, high=0.9),
        Parameter("kind", "boaster", "what liars do", choices=tuple(KINDS)),
        Parameter("defended", True, "whether the requesters remember what they measured"),
        Parameter("claims", "own", "what liars say of their model", choices=CLAIMS),
        Parameter("experts", 50, "nodes that run one, liars included", low=1, high=1000),
        Parameter("models", 8, "different honest models", low=1, high=1000),
        Parameter("k", 4, "experts whose lists make a token", low=1, high=32),
        Parameter("extra", 1, "more experts asked as insurance", low=0, high=32),
        Parameter("askers", 2, "who ask", low=1, high=100),
        Parameter("before", 20, "requests of each before it is counted", low=1, high=10_000),
        Parameter("after", 10, "requests of each while it is", low=1, high=10_000),
        Parameter("tokens", 8, "tokens of an answer", low=2, high=4096),
        Parameter("service", "desktop-8b", "what the experts run on", choices=tuple(SERVICES)),
        Parameter("slow_factor", 10.0, "how much slower a boaster is", low=1, high=1000),
    ),
    results=(
        Result("asked", "share of the questions that go to liars", digits=3),
        Result("weight", "share of the weight in the tokens that they have", digits=3),
        Result("fair", "their share of the swarm", digits=3),
        Result("finished", "share of the answers that were written to their end", digits=3),
        Result("tokens_per_s", "of one answer", digits=2),
        Result("pause_p99_s", "99th percentile of the time between two tokens", "s", digits=2),
    ),
    point=point,
    sweep={"kind": tuple(KINDS), "defended": (True, False), "share": (0.2, 0.4, 0.6)},
    plots=(
        Lines(
            "asked",
            "Questions that go to liars",
            "share",
            ("asked",),
            "share of the questions",
            guide="fair",
        ),
        Lines(
            "weight",
            "Weight of liars in the tokens",
            "share",
            ("weight",),
            "share of the weight",
            guide="fair",
        ),
    ),
    check=check,
    says=says,
)

if __name__ == "__main__":
    sys.exit(main("sybil"))
