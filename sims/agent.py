"""Does an agent's loop mend a setting that somebody left at a bad value, and which proposer does?

    swarmllm simulate agent [--sweep fault=no_hedge_lossy,hedge_much_calm --sweep proposer=rules]

A swarm has a planted fault (`swarmllm.sims.planted.faults`). Its agent observes, proposes, has the
change simulated with and without it on 8 pairs of seeds, applies what is better, and measures; that
it is voted for is assumed. The loss is the objective under the fault less that without it; what is
won back is measured on fresh seeds. All proposers get the same faults, seeds and validations.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final

from swarmllm.core.agent.proposers import (
    InTurn,
    Proposer,
    RandomProposer,
    RuleProposer,
    SearchProposer,
)
from swarmllm.sims.planted.faults import BY_NAME, FAULTS
from swarmllm.sims.planted.trial import MENDED, Trial
from swarmllm.sims.study import Lines, Parameter, Parameters, Result, Results, Study, Summary, main

PROPOSERS: Final[dict[str, Callable[[], Proposer]]] = {
    "rules": RuleProposer,
    "search": SearchProposer,
    "rules_search": lambda: InTurn("rules, then search", (RuleProposer(), SearchProposer())),
    "random": RandomProposer,
}


def point(p: Parameters, seed: int) -> Results:
    proposer = PROPOSERS[p["proposer"]]()
    found = Trial(BY_NAME[p["fault"]], proposer, seed, p["validations"], p["fresh"]).run()
    return {one.name: found[one.name] for one in STUDY.results}


def says(found: Sequence[Summary]) -> str:
    sentences = []
    for proposer in dict.fromkeys(one.parameters["proposer"] for one in found):
        its = [one for one in found if one.parameters["proposer"] == proposer]
        mended = sum(one.get("won_back") >= MENDED for one in its)
        sentences.append(f"{proposer} mends {mended} of {len(its)} faults")
    return "; ".join(sentences) + "."


STUDY: Final = Study(
    "swarmllm.sims.agent",
    parameters=(
        Parameter("fault", FAULTS[0].name, "what is planted", choices=tuple(BY_NAME)),
        Parameter("proposer", "rules_search", "who proposes", choices=tuple(PROPOSERS)),
        Parameter(
            "validations",
            10,
            "validations of all cycles together; 0: it only observes",
            low=0,
            high=100,
        ),
        Parameter("fresh", 12, "fresh seeds on which the loss is measured", low=2, high=1_000),
    ),
    results=(
        Result("loss", "objective under the fault less that without it, per cent", digits=1),
        Result("actionable", "share of suggestions that somebody can act on", digits=2),
        Result("improving", "share of suggestions that are better in validation", digits=2),
        Result("won_back", "share of the loss won back", digits=2),
        Result("mended", "1 if at least half of the loss is won back", digits=2),
        Result("validations_used", "validations used", digits=1),
        Result("taken_back", "changes taken back after measuring", digits=1),
        Result("simulated_s", "simulated time of all validations", "s"),
    ),
    point=point,
    sweep={"proposer": tuple(PROPOSERS), "fault": tuple(BY_NAME)},
    plots=(Lines("won", "Share of the loss won back", "validations", ("won_back",), "won back"),),
    says=says,
    runs=1,
)

if __name__ == "__main__":
    sys.exit(main("agent"))
