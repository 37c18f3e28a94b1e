"""Made-up simulations that take no time."""

from __future__ import annotations

import random
from collections.abc import Callable

from swarmllm.core.settings.table import EXTRA
from swarmllm.core.validation.objective import PARTS
from swarmllm.sims.validation.fitting import Fitted
from swarmllm.sims.validation.playing import Load, Played, Values
from swarmllm.sims.validation.validate import Play


def made_up(factor: Callable[[Values], float], noise: float = 0.02) -> Play:
    """Runs that cost nothing: a token takes 0.1 s times the factor, and noise."""

    def run(_: Fitted, values: Values, seed: int, __: Load) -> Played:
        rng = random.Random(f"{seed} {sorted((s.key, v) for s, v in values.items())}")
        figures = {part.name: 1.0 if part.kind == "ratio" else 0.0 for part in PARTS}
        figures["token"] = 0.1 * factor(values) * rng.lognormvariate(0.0, noise)
        return Played(figures, f"{figures['token']:.9f}")

    return run


def by_extra(values: Values) -> float:
    """Each expert more that is asked makes a token a tenth slower; each less as much quicker."""
    return 1.0 + 0.1 * (values.get(EXTRA, EXTRA.default) - EXTRA.default)


def by_nothing() -> dict[str, float]:
    return {part.name: 1.0 for part in PARTS}
