"""Records of a node of which everything is on, as the service gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from swarmllm.core.agent.notes import StepNote
from swarmllm.runtime.service.agent import note_fields
from swarmllm.runtime.service.record import Record

KEY = "ab" * 32
KEY_ID = "cd" * 16
STATES: Final = frozenset(("state", "step", "did"))
ROLES: Final = frozenset(("root", "halt", "resume", "voter", "beacon"))


def everything() -> dict[str, Record]:
    return {
        "status": status(),
        "settings": {
            "settings": [_setting("answer.experts", 3), _setting("cascade.wide_share", 1)]
        },
        "halt_status": _halt_status(),
        "governance": _governance(),
        "proposals": {"proposals": [_proposal("open"), _proposal("enacted")]},
        "agent_status": _agent_status(),
        "voting": {"here": True, "keys": [{"id": KEY_ID, "name": "ann"}], "faults": ["too open"]},
    }


def expert(peer: str, **more: object) -> Record:
    found = {
        "peer": peer,
        "model": "prose",
        "digest": KEY,
        "n_params": 135_000_000,
        "context_max": 2048,
        "tokens_per_s": 40.5,
        "sessions_free": 3,
        "sessions_max": 4,
        "domains": ["letters"],
        "started": 1.0,
        "connected": True,
        "local": False,
        "resting": False,
        "round_ms": 12.5,
        "ping_ms": None,
        "expected_ms": 12.0,
        "merit_nats": 0.25,
        "trust": 0.5,
        "standing": "new",
        "why": "known for 1.0 days, 2 valid audits lately",
        "share": 0.5,
    }
    return found | more


def status(**more: object) -> Record:
    found = {
        "state": "running",
        "peer": "12D3KooWself",
        "swarm": "test",
        "uptime_s": 4000.0,
        "paused": "",
        "model": {
            **{"model": "prose", "vocab": KEY, "vocab_size": 128_256, "digest": KEY},
            **{"n_params": 135_000_000, "context_max": 2048, "domains": ["letters"]},
        },
        "has_chat_template": True,
        "load": {"queue_depth": 0, "sessions_free": 3, "sessions_max": 4, "tokens_per_s": 40.0},
        "addrs": ["/ip4/192.0.2.1/tcp/7339/p2p/12D3KooWself"],
        "reach": {"kind": "nat", "says": "behind a NAT; forward TCP port 7339"},
        "peers": ["12D3KooWone", "12D3KooWtwo"],
        "halted": ["a reason"],
        "experts": [expert("12D3KooWself", local=True), expert("12D3KooWone")],
        "vocabularies": [{"model": "other", "experts": 2, "fingerprint": KEY, "asked": False}],
        "answers_open": 1,
        "rounds_served_open": 2,
        "troubles": ["something is wrong"],
        "http": "http://127.0.0.1:7337",
        "ledger": {
            **{"size": 7, "checkpoint": 6, "head": "5e" * 32},
            **{"witnesses": ["12D3KooWone"], "fault": "no room"},
            **{"watched": {"12D3KooWone": 3}, "alarms": {"12D3KooWtwo": "went back"}},
        },
    }
    return found | more


def _setting(key: str, value: int) -> Record:
    return {
        **{"key": key, "value": value, "unit": "experts", "default": 3, "low": 1, "high": 16},
        **{"pinned": True, "changed_by": None},
    }


def _halt_status() -> Record:
    order = {"key": KEY, "seq": 1, "reason": "maintenance", "issued": 1e9}
    keys = {role: [KEY] for role in sorted(ROLES)}
    charter = {
        **{"version": 2, **keys, "resume_threshold": 2, "beacon_ttl_s": 600, "expires": 2e9},
    }
    return {
        **{"charter": charter, "private": False, "stopped_here": False, "standing": [order]},
        **{"same_swarm": ["12D3KooWone"]},
    }


def _governance() -> Record:
    return {
        **{"phase": 1, "electorate": 3, "minor_needs": 2, "major_needs": 2, "obstacle": "halted"},
        **{"voters": [KEY_ID], "canary_s": 3600.0, "review_s": 86_400.0},
        "phases": [{"phase": 2, "experts": 280, "audits": 0, "missing": "experts"}],
    }


def _proposal(state: str) -> Record:
    return {
        **{"state": state, "tier_name": "deploy-minor", "by_agent": True, "id": KEY},
        **{"action": {"text": "set answer.experts to 4 (experts)"}, "why": "it is faster"},
        **{"yes": [KEY], "no": [], "double": [], "needs": 2, "waits": "one more vote"},
        **{"tier": 3, "why_tier": "a report shows it", "lacks": ""},
    }


def _agent_status() -> Record:
    steps = ("observing", "proposing", "validating", "filing", "measuring", "resting")
    notes = [StepNote(1_000 * at, "network", 3, step, "words") for at, step in enumerate(steps)]
    lane = {
        **{"domain": "network", "experts": ["a"], "merged_with": ["storage"], "runner": True},
        **{"cycle": 3, "step": "resting", "rests_s": 3600.0},
    }
    return {
        **{"enabled": True, "why": "it waits", "phase": 1, "halted": ["a reason"]},
        **{"budget": {"share_permille": 50, "left_s": 10.0}, "lanes": [lane]},
        "notes": [note_fields(one) for one in notes],
    }


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The same with every text changed, but for the words that say how a node is and the keys of
    its charter."""
    match value:
        case dict():
            return {
                name: one if name in STATES | ROLES else with_texts(one, change)
                for name, one in value.items()
            }
        case list():
            return [with_texts(one, change) for one in value]
        case str():
            return change(value)
        case _:
            return value
