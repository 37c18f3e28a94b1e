"""A trial: one fault, one proposer, a loop of cycles, and what it has won back on fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Final

from swarmllm.core.agent.proposers import Proposer
from swarmllm.core.settings.setting import Setting
from swarmllm.core.validation.objective import cost_of
from swarmllm.core.validation.statistics import PAIRS_MIN
from swarmllm.sims.frame.store import Store
from swarmllm.sims.planted.faults import Fault
from swarmllm.sims.planted.loop import Loop, sifted
from swarmllm.sims.validation.playing import play, steady

FRESH: Final = 1_000_000  # From here on are seeds that no loop looks at.
MENDED: Final = 0.5  # Of the loss, won back.


@dataclass(frozen=True, slots=True)
class Trial:
    fault: Fault
    proposer: Proposer
    seed: int
    validations: int
    fresh: int
    pairs: int = PAIRS_MIN

    def run(self, store: Store | None = None) -> dict[str, float]:
        """`store` keeps simulated runs, so that what is interrupted goes on where it was, and
        proposers that propose the same share a validation. Less than none is won back of a loss
        that became greater."""
        fault, validator = self.fault, partial(sifted, store=store, pairs=self.pairs)
        planted = dict(fault.values)
        loop = Loop(
            *(fault.place, planted, self.proposer, self.seed, self.validations, validator),
            draw=fault.name,  # Each fault gets another order of search.
        )
        loop.run()
        bad, good = self._cost(fault.values, store), self._cost(fault.healthy, store)
        now = self._cost(loop.values, store)
        loss = bad - good
        won = (bad - now) / loss if loss > 0 else 0.0
        return {
            "loss": loss,
            "suggested": loop.suggested,
            "actionable": loop.actionable / max(1, loop.suggested),
            "improving": loop.improving / max(1, loop.suggested),
            "won_back": won,
            "mended": float(won >= MENDED),
            "validations_used": loop.validations,
            "taken_back": loop.taken_back,
            "simulated_s": loop.simulated_s,
        } | {setting.key: float(loop.values[setting]) for setting in loop.values}

    def _cost(self, values: Mapping[Setting[Any], int], store: Store | None) -> float:
        """The mean objective on fresh seeds."""
        first = FRESH * (self.seed + 1)
        return fmean(self._run(values, first + seed, store) for seed in range(self.fresh))

    def _run(self, values: Mapping[Setting[Any], int], seed: int, store: Store | None) -> float:
        shown = ",".join(f"{one.key}={value}" for one, value in sorted_by_code(values))
        key = f"{self.fault.name} {shown} {seed}"
        held = None if store is None else store.get(key)
        if held is not None:
            return float(held["cost"])
        cost = cost_of(play(self.fault.place.fitted(), values, seed, steady).figures)
        if store is not None:
            store.add(key, {"results": {"cost": cost}})
        return cost


def sorted_by_code(values: Mapping[Setting[Any], int]) -> list[tuple[Setting[Any], int]]:
    return sorted(values.items(), key=lambda one: one[0].code)
