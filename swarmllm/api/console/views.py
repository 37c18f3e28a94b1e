"""What templates need worked out: orders, groups, and sentences about a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmllm.api.console.wording import span
from swarmllm.core.governance.mandate import Tier
from swarmllm.core.wording import several
from swarmllm.runtime.service.record import Record
from swarmllm.wire.signed import key_id

EXPERTS_MAX: Final = 200  # Rows; a page of more is no help to anybody.
CYCLES_MAX: Final = 20
OWN_KEY: Final = {"id": "", "name": "this node"}  # It has no passphrase.


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


def can_propose(voting: Record, governance: Record, private: bool) -> list[Record]:
    """The keys here that may propose."""
    if not voting["here"] or governance["obstacle"]:
        return []
    if private:
        return [OWN_KEY]
    return [key for key in voting["keys"] if key["id"] in governance["voters"]]


def can_vote(one: Record, voting: Record, governance: Record, private: bool) -> list[Record]:
    """The keys here that may vote on this proposal and have not yet. The node's own, without a name
    and a passphrase, in a private swarm, of which it is the one voter."""
    if not voting["here"] or governance["obstacle"] or one["state"] != "open" or not one["needs"]:
        return []
    said = {*one["yes"], *one["no"], *one["double"]}
    if private:
        return [] if said else [OWN_KEY]
    voters = set(governance["voters"]) - said
    return [key for key in voting["keys"] if key["id"] in voters]


def voted_here(one: Record, voting: Record) -> list[tuple[str, str]]:
    """The keys here that have voted on this proposal, with what they said."""
    return [
        (key["name"], said)
        for key in voting["keys"]
        for said in ("yes", "no")
        if key["id"] in one[said]
    ]


def after_yes(one: Record, governance: Record) -> str:
    """What one more vote for it would do."""
    lacking = one["needs"] - len(one["yes"]) - 1
    if lacking > 0:
        return f"with this vote it still needs {several(lacking, 'vote')}, each by another voter"
    waits_s = governance["review_s"] if one["tier"] == Tier.DEPLOY_MAJOR else governance["canary_s"]
    if not waits_s:
        return "with this vote it passes, and every node puts it into force at once"
    if one["tier"] == Tier.DEPLOY_MAJOR:
        return f"with this vote it passes, and comes into force after {span(waits_s)} of review"
    return f"with this vote it passes: a canary tries it for {span(waits_s)}, then every node does"


def after_no(one: Record, governance: Record) -> str:
    """What one more vote against it would do."""
    left = governance["electorate"] - len(one["no"]) - len(one["double"]) - 1
    if left < one["needs"]:
        there = several(left, "voter is", "voters are")
        return f"with this vote it cannot pass any more: {there} left"
    return f"it can pass all the same: {one['needs']} of the {left} other voters are enough"


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
