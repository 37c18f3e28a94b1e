"""The cases that wait for their turn to be audited: those first whose experts were never looked at
in an answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.trust.case import Case
from swarmllm.core.trust.comparison import Reading
from swarmllm.core.trust.questions import Question
from swarmllm.core.trust.sessions import Ongoing
from swarmllm.messages import PeerId

WAITING_MAX: Final = 16  # With more the oldest of the least urgent gives way.
WAIT_S: Final = 30.0
# A holder that lets an audit wait for nothing is not asked again for so long. Each time holds up
# all other audits for a minute, and is paid for.
REST_S: Final = 3_600.0
RESTING_MAX: Final = 256


@dataclass(slots=True)
class Waiting:
    """A case whose turn has not come, or has: then `by` is asked, until `until`."""

    case: Case
    text: tuple[int, ...]
    session: Ongoing
    since: float
    by: PeerId | None = None
    until: float = math.inf
    number: int = 0
    order: int = 0
    tried: set[PeerId] = field(default_factory=set)
    tokens: int = 0
    questions: Sequence[Question] = ()
    """That are not answered yet; the first of them is asked."""
    readings: list[Reading] = field(default_factory=list)
    opinion: int = 0
    """The number under which its outcome is wanted, and nothing else comes of it; 0: an audit."""
    is_urgent: bool = False
    """Nothing that the expert has said in an answer was looked at before."""

    @property
    def due_at(self) -> float:
        """When it begins, even if an answer is being written."""
        return self.since if self.is_urgent else self.since + WAIT_S


class Queue:
    def __init__(self) -> None:
        self._cases: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._cases)

    def add(self, waiting: Waiting) -> None:
        """Behind those that are as urgent."""
        if len(self._cases) >= WAITING_MAX:
            self._cases.remove(min(self._cases, key=lambda one: one.is_urgent))
        urgent = sum(one.is_urgent for one in self._cases)
        self._cases.insert(urgent if waiting.is_urgent else len(self._cases), waiting)

    def add_first(self, waiting: Waiting) -> None:
        self._cases.insert(0, waiting)

    def next_at(self) -> float:
        """When the first one begins, whatever else is done."""
        return self._cases[0].due_at if self._cases else math.inf

    def pop(self) -> Waiting:
        return self._cases.pop(0)

    def clear(self) -> None:
        self._cases.clear()


class Resting:
    """Holders that let an audit wait for nothing, until when they are not asked."""

    def __init__(self) -> None:
        self._until: dict[PeerId, float] = {}

    def rest(self, peer: PeerId, now: float) -> None:
        self._until = {one: until for one, until in self._until.items() if until > now}
        if len(self._until) >= RESTING_MAX:
            del self._until[min(self._until, key=lambda one: (self._until[one], one))]
        self._until[peer] = now + REST_S

    def is_resting(self, peer: PeerId, now: float) -> bool:
        return self._until.get(peer, -math.inf) > now
