"""What a node remembers of governance over restarts: one value with how far it is, and one for each
case with its records, each with a checksum.

A value that cannot be read is not guessed at: governance then enacts nothing on this node until its
owner has looked (`Damaged`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import msgpack

from swarmllm.core.governance.canary import Samples, Trial
from swarmllm.core.governance.journal import JournalEntry
from swarmllm.core.governance.outcome import Target

STATE_KEY: Final = "governance/state"
SLOTS_MAX: Final = 2_048
_MAGIC: Final = b"swarmllm-gov-1\n"
_TRIALS: Final[tuple[Trial, ...]] = ("none", "running", "fine", "worse")
_KINDS: Final = ("setting", "bounds", "phase", "model")

InForce = tuple[bytes, tuple[int, ...]]
"""The id of the case that put it into force (empty: the charter), and the value: one number, low
and high of bounds, or the bytes of the action that names a model."""


class Damaged(Exception):
    """Something that was not written by this version, or was changed since; says what."""


@dataclass(frozen=True, slots=True)
class SavedCourse:
    """How far the node was with a case; seconds of its own clock, `ripe_s` None before it was
    ripe. `before` is what a canary that runs here compares with: once the change is in force,
    nobody can measure that again. `idle`: it had passed, and could not be carried out."""

    seen_s: float
    ripe_s: float | None
    released: bool
    trial: Trial
    reported: bool
    before: Samples = field(default_factory=Samples)
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """`scope` is that of the records; `boot` and `uptime_s` are the reading of the clock when this
    was written; `slots` are the ids of the cases, by slot (empty: free). `lived`: those in force by
    these had taken effect when this was written."""

    scope: bytes = b""
    boot: bytes = b""
    uptime_s: float = 0.0
    terms: bytes = b""
    slots: tuple[bytes, ...] = ()
    courses: Mapping[bytes, SavedCourse] = field(default_factory=dict)
    in_force: Mapping[Target, InForce] = field(default_factory=dict)
    stable_s: tuple[float, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    next_number: int = 1
    lived: frozenset[bytes] = frozenset()


def slot_key(slot: int) -> str:
    return f"governance/case/{slot}"


def pack(saved: Saved) -> bytes:
    return _seal(
        [
            saved.scope,
            saved.boot,
            saved.uptime_s,
            saved.terms,
            list(saved.slots),
            [
                [
                    *(id, c.seen_s, c.ripe_s, c.released, _TRIALS.index(c.trial), c.reported),
                    [c.before.count, c.before.mean, c.before.squares],
                    c.idle,
                ]
                for id, c in saved.courses.items()
            ],
            [
                [_KINDS.index(target.kind), target.code, id, list(value)]
                for target, (id, value) in saved.in_force.items()
            ],
            list(saved.stable_s),
            [
                [e.number, e.proposal, e.what, e.old, e.new, e.at_ms, e.taken_back]
                for e in saved.journal
            ],
            saved.next_number,
            sorted(saved.lived),
        ]
    )


def pack_case(records: Sequence[bytes]) -> bytes:
    """A case as its slot holds it."""
    return _seal(list(records))


def load(read: Callable[[str], bytes | None]) -> tuple[Saved, dict[bytes, list[bytes]]]:
    """What was saved, and the records of each case by its id. `read` gives the value of a key,
    None for one that was never saved. Damaged if any of it cannot be relied on."""
    data = read(STATE_KEY)
    if data is None:
        return Saved(), {}
    saved = read_state(data)
    cases: dict[bytes, list[bytes]] = {}
    for slot, id in enumerate(saved.slots):
        if id:
            held = read(slot_key(slot))
            if held is None:
                raise Damaged(f"{slot_key(slot)} is missing")
            cases[id] = [bytes(record) for record in _open(held, slot_key(slot))]
    return saved, cases


def read_state(data: bytes) -> Saved:
    """What `pack` made, without its cases. Damaged if it cannot be relied on."""
    return _saved(_open(data, STATE_KEY))


def _saved(row: Any) -> Saved:
    try:
        scope, boot, uptime_s, terms, slots, courses, in_force, stable_s, journal, number, lived = (
            row
        )
        return Saved(
            scope,
            boot,
            float(uptime_s),
            terms,
            tuple(slots),
            {
                id: SavedCourse(
                    float(seen_s),
                    None if ripe_s is None else float(ripe_s),
                    bool(released),
                    _TRIALS[trial],
                    bool(reported),
                    Samples(*before),
                    bool(idle),
                )
                for id, seen_s, ripe_s, released, trial, reported, before, idle in courses
            },
            {Target(_KINDS[kind], code): (id, tuple(value)) for kind, code, id, value in in_force},
            tuple(float(seconds) for seconds in stable_s),
            tuple(JournalEntry(*entry) for entry in journal),
            int(number),
            frozenset(lived),
        )
    except (ValueError, TypeError, IndexError) as fault:
        raise Damaged(f"{STATE_KEY} is not of this version: {fault}") from fault


def _seal(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    body = _MAGIC + packed
    return body + sha256(body).digest()


def _open(data: bytes, key: str) -> Any:
    body, checksum = data[:-32], data[-32:]
    if not body.startswith(_MAGIC) or sha256(body).digest() != checksum:
        raise Damaged(f"{key} ({len(data)} bytes) is damaged")
    return msgpack.unpackb(body[len(_MAGIC) :])
