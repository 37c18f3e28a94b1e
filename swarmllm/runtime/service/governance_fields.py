"""Governance as JSON fields: actions in words, proposals with their votes, tiers with what each of
them needs here and now. Commands, the local API and whoever else shows it make it of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, assert_never

from swarmllm.core.governance.journal import JournalEntry
from swarmllm.core.governance.mandate import Tier
from swarmllm.core.governance.phases import AGENT_MAY, DAY_S
from swarmllm.core.governance.tiers import Action, read_action
from swarmllm.core.governance.view import GovernanceView, ProposalView
from swarmllm.core.settings.table import BY_CODE
from swarmllm.core.wording import several
from swarmllm.messages.governance import (
    ClosePhase,
    Observe,
    OpenPhase,
    Revert,
    SandboxTest,
    SetBounds,
    SetDefaultModel,
    SetFeature,
    SetSetting,
    Suggest,
)

TIER_NAMES: Final = {
    Tier.READ_ONLY: "read-only",
    Tier.SUGGEST: "suggest",
    Tier.SANDBOX_TEST: "sandbox-test",
    Tier.DEPLOY_MINOR: "deploy-minor",
    Tier.DEPLOY_MAJOR: "deploy-major",
}
_MAY: Final = {
    Tier.READ_ONLY: "observe metrics and reports, read the ledger, ask an expert",
    Tier.SUGGEST: "file a proposal with its reasons, for people to read",
    Tier.SANDBOX_TEST: "run a proposal in the simulator",
    Tier.DEPLOY_MINOR: "set a setting of the agent's within its bounds, close a phase,"
    " take a change back",
    Tier.DEPLOY_MAJOR: "set a setting beyond its bounds or without a report, change bounds, open a"
    " phase, choose the model that new nodes are offered",
}
_CANNOT: Final = {
    Tier.DEPLOY_MAJOR: "switch a feature (this version has none that votes could switch); do what"
    " this version does not know, which can be voted on and comes to nothing"
}
"""What belongs to the tier, and has no executor."""
Fields = dict[str, Any]


# --- actions --------------------------------------------------------------------------------------


def action_fields(raw: bytes) -> Fields:
    """An action as it was signed: its kind, what belongs to it, and `text`, one line in words."""
    action = read_action(raw)
    kind = "unknown" if action is None else _KINDS[type(action)]
    return {"kind": kind, "text": action_text(raw), **_details(action), "raw": raw.hex()}


def action_text(raw: bytes) -> str:
    """In words; what this version cannot read is named by its size."""
    action = read_action(raw)
    match action:
        case None:
            return f"an action that this version does not know ({len(raw)} bytes)"
        case Observe(what=what):
            return f"observe ({what})"
        case Suggest(action=inner):
            return f"suggestion: {_inner_text(inner)}"
        case SandboxTest(action=inner):
            return f"test in the simulator: {_inner_text(inner)}"
        case SetSetting(setting=setting, value=value):
            return f"set {_key(setting)} to {value}{_unit(setting)}"
        case SetBounds(setting=setting, low=low, high=high):
            return (
                f"let {_key(setting)} be set from {low} to {high}{_unit(setting)} by a minor vote"
            )
        case OpenPhase(phase=phase):
            return f"open phase {phase}"
        case ClosePhase(phase=phase):
            return f"go back to phase {phase}"
        case SetFeature(name=name, on=on):
            return f"switch the feature {name} {'on' if on else 'off'}"
        case SetDefaultModel(reference=reference, digest=digest):
            return f"make {reference} ({digest.hex()[:16]}) the model that new nodes are offered"
        case Revert(proposal=proposal):
            return f"take back what proposal {proposal.hex()[:16]} changed"
        case _:
            assert_never(action)


_KINDS: Final[dict[type[Action], str]] = {
    Observe: "observe",
    Suggest: "suggest",
    SandboxTest: "sandbox_test",
    SetSetting: "set",
    SetBounds: "bounds",
    OpenPhase: "open_phase",
    ClosePhase: "close_phase",
    SetFeature: "feature",
    SetDefaultModel: "model",
    Revert: "revert",
}


def _inner_text(raw: bytes) -> str:
    """A suggestion of a suggestion is not followed down: its author decides how deep they go."""
    inner = read_action(raw)
    return "another one" if isinstance(inner, Suggest | SandboxTest) else action_text(raw)


def _details(action: Action | None) -> Fields:
    match action:
        case SetSetting(setting=setting, value=value):
            return {"setting": _key(setting), "value": value}
        case SetBounds(setting=setting, low=low, high=high):
            return {"setting": _key(setting), "low": low, "high": high}
        case OpenPhase(phase=phase) | ClosePhase(phase=phase):
            return {"phase": phase}
        case SetFeature(name=name, on=on):
            return {"name": name, "on": bool(on)}
        case SetDefaultModel(reference=reference, digest=digest):
            return {"reference": reference, "digest": digest.hex()}
        case Revert(proposal=proposal):
            return {"proposal": proposal.hex()}
        case _:
            return {}


def _key(setting: int) -> str:
    return BY_CODE[setting].key if setting in BY_CODE else f"setting {setting}"


def _unit(setting: int) -> str:
    return f" ({BY_CODE[setting].unit})" if setting in BY_CODE else ""


# --- proposals ------------------------------------------------------------------------------------


def proposal_fields(view: ProposalView) -> Fields:
    """One proposal. Keys are ids in hexadecimal; `needs` None: no number of votes carries it;
    `seen_s` counts since this node had it on its disk."""
    return {
        "id": view.id.hex(),
        "state": view.state,
        "action": action_fields(view.raw_action),
        "tier": int(view.tier),
        "tier_name": TIER_NAMES[view.tier],
        "why_tier": view.why_tier,
        "asked": int(view.asked),
        "escalated": view.escalated,
        "can_be_done": not view.lacks,
        "lacks": view.lacks,
        "yes": [key.hex() for key in view.yes],
        "no": [key.hex() for key in view.no],
        "double": [key.hex() for key in view.double],
        "needs": view.needs,
        "waits": view.waits,
        "author": view.author.hex(),
        "by_agent": view.by_agent,
        "evidence": view.evidence.hex(),
        "why": view.why,
        "issued": view.issued_ms / 1000,
        "seen_s": round(view.seen_s, 1),
    }


def journal_fields(entry: JournalEntry) -> Fields:
    """A change that was put into force here, or (`taken_back` says why) taken back."""
    return {
        "number": entry.number,
        "what": entry.what,
        "old": entry.old,
        "new": entry.new,
        "proposal": entry.proposal.hex(),
        "at": entry.at_ms / 1000,
        "taken_back": entry.taken_back,
    }


def model_fields(model: SetDefaultModel, proposal: bytes) -> Fields:
    """The model that new nodes are offered, as the swarm has voted."""
    digest = model.digest.hex()
    return {"reference": model.reference, "digest": digest, "proposal": proposal.hex()}


# --- the whole ------------------------------------------------------------------------------------


def governance_fields(view: GovernanceView) -> Fields:
    """Who decides, how many votes carry what, the phase, what was changed last. `obstacle`: why
    nothing is put into force here now."""
    return {
        "obstacle": view.obstacle,
        "charter_version": view.charter_version,
        "voters": [key.hex() for key in view.voters],
        "agents": [key.hex() for key in view.agents],
        "electorate": view.electorate,
        "minor_needs": view.minor_needs,
        "major_needs": view.major_needs,
        "review_s": view.review_s,
        "canary_s": view.canary_s,
        "phase": view.phase,
        "held_out": None
        if view.held_out is None
        else {"name": view.held_out.name, "digest": view.held_out.digest.hex()},
        "model": None if view.model is None else model_fields(*view.model),
        "experts": view.known.experts,
        "audits": view.known.audits,
        "stable_days": [round(seconds / DAY_S, 2) for seconds in view.known.stable_s],
        "phases": [
            {"phase": one.phase, "experts": one.experts, "audits": one.audits}
            | {"missing": one.missing}
            for one in view.phases
        ],
        "journal": [journal_fields(entry) for entry in view.journal],
        "refused": view.records_refused,
    }


def tiers_fields(view: GovernanceView) -> list[Fields]:
    """Each tier, and what it needs here and now. `missing` is why nothing of this tier can go
    through at the moment; empty if it can."""
    return [_tier_fields(tier, view) for tier in Tier]


def _tier_fields(tier: Tier, view: GovernanceView) -> Fields:
    needs = {Tier.DEPLOY_MINOR: view.minor_needs, Tier.DEPLOY_MAJOR: view.major_needs}.get(tier)
    return {
        "tier": int(tier),
        "name": TIER_NAMES[tier],
        "may": _MAY[tier],
        "cannot": _CANNOT.get(tier, ""),
        "gate": _gate(tier, view),
        "agent": _agent(tier, view),
        "needs": needs,
        "missing": _missing(tier, view),
    }


def _gate(tier: Tier, view: GovernanceView) -> str:
    match tier:
        case Tier.READ_ONLY:
            return "none; it is recorded"
        case Tier.SUGGEST:
            return "none; nothing happens by itself"
        case Tier.SANDBOX_TEST:
            return "none; its report is what a deploy-minor names as evidence"
        case Tier.DEPLOY_MINOR:
            tried = f", then a canary for {span(view.canary_s)}" if view.canary_s else ""
            return f"a validation report, and {_votes(view.minor_needs, view)}{tried}"
        case Tier.DEPLOY_MAJOR:
            review = (
                f", and {span(view.review_s)} of review on each node's own clock"
                if view.review_s
                else ""
            )
            return f"{_votes(view.major_needs, view)}{review}"
        case _:
            assert_never(tier)


def _votes(needs: int | None, view: GovernanceView) -> str:
    if needs is None:
        return "votes that nobody can give"
    return f"{needs} of {several(view.electorate, 'voter')}"


def _agent(tier: Tier, view: GovernanceView) -> str:
    """What this tier is for the agent, in the phase in force."""
    if not view.agents:
        return "the charter names no agent"
    if set(view.agents) <= set(view.voters):
        return "it is a voter, and may what voters may"
    if tier is Tier.DEPLOY_MAJOR:
        return "never its own to propose"
    if tier <= AGENT_MAY[view.phase]:
        return f"open to it in phase {view.phase}"
    opens = next(phase for phase, most in enumerate(AGENT_MAY) if tier <= most)
    return f"closed to it in phase {view.phase}; open from phase {opens} on"


def _missing(tier: Tier, view: GovernanceView) -> str:
    if tier < Tier.DEPLOY_MINOR:
        return ""
    if view.obstacle:
        return view.obstacle
    needs = view.minor_needs if tier is Tier.DEPLOY_MINOR else view.major_needs
    if needs is not None and needs > len(view.voters):
        there = several(len(view.voters), "voter")
        return f"{several(needs, 'vote is', 'votes are')} needed, and {there} can vote"
    return ""


def span(seconds: float) -> str:
    """A time that a charter asks for: 24 h, 90 min, 4 s."""
    for unit, one in (("h", 3_600), ("min", 60)):
        if seconds >= one and not seconds % one:
            return f"{seconds / one:.0f} {unit}"
    return f"{seconds:.0f} s"


def short_keys(keys: Sequence[str]) -> str:
    """Ids of keys as people compare them: their first eight digits."""
    return ", ".join(key[:8] for key in keys)
