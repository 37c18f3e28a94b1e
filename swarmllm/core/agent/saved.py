"""What a node remembers of its agent over restarts: where each domain's cycle is, and its tasks.

Nothing of it decides what is in force, so what cannot be read is given up and said: the cycles
begin anew, and what was proposed is with governance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgpack

from swarmllm.core.agent.cycle import TRIED_MAX, State, Step
from swarmllm.core.agent.domains import DOMAINS
from swarmllm.core.agent.suggestion import EVIDENCE_MAX, FINDING_MAX, Suggestion
from swarmllm.core.agent.tasks import OVER_MAX, TASKS_MAX, Task, TaskType
from swarmllm.core.governance.canary import Samples
from swarmllm.core.settings.table import BY_CODE

TASKS_KEY: Final = "agent/tasks"
_MAGIC: Final = b"swarmllm-agent-1\n"
WAIT_MAX_S: Final = 400 * 86_400.0


class Unreadable(Exception):
    """Not what this version writes."""


def key_of(domain: str) -> str:
    return f"agent/{domain}"


def pack_state(state: State, task: int) -> bytes:
    """`task` is the number of the task that the cycle works on; 0: none."""
    before = state.before
    row = [
        *(state.cycle, str(state.step), state.waited_s, state.rest_s, state.pause_s),
        *(state.attempts, _packed(state.suggestion), state.report, state.proposal),
        None if before is None else [before.count, before.mean, before.squares],
        [[setting.code, value] for setting, value in state.tried],
        task,
    ]
    return _MAGIC + _bytes(row)


def pack_tasks(tasks: Iterable[Task]) -> bytes:
    rows = [
        [
            *(one.number, str(one.type), one.domain, one.description, one.priority),
            *(one.submitted_ms, one.expires_ms, one.state, one.result, one.proposal),
        ]
        for one in tasks
    ]
    return _MAGIC + _bytes(rows)


def read_state(data: bytes) -> tuple[State, int]:
    """Unreadable for anything else."""
    row = _unpacked(data)
    try:
        cycle, step, waited_s, rest_s, pause_s, attempts, said, report, proposal, before, *rest = (
            row
        )
        tried, task = rest
        state = State(
            cycle=_count(cycle),
            step=Step(step),
            waited_s=_seconds(waited_s),
            rest_s=_seconds(rest_s),
            pause_s=_seconds(pause_s),
            attempts=_count(attempts),
            suggestion=None if said is None else _suggestion(*said),
            report=_digest(report),
            proposal=_digest(proposal),
            before=None if before is None else Samples(_count(before[0]), *map(float, before[1:])),
            tried=tuple((BY_CODE[code], _count(value)) for code, value in tried[-TRIED_MAX:]),
        )
    except (ValueError, TypeError, KeyError, IndexError) as fault:
        raise Unreadable(f"a cycle: {type(fault).__name__}") from fault
    return state, _count(task)


def read_tasks(data: bytes) -> tuple[Task, ...]:
    """Unreadable for anything else. What ran when the node ended waits again."""
    rows = _unpacked(data)
    try:
        found = tuple(_task(*row) for row in rows[-(TASKS_MAX + OVER_MAX) :])
    except (ValueError, TypeError) as fault:
        raise Unreadable(f"a task: {type(fault).__name__}") from fault
    return found


def load(
    read: Callable[[str], bytes | None],
) -> tuple[Mapping[str, tuple[State, int]], tuple[Task, ...], str]:
    """The cycles by domain, the tasks, and what could not be read, in a sentence (empty: all)."""
    cycles: dict[str, tuple[State, int]] = {}
    tasks: tuple[Task, ...] = ()
    lost: list[str] = []
    for domain in DOMAINS:
        data = read(key_of(domain))
        try:
            if data is not None:
                cycles[domain] = read_state(data)
        except Unreadable:
            lost.append(f"the cycle of {domain}")
    data = read(TASKS_KEY)
    try:
        if data is not None:
            tasks = read_tasks(data)
    except Unreadable:
        lost.append("its tasks")
    said = f"what was kept of {' and '.join(lost)} cannot be read, and begins anew" if lost else ""
    return cycles, tasks, said


def _task(
    number: int,
    type_: str,
    domain: str,
    description: str,
    priority: int,
    submitted_ms: int,
    expires_ms: int,
    state: Any,
    result: str,
    proposal: bytes,
) -> Task:
    if domain not in DOMAINS or state not in ("queued", "running", "done", "expired"):
        raise ValueError(domain)
    return Task(
        *(_count(number), TaskType(type_), domain, str(description), _count(priority)),
        *(_count(submitted_ms), _count(expires_ms), state, str(result), _digest(proposal)),
    )


def _packed(said: Suggestion | None) -> list[object] | None:
    if said is None:
        return None
    return [
        *(said.setting.code, said.value, said.finding, list(said.evidence)),
        *(said.expected, said.confidence),
    ]


def _suggestion(
    code: int, value: int, finding: str, evidence: list[str], expected: str, confidence: float
) -> Suggestion:
    if len(finding) > FINDING_MAX or len(evidence) > EVIDENCE_MAX:
        raise ValueError("too long")
    cited = tuple(map(str, evidence))
    return Suggestion(
        BY_CODE[code], _count(value), finding, cited, str(expected), float(confidence)
    )


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(value)
    return value


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds) or not 0 <= seconds <= WAIT_MAX_S:
        raise ValueError(value)
    return seconds


def _digest(value: Any) -> bytes:
    if not isinstance(value, bytes) or len(value) not in (0, 32):
        raise ValueError(value)
    return value


def _bytes(value: object) -> bytes:
    packed = msgpack.packb(value)
    assert isinstance(packed, bytes)
    return packed


def _unpacked(data: bytes) -> list[Any]:
    if not data.startswith(_MAGIC):
        raise Unreadable("written by another version")
    try:
        found = msgpack.unpackb(data[len(_MAGIC) :])
    except (ValueError, msgpack.UnpackException) as fault:
        raise Unreadable(type(fault).__name__) from fault
    if not isinstance(found, list):
        raise Unreadable("no list")
    return found
