"""Self-improvement tasks: what a node's agent is asked to do in one cycle, and the queue of them.

A task's type says in which domain it works, which result is wanted of a validation, and how far its
result may go, whatever phase is in force. Its description is the owner's text: the model reads it,
quoted, and the ledger has its digest alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Final, Literal

from swarmllm.core.agent.domains import DOMAINS
from swarmllm.core.governance.mandate import Tier
from swarmllm.errors import LocalError, UsageError

TASKS_MAX: Final = 64  # That wait or run; of those that are over the last ones are kept.
OVER_MAX: Final = 32
DESCRIPTION_MAX: Final = 512  # Bytes of UTF-8.
PRIORITY_MAX: Final = 9
RESULT_MAX: Final = 200  # Characters.


@dataclass(frozen=True, slots=True)
class TaskKind:
    """`domain` where nobody names another; `phase_max`: a cycle of this type goes no further than
    in this phase, so `tier` is the highest that comes of it; `wanted`: of a validation."""

    domain: str
    phase_max: int
    tier: Tier
    wanted: tuple[str, ...]
    about: str


class TaskType(StrEnum):
    TUNE_SCHEDULER = "tune_scheduler"
    ANALYSE_SECURITY = "analyse_security"
    WRITE_TEST = "write_test"
    TUNE_CONFIGURATION = "tune_configuration"
    DRAFT_PROPOSAL = "draft_proposal"


KINDS: Final = {
    TaskType.TUNE_SCHEDULER: TaskKind(
        *("scheduling", 4, Tier.DEPLOY_MINOR, ("better",)),
        "a setting of routing and rounds that makes the swarm better in the simulator",
    ),
    TaskType.ANALYSE_SECURITY: TaskKind(
        *("security", 1, Tier.SUGGEST, ("better",)),
        "what refusals, losses and failovers say, with a setting that people should look at",
    ),
    TaskType.WRITE_TEST: TaskKind(
        *("scheduling", 2, Tier.SANDBOX_TEST, ("worse", "law broken")),
        "a change under which the simulated swarm gets worse or breaks a law: a case for its tests",
    ),
    TaskType.TUNE_CONFIGURATION: TaskKind(
        *("network", 4, Tier.DEPLOY_MINOR, ("better",)),
        "a setting of what is exchanged, offered and kept, that makes the swarm better",
    ),
    TaskType.DRAFT_PROPOSAL: TaskKind(
        *("scheduling", 2, Tier.SUGGEST, ("better",)),
        "a change that was found better, as a suggestion for people to propose",
    ),
}
TUNE: Final = KINDS[TaskType.TUNE_SCHEDULER]
"""What a cycle does for which nobody gave a task, in whatever domain."""

TaskState = Literal["queued", "running", "done", "expired"]


@dataclass(frozen=True, slots=True)
class Task:
    """`number` counts this node's tasks. A task that has not begun by `expires_ms` (Unix time;
    0: never) will not. `proposal`: what came of it."""

    number: int
    type: TaskType
    domain: str
    description: str
    priority: int
    submitted_ms: int
    expires_ms: int = 0
    state: TaskState = "queued"
    result: str = ""
    proposal: bytes = b""

    @property
    def id(self) -> str:
        said = f"{self.number}\0{self.submitted_ms}\0{self.type}\0{self.domain}\0{self.description}"
        return sha256(said.encode()).hexdigest()[:16]

    @property
    def digest(self) -> bytes:
        """Of the description."""
        return sha256(self.description.encode()).digest()

    @property
    def kind(self) -> TaskKind:
        return KINDS[self.type]

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "expired")


@dataclass(frozen=True, slots=True)
class Order:
    """A task as it is asked for. An empty domain: that of its type."""

    type: TaskType
    domain: str = ""
    description: str = ""
    priority: int = 0
    wait_s: int = 0

    def check(self) -> None:
        """UsageError for what is out of bounds."""
        if self.domain and self.domain not in DOMAINS:
            raise UsageError(
                f"there is no domain {self.domain[:40]!r}; there is {', '.join(DOMAINS)}"
            )
        try:
            size = len(self.description.encode())
        except UnicodeEncodeError:
            raise UsageError("the description of the task is not valid UTF-8; correct it") from None
        if size > DESCRIPTION_MAX:
            raise UsageError(
                f"the description of the task has {size} bytes, and it may have {DESCRIPTION_MAX};"
                " shorten it"
            )
        if not 0 <= self.priority <= PRIORITY_MAX:
            raise UsageError(f"the priority is {self.priority}; it must be 0 to {PRIORITY_MAX}")
        if not 0 <= self.wait_s <= 30 * 86_400:
            raise UsageError(f"the deadline is {self.wait_s} s from now; it must be 0 to 30 days")


class Tasks:
    """By number, those that are over included."""

    def __init__(self, held: Iterable[Task] = ()) -> None:
        self._tasks = {task.number: task for task in held}
        self._is_changed = False

    @property
    def all(self) -> tuple[Task, ...]:
        return tuple(self._tasks[number] for number in sorted(self._tasks))

    def check_room(self) -> None:
        """LocalError if too many wait already."""
        waiting = sum(not task.is_over for task in self._tasks.values())
        if waiting >= TASKS_MAX:
            raise LocalError(
                f"{TASKS_MAX} tasks wait already; submit it again when one of them is done"
            )

    def submit(self, order: Order, unix_ms: int) -> Task:
        """UsageError for an order that makes no sense, LocalError if there is no room."""
        order.check()
        self.check_room()
        task = Task(
            max(self._tasks, default=0) + 1,
            order.type,
            order.domain or KINDS[order.type].domain,
            order.description,
            order.priority,
            unix_ms,
            unix_ms + 1_000 * order.wait_s if order.wait_s else 0,
        )
        self._put(task)
        return task

    def get(self, number: int) -> Task | None:
        return self._tasks.get(number)

    def next(self, domain: str, unix_ms: int) -> Task | None:
        """The one that should begin in this domain: of the highest priority, the oldest. Those
        whose time is over are expired first."""
        for task in self.all:
            if task.state == "queued" and task.expires_ms and task.expires_ms < unix_ms:
                self._put(replace(task, state="expired", result="its deadline has passed"))
        waiting = [one for one in self.all if one.state == "queued" and one.domain == domain]
        return min(waiting, key=lambda one: (-one.priority, one.number), default=None)

    def began(self, task: Task) -> None:
        self._put(replace(task, state="running"))

    def ended(self, number: int, result: str, proposal: bytes = b"") -> None:
        task = self._tasks.get(number)
        if task is not None and not task.is_over:
            result = result[:RESULT_MAX]
            self._put(replace(task, state="done", result=result, proposal=proposal))

    def changed(self) -> bool:
        """Whether they were, since this was asked last."""
        was, self._is_changed = self._is_changed, False
        return was

    def _put(self, task: Task) -> None:
        self._is_changed = True
        self._tasks[task.number] = task
        over = [one.number for one in self.all if one.is_over]
        for number in over[: max(0, len(over) - OVER_MAX)]:
            if number != max(self._tasks):  # Numbers go on from the highest.
                del self._tasks[number]
