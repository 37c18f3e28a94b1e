"""`swarmllm propose`: an action in words becomes a typed action, and a signed proposal of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.cli.eval.plan import REPORT_BYTES_MAX
from swarmllm.cli.governance.places import Way, place_of, question
from swarmllm.cli.governance.signing import Signer, sign, told
from swarmllm.cli.guard import OK
from swarmllm.cli.output import notice
from swarmllm.cli.validation.evidence import report_in
from swarmllm.core.governance.held_out import HeldOut
from swarmllm.core.governance.tiers import Action
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import BY_CODE
from swarmllm.core.validation.report import Report, check_evidence
from swarmllm.errors import UsageError
from swarmllm.messages.governance import (
    NO_EVIDENCE,
    PHASE_MAX,
    WHY_MAX,
    ClosePhase,
    OpenPhase,
    Proposal,
    Revert,
    SetBounds,
    SetDefaultModel,
    SetFeature,
    SetSetting,
    Suggest,
)
from swarmllm.runtime.config import Config
from swarmllm.runtime.config.pins import setting_of
from swarmllm.runtime.model_reference import NotAReference, parse_shared
from swarmllm.runtime.service.governance_fields import action_text, span
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.codec import encode


@dataclass(frozen=True, slots=True)
class About:
    """What every proposal has besides its action. `tier` None: the action's own."""

    why: str
    signer: Signer
    way: Way
    evidence: str | None = None
    tier: int | None = None
    suggest: bool = False


def propose(config: Config, action: Action, about: About, *, as_json: bool) -> int:
    checked_why(about.why)
    raw = encode(Suggest(encode(action)) if about.suggest else action)
    evidence, report = _evidence(config, action, about)
    values: dict[str, object] = {"action": raw.hex(), "why": about.why, "evidence": evidence.hex()}
    if about.tier is not None:
        values["tier"] = about.tier

    def is_wanted(drafted: Proposal) -> bool:
        if report is not None:
            case = report.case
            check_evidence(report, case.setting, case.value, drafted.base)
        return (drafted.action, drafted.why, drafted.evidence) == (raw, about.why, evidence)

    def show(draft: Record) -> None:
        if not as_json:
            notice(f"{_sentence(action_text(raw))}: {_gate(draft)}.")

    signed = sign(config, about.signer, "propose", Proposal, is_wanted, show, about.way, **values)
    draft = signed.draft
    about_it = {name: draft[name] for name in ("id", "tier", "tier_name", "escalated", "needs")}
    said = f"Proposal {draft['id'][:16]}"
    told(signed, "proposed", said, as_json=as_json, **about_it, text=action_text(raw))
    return OK


def checked_why(why: str) -> None:
    """UsageError for a reason that a proposal does not hold."""
    if not why.strip():
        raise UsageError("whoever votes wants to know why; say it with --why TEXT")
    size = len(why.encode("utf-8", "replace"))
    if size > WHY_MAX:
        raise UsageError(
            f"--why has {size} bytes, and a proposal holds {WHY_MAX}; shorten it, and put the rest"
            " into the report that --evidence names"
        )


def _evidence(config: Config, action: Action, about: About) -> tuple[bytes, Report | None]:
    """The digest of the report. One on a setting has to be evidence for this very change, which a
    running node notes in its ledger; what it would be built on is compared with the draft."""
    if about.evidence is None:
        return NO_EVIDENCE, None
    if isinstance(action, SetSetting) and not about.suggest:
        report, data = report_in(about.evidence)
        check_evidence(report, BY_CODE[action.setting], action.value, None)
        if about.way.state is None and not config.peers:
            question(config, "report", report=data.decode())
        return sha256(data).digest(), report
    data = read_bounded(user_path(about.evidence), REPORT_BYTES_MAX, "the report")
    if isinstance(action, OpenPhase) and action.phase > 1 and not about.suggest:
        from swarmllm.cli.governance.quality_gate import check_quality

        check_quality(data, about.evidence, pinned_by(config, about.way))
    return sha256(data).digest(), None


