"""Which share of the weight do liars and Sybils get, how many tokens do they change, and what do
the defences cost an honest swarm?

`share` of the `experts` are liars, each an identity of its own. What they want is one token, which
they force with their lists; `attack` is what they do to be believed:

- `boaster` claims the largest and fastest model in its record, is `slow_factor` times slower, and
  forces nothing;
- `heart` says of every prompt that it knew it by heart (0 nats), each under a digest of its own;
- `believable` claims a little less than the best honest expert needs;
- `poisoner` tells the truth of given tokens, and puts half of the probability on its token;
- `silent` takes every question and answers none; `slow` is honest, and `slow_factor` times slower;
- `replicas` are a `heart` under many identities and one invented digest;
- `lookalike` has an honest model under a digest of its own, tells the truth of given tokens, and
  forces its token with every list;
- `defector` is such a one that is honest until it turns, after `before` requests;
- `careful` is one that is honest for each prompt, hidden tokens and all, and lies from the second
  token on;
- `slanderer` claims an honest digest and says that its model knows nothing (64 nats);
- `relay` answers with a smaller model, and says that it is better by a nat than it is.

Texts are drawn from the honest models, of which each knows its own best, so that there is something
to know. The requesters ask `before` times each, and then `after` times while it is counted (those
of a defector `before` times again after it has turned). Without `defended` everybody's word counts
from the beginning, nobody is capped, and no token is hidden.

`tokens_changed` is the share of tokens that would have been others, by the same random numbers,
without the lists of liars; `alone` that of tokens to which no honest expert gave 1e-4; `unaudited`
that of tokens that of all who were asked a single model gives, liar or not, of which no audit has
looked at anything that it said in an answer. `nats` is how far the pool is from the model that the
text is drawn from (cross-entropy per token, lower is better).

The goal at a fifth: under 5 % of the weight for every attack.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import numpy as np

from swarmllm.core.decoding import generation
from swarmllm.core.decoding.consent import decide, wants
from swarmllm.core.decoding.ensemble import Ensemble
from swarmllm.core.decoding.pooling import Holder
from swarmllm.core.settings import table as t
from swarmllm.core.settings.holder import Values
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import UsageError
from swarmllm.messages import PeerId
from swarmllm.sims.crowd import Asking, Request, add_askers, add_experts, measure, share
from swarmllm.sims.liars import ATTACKS, Turning
from swarmllm.sims.study import Lines, Parameter, Parameters, Result, Results, Study, Summary, main
from swarmllm.sims.throughput import slower
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.world import SERVICES, Answer, LinkModel, Spec, World
from swarmllm.wire import context

SETTLE_S: Final = 60.0
LINK: Final = LinkModel(near_s=0.02, span_s=0.1)
LIKENESS: Final = 0.7
"""What all honest models have in common; a liar's own model and a small one have less."""
SMALL: Final = 0.3
LIARS_MODEL: Final = 1_000_000
OWN_DIGEST: Final = 2_000_000
"""From here on: another model under a digest of its own."""
UNDEFENDED: Final[Values] = {t.RESULTS: 0, t.NEW_SHARE: 1000, t.HIDDEN_SHARE: 0}
GOAL: Final = 0.05
GOAL_SHARE: Final = 0.2


class Swarm(World):
    """Specs from `OWN_DIGEST` on are models below it with another digest."""

    def model(self, spec: Spec) -> ScriptedModel:
        assert spec.model is not None
        if spec.model < OWN_DIGEST:
            return super().model(spec)
        found = super().model(replace(spec, model=spec.model % LIARS_MODEL))
        digest = context.extend(context.EMPTY, spec.model % (1 << 20)) * 4
        found.card = replace(found.card, digest=digest)
        return found


@dataclass(frozen=True, slots=True)
class Texts(Request):
    """Prompts that one of the honest models would write."""

    models: tuple[ScriptedModel, ...] = ()
    source: dict[tuple[int, ...], ScriptedModel] = field(default_factory=dict)

    def order(self, rng: random.Random) -> GenerateRequest:
        model = rng.choice(self.models)
        tokens: list[int] = []
        digest = context.EMPTY
        for _ in range(self.prompt_tokens):
            token = rng.choices(range(len(probs := probs_of(model, digest))), probs)[0]
            tokens.append(token)
            digest = context.extend(digest, token)
        found = replace(Request.order(self, rng), prompt=tuple(tokens))
        self.source[found.prompt] = model
        return found


def probs_of(model: ScriptedModel, digest: bytes) -> list[float]:
    logits = model.logits(digest).astype(np.float64)
    probs = np.exp(logits - logits.max())
    found: list[float] = (probs / probs.sum()).tolist()
    return found


