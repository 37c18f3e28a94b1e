"""How many tokens a second does one answer get, by the experts asked for each token and the
distance to them, and how near is that to what is possible?

Without speculation one token takes one round: the text goes out, each expert makes one step, the
lists come back. So the ceiling is 1 / (round trip + step), at the median times. Times on the
internet vary (log-normal, `jitter`), and a round waits for the slowest of K; `expected` is what
order statistics give for waiting for the first K of K + `extra`, if experts are asked blindly. The
exact World shows what the node makes of it: with replicas of one model (`models` 1) a round is over
with any K answers; with different models it waits a little longer (up to half as long again) for
one that weighs much, because a token without it would be worse. A share of the experts may be slow
by a factor: the node is not told, and has to find out.

    python sims/throughput.py --sweep k=2,4,8,16 --sweep one_way_ms=25,50,100,200
    python sims/throughput.py --sweep extra=0,1,2 --sweep slow_share=0,0.25,0.5 --models 1

With `speculation` a round brings several tokens, which whoever asks has drafted with an expert of
its `own`; that one is of the same family, and is one of the K. What it is worth depends on how
alike the models are. They are made up, so `likeness` sets that, and `alpha` is what it comes to: 1
minus the total variation of our own expert and the pool, after each token; published measurements
of real models lie between 0.6 and 0.9. Each point is played twice, without speculation too, from
one seed. The ceiling is then that of as many drafted tokens and of as many that came of them: a
round trip and a step that verifies them all, and no less than a step of our own expert for each
token that came. Made-up texts never quote, so `lookup` shows what looking up costs where there is
nothing to find.

    python sims/throughput.py --sweep speculation=off,auto --own laptop-1b --likeness 0.95

Measured from the first token on, for the first one also waits for the prompt. The experts do
nothing else. `reference` is what the project began with: a model of one round a token.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarmllm.core.values import SPECULATIVE, GenerateRequest
from swarmllm.errors import UsageError
from swarmllm.sims.churn import Comings
from swarmllm.sims.crowd import Asking, Request, add_askers, add_experts, gaps_of, quantile, share
from swarmllm.sims.study import Lines, Parameter, Parameters, Result, Results, Study, Summary, main
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.world import (
    SERVICES,
    VOCABULARY,
    Answer,
    Host,
    LinkModel,
    Service,
    Spec,
    World,
)
from swarmllm.testing.world.engine import family_logits, state_of
from swarmllm.wire import context

SETTLE_S: Final = 30.0
REFERENCE: Final[Mapping[int, float]] = {2: 3.51, 4: 3.18, 8: 2.89, 16: 2.64}
"""Tokens a second by K at `REFERENCE_MS` one way, as modelled when the project began."""
REFERENCE_MS: Final = 100.0
DRAWS: Final = 20_000  # For the expectation: its error is below half a per cent.
# Of newcomers where experts come and go; a quarter of those who leave crash, and another one is
# gone without a word.
COMINGS: Final = {"load_s": 20.0, "crash": 0.25, "power": 0.25}


def point(p: Parameters, seed: int) -> Results:
    found = play(p, seed)
    strict = found if p["speculation"] == "off" else play({**p, "speculation": "off"}, seed)
    return {**found, "times_strict": found["tokens_per_s"] / strict["tokens_per_s"]}


def play(p: Parameters, seed: int) -> dict[str, Any]:
    """What one world comes to."""
    world = World(seed, link=LinkModel(p["one_way_ms"] / 1000, sigma=p["jitter"]), halts=False)
    comings = _Comings(world, {**p, **COMINGS})
    slow = round(p["slow_share"] * p["experts"])
    order = world.rng.sample(range(p["experts"]), p["experts"])
    experts = add_experts(world, [comings.spec(i, is_slow=i < slow) for i in order])
    (asker,) = add_experts(world, [own_spec(p)]) if p["own"] != "none" else add_askers(world, 1)
    world.run_for(SETTLE_S)
    comings.begin(experts)
    kind = Written if p["likeness"] else Request
    request = kind(p["k"], p["extra"], p["tokens"], speculation=p["speculation"])
    asking = Asking(world, [asker], request, each=p["answers"])
    asking.run()
    return _results(p, world, asker, asking.answers)


class _Comings(Comings):
    """Experts of a family, some of them slow."""

    def spec(self, number: int, *, is_slow: bool = False) -> Spec:
        p = self._p
        service = SERVICES[p["service"]]
        return Spec(
            model=number % p["models"],
            service=slower(service, p["slow_factor"]) if is_slow else service,
            kind="slow" * is_slow,
            likeness=p["likeness"],
        )


def own_spec(p: Parameters) -> Spec:
    """Whoever asks, with an expert of its own: a model that nobody else has."""
    return Spec(model=p["models"], service=SERVICES[p["own"]], likeness=p["likeness"], kind="asker")


@dataclass(frozen=True, slots=True)
class Written(Request):
    """Prompts that the family knows, as models know the language: so all models are believed."""

    def order(self, rng: random.Random) -> GenerateRequest:
        order = super(Written, self).order(rng)
        prompt: list[int] = []
        digest = context.EMPTY
        for _ in order.prompt:
            odds = _softmax(family_logits(state_of(digest)))
            prompt.append(rng.choices(range(VOCABULARY), odds.tolist())[0])
            digest = context.extend(digest, prompt[-1])
        return replace(order, prompt=tuple(prompt))


def _results(p: Parameters, world: World, asker: Host, answers: Sequence[Answer]) -> dict[str, Any]:
    service, one_way_s = SERVICES[p["service"]], p["one_way_ms"] / 1000
    gaps = [gap for answer in answers for gap in gaps_of(answer)]
    pauses = sorted(gap for gap in gaps if gap > 0)  # Tokens of one round come at one moment.
    chosen = [one for answer in answers for one in answer.chosen]
    later = [one for answer in answers for one in answer.chosen[1:]]
    uses = [use for one in chosen for use in one.experts]
    sizes = [use.size_bytes for one in later for use in one.experts if use.peer != asker.peer]
    drafted, accepted = (
        sum(getattr(answer.end, name) for answer in answers) for name in ("drafted", "accepted")
    )
    per_round = len(gaps) / len(pauses)
    drafts = drafted / len(pauses)
    own_s = _step_s(SERVICES[p["own"]]) if p["own"] != "none" else 0.0
    # Our own expert makes its steps while the others are asked, at best.
    round_s = 2 * one_way_s + _step_s(service) + drafts * service.per_token_s
    own_round_s = per_round * own_s if p["speculation"] not in {"off", "lookup"} else 0.0
    ceiling = per_round / max(round_s, own_round_s)
    rate = len(gaps) / sum(gaps)
    return {
        "tokens_per_s": rate,
        "ceiling": ceiling,
        "of_ceiling": rate / ceiling,
        "reference": REFERENCE.get(p["k"]) if p["one_way_ms"] == REFERENCE_MS else None,
        "expected": 1 / expected_round_s(p, service, one_way_s),
        "tokens_per_round": per_round,
        "drafted_per_round": drafts,
        "accepted": share(accepted, drafted),
        "alpha": acceptance(world, asker, answers),
        "bytes": share(sum(sizes), len(sizes)),
        "round_p50_ms": 1000 * quantile(pauses, 0.5),
        "round_p99_ms": 1000 * quantile(pauses, 0.99),
        "first_token_s": fmean(answer.times[0] - answer.asked_at for answer in answers),
        "thin_tokens": share(sum(one.k < p["k"] for one in chosen), len(chosen)),
        "slow_used": share(
            sum(world.host_of(use.peer).spec.kind == "slow" for use in uses), len(uses)
        ),
    }


def acceptance(world: World, asker: Host, answers: Sequence[Answer]) -> float | None:
    """1 minus the total variation of the asker's own expert and the pool, on average over the
    tokens that it had a part in; None without one."""
    if asker.spec.model is None:
        return None
    models: dict[int, ScriptedModel] = {}
    shares = []
    for answer in answers:
        digest = context.digests(answer.order.prompt)[-1]
        for one in answer.chosen:
            found = [(world.host_of(use.peer), use.weight) for use in one.experts]
            if any(host is asker for host, _ in found):
                said = [_softmax(_model(models, world, h.spec).logits(digest)) for h, _ in found]
                pooled = sum(w * row for (_, w), row in zip(found, said, strict=True))
                own = next(row for (h, _), row in zip(found, said, strict=True) if h is asker)
                shares.append(float(np.minimum(own, pooled).sum()))
            digest = context.extend(digest, one.token)
    return fmean(shares) if shares else None


def _model(models: dict[int, ScriptedModel], world: World, spec: Spec) -> ScriptedModel:
    assert spec.model is not None
    if spec.model not in models:
        models[spec.model] = world.model(spec)
    return models[spec.model]


def _softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    odds = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(odds / odds.sum())


def _step_s(service: Service) -> float:
    return service.step_s + service.per_session_s


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
    if p["speculation"] == "local" and p["own"] == "none":
        raise UsageError(
            f"--speculation local wants an expert that drafts: --own {', '.join(SERVICES)}"
        )


def says(found: Sequence[Summary]) -> str:
    best = max(found, key=lambda s: s.get("of_ceiling"))
    worst = min(found, key=lambda s: s.get("of_ceiling"))
    text = (
        f"One answer gets {100 * worst.get('of_ceiling'):.0f} to {100 * best.get('of_ceiling'):.0f}"
        f" % of its ceiling, from {_where(worst)} to {_where(best)}"
    )
    fastest: dict[int, Summary] = {}
    for one in found:
        k = one.parameters["k"]
        if one.get("reference") > 0 and _rate(one) > (_rate(fastest[k]) if k in fastest else 0):
            fastest[k] = one
    for k, at in sorted(fastest.items()):
        text += (
            f"; at {_where(at)} {_rate(at):.2f} tokens/s, where the project began with"
            f" {REFERENCE[k]:.2f}"
        )
    drafting = [s for s in found if s.parameters["speculation"] != "off"]
    if drafting:
        least = min(drafting, key=lambda s: s.get("times_strict"))
        most = max(drafting, key=lambda s: s.get("times_strict"))
        text += (
            f". With speculation an answer is {least.get('times_strict'):.2f} times as fast as"
            f" without ({_where(least)}) to {most.get('times_strict'):.2f} times ({_where(most)},"
            f" {most.get('tokens_per_round'):.1f} tokens a round)"
        )
    return text + "."


def _rate(summary: Summary) -> float:
    return summary.get("tokens_per_s")


def _where(summary: Summary) -> str:
    p = summary.parameters
    mode = f" with {p['speculation']}" if p["speculation"] != "off" else ""
    return f"K = {p['k']} and {p['one_way_ms']:g} ms{mode}"


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
        Parameter("speculation", "off", "who drafts", choices=SPECULATIVE),
        Parameter(
            "own",
            "none",
            "what the asker's own expert runs on",
            choices=("none", *SERVICES),
        ),
        Parameter(
            "likeness",
            0.0,
            "what is common to all models, of the variance of logits",
            low=0,
            high=1,
        ),
        Parameter("churn", 0.0, "share of the experts that leaves in an hour", low=0, high=1000),
        Parameter("tokens", 64, "tokens of an answer", low=2, high=8192),
        Parameter("answers", 2, "answers, one after the other", low=1, high=1000),
    ),
    results=(
        Result("tokens_per_s", "of one answer, from its first token on", digits=2),
        Result("ceiling", "tokens / (round trip + steps), at median times", "tokens/s", digits=2),
        Result("times_strict", "as fast as without speculation, same seed", digits=2),
        Result("reference", "the project began with, at 100 ms", "tokens/s", digits=2),
        Result("tokens_per_round", "that a round brings", digits=2),
        Result("drafted_per_round", "that are drafted for it", digits=2),
        Result("accepted", "of the drafted", digits=2),
        Result("alpha", "1 - total variation of our own expert and the pool", digits=2),
        Result("bytes", "per remote expert and token, of a vocabulary of 64"),
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
            limit=(REFERENCE[4], "the project's first estimate at K = 4, 100 ms"),
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
        Lines(
            "reference",
            "Beside the model that the project began with",
            "k",
            ("tokens_per_s",),
            "tokens/s",
            guide="reference",
        ),
    ),
    check=check,
    says=says,
)

if __name__ == "__main__":
    sys.exit(main("throughput"))
