"""Track records on the disk: what was seen of other experts outlives this node, and fades
meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, fields
from typing import Any, Final

import msgpack

from swarmllm.core.trust.reputation import HALF_LIFE_S
from swarmllm.core.trust.track_record import RECORDS_MAX, Key, TrackRecord, TrackRecords
from swarmllm.messages import PeerId

RECORDS: Final = "track-records"  # The key in the store.
FORMAT: Final = 1


def pack(records: TrackRecords, now_s: float) -> bytes:
    """As they are at this Unix time."""
    rows = [[peer, digest, *astuple(record)] for (peer, digest), record in records]
    found: bytes = msgpack.packb([FORMAT, now_s, rows])
    return found


def unpack(saved: bytes, now_s: float) -> Iterator[tuple[Key, TrackRecord]]:
    """As they count now; nothing of what is no such value."""
    try:
        found: Any = msgpack.unpackb(saved) if saved else None
    except (ValueError, msgpack.exceptions.UnpackException):
        return
    match found:
        case [int(version), float(at_s), list(rows)] if version == FORMAT and at_s >= 0:
            left = 0.5 ** (max(0.0, now_s - at_s) / HALF_LIFE_S)
            read = [_record(row) for row in rows[:RECORDS_MAX]]
            yield from ((key, one.decayed(left)) for key, one in filter(None, read))
        case _:
            return


def _record(row: Any) -> tuple[Key, TrackRecord] | None:
    names = [one.name for one in fields(TrackRecord)]
    if isinstance(row, list) and len(row) == 1 + len(names):
        row = [*row, 0.0]  # Of a node that did not count what was confirmed yet.
    if not isinstance(row, list) or len(row) != 2 + len(names):
        return None
    peer, digest, *values = row
    if not isinstance(peer, str) or not isinstance(digest, bytes) or len(digest) != 32:
        return None
    told = dict(zip(names, values, strict=True))
    if type(told.pop("is_refuted")) is not bool:
        return None
    if any(type(v) is not float or not math.isfinite(v) for v in told.values()):
        return None
    return (PeerId(peer), digest), TrackRecord(*values)
