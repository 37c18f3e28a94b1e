"""What do the defences against liars cost a swarm in which nobody lies?

    python sims/trust_cost.py --runs 100

A point is a pair of the worlds of `swarmllm.sims.sybil` without liars and with one seed: in one of
them words are checked, newcomers capped, tokens hidden and experts audited, in the other nothing of
that. The costs are differences in per cent of what the bare world has: of the nats per token, of
the tokens per second, of the bytes that answers and audits put on the wire for each token (without
those of the records that nodes exchange anyway).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from swarmllm.sims import sybil
from swarmllm.sims.study import Mean, Parameters, Result, Results, Study, Summary, main

GOALS: Final = {"nats_cost": 1.0, "speed_cost": 3.0, "bytes_cost": 5.0}
"""In per cent; the interval of the mean is to lie below."""
FIXED: Final = {"share": 0.0, "attack": "heart"}
SHARED: Final = tuple(one for one in sybil.STUDY.parameters if one.name not in {"defended", *FIXED})


def point(p: Parameters, seed: int) -> Results:
    bare, defended = (sybil.point({**p, **FIXED, "defended": how}, seed) for how in (False, True))
    return {
        "nats_cost": _more(bare["nats"], defended["nats"]),
        "speed_cost": -_more(bare["tokens_per_s"], defended["tokens_per_s"]),
        "bytes_cost": _more(bare["traffic_per_token"], defended["traffic_per_token"]),
        "finished": min(bare["finished"], defended["finished"]),
    }


def _more(before: float, after: float) -> float:
    """In per cent."""
    return 100 * (after - before) / before if before else 0.0


def says(found: Sequence[Summary]) -> str:
    parts = []
    for one in found:
        for name, goal in GOALS.items():
            mean = one.means.get(name, Mean(0.0, 0.0, 0))
            verdict = "within" if mean.n > 1 and mean.value + mean.half < goal else "not within"
            what = name.removesuffix("_cost")
            parts.append(
                f"{what} {mean.value:+.2f} ± {mean.half:.2f} %, {verdict} the goal of {goal:g} %"
            )
    return f"The defences cost, over {found[0].means['nats_cost'].n} pairs: {'; '.join(parts)}."


STUDY: Final = Study(
    module="swarmllm.sims.trust_cost",
    parameters=SHARED,
    results=(
        Result("nats_cost", "more nats for a token of the text's own model", "%", digits=2),
        Result("speed_cost", "fewer tokens per second of one answer", "%", digits=2),
        Result("bytes_cost", "more bytes of experts for a token", "%", digits=2),
        Result("finished", "share of the answers that were written to their end", digits=3),
    ),
    point=point,
    says=says,
    runs=20,
)

if __name__ == "__main__":
    sys.exit(main("trust_cost"))
