"""The planted faults: a setting at a bad value, and a swarm in which that hurts.

Only faults whose mending the simulator can show are here: the way back must not cost the text
anything, or the verdict would be `not shown` (`core.validation.coverage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from swarmllm.core.settings import table as t
from swarmllm.core.settings.setting import Setting
from swarmllm.sims.crowd import CONTEXT_MAX
from swarmllm.sims.validation.fitting import Fitted
from swarmllm.testing.world import LinkModel, Service, Spec

SESSIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Place:
    """A swarm: its experts' seconds for a token, how many models these are, the least delay of a
    message and what chance adds at most (s), the share of messages that are late, how often an
    expert leaves (1/s), and the answers that are written at once."""

    steps_s: tuple[float, ...]
    models: int = 4
    delay_s: float = 0.01
    spread_s: float = 0.04
    loss: float = 0.005
    leaves: float = 0.0
    streams: int = 2
    tokens: int = 24
    prompt: int = 48
    sessions: int = SESSIONS

    def fitted(self) -> Fitted:
        count = len(self.steps_s)
        experts = tuple(
            Spec(
                model=at % self.models,
                service=Service(0.8 * step, 0.2 * step, 0.1 * step),
                sessions_max=self.sessions,
                context_max=CONTEXT_MAX,
                place=(at / count, at / count),
            )
            for at, step in enumerate(self.steps_s)
        )
        link = LinkModel(self.delay_s, self.spread_s, loss=self.loss)
        return Fitted(
            experts,
            None,
            link,
            self.streams,
            self.tokens,
            self.prompt,
            self.leaves,
            count,
            (),
        )


EVEN: Final = (0.04,) * 8
MIXED: Final = (0.02, 0.03, 0.03, 0.04, 0.05, 0.08, 0.15, 0.4)
FIVE: Final = (0.02, 0.03, 0.05, 0.1, 0.4)
EIGHT: Final = (0.02, 0.02, 0.03, 0.04, 0.05, 0.1, 0.3, 0.6)

CALM: Final = Place(EVEN)
LOSSY: Final = Place(EVEN, loss=0.04)
FAR: Final = Place(EVEN, delay_s=0.05, spread_s=0.2, loss=0.02)
FAR_FEW: Final = Place((0.04,) * 5, delay_s=0.05, spread_s=0.2, loss=0.03, tokens=16, prompt=16)
UNEVEN: Final = Place(MIXED)
UNEVEN_LOSSY: Final = Place(MIXED, loss=0.03)
FEW: Final = Place(FIVE, tokens=16, prompt=16)
FEW_LONG: Final = Place(FIVE, tokens=16, prompt=96)
VARIED: Final = Place(EIGHT, models=8, tokens=16, prompt=16)


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    values: Mapping[Setting[Any], int]
    place: Place


# The loss of each, mean and standard deviation over paired seeds (6 or 5), in per cent of the
# objective.
FAULTS: Final = (
    Fault("no_hedge_lossy", {t.EXTRA: 0}, LOSSY),  # 9.9, 4.5
    Fault("no_hedge_uneven", {t.EXTRA: 0}, UNEVEN_LOSSY),  # 13.3, 2.7
    Fault("no_hedge_far", {t.EXTRA: 0}, FAR),  # 11.8, 5.0
    Fault("hedge_much_calm", {t.EXTRA: 4}, CALM),  # 16.7, 4.4
    Fault("hedge_much_few", {t.EXTRA: 4}, FEW),  # 48.0, 6.0
    Fault("hedge_much_long", {t.EXTRA: 4}, FEW_LONG),  # 49.8, 5.2
    Fault("hedge_much_varied", {t.EXTRA: 4}, VARIED),  # 18.1, 7.5
    Fault("hedge_much_far", {t.EXTRA: 4}, FAR_FEW),  # 8.3, 3.8
    Fault("hedge_dear_uneven", {t.HEDGE_COST: 1_000}, UNEVEN),  # 11.2, 4.2
    Fault("blur_few", {t.BLUR: 20_000}, FEW),  # 21.2, 12.3
    Fault("blur_varied", {t.BLUR: 5_000}, VARIED),  # 9.7, 6.4
)
