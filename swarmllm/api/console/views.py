"""What templates need worked out: orders, groups, and sentences about a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmllm.runtime.service.record import Record
from swarmllm.wire.signed import key_id

EXPERTS_MAX: Final = 200  # Rows; a page of more is no help to anybody.
CYCLES_MAX: Final = 20


def experts_shown(status: Record) -> list[Record]:
    """This node's own first, then those that can be asked, the fastest first."""
    return sorted(
        status["experts"],
        key=lambda one: (not one["local"], not one["connected"], one["expected_ms"], one["peer"]),
    )[:EXPERTS_MAX]


def usable(status: Record) -> int:
    return sum(one["connected"] or one["local"] for one in status["experts"])


def others(status: Record) -> int:
    """Other nodes whose experts may be asked, and so see prompts."""
    return sum(bool(one["connected"]) and not one["local"] for one in status["experts"])


def load(expert: Record) -> float:
    """The share of its sessions that are taken."""
    most = expert["sessions_max"]
    return 1 - expert["sessions_free"] / most if most else 0.0


def settings_shown(settings: Record) -> tuple[list[Record], list[Record]]:
    """Those that somebody has set, and the others."""
    found = settings["settings"]
    is_set = [bool(one["pinned"] or one["changed_by"]) for one in found]
    changed = [one for one, is_one in zip(found, is_set, strict=True) if is_one]
    return changed, [one for one, is_one in zip(found, is_set, strict=True) if not is_one]


def setting(settings: Record, key: str) -> int:
    return next(int(one["value"]) for one in settings["settings"] if one["key"] == key)


def roles(charter: Mapping[str, list[str]]) -> list[tuple[str, str, list[str]]]:
    """Each role of a charter, what it may do, and the ids of its keys, as orders and votes have
    them."""
    may = {
        "root": "change the charter",
        "halt": "stop the swarm, each alone",
        "resume": "start it again together",
        "voter": "vote on changes",
        "beacon": "keep it alive by a sign of life",
    }
    return [
        (role, what, [key_id(bytes.fromhex(key)).hex() for key in charter[role]])
        for role, what in may.items()
        if charter.get(role)
    ]


@dataclass(frozen=True, slots=True)
class CycleView:
    """The steps of one cycle of a domain, as they came."""

    domain: str
    number: int
    steps: list[Record] = field(default_factory=list)


def cycles(notes: Sequence[Record]) -> list[CycleView]:
    """The last cycles, that of the newest step first."""
    found: dict[tuple[str, int], CycleView] = {}
    for note in notes:
        place = note["domain"], note["cycle"]
        one = found.pop(place, None) or CycleView(*place)
        one.steps.append(note)
        found[place] = one  # At the end: it has the newest step.
    return list(found.values())[::-1][:CYCLES_MAX]
