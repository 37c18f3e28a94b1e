"""Authoring: the proposal, vote or withdrawal that a key should sign now, or why it should not.

What a node refuses here it would not refuse from the network: there only the records count. But
nobody should sign what can come to nothing, and a quorum that asks its own nodes first never passes
what is stale, was made before a halt, or comes before its phase.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmllm.core.governance.book import OPEN_PER_AUTHOR_MAX
from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.governance.mandate import Mandate, Tier
from swarmllm.core.governance.outcome import Outcome, Target, rank, target_of
from swarmllm.core.governance.phases import obstacle
from swarmllm.core.governance.tiers import Action, decide
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages.governance import (
    NO_BASE,
    NO_EVIDENCE,
    OpenPhase,
    Proposal,
    Revert,
    Vote,
    Withdrawal,
)
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import key_id


def draft(
    machine: GovernanceMachine,
    action: Action,
    public_key: bytes,
    *,
    now: float,
    unix_ms: int,
    why: str = "",
    evidence: bytes = NO_EVIDENCE,
    tier: int | None = None,
) -> Proposal:
    """The proposal that this key should sign. `tier` is the one asked for; None: the action's own.
    UsageError, one sentence, if it should not sign any."""
    mandate, outcome = _open(machine)
    author = key_id(public_key)
    _refuse_retired(mandate, author)
    if author not in mandate.keys:
        raise UsageError(
            f"key {author.hex()} is neither a voter nor an agent of charter {mandate.version},"
            " and cannot propose"
        )
    by_agent = author not in mandate.voters
    if by_agent and machine.phase < 1:
        raise UsageError("in phase 0 an agent only reads; it may suggest from phase 1 on")
    cases = _cases(machine)
    _check_room(author, cases, outcome)
    if isinstance(action, OpenPhase):
        missing = obstacle(action.phase, evidence, mandate.terms, machine.knowledge(now))
        if missing:
            raise UsageError(missing)
    if isinstance(action, Revert):
        _check_revert(action, cases, outcome)
    decision = decide(
        action,
        0,
        evidence != NO_EVIDENCE,
        machine.rules,
        outcome.bounds_of(machine.rules),
    )
    if decision.lacks and decision.tier >= Tier.DEPLOY_MINOR:
        raise UsageError(f"nothing would come of it: {decision.lacks}")
    asked = int(decision.tier) if tier is None else tier
    base, height = _base(action, cases, outcome)
    return Proposal(
        mandate.swarm,
        mandate.version,
        author,
        1 + max((case.proposal.seq for case in cases), default=0),
        asked,
        encode(action),
        base,
        height,
        machine.switch.state.digest,
        evidence,
        why,
        max(0, unix_ms),
    )


def ballot(
    machine: GovernanceMachine, id: bytes, public_key: bytes, yes: bool, unix_ms: int
) -> Vote:
    """The vote that this key should sign. UsageError if it should not sign any."""
    mandate, outcome = _open(machine)
    voter = key_id(public_key)
    _refuse_retired(mandate, voter)
    if voter not in mandate.voters:
        raise UsageError(
            f"key {voter.hex()} is no voter of charter {mandate.version}; a vote by it counts"
            " nothing"
        )
    case = find(machine, id.hex())
    standing = outcome.standings[case.id]
    name = f"proposal {case.id.hex()[:16]}"
    if any(kind is Vote and key == voter for kind, key, _ in case.says):
        raise UsageError(f"key {voter.hex()} has voted on {name} already, and votes are final")
    if standing.needs is None:
        raise UsageError(f"{name} is a suggestion; nobody votes on it")
    if standing.is_withdrawn:
        raise UsageError(f"{name} was withdrawn")
    if case.proposal.ctl_digest != machine.switch.state.digest:
        raise UsageError(f"{name} was made before a halt; propose it again if it is still wanted")
    if standing.void:
        raise UsageError(f"{name}: {standing.void}")
    target = target_of(case.action)
    if target is not None and not standing.passed:
        _, height = _next(target, _cases(machine), outcome)
        if case.proposal.height < height:
            raise UsageError(
                f"{name} changes what has been changed since; propose it again on what is in force"
            )
    return Vote(mandate.swarm, mandate.version, case.id, voter, int(yes), max(0, unix_ms))


def withdrawal(
    machine: GovernanceMachine, id: bytes, public_key: bytes, unix_ms: int
) -> Withdrawal:
    """The withdrawal that this key should sign. UsageError if it should not sign any."""
    _refuse_damaged(machine)
    mandate = machine.mandate
    if mandate is None:
        raise UsageError(machine.obstacle)
    case, key = find(machine, id.hex()), key_id(public_key)
    if key != case.proposal.author and key not in mandate.voters:
        raise UsageError(
            f"key {key.hex()} is neither the author of proposal {case.id.hex()[:16]} nor a voter"
        )
    return Withdrawal(mandate.swarm, mandate.version, case.id, key, max(0, unix_ms))


def find(machine: GovernanceMachine, prefix: str) -> Case:
    """The case whose id begins with these hexadecimal digits. UsageError for none or several,
    LocalError if this node does not know what it held."""
    _refuse_damaged(machine)
    found = [case for case in _cases(machine) if case.id.hex().startswith(prefix.lower())]
    if not found:
        raise UsageError(f"no proposal {prefix!r} is known here; `swarmllm proposals` lists them")
    if len(found) > 1:
        raise UsageError(f"{len(found)} proposals begin with {prefix!r}; give more digits")
    return found[0]


def base_of(machine: GovernanceMachine, action: Action) -> bytes:
    """What the action would build on, as a proposal of it names that; zeros for nothing, and while
    nothing is in force here."""
    outcome = machine.outcome
    return NO_BASE if outcome is None else _base(action, _cases(machine), outcome)[0]


# --- what the sentences depend on -----------------------------------------------------------------


def _open(machine: GovernanceMachine) -> tuple[Mandate, Outcome]:
    """UsageError while nothing may be put into force here, so that nothing should be signed."""
    _refuse_damaged(machine)
    mandate, outcome = machine.mandate, machine.outcome
    if machine.obstacle or mandate is None or outcome is None:
        raise UsageError(f"governance is suspended: {machine.obstacle}")
    return mandate, outcome


def _refuse_retired(mandate: Mandate, key: bytes) -> None:
    if key in mandate.retired:
        raise UsageError(
            f"key {key.hex()} was taken out as a halt key, for good, so what it signs counts"
            f" nothing, though charter {mandate.version} lists it; its owner needs a new key, which"
            " the charter has to name"
        )


def _refuse_damaged(machine: GovernanceMachine) -> None:
    if machine.damage:
        raise LocalError(machine.damage)


def _cases(machine: GovernanceMachine) -> Sequence[Case]:
    book = machine.registry.book
    return () if book is None else tuple(book.cases.values())


def _is_done(outcome: Outcome, case: Case) -> bool:
    standing = outcome.standings[case.id]
    return standing.passed or standing.is_withdrawn


def _check_room(author: bytes, cases: Sequence[Case], outcome: Outcome) -> None:
    opened = [case for case in cases if not _is_done(outcome, case)]
    if sum(case.proposal.author == author for case in opened) >= OPEN_PER_AUTHOR_MAX:
        raise UsageError(
            f"key {author.hex()} has {OPEN_PER_AUTHOR_MAX} open proposals already;"
            " withdraw one with `swarmllm withdraw ID`, or wait until one has expired"
        )


def _base(action: Action, cases: Sequence[Case], outcome: Outcome) -> tuple[bytes, int]:
    """What the action builds on: the id of the last change to the same, and its own height."""
    target = target_of(action)
    return (NO_BASE, 1) if target is None else _next(target, cases, outcome)


def _next(target: Target, cases: Sequence[Case], outcome: Outcome) -> tuple[bytes, int]:
    passed = [c for c in cases if target_of(c.action) == target and outcome.standings[c.id].passed]
    if not passed:
        return NO_BASE, 1
    top = max(passed, key=rank)
    winner = outcome.winners.get(target, top)
    return winner.id, top.proposal.height + 1


def _check_revert(action: Revert, cases: Sequence[Case], outcome: Outcome) -> None:
    name = action.proposal.hex()[:16]
    case = next((case for case in cases if case.id == action.proposal), None)
    if case is None or not outcome.standings[case.id].passed or target_of(case.action) is None:
        raise UsageError(f"proposal {name} was never put into force, so there is nothing to revert")
