"""What governance writes into the ledger: each record as it was signed, each decision on a tier,
and each step of a change."""

from __future__ import annotations

from typing import Final

from swarmllm.core.governance.canary import Trial
from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.journal import JournalEntry
from swarmllm.core.governance.outcome import Standing, Target
from swarmllm.core.governance.progress import Course
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.messages.governance import (
    NO_EVIDENCE,
    CanaryStep,
    Enacted,
    NotCarriedOut,
    TierDecided,
    Validated,
)
from swarmllm.wire.codec import encode

STEPS: Final[dict[Trial, int]] = {"running": 0, "fine": 1, "worse": 2}


def entry_of_record(data: bytes) -> LedgerEntry:
    """A record as it was signed."""
    return LedgerEntry(LedgerKind.GOVERNANCE, data)


def entries_of_proposal(case: Case, standing: Standing) -> list[LedgerEntry]:
    """Which tier a new proposal has, whether it asked for less, and what was validated."""
    decision, proposal = standing.decision, case.proposal
    tier = TierDecided(case.id, proposal.tier, int(decision.tier), standing.needs or 0)
    kind = LedgerKind.ESCALATION if decision.escalated else LedgerKind.TIER
    found = [LedgerEntry(kind, encode(tier))]
    if proposal.evidence != NO_EVIDENCE:
        validated = encode(Validated(case.id, proposal.evidence))
        found.append(LedgerEntry(LedgerKind.VALIDATION, validated))
    return found


def entry_of_change(target: Target, entry: JournalEntry) -> LedgerEntry:
    """A change that was put into force, or taken back. What a charter says has no proposal:
    zeros."""
    kind = LedgerKind.REVERT if entry.taken_back else LedgerKind.ENACTMENT
    if target.kind == "phase":
        kind = LedgerKind.PHASE
    proposal = entry.proposal or bytes(32)
    made = Enacted(proposal, entry.what, entry.old, entry.new, entry.taken_back)
    return LedgerEntry(kind, encode(made))


def entry_of_canary(id: bytes, course: Course) -> LedgerEntry:
    """A step of a canary on this node."""
    step = CanaryStep(
        id,
        STEPS[course.trial],
        course.before.count,
        course.during.count,
        micros(course.before.mean),
        micros(course.during.mean),
    )
    return LedgerEntry(LedgerKind.CANARY, encode(step))


def entry_of_idle(id: bytes, why: str) -> LedgerEntry:
    """A case that has passed, and that this version cannot carry out."""
    return LedgerEntry(LedgerKind.NOT_CARRIED_OUT, encode(NotCarriedOut(id, why)))


def micros(seconds: float) -> int:
    """Microseconds, as they fit a record."""
    return max(0, min(2**32 - 1, round(seconds * 1_000_000)))
