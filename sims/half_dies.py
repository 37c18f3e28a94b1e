"""If half of the experts die at once, in the middle of their answers, how many of the answers are
finished, and how whole?

    python sims/half_dies.py [--sweep share=0.1,0.3,0.5,0.7,0.9] [--freeze]

The exact World: some who ask for many greedy answers at once, of replicas of one model, so that a
lost or doubled token would show as another text than that of an undisturbed swarm. At a random
moment a `share` of the experts is killed (their peers see a reset) or, with `--freeze`, stops
answering without a word, as a suspended process does. The goal: 99 % of the answers finish, and
every one is whole.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.errors import UsageError
from swarmllm.sims.crowd import add_askers, add_experts, gaps_of
from swarmllm.sims.study import Lines, Parameter, Parameters, Result, Results, Study, Summary, main
from swarmllm.testing.world import DESKTOP_8B, VOCABULARY, LinkModel, Spec, World

LINK: Final = LinkModel(near_s=0.01, span_s=0.05)
PROMPT: Final = (3, 1, 4, 1, 5)
MODEL: Final = 7
SETTLE_S: Final = 30.0
WITHIN_S: Final = 600.0


def order(k: int, extra: int, tokens: int) -> GenerateRequest:
    greedy = Sampling(temperature=0.0)
    return GenerateRequest(
        PROMPT, k=k, extra=extra, max_tokens=tokens, sampling=greedy, vocab_size=VOCABULARY
    )


@lru_cache(maxsize=8)
def undisturbed(tokens: int) -> tuple[int, ...]:
    world = World(0, halts=False)
    (host,) = add_experts(world, [Spec(model=MODEL, service=DESKTOP_8B)])
    world.run_for(5.0)
    answer = world.ask(host, order(1, 0, tokens))
    world.run_for(WITHIN_S, lambda: bool(answer.ends))
    return tuple(answer.tokens)


def point(p: Parameters, seed: int) -> Results:
    rng = random.Random(f"{seed} half dies")
    world = World(seed, link=LINK, halts=False)
    experts = add_experts(world, [Spec(model=MODEL, service=DESKTOP_8B)] * p["experts"])
    askers = add_askers(world, p["askers"])
    world.run_for(SETTLE_S)
    answers = [
        world.ask(host, order(p["k"], p["extra"], p["tokens"]))
        for host in askers
        for _ in range(p["answers"])
    ]
    world.run_for(rng.uniform(0.2, 2.0))
    began = sum(bool(answer.tokens) for answer in answers)
    harm = world.freeze if p["freeze"] else world.crash
    for victim in rng.sample(experts, round(p["share"] * p["experts"])):
        harm(victim)
    world.run_for(WITHIN_S, lambda: all(answer.ends for answer in answers))
    gaps = [gap for answer in answers for gap in gaps_of(answer)]
    expected = list(undisturbed(p["tokens"]))
    return {
        "answers": len(answers),
        "began": began,
        "finished": sum(
            answer.end is not None and answer.end.reason == "length" for answer in answers
        ),
        "whole": sum(answer.tokens == expected for answer in answers),
        "longest_pause_s": max(gaps, default=0.0),
    }


def check(p: Parameters) -> None:
    if round(p["share"] * p["experts"]) >= p["experts"]:
        raise UsageError(f"--share {p['share']:g} of --experts {p['experts']} leaves nobody")


def says(found: Sequence[Summary]) -> str:
    finished, whole, answers = (
        sum(s.get(name) * len(s.seeds) for s in found) for name in ("finished", "whole", "answers")
    )
    longest = max(s.get("longest_pause_s") for s in found)
    whole_text = (
        f"{finished:.0f} of {answers:.0f} answers finished, {whole:.0f} with the undisturbed text"
    )
    return f"{whole_text}; the longest pause between two tokens was {longest:.2f} s on average."


STUDY: Final = Study(
    "swarmllm.sims.half_dies",
    parameters=(
        Parameter("experts", 16, "experts, some of which die", low=2, high=256),
        Parameter("share", 0.5, "of the experts dies", low=0, high=1),
        Parameter("askers", 2, "who ask", low=1, high=64),
        Parameter("answers", 4, "answers that each asks for at once", low=1, high=64),
        Parameter("k", 3, "experts that decide each token together", low=1, high=64),
        Parameter("extra", 1, "more experts asked than needed", low=0, high=64),
        Parameter("tokens", 48, "tokens of an answer", low=2, high=4096),
        Parameter("freeze", False, "the victims fall silent instead of breaking their connections"),
    ),
    results=(
        Result("answers", "answers asked for"),
        Result("began", "of which the first token was there when it happened", digits=1),
        Result("finished", "answers that came to their end", digits=1),
        Result("whole", "of these, with the text of an undisturbed swarm", digits=1),
        Result("longest_pause_s", "longest time between two tokens of any answer", digits=2),
    ),
    point=point,
    plots=(Lines("pause", "The longest wait for a token", "share", ("longest_pause_s",), "s"),),
    check=check,
    says=says,
    holds=lambda results: bool(results["finished"] == results["whole"] == results["answers"]),
    runs=30,
)

if __name__ == "__main__":
    sys.exit(main("half_dies"))