def best_nats(models: Sequence[ScriptedModel]) -> float:
    """What the text of a model costs the model itself, per token."""
    found = []
    for model in models:
        for state in range(16):
            probs = np.array(probs_of(model, bytes([state])))
            found.append(-float(probs @ np.log(probs)))
    return math.fsum(found) / len(found)


# --- what is counted ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Named(Holder):
    """A holder whose peer is known."""

    peer: PeerId = PeerId("")  # noqa: RUF009  A name, and no work.


@dataclass(slots=True)
class Tokens:
    """Of all tokens that were decided since `begin`: how many there were, would have been others,
    have no honest support, and how far their pool was from the text's own model."""

    lies: set[PeerId]
    source: dict[tuple[int, ...], ScriptedModel]
    count: int = 0
    changed: int = 0
    alone: int = 0
    unaudited: int = 0
    nats: float = 0.0

    def begin(self) -> None:
        self.count = self.changed = self.alone = self.unaudited = 0
        self.nats = 0.0

    def decide(
        self, order: Any, lists: Any, weights: Any, holders: Any, rng: Any, *rest: Any
    ) -> Any:
        before = rng.getstate()
        found = decide(order, lists, weights, holders, rng, *rest)
        self.count += 1
        drawn = np.array([found[0]])
        wishing = [h for h, one in zip(holders, lists, strict=True) if wants(one, drawn)]
        is_single = len(lists) > 1 and len({holder.model for holder in wishing}) == 1
        self.unaudited += is_single and all(holder.is_untried for holder in wishing)
        honest = [i for i, one in enumerate(holders) if one.peer not in self.lies]
        if len(honest) < len(lists):
            self._compare(found[0], honest, before, order, lists, weights, holders, *rest)
        model = self.source.get(order.prompt)
        if model is not None:
            truth = np.array(probs_of(model, context.digests(rest[0])[-1]))
            said = np.full(len(truth), 1e-9)
            said[found[3].ids] = found[3].probs
            self.nats -= float(truth @ np.log(np.maximum(said, 1e-9)))
        return found

    def _compare(
        self,
        token: int,
        honest: list[int],
        state: Any,
        order: Any,
        lists: Any,
        weights: Any,
        holders: Any,
        *rest: Any,
    ) -> None:
        heard = [lists[i] for i in honest]
        self.alone += not any(wants(one, np.array([token])) for one in heard)
        total = math.fsum(weights[i] for i in honest)
        if total <= 0:
            self.changed += 1
            return
        rng = random.Random()
        rng.setstate(state)
        shares = [weights[i] / total for i in honest]
        plain = decide(order, heard, shares, [holders[i] for i in honest], rng, *rest)
        self.changed += plain[0] != token


@contextmanager
def counted(tokens: Tokens) -> Iterator[None]:
    """Every token that is decided meanwhile is looked at."""
    holders, module = Ensemble.holders, cast(Any, generation)

    def named(self: Ensemble, peers: Sequence[PeerId]) -> list[Holder]:
        found = holders(self, peers)
        return [
            Named(h.model, h.is_own, h.is_new, h.is_untried, h.is_false, p)
            for h, p in zip(found, peers, strict=True)
        ]

    Ensemble.holders = named  # type: ignore[method-assign,assignment]
    module.decide = tokens.decide
    try:
        yield
    finally:
        Ensemble.holders = holders  # type: ignore[method-assign]
        module.decide = decide


# --- the study ------------------------------------------------------------------------------------


def point(p: Parameters, seed: int) -> Results:
    settings: Values = {} if p["defended"] else UNDEFENDED
    world = Swarm(seed, link=LINK, halts=False, settings=settings, audits=p["defended"])
    liars = round(p["share"] * p["experts"])
    add_experts(world, [honest_spec(p, i) for i in range(p["experts"] - liars)])
    models = tuple(world.model(honest_spec(p, i)) for i in range(p["models"]))
    best = best_nats(models)
    behaviours = [ATTACKS[p["attack"]](best) for _ in range(liars)]
    for i, behaviour in enumerate(behaviours):
        world.add(liar_spec(p, i), behaviour)
        world.run_for(0.1)
    askers = add_askers(world, p["askers"])
    world.run_for(SETTLE_S)
    lies = {host.peer for host in world.hosts if host.spec.kind == "liar"}
    texts = Texts(p["k"], p["extra"], p["tokens"], models=models)
    tokens = Tokens(lies, texts.source)
    with counted(tokens):
        Asking(world, askers, texts, each=p["before"]).run()
        for behaviour in behaviours:
            if isinstance(behaviour, Turning):
                behaviour.turn()
        if any(isinstance(behaviour, Turning) for behaviour in behaviours):
            Asking(world, askers, texts, each=p["before"]).run()
        tokens.begin()
        sent = asked_bytes(world)
        asking = Asking(world, askers, texts, each=p["after"])
        asking.run()
    weight, count = weight_of(asking.answers, lies)
    measured = measure(asking.answers, p["k"])
    sizes = sum(use.size_bytes for a in asking.answers for c in a.chosen for use in c.experts)
    return {
        "weight_share": share(weight, count),
        "tokens_changed": share(tokens.changed, tokens.count),
        "alone": share(tokens.alone, tokens.count),
        "unaudited": share(tokens.unaudited, tokens.count),
        "nats": tokens.nats / max(1, tokens.count),
        "fair": liars / p["experts"],
        "finished": measured["finished"],
        "tokens_per_s": measured["tokens_per_s"],
        "bytes_per_token": share(sizes, count),
        "traffic_per_token": share(asked_bytes(world) - sent, count),
    }


