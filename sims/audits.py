"""After how many audits is an expert found that answers with something else than its model, and how
often is one found that does not?

    python sims/audits.py [--sweep cheat=another-model,q4-for-q8] [--share 0.05]

Real lists: what a bundled expert says of held-out texts, and what others say in its place, was
compared once (`scripts/audit_lists.py`). A point asks an expert for one answer after the other, of
which it cheats in a `share`, audits them as often as the reputation says, draws positions from a
random session, and goes on until the expert is excluded or `audits` have been made. The goal: who
cheats in all answers is found within 100 audits with 95 %, and an honest expert in less than one of
10,000 lives of 1,000 audits.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.core.trust.comparison import Difference
from swarmllm.core.trust.reputation import Reputation
from swarmllm.core.trust.suspicion import POSITIONS, Suspicion, differs
from swarmllm.messages import PeerId
from swarmllm.sims.study import Curves, Parameter, Parameters, Result, Results, Study, Summary, main

LISTS: Final = Path(__file__).resolve().parent / "audit_lists.npz"
HONEST: Final = ("another-batch", "another-back-end")
FOUND: Final = (
    *("another-model", "a-smaller-model", "q4-for-q8", "truncated-context"),
    *("noise-of-0.5", "noise-of-0.2", "poison-of-0.1", "poison-of-0.01"),
)
HIDDEN: Final = ("noise-of-0.05",)
CHEATS: Final = (*HONEST, *FOUND, *HIDDEN)
ANSWERS_MAX: Final = 100_000
PEER: Final = PeerId("expert")
DIGEST: Final = bytes(32)

Lists = npt.NDArray[np.float32]


@lru_cache(maxsize=1)
def lists() -> Mapping[str, Lists]:
    """By what was said in its place: float32[sessions, positions, 2], total variation and nats."""
    with np.load(LISTS) as found:
        return {name.lower().replace(" ", "-"): found[name] for name in found.files}


def drawn(rows: Lists, rng: random.Random) -> tuple[Difference, ...]:
    session = rows[rng.randrange(len(rows))]
    places = rng.sample(range(len(session)), min(POSITIONS, len(session)))
    return tuple(Difference(float(session[i][0]), float(session[i][1])) for i in places)


def point(p: Parameters, seed: int) -> Results:
    rng = random.Random(f"{seed} audits {p['cheat']} {p['share']}")
    cheating, honest = lists()[p["cheat"]], lists()[HONEST[0]]
    reputation = Reputation()
    audits = answers = 0
    found_at = None
    while audits < p["audits"] and answers < ANSWERS_MAX and found_at is None:
        answers += 1
        cheats = rng.random() < p["share"]
        if rng.random() >= reputation.audit_chance(PEER, DIGEST):
            continue
        audits += 1
        seen = drawn(cheating if cheats else honest, rng)
        now_s = 600.0 * answers  # Six answers an hour, so that what is old fades.
        before = Suspicion(reputation.of(PEER, DIGEST, now_s).suspicion)
        after = before.after(seen)
        if not differs(seen) and not after.is_alarm:
            reputation.agreed(PEER, DIGEST, after, now_s)
        elif reputation.failed(PEER, DIGEST, after, now_s, p["cheat"]):
            found_at = audits
    return {
        "found": float(found_at is not None),
        "within_100": float(found_at is not None and found_at <= 100),
        "audits": found_at,
        "answers": None if found_at is None else answers,
        "made": list(range(1, p["shown"] + 1)),
        "found_by": [
            float(found_at is not None and found_at <= n) for n in range(1, p["shown"] + 1)
        ],
    }


def says(found: Sequence[Summary]) -> str:
    told = [
        f"{s.parameters['cheat']} in {100 * s.parameters['share']:g} % of the answers:"
        f" {100 * s.get('within_100'):.0f} % found within 100 audits"
        for s in found
    ]
    return f"{'; '.join(told)}."


STUDY: Final = Study(
    "swarmllm.sims.audits",
    parameters=(
        Parameter("cheat", "another-model", "what is said in its place", choices=CHEATS),
        Parameter("share", 1.0, "of the answers are not the model's", low=0, high=1),
        Parameter("audits", 100, "audits that are made at most", low=1, high=100_000),
        Parameter("shown", 40, "audits that the picture shows", low=1, high=1000),
    ),
    results=(
        Result("found", "of the experts is excluded", digits=4),
        Result("within_100", "of them within 100 audits", digits=3),
        Result("audits", "audits until then", digits=1),
        Result("answers", "answers until then", digits=1),
        Result("made", "audits made", table=False),
        Result("found_by", "of the experts excluded by then", table=False),
    ),
    point=point,
    sweep={"cheat": CHEATS},
    plots=(
        Curves(
            *("power", "How soon a cheat is found", "made", "found_by"),
            *("audits", "share of cheats that are excluded"),
        ),
    ),
    says=says,
    runs=200,
)

if __name__ == "__main__":
    sys.exit(main("audits"))
