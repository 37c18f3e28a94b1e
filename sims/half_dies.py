"""If half of the experts die at once, in the middle of their answers, how many of the answers are finished, and how whole?

    python sims/half_dies.py [--experts 16] [--answers 8] [--k 3] [--extra 1] [--runs 50] [--seed 0] [--freeze] [--json]

Real nodes under a virtual clock (`swarmllm.testing.tabletop`): one of them asks for many greedy answers at once, of replicas of one
scripted model, so that a lost or doubled token would show as another text. At a random moment half of the others are killed (their
peers see a reset) or, with `--freeze`, stop answering without a word, as a suspended process does.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from functools import lru_cache

from sims.study import Parameter, Parameters, Result, Results, Study, Summary, main
from swarmllm.core.events import GenerateOrder, Sampling
from swarmllm.testing.tabletop import Tabletop

TOKENS = 24
PROMPT = (3, 1, 4, 1, 5)


def order(k: int, extra: int) -> GenerateOrder:
    return GenerateOrder(PROMPT, k=k, extra=extra, max_tokens=TOKENS, sampling=Sampling(temperature=0.0), vocab_size=512)


@lru_cache(maxsize=1)
def undisturbed() -> list[int]:
    table = Tabletop([7])
    table.ask(table.peers[0], order(1, 0))
    table.finish(table.peers[0])
    return table.tokens(table.peers[0])


def point(parameters: Parameters, seed: int) -> Results:
    experts, answers = parameters["experts"], parameters["answers"]
    rng = random.Random(seed)
    table = Tabletop([None] + [7] * experts, seed=seed)
    table.run_until(2.0)
    asker = table.peers[0]
    victims = rng.sample(table.peers[1:], experts // 2)
    harm = table.freeze if parameters["freeze"] else table.kill
    when = table.now + rng.uniform(0.05, 0.5)
    for victim in victims:
        table.at(when, lambda v=victim: harm(v))  # type: ignore[misc]
    for request in range(1, answers + 1):
        table.ask(asker, order(parameters["k"], parameters["extra"]), request)
    ends = [table.finish(asker, request) for request in range(1, answers + 1)]
    return {
        "answers": answers,
        "finished": sum(end.reason == "length" for end in ends),
        "whole": sum(table.tokens(asker, request) == undisturbed() for request in range(1, answers + 1)),
        "longest_round_s": max(chosen.round_s for request in range(1, answers + 1) for chosen in table.chosen(asker, request)),
    }


def says(found: Sequence[Summary]) -> str:
    finished, whole, answers = (sum(s.get(name) * len(s.seeds) for s in found) for name in ("finished", "whole", "answers"))
    longest = max(s.get("longest_round_s") for s in found)
    whole_text = f"{finished:.0f} of {answers:.0f} answers finished, {whole:.0f} with the undisturbed text"
    return f"{whole_text}; longest round {longest:.2f} s on average."


STUDY = Study(
    "sims.half_dies",
    parameters=(
        Parameter("experts", 16, "experts, half of which die", low=2, high=256),
        Parameter("answers", 8, "answers asked for at once", low=1, high=64),
        Parameter("k", 3, "experts that decide each token together", low=1, high=64),
        Parameter("extra", 1, "more experts asked than needed", low=0, high=64),
        Parameter("freeze", False, "the victims fall silent instead of breaking their connections"),
    ),
    results=(
        Result("answers", "answers asked for"),
        Result("finished", "answers that came to their end", digits=1),
        Result("whole", "of these, with the text of an undisturbed swarm", digits=1),
        Result("longest_round_s", "longest round of any answer", digits=2),
    ),
    point=point,
    says=says,
    holds=lambda results: bool(results["finished"] == results["whole"] == results["answers"]),
    runs=50,
)

if __name__ == "__main__":
    sys.exit(main("half_dies"))
