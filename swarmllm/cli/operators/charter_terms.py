"""What a charter says of governance: whose keys are the agent's, how many votes carry what, and how
long is waited. The charter names these terms by their digest; they lie in a file beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from swarmllm.adapters.atomic_file import refuse_existing, write_new
from swarmllm.adapters.operator_keys import read_public
from swarmllm.adapters.terms_file import WHAT, named, read_terms_file, render_terms, terms_path
from swarmllm.cli.guard import OK, run
from swarmllm.cli.operators.agent_grant import NOTHING as NO_GRANT
from swarmllm.cli.operators.agent_grant import (
    GrantGiven,
    grant_fields,
    grant_sentence,
    granted,
)
from swarmllm.cli.operators.halt_source import ask_node
from swarmllm.cli.output import notice, print_record
from swarmllm.cli.waiting import QUESTION
from swarmllm.core.governance.mandate import (
    DEFAULTS,
    naming,
    pack_bounds,
    pack_values,
    read_terms,
)
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages import Charter, Range
from swarmllm.messages.governance import AGENT_KEYS_MAX, PHASE_MAX, GovernanceTerms
from swarmllm.runtime.config import Config
from swarmllm.runtime.config.pins import setting_of
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.service.record import Record
from swarmllm.wire.ext import GOVERNANCE_TERMS, addition, additions
from swarmllm.wire.signed import key_id

T = TypeVar("T")
COUNT_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class GovernanceGiven:
    """What was given of the terms; None (or nothing) for what stays, or its default."""

    agent: Sequence[str] = ()
    minor_votes: int | None = None
    review_hours: int | None = None
    canary_permille: int | None = None
    canary_seconds: int | None = None
    phase: int | None = None
    phase_experts: str | None = None
    phase_audits: str | None = None
    stable_days: int | None = None
    unattended: bool | None = None
    bounds: Sequence[str] = ()
    value: Sequence[str] = ()
    grant: GrantGiven = NO_GRANT


NOTHING: Final = GovernanceGiven()


def terms_of(
    given: GovernanceGiven, current: GovernanceTerms | None, voters: int
) -> GovernanceTerms | None:
    """The terms of a charter with so many voters; None: those of the design, which need no file."""
    if given == NOTHING and current is None:
        return None
    start = current
    if start is None:
        start = replace(DEFAULTS, minor_threshold=max(1, min(DEFAULTS.minor_threshold, voters)))
    made = replace(
        start,
        agent=_agents(given.agent) or start.agent,
        minor_threshold=_or(given.minor_votes, start.minor_threshold),
        review_h=_or(given.review_hours, start.review_h),
        canary_permille=_or(given.canary_permille, start.canary_permille),
        canary_s=_or(given.canary_seconds, start.canary_s),
        phase=_or(given.phase, start.phase),
        phase_experts=_or(_counts("--phase-experts", given.phase_experts), start.phase_experts),
        phase_audits=_or(_counts("--phase-audits", given.phase_audits), start.phase_audits),
        stable_days=_or(given.stable_days, start.stable_days),
        unattended=int(_or(given.unattended, bool(start.unattended))),
        bounds=pack_bounds(_each("--bounds", given.bounds, _bound)) or start.bounds,
        values=pack_values(_each("--value", given.value, _value)) or start.values,
        ext=granted(given.grant, start.ext),
    )
    if made.minor_threshold > voters:
        raise UsageError(
            f"{made.minor_threshold} votes for a minor change are more than the charter's"
            f" {voters} voters have; name voters with --voter, or give fewer with --minor-votes"
        )
    if wrong := made.fault():
        raise UsageError(f"these cannot be terms of governance: {wrong}; give each of them once")
    return made


def with_terms(charter: Charter, terms: GovernanceTerms | None) -> Charter:
    """The charter naming these terms; what else was added to it stays."""
    if terms is None:
        return charter
    others = {kind: v for kind, v in additions(charter.ext).items() if kind != GOVERNANCE_TERMS}
    kept = b"".join(addition(kind, value) for kind, value in others.items())
    return replace(charter, ext=kept + naming(terms))


def refuse_existing_terms(path: Path) -> None:
    """LocalError if a file of terms would be overwritten."""
    refuse_existing(terms_path(path), WHAT)


def write_terms(path: Path, terms: GovernanceTerms | None) -> None:
    """Beside the charter in `path`; nothing for terms that need no file."""
    if terms is not None:
        write_new(terms_path(path), render_terms(terms).encode(), WHAT)


def held_terms(path: Path, charter: Charter) -> GovernanceTerms | None:
    """The terms that the charter in `path` names; None: those of the design. LocalError if they are
    not in the file beside it."""
    wanted = named_digest(charter)
    if not wanted:
        return None
    beside = terms_path(path)
    if not beside.exists():
        raise LocalError(
            f"charter {charter.version} names terms of governance, and {beside} is not there;"
            " ask for that file, too"
        )
    terms = read_terms(read_terms_file(beside))
    if with_digest(terms) != wanted:
        raise LocalError(
            f"{beside} holds other terms of governance than charter {charter.version} names;"
            " ask for the right file"
        )
    return terms


def named_digest(charter: Charter) -> bytes:
    """SHA-256 of the terms that it names; empty if it names none."""
    found = additions(charter.ext).get(GOVERNANCE_TERMS, b"")
    return found if len(found) == 32 else b""


def with_digest(terms: GovernanceTerms) -> bytes:
    return additions(naming(terms))[GOVERNANCE_TERMS]


def hand_over_terms(config: Config, charters: Sequence[Path], *, as_json: bool) -> None:
    """The terms beside these files of charters, to the running node, if it waits for them; what it
    refuses belongs to a charter that is not in force."""
    beside = [path for path in map(terms_path, charters) if path.exists()]
    if not beside:
        return
    records = [read_terms_file(path).hex() for path in beside]
    answers = ask_node(config, "governance") or []
    if not any("have not come yet" in answer["obstacle"] for answer in answers):
        return
    submitted: list[Record] = []

    async def body() -> int:
        submitted.append(await ask(config.data_dir, "submit", QUESTION, records=records))
        return OK

    run(body)
    taken = [one for answer in submitted for one in answer["outcomes"]]
    fault = next((answer["fault"] for answer in submitted), "")
    if as_json:
        print_record({"event": "terms", "outcomes": taken, "durable": not fault})
    if fault:
        raise LocalError(f"the node took the terms of governance, and has not kept them: {fault}")
    if not as_json and any(one["outcome"] == "applied" for one in taken):
        notice("The terms of governance beside it were handed over, too.")


# --- for people and machines ----------------------------------------------------------------------


def terms_fields(terms: GovernanceTerms | None) -> dict[str, Any]:
    """The terms, or the defaults of the design, as JSON fields."""
    found = DEFAULTS if terms is None else terms
    return {
        "agent": [key.hex() for key in found.agent],
        "minor_votes": found.minor_threshold,
        "review_h": found.review_h,
        "canary_permille": found.canary_permille,
        "canary_s": found.canary_s,
        "phase": found.phase,
        "phase_experts": list(found.phase_experts),
        "phase_audits": list(found.phase_audits),
        "stable_days": found.stable_days,
        "unattended": bool(found.unattended),
        "bounds": {named(one[:2]): [_int(one[2:10]), _int(one[10:])] for one in found.bounds},
        "values": {named(one[:2]): _int(one[2:]) for one in found.values},
        "agent_grant": grant_fields(found.ext),
        "default": terms is None,
    }


def terms_sentences(terms: GovernanceTerms | None, voters: int) -> list[tuple[str, str]]:
    """What it means, for people."""
    found = DEFAULTS if terms is None else terms
    if not voters:
        return [("changes", "none: without a voter nothing is voted on")]
    minor = min(found.minor_threshold, voters) if terms is None else found.minor_threshold
    tried = (
        f", then {found.canary_permille} of 1000 nodes try it for {found.canary_s} s"
        if found.canary_permille and found.canary_s
        else ", and no canary"
    )
    rows = [
        ("minor change", f"{minor} of {voters} votes{tried}"),
        ("major change", f"{voters // 2 + 1} of {voters} votes and {found.review_h} h of review"),
        ("phase", f"starts in phase {found.phase}; {_phases(found)}"),
    ]
    rows += [("agent", f"{key_id(key).hex()}  {key.hex()}") for key in found.agent]
    if found.agent:
        rows.append(("agent may", grant_sentence(found.ext)))
    if found.unattended:
        rows.append(("unattended", "in phase 4 the agent's minor changes need no vote"))
    rows += [("bounds", f"{name}: {low} to {high}") for name, (low, high) in _bounds_of(found)]
    rows += [("starts with", f"{named(one[:2])} = {_int(one[2:])}") for one in found.values]
    return rows


def _phases(terms: GovernanceTerms) -> str:
    needs = ", ".join(f"{phase}: {n}" for phase, n in enumerate(terms.phase_experts, 1))
    return f"experts needed by phase {needs}, for {terms.stable_days} days"


def _bounds_of(terms: GovernanceTerms) -> list[tuple[str, tuple[int, int]]]:
    return [(named(one[:2]), (_int(one[2:10]), _int(one[10:]))) for one in terms.bounds]


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")


# --- what people give -----------------------------------------------------------------------------


def _or(given: T | None, usual: T) -> T:
    return usual if given is None else given


def _agents(words: Sequence[str]) -> tuple[bytes, ...]:
    keys = [read_public(word) for word in words]
    if len(set(keys)) < len(keys):
        raise UsageError("two of the agent keys are the same key; give each key once")
    if len(keys) > AGENT_KEYS_MAX:
        raise UsageError(
            f"{len(keys)} agent keys are more than the {AGENT_KEYS_MAX} that terms can have;"
            " leave some out"
        )
    return tuple(sorted(keys))


def _counts(flag: str, text: str | None) -> tuple[int, ...] | None:
    """One number for each phase from 1 on."""
    if text is None:
        return None
    words = text.split(",")
    if len(words) != PHASE_MAX or not all(re.fullmatch(r" *[0-9]{1,10} *", w) for w in words):
        raise UsageError(
            f"{flag} {text[:60]!r} is not {PHASE_MAX} numbers, one for each phase from 1 on;"
            " write them as 0,280,1000,5000"
        )
    return tuple(min(COUNT_MAX, int(word)) for word in words)


def _each(flag: str, words: Sequence[str], read: Callable[[str], tuple[int, T]]) -> dict[int, T]:
    found: dict[int, T] = {}
    for word in words:
        code, value = read(word)
        if code in found:
            raise UsageError(f"{flag} names a setting twice ({word[:60]}); give each once")
        found[code] = value
    return found


def _bound(word: str) -> tuple[int, Range]:
    parted = re.fullmatch(r"([^=]+)=([0-9]{1,18})(?:\.\.|-)([0-9]{1,18})", word)
    if parted is None:
        raise UsageError(f"--bounds {word[:60]!r} is not of the form KEY=LOW..HIGH")
    setting, low, high = setting_of(parted[1]), int(parted[2]), int(parted[3])
    if low > high or not (setting.fits(low) and setting.fits(high)):
        raise UsageError(
            f"{setting.key} cannot be bounded by {low} and {high}; bounds lie within"
            f" {setting.limits.low} and {setting.limits.high} ({setting.unit}), the lower one first"
        )
    return setting.code, Range(low, high)


def _value(word: str) -> tuple[int, int]:
    parted = re.fullmatch(r"([^=]+)=([0-9]{1,18})", word)
    if parted is None:
        raise UsageError(f"--value {word[:60]!r} is not of the form KEY=VALUE")
    setting, value = setting_of(parted[1]), int(parted[2])
    setting.check(value)
    return setting.code, value
