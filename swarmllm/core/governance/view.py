"""What people see of governance: every proposal with its votes and what it waits for, the phase,
and what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.changes import model_of
from swarmllm.core.governance.held_out import HeldOut
from swarmllm.core.governance.journal import JournalEntry
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.governance.mandate import Tier
from swarmllm.core.governance.phases import Knowledge, obstacle
from swarmllm.core.governance.tiers import Action
from swarmllm.messages.governance import NO_EVIDENCE, PHASE_MAX, SetDefaultModel


@dataclass(frozen=True, slots=True)
class ProposalView:
    """`state` is one of open, passed, canary, enacted, superseded, withdrawn, void; `waits` says
    for what it waits, or why it is void, in a sentence. `lacks`: why this version cannot carry it
    out; empty if it can. `needs` None: it cannot be carried by votes. `double` are voters whose two
    different votes count for nothing. Times in seconds."""

    id: bytes
    author: bytes
    by_agent: bool
    seq: int
    action: Action | None
    raw_action: bytes
    asked: Tier
    tier: Tier
    why_tier: str
    escalated: bool
    lacks: str
    state: str
    waits: str
    yes: Sequence[bytes]
    no: Sequence[bytes]
    double: Sequence[bytes]
    needs: int | None
    evidence: bytes
    why: str
    issued_ms: int
    seen_s: float


@dataclass(frozen=True, slots=True)
class PhaseView:
    """One phase that could be opened; `missing` says what is missing for it here, in a sentence."""

    phase: int
    experts: int
    audits: int
    missing: str


@dataclass(frozen=True, slots=True)
class GovernanceView:
    """`obstacle`: why nothing is put into force here now. Keys are ids. `model`: what new nodes
    are offered, and the proposal that put it into force; None: nobody voted for one. `fault`: why
    the disk cannot be read or written; empty if it can be."""

    obstacle: str
    charter_version: int
    voters: Sequence[bytes]
    agents: Sequence[bytes]
    electorate: int
    minor_needs: int | None
    major_needs: int | None
    review_s: float
    canary_s: float
    phase: int
    known: Knowledge
    phases: Sequence[PhaseView]
    proposals: Sequence[ProposalView]
    journal: Sequence[JournalEntry]
    records_refused: int
    model: tuple[SetDefaultModel, bytes] | None = None
    fault: str = ""
    held_out: HeldOut | None = None


def view_of(machine: GovernanceMachine, now: float) -> GovernanceView:
    mandate, outcome, book = machine.mandate, machine.outcome, machine.registry.book
    known = machine.knowledge(now)
    cases = () if book is None or outcome is None else sorted(book.cases.values(), key=_newest)
    return GovernanceView(
        obstacle=machine.obstacle,
        charter_version=0 if mandate is None else mandate.version,
        voters=() if mandate is None else tuple(sorted(mandate.voters)),
        agents=() if mandate is None else tuple(sorted(mandate.agents)),
        electorate=0 if mandate is None else mandate.electorate,
        minor_needs=None if mandate is None else mandate.needs(Tier.DEPLOY_MINOR),
        major_needs=None if mandate is None else mandate.needs(Tier.DEPLOY_MAJOR),
        review_s=0.0 if mandate is None else mandate.review_s,
        canary_s=0.0 if mandate is None else mandate.canary_s,
        phase=machine.phase,
        known=known,
        phases=()
        if mandate is None
        else tuple(
            PhaseView(
                phase,
                mandate.terms.phase_experts[phase - 1],
                mandate.terms.phase_audits[phase - 1],
                # With a report, which is a matter of the proposal.
                obstacle(phase, b"\1" * 32, mandate.terms, known),
            )
            for phase in range(1, PHASE_MAX + 1)
        ),
        proposals=tuple(_proposal(machine, case, now) for case in cases),
        held_out=None if mandate is None else mandate.held_out,
        fault=machine.damage or machine.writing.fault,
        journal=machine.changes.journal.entries,
        records_refused=machine.replica.refused,
        model=_model(machine),
    )


def _model(machine: GovernanceMachine) -> tuple[SetDefaultModel, bytes] | None:
    value = machine.changes.model
    model = model_of(value)
    return None if value is None or model is None else (model, value[0])


def _newest(case: Case) -> tuple[int, bytes]:
    return -case.proposal.seq, case.id


def _proposal(machine: GovernanceMachine, case: Case, now: float) -> ProposalView:
    mandate, outcome = machine.mandate, machine.outcome
    assert mandate is not None
    assert outcome is not None
    standing, proposal = outcome.standings[case.id], case.proposal
    course = machine.progress.courses.get(case.id)
    votes = case.votes
    is_live = any(id == case.id for id, _ in machine.changes.live.values())
    return ProposalView(
        id=case.id,
        author=proposal.author,
        by_agent=proposal.author not in mandate.voters,
        seq=proposal.seq,
        action=case.action,
        raw_action=proposal.action,
        asked=Tier(proposal.tier),
        tier=standing.decision.tier,
        why_tier=standing.decision.why,
        escalated=standing.decision.escalated,
        lacks=standing.decision.lacks,
        state=_state(machine, case, is_live=is_live),
        waits=_waits(machine, case, is_live=is_live),
        yes=tuple(sorted(key for key, yes in votes.items() if yes)),
        no=tuple(sorted(key for key, yes in votes.items() if not yes)),
        double=case.doubled,
        needs=standing.needs,
        evidence=b"" if proposal.evidence == NO_EVIDENCE else proposal.evidence,
        why=proposal.why,
        issued_ms=proposal.issued_ms,
        seen_s=0.0 if course is None else course.seen.read(now),
    )


def state_of(machine: GovernanceMachine, id: bytes) -> str:
    """The state of one proposal, as `ProposalView` has it; empty if there is none."""
    case = machine.registry.cases.get(id)
    if case is None or machine.outcome is None or id not in machine.outcome.standings:
        return ""
    is_live = any(live == id for live, _ in machine.changes.live.values())
    return _state(machine, case, is_live=is_live)


def _waits(machine: GovernanceMachine, case: Case, *, is_live: bool) -> str:
    assert machine.outcome is not None
    standing, course = machine.outcome.standings[case.id], machine.progress.courses.get(case.id)
    waits = standing.void or ("" if course is None else course.waits)
    if not waits and not is_live and _is_wanted(machine, case):
        return machine.obstacle or "this node could not write it to its disk and its ledger yet"
    return waits


def _is_wanted(machine: GovernanceMachine, case: Case) -> bool:
    """Whether it is to be in force here, and may still have to be written down."""
    return any(id == case.id for id, _ in machine.changes.wanted.values())


def _state(machine: GovernanceMachine, case: Case, *, is_live: bool) -> str:
    assert machine.outcome is not None
    standing = machine.outcome.standings[case.id]
    course = machine.progress.courses.get(case.id)
    if standing.is_withdrawn:
        return "withdrawn"
    if not standing.passed:
        return "open"
    if standing.void:
        return "void"
    if course is not None and course.trial == "running":
        return "canary"
    if is_live:
        return "enacted"
    if _is_wanted(machine, case):
        return "passed"
    return "superseded" if course is not None and course.released else "passed"
