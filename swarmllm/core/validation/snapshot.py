"""The snapshot: the swarm as one node knows it, in numbers, from which a simulated one is made.

No text, no name, no address: what strangers call their models and domains has no part in it.
Times are those that the node has measured itself, where it has; else what an expert's capacity
record claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Final

from swarmllm.core.peers.view import ExpertView, NodeView
from swarmllm.errors import UsageError

EXPERTS_MAX: Final = 512
U32_MAX: Final = 2**32 - 1
SECONDS_MAX: Final = 600.0  # Of anything measured: what takes longer has failed long before.


@dataclass(frozen=True, slots=True)
class ExpertFigures:
    """`model` numbers the models: replicas have the same. `round_us`: the mean time of a round of
    one token, `ping_us`: of a ping, in microseconds (0: never measured). `rate` is tokens/s over
    all sessions, times 16; `own`: 1 for the node's own expert."""

    model: int
    round_us: int
    ping_us: int
    rate: int
    sessions_max: int
    sessions_free: int
    own: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`peers` are connected, `answers` written at this moment; `experts` rise by their figures."""

    experts: tuple[ExpertFigures, ...]
    peers: int = 0
    answers: int = 0


NAMES: Final = tuple(one.name for one in fields(ExpertFigures))


def snapshot_of(view: NodeView) -> Snapshot:
    """What the node sees now: experts that it is connected to, its own included."""
    models: dict[bytes, int] = {}
    reachable = [one for one in view.experts if one.connected or one.local]
    for one in reachable:
        models.setdefault(one.record.model_digest, len(models))
    found = sorted(
        (_figures(one, models[one.record.model_digest]) for one in reachable), key=astuple
    )
    return Snapshot(tuple(found[:EXPERTS_MAX]), len(view.peers), view.answers_open)


def _figures(one: ExpertView, model: int) -> ExpertFigures:
    record = one.record
    return ExpertFigures(
        model,
        _micros(one.rtt_s) if one.replies else 0,
        _micros(one.ping_s),
        record.rate,
        record.sessions_max,
        record.sessions_free,
        int(one.local),
    )


def _micros(seconds: float) -> int:
    """Bounded, also of what a broken clock may have brought."""
    return round(1_000_000 * min(SECONDS_MAX, seconds)) if seconds > 0 else 0


def fields_of(snapshot: Snapshot) -> dict[str, object]:
    """For JSON: an expert is a list of numbers in the order of `NAMES`."""
    return {
        "experts": [list(astuple(one)) for one in snapshot.experts],
        "peers": snapshot.peers,
        "answers": snapshot.answers,
    }


def read_fields(found: object) -> Snapshot:
    """The reverse. UsageError for anything else."""
    if not isinstance(found, Mapping):
        raise UsageError("a snapshot has the fields experts, peers and answers")
    experts = found.get("experts")
    if not isinstance(experts, list) or len(experts) > EXPERTS_MAX:
        raise UsageError(f"a snapshot names at most {EXPERTS_MAX} experts, as lists of numbers")
    for row in experts:
        if not isinstance(row, list) or len(row) != len(NAMES) or not _are_counts(row):
            raise UsageError(f"an expert of a snapshot is {len(NAMES)} whole numbers from 0 on")
    peers, answers = found.get("peers"), found.get("answers")
    if not _are_counts([peers, answers]):
        raise UsageError("peers and answers of a snapshot are whole numbers from 0 on")
    assert isinstance(peers, int)
    assert isinstance(answers, int)
    return Snapshot(tuple(ExpertFigures(*row) for row in experts), peers, answers)


def _are_counts(values: Iterable[object]) -> bool:
    return all(type(value) is int and 0 <= value <= U32_MAX for value in values)