def pinned_by(config: Config, way: Way) -> HeldOut | None:
    """The held-out text that the charter in force pins for the quality gate."""
    held = place_of(config, way).ask("governance")["held_out"]
    return None if held is None else HeldOut(held["name"], bytes.fromhex(held["digest"]))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _gate(draft: Record) -> str:
    """What it needs, before it is signed."""
    found = f"{draft['tier_name']}, because {draft['why_tier']}"
    if draft["needs"] is None:
        return f"{found}; nobody votes on it"
    found += f"; it needs {draft['needs']} of {draft['electorate']} votes"
    if draft["review_s"]:
        found += f" and {span(draft['review_s'])} of review"
    return found


# --- actions in words -----------------------------------------------------------------------------


def set_action(key: str, value: str) -> SetSetting:
    setting = setting_of(key)
    return SetSetting(setting.code, _number(setting, value))


def bounds_action(key: str, low: str, high: str) -> SetBounds:
    setting = setting_of(key)
    made = SetBounds(setting.code, _number(setting, low), _number(setting, high))
    if made.low > made.high:
        raise UsageError(f"bounds from {low} to {high} hold no value; give the lower one first")
    return made


def phase_action(config: Config, way: Way, phase: int) -> OpenPhase | ClosePhase:
    """Opening or closing, by the phase that is in force."""
    if not 0 <= phase <= PHASE_MAX:
        raise UsageError(f"there is no phase {phase}; phases are 0 to {PHASE_MAX}")
    current = int(place_of(config, way).ask("governance")["phase"])
    if phase == current:
        raise UsageError(f"phase {phase} is in force already; name another one")
    return OpenPhase(phase) if phase > current else ClosePhase(phase)


def feature_action(name: str, state: str) -> SetFeature:
    """Only ever to be suggested: no feature of this version is switched by votes."""
    if state not in {"on", "off"}:
        raise UsageError(f"a feature is switched on or off, not {state[:40]!r}")
    _fits(name, "the name of a feature")
    return SetFeature(name, int(state == "on"))


def model_action(reference: str, digest: str) -> SetDefaultModel:
    _fits(reference, "the reference of a model")
    try:
        parse_shared(reference)
    except NotAReference as fault:
        raise UsageError(f"{reference[:60]!r} is not {fault.expected}") from fault
    if re.fullmatch(r"[0-9a-fA-F]{64}", digest) is None:
        raise UsageError(
            f"{digest[:80]!r} is no SHA-256 of a model's file; `swarmllm models show` has it,"
            " 64 hexadecimal digits"
        )
    return SetDefaultModel(reference, bytes.fromhex(digest))


def revert_action(config: Config, way: Way, prefix: str) -> Revert:
    found = place_of(config, way).ask("proposal", id=id_of(prefix))
    return Revert(bytes.fromhex(str(found["id"])))


def id_of(prefix: str) -> str:
    """The beginning of a proposal's id, as people type it."""
    if re.fullmatch(r"[0-9a-fA-F]{1,64}", prefix) is None:
        raise UsageError(
            f"{prefix[:80]!r} is no id of a proposal; `swarmllm proposals` shows them,"
            " and their first digits are enough"
        )
    return prefix.lower()


def _fits(name: str, what: str) -> None:
    size = len(name.encode("utf-8", "replace"))
    if not 1 <= size <= 128:
        raise UsageError(f"{what} has {size} bytes; 1 to 128 are possible")


def _number(setting: Setting[Any], text: str) -> int:
    if re.fullmatch(r"[0-9]{1,18}", text) is None or not setting.fits(int(text)):
        low, high = setting.limits.low, setting.limits.high
        raise UsageError(
            f"{setting.key} cannot be {text[:40]!r}; a whole number from {low} to {high}"
            f" ({setting.unit}) is possible"
        )
    return int(text)
