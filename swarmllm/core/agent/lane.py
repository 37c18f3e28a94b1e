"""A lane: the cycle of one domain on this node, with what is under way for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.agent import saved
from swarmllm.core.agent.budget import Budget
from swarmllm.core.agent.charter import USUAL
from swarmllm.core.agent.cycle import Ask, Cycle, State, Step, Work
from swarmllm.core.agent.domains import DOMAINS
from swarmllm.core.agent.observation import Observation
from swarmllm.core.agent.subsets import Subset
from swarmllm.core.agent.tasks import Task
from swarmllm.messages import PeerId

BUSY: Final = frozenset({Step.OBSERVING, Step.PROPOSING, Step.VALIDATING, Step.FILING})
"""Steps in which a cycle needs experts or a processor."""


@dataclass(frozen=True, slots=True)
class LaneView:
    """One domain. `experts` are the subset of its last cycle, shared with `others`; seconds."""

    domain: str
    others: tuple[str, ...]
    experts: tuple[PeerId, ...]
    is_runner: bool
    cycle: int
    step: Step
    rests_s: float
    waited_s: float
    proposal: bytes
    task: int


@dataclass(slots=True)
class Lane:
    """`number` of the work that is under way (0: none), since `asked_s` on the clock of the
    cycles. `task`: what the cycle is
    for (0: nothing that somebody asked for)."""

    domain: str
    cycle: Cycle
    task: int = 0
    number: int = 0
    work: Work | None = None
    asked_s: float = 0.0
    saved_at: float = -math.inf
    observation: Observation = field(default_factory=dict)
    subset: Subset = field(default_factory=lambda: Subset((), ()))

    @property
    def is_busy(self) -> bool:
        return self.cycle.state.step in BUSY

    @property
    def is_asking(self) -> bool:
        """Whether experts are asked for it."""
        return isinstance(self.work, Ask)

    def release(self, budget: Budget, now_s: float) -> int:
        """Nothing is under way any more, and what experts were asked is paid for; the number that
        it had."""
        if self.is_asking:
            budget.spend(now_s - self.asked_s)
        number, self.number, self.work = self.number, 0, None
        return number

    def view(self, is_runner: bool) -> LaneView:
        state = self.cycle.state
        rests = state.step is Step.RESTING
        return LaneView(
            domain=self.domain,
            others=tuple(one for one in self.subset.domains if one != self.domain),
            experts=self.subset.experts,
            is_runner=is_runner,
            cycle=state.cycle,
            step=state.step,
            rests_s=max(0.0, state.rest_s - state.waited_s) if rests else 0.0,
            waited_s=state.waited_s,
            proposal=state.proposal,
            task=self.task,
        )


def load_lanes(
    load: Callable[[str], bytes | None],
) -> tuple[dict[str, Lane], tuple[Task, ...], str]:
    """As a former life of the node left them: what was under way is asked for again."""
    held, tasks, lost = saved.load(load)
    lanes: dict[str, Lane] = {}
    for domain in DOMAINS:
        state, task = held.get(domain, (State(), 0))
        cycle = Cycle(USUAL.terms, state)
        cycle.interrupted()
        lanes[domain] = Lane(domain, cycle, task)
    return lanes, tasks, lost