def honest_spec(p: Parameters, number: int) -> Spec:
    return Spec(model=number % p["models"], service=SERVICES[p["service"]], likeness=LIKENESS)


def liar_spec(p: Parameters, number: int) -> Spec:
    plain, attack = honest_spec(p, number), p["attack"]
    service = slower(plain.service, p["slow_factor"]) if attack in {"boaster", "slow"} else None
    own, likeness = LIARS_MODEL + number, LIKENESS
    match attack:
        case "replicas":
            own = LIARS_MODEL
        case "lookalike" | "defector" | "careful":
            own = OWN_DIGEST + LIARS_MODEL * number + number % p["models"]
        case "slanderer":
            own = number % p["models"]
        case "relay":
            likeness = SMALL
        case _:
            pass
    return replace(
        plain, model=own, service=service or plain.service, kind="liar", likeness=likeness
    )


def asked_bytes(world: World) -> int:
    """What has been sent for answers and audits."""
    return sum(host.bytes_sent - host.bytes_of_records for host in world.hosts)


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
            size = min((s.get("fair") for s in here), key=lambda fair: abs(fair - GOAL_SHARE))
            shares = [
                f"{s.parameters['attack']} {100 * s.get('weight_share'):.1f}"
                f" ({100 * s.get('tokens_changed'):.1f})"
                for s in here
                if s.get("fair") == size
            ]
            parts.append(f"{'with' if defended else 'without'} the defences, {', '.join(shares)}")
    if not parts:
        return "There are no liars."
    return (
        "Per cent of the weight (and of the tokens, how many are changed)"
        f" by liars who are {100 * size:.0f} % of the swarm: {'; '.join(parts)}."
    )


STUDY: Final = Study(
    module="swarmllm.sims.sybil",
    parameters=(
        Parameter("share", 0.2, "share of the experts that lie", low=0, high=0.9),
        Parameter("attack", "heart", "what liars do", choices=tuple(ATTACKS)),
        Parameter("defended", True, "whether words are checked and newcomers capped"),
        Parameter("experts", 20, "nodes that run one, liars included", low=1, high=1000),
        Parameter("models", 4, "different honest models", low=1, high=1000),
        Parameter("k", 3, "experts whose lists make a token", low=1, high=32),
        Parameter("extra", 1, "more experts asked as insurance", low=0, high=32),
        Parameter("askers", 2, "who ask", low=1, high=100),
        Parameter("before", 20, "requests of each before it is counted", low=1, high=10_000),
        Parameter("after", 10, "requests of each while it is", low=1, high=10_000),
        Parameter("tokens", 40, "tokens of an answer", low=2, high=4096),
        Parameter("service", "desktop-8b", "what the experts run on", choices=tuple(SERVICES)),
        Parameter("slow_factor", 10.0, "how much slower the slow are", low=1, high=1000),
    ),
    results=(
        Result("weight_share", "share of the weight in the tokens that liars have", digits=3),
        Result("tokens_changed", "share of the tokens that liars change", digits=3),
        Result("alone", "share of the tokens that no honest expert gives", digits=4),
        Result("unaudited", "share of the tokens of one model never audited alone", digits=4),
        Result("nats", "of the pool for a token of the text's own model", "nats", digits=3),
        Result("fair", "the liars' share of the swarm", digits=2),
        Result("finished", "share of the answers that were written to their end", digits=3),
        Result("tokens_per_s", "of one answer", digits=2),
        Result("bytes_per_token", "that answers of experts take", "bytes", digits=0),
        Result("traffic_per_token", "of all that is asked and answered", "bytes", digits=0),
    ),
    point=point,
    sweep={"attack": tuple(ATTACKS), "share": (0.05, 0.2, 0.4)},
    plots=(
        Lines(
            "weight",
            "Weight of liars in the tokens",
            "share",
            ("weight_share",),
            "share of the weight",
            limit=(GOAL, "to stay below at a fifth"),
        ),
        Lines(
            "changed",
            "Tokens that liars change",
            "share",
            ("tokens_changed",),
            "share of the tokens",
        ),
    ),
    check=check,
    says=says,
)

if __name__ == "__main__":
    sys.exit(main("sybil"))
