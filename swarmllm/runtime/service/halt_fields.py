"""The kill switch's state as JSON fields: what a running node answers, what a command says of a
data folder without one, and what proposals and charters are shown as."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from swarmllm.core.halt.charter import Rejected, is_private
from swarmllm.core.halt.state import Applied, HaltState, Outcome
from swarmllm.messages import Charter, Halt, reason_name

ROLES: Final = ("root", "halt", "resume", "voter", "beacon")


def state_fields(state: HaltState) -> dict[str, Any]:
    """The state by itself, wherever it is held. `halted` says why nothing may run under it;
    `private`: the charter is that of a node by itself, which only its owner can halt."""
    return {
        "swarm": state.swarm.hex(),
        "charter_version": state.version,
        "charter": None if state.charter is None else charter_fields(state.charter),
        "private": state.charter is not None and is_private(state.charter),
        "halted": list(state.reasons),
        "digest": state.digest.hex(),
        "standing": halts_fields(state.standing),
        "highs": {key.hex(): seq for key, seq in sorted(state.highs.items())},
        "lifts": {key.hex(): seq for key, seq in sorted(state.lifts.items())},
        "stopped_here": state.stopped_here,
        "lost": state.lost,
    }


def halts_fields(halts: Iterable[Halt]) -> list[dict[str, Any]]:
    """Orders; `issued` in seconds since 1970."""
    return [
        {
            "key": halt.key.hex(),
            "seq": halt.seq,
            "reason": reason_name(halt.reason_code),
            "issued": halt.issued_ms / 1000,
        }
        for halt in halts
    ]


def charter_fields(charter: Charter) -> dict[str, Any]:
    """A charter: keys in hexadecimal, times in seconds since 1970, `expires` None for never."""
    return {
        "version": charter.version,
        **{role: [key.hex() for key in getattr(charter, role)] for role in ROLES},
        "root_threshold": charter.root_threshold,
        "resume_threshold": charter.resume_threshold,
        "revert_changes": charter.revert_changes,
        "beacon_ttl_s": charter.beacon_ttl_s,
        "issued": charter.issued_ms / 1000,
        "expires": charter.expires_ms / 1000 if charter.expires_ms else None,
    }


def outcome_fields(outcome: Outcome) -> dict[str, str]:
    """What became of a record that was handed over."""
    match outcome:
        case Applied():
            return {"outcome": "applied", "reason": ""}
        case Rejected(reason=reason):
            return {"outcome": "refused", "reason": reason}
        case _:
            return {"outcome": "known", "reason": "this node holds it, or a newer one, already"}
