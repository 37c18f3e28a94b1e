"""If half of the experts die at once, in the middle of their answers, how many of the answers are finished, and how whole?

    python sims/half_dies.py [--experts 16] [--answers 8] [--k 3] [--extra 1] [--runs 50] [--seed 0] [--freeze] [--json]

Real nodes under a virtual clock (`swarmllm.testing.tabletop`): one of them asks for many greedy answers at once, of replicas of one
scripted model, so that a lost or doubled token would show as another text. At a random moment half of the others are killed (their
peers see a reset) or, with `--freeze`, stop answering without a word, as a suspended process does.
"""

from __future__ import annotations

import argparse
import json
import random
import sys

from swarmllm.core.events import GenerateOrder, Sampling
from swarmllm.testing.tabletop import Tabletop

TOKENS = 24
PROMPT = (3, 1, 4, 1, 5)


def order(k: int, extra: int) -> GenerateOrder:
    return GenerateOrder(PROMPT, k=k, extra=extra, max_tokens=TOKENS, sampling=Sampling(temperature=0.0), vocab_size=512)


def undisturbed() -> list[int]:
    table = Tabletop([7])
    table.ask(table.peers[0], order(1, 0))
    table.finish(table.peers[0])
    return table.tokens(table.peers[0])


def one_run(options: argparse.Namespace, seed: int, expected: list[int]) -> tuple[int, int, float]:
    """(answers finished, of these with the undisturbed text, longest pause between two tokens in seconds)."""
    rng = random.Random(seed)
    table = Tabletop([None] + [7] * options.experts, seed=seed)
    table.run_until(2.0)
    asker = table.peers[0]
    victims = rng.sample(table.peers[1:], options.experts // 2)
    harm = table.freeze if options.freeze else table.kill
    when = table.now + rng.uniform(0.05, 0.5)
    for victim in victims:
        table.at(when, lambda v=victim: harm(v))  # type: ignore[misc]
    for request in range(1, options.answers + 1):
        table.ask(asker, order(options.k, options.extra), request)
    ends = [table.finish(asker, request) for request in range(1, options.answers + 1)]
    finished = sum(end.reason == "length" for end in ends)
    whole = sum(table.tokens(asker, request) == expected for request in range(1, options.answers + 1))
    pause = max(chosen.round_s for request in range(1, options.answers + 1) for chosen in table.chosen(asker, request))
    return finished, whole, pause


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("experts", 16), ("answers", 8), ("k", 3), ("extra", 1), ("runs", 50), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--freeze", action="store_true", help="the victims fall silent instead of breaking their connections")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.experts < 2 or min(options.answers, options.k, options.runs) < 1 or options.extra < 0:
        parser.error("at least 2 experts and 1 answer, run and expert per token are needed, and no negative extra")
    expected = undisturbed()
    finished = whole = 0
    longest = 0.0
    for number in range(options.runs):
        one = one_run(options, options.seed + number, expected)
        finished, whole, longest = finished + one[0], whole + one[1], max(longest, one[2])
    total = options.runs * options.answers
    flags = " ".join(f"--{n} {getattr(options, n)}" for n in ("experts", "answers", "k", "extra", "runs", "seed"))
    replay = f"python sims/half_dies.py {flags}{' --freeze' if options.freeze else ''}"
    results = {"answers": total, "finished": finished, "whole": whole, "longest_round_s": round(longest, 3)}
    if options.json:
        print(json.dumps({"event": "point", "results": results, "seed": options.seed, "replay": replay}))
    else:
        print(f"{finished} of {total} answers finished, {whole} with the undisturbed text; longest round {longest:.2f} s")
        print(f"replay: {replay}")
    return 0 if finished == whole == total else 1


if __name__ == "__main__":
    sys.exit(main())
