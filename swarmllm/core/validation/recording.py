"""The recording of the last 24 hours: per minute, what was asked of this node, who came, who went.

Numbers only: no text, no name, no address. It is what the simulator replays with and without a
change. A day is kept in 24 parts of an hour, each small enough to be written while an answer goes
on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Final

from swarmllm.errors import UsageError

DAY_MIN: Final = 1_440
HOUR_MIN: Final = 60
U32_MAX: Final = 2**32 - 1
FORMAT: Final = b"\x02"


@dataclass(slots=True)
class Minute:
    """One minute (`minute`: since 1970, by this node's clock). `answers` that began, their
    `prompt_tokens`, `ended` and how many of these were `unfinished`, `tokens` that came; `p50_ms`
    and `p99_ms` of the time of their rounds, how many were `late` (three times the median), without
    those in which prompts are taken in, whose median is `first_ms`; `failovers`; peers that
    `joined` and `left`; `experts` known at its end, of whom some came and some went. `asked` is how
    often an expert was asked and `sent` how many tokens it was given to compute, both added up over
    all experts; `used`: of how many of their answers tokens were made."""

    minute: int
    answers: int = 0
    prompt_tokens: int = 0
    ended: int = 0
    unfinished: int = 0
    tokens: int = 0
    p50_ms: int = 0
    p99_ms: int = 0
    late: int = 0
    failovers: int = 0
    joined: int = 0
    left: int = 0
    experts: int = 0
    experts_came: int = 0
    experts_went: int = 0
    first_ms: int = 0
    asked: int = 0
    sent: int = 0
    used: int = 0


NAMES: Final = tuple(one.name for one in fields(Minute))
_ROW: Final = struct.Struct(f">{len(NAMES)}I")
Recording = tuple[Minute, ...]
"""Rising by minute, no minute twice, at most a day from the first to the last."""


def of_last_day(minutes: Iterable[Minute], now_min: int) -> Recording:
    """Those of the 24 hours before `now_min`, in order; of two of one minute the later one. What
    lies in the future was written by a clock that has been set since, and is dropped."""
    found = {one.minute: one for one in minutes if now_min - DAY_MIN < one.minute <= now_min}
    return tuple(found[minute] for minute in sorted(found))


def pack(minutes: Sequence[Minute]) -> bytes:
    """As it is on disk."""
    rows = (_ROW.pack(*(min(U32_MAX, value) for value in astuple(one))) for one in minutes)
    return FORMAT + b"".join(rows)


def unpack(data: bytes) -> Recording:
    """Nothing for what is damaged, or of another version."""
    if data[:1] != FORMAT or (len(data) - 1) % _ROW.size or len(data) > 1 + HOUR_MIN * _ROW.size:
        return ()
    return tuple(Minute(*values) for values in _ROW.iter_unpack(data[1:]))


def rows_of(recording: Recording) -> list[list[int]]:
    """For JSON: a list of numbers for each minute, in the order of `NAMES`."""
    return [list(astuple(one)) for one in recording]


def read_rows(found: object) -> Recording:
    """The reverse. UsageError for anything else."""
    if not isinstance(found, list) or len(found) > DAY_MIN:
        raise UsageError(f"a recording is a list of at most {DAY_MIN} minutes")
    recording = tuple(_read_row(row) for row in found)
    minutes = [one.minute for one in recording]
    if minutes != sorted(set(minutes)) or (minutes and minutes[-1] - minutes[0] >= DAY_MIN):
        raise UsageError("the minutes of a recording rise, and all lie within one day")
    return recording


def _read_row(row: object) -> Minute:
    if not isinstance(row, list) or len(row) != len(NAMES):
        raise UsageError(f"a minute of a recording has {len(NAMES)} numbers")
    for value in row:
        if type(value) is not int or not 0 <= value <= U32_MAX:
            raise UsageError(
                f"{str(value)[:40]} stands in a recording; whole numbers from 0 to {U32_MAX} do"
            )
    return Minute(*row)


def busy_minutes(recording: Recording) -> list[int]:
    """The places of the minutes in which something was asked."""
    return [place for place, one in enumerate(recording) if one.answers]
