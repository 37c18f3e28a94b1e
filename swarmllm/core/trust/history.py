"""The history of audits: the last ones that have ended, for people. It outlives this node."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from swarmllm.core.trust.case import Verdict
from swarmllm.core.trust.comparison import Difference
from swarmllm.messages import PeerId

HISTORY_MAX: Final = 256
HISTORY: Final = "audits"  # The key in the store.
FORMAT: Final = 1
HOLDERS_MAX: Final = 8  # Who was asked in one audit, at most.


@dataclass(frozen=True, slots=True)
class Audit:
    """One that has ended. `mean`: of the differences; None: nothing was compared."""

    at_s: float
    expert: PeerId
    model: str
    model_digest: bytes
    verdict: Verdict
    positions: int
    mean: Difference | None
    by: tuple[PeerId, ...]
    against: PeerId | None
    is_signed: bool
    is_excluded: bool
    tokens: int


class History(deque[Audit]):
    """Oldest first; `saved` is what `packed` gave in an earlier life."""

    def __init__(self, saved: bytes = b"") -> None:
        super().__init__(_unpacked(saved), maxlen=HISTORY_MAX)

    def packed(self) -> bytes:
        found: bytes = msgpack.packb([FORMAT, [_row(one) for one in self]])
        return found


def _row(one: Audit) -> list[Any]:
    mean = None if one.mean is None else [one.mean.variation, one.mean.nats, one.mean.ranks]
    return [
        *(one.at_s, one.expert, one.model, one.model_digest, str(one.verdict), one.positions),
        *(mean, list(one.by), one.against, one.is_signed, one.is_excluded, one.tokens),
    ]


def _unpacked(saved: bytes) -> Iterator[Audit]:
    """What a value from the disk says; nothing of what is none."""
    try:
        found: Any = msgpack.unpackb(saved) if saved else None
    except (ValueError, msgpack.exceptions.UnpackException):
        return
    match found:
        case [int(version), list(rows)] if version == FORMAT:
            yield from filter(None, map(_audit, rows[-HISTORY_MAX:]))
        case _:
            return


def _audit(row: Any) -> Audit | None:
    match row:
        case [
            float(at_s),
            str(expert),
            str(model),
            bytes(digest),
            str(verdict),
            int(positions),
            mean,
            [*by],
            str() | None as against,
            bool(is_signed),
            bool(is_excluded),
            int(tokens),
        ] if math.isfinite(at_s) and verdict in set(Verdict) and _are_names(by):
            if (compared := _difference(mean)) is None and mean is not None:
                return None
            return Audit(
                *(at_s, PeerId(expert), model, digest, Verdict(verdict), positions, compared),
                tuple(map(PeerId, by)),
                None if against is None else PeerId(against),
                *(is_signed, is_excluded, tokens),
            )
        case _:
            return None


def _are_names(by: Sequence[Any]) -> bool:
    return len(by) <= HOLDERS_MAX and all(isinstance(one, str) for one in by)


def _difference(mean: Any) -> Difference | None:
    match mean:
        case [float(variation), float(nats), int(ranks)] if math.isfinite(variation + nats):
            return Difference(variation, nats, ranks)
        case _:
            return None
