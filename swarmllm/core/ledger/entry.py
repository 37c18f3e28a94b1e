"""Ledger entries: what happened, of a closed list of kinds, with the bytes that prove it.

An entry says what steered this node: a record that was signed, a decision, an act of its owner. It
never holds a prompt or an answer, and no kind for them exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from swarmllm.messages.ledger import PAYLOAD_MAX


class LedgerKind(IntEnum):
    """The number of a kind is on disk and in proofs: it never changes its meaning, and a new kind
    takes the next one."""

    HALT = 1
    """A halt, as it was signed."""
    RESUME = 2
    """A resume, as it was signed."""
    CHARTER = 3
    """A charter, as it was signed: the first, or one that changed the roles."""
    HALTED = 4
    """This node stopped making tokens by order, or by its owner (`messages.ledger.HaltedHere`)."""
    RESUMED = 5
    """And started again (`messages.ledger.ResumedHere`)."""
    COMMAND = 6
    """What its owner ordered of this node (`messages.ledger.OwnerCommand`)."""
    GOVERNANCE = 7
    """A proposal, a vote or a withdrawal, as it was signed."""
    TIER = 8
    """Which tier an action has, and why."""
    ESCALATION = 9
    """An action was asked for below its tier."""
    VALIDATION = 10
    """The digest of a validation report."""
    CANARY = 11
    """A canary began, was promoted, or was taken back."""
    ENACTMENT = 12
    """A change was put into force."""
    REVERT = 13
    """A change was taken back."""
    PHASE = 14
    """The phase changed."""
    AGENT_STEP = 15
    """What this node's agent did in a step of a cycle (`messages.ledger.AgentStep`)."""
    AUDIT = 16
    """An expert was shown to answer with something else than its model, and is excluded for a time
    (`messages.ledger.ExpertExcluded`)."""
    ALARM = 17
    """A neighbour's log was found forked or shrunk (`messages.ledger.LedgerAlarm`)."""
    NOT_CARRIED_OUT = 18
    """A proposal has passed, and this version cannot carry it out."""
    ACKNOWLEDGED = 19
    """The owner has looked at an alarm (`messages.ledger.AlarmAcknowledged`)."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """`payload` is the one encoding of a declared message (`wire.codec`), of 1 to `PAYLOAD_MAX`
    bytes."""

    kind: LedgerKind
    payload: bytes

    def __post_init__(self) -> None:
        assert 1 <= len(self.payload) <= PAYLOAD_MAX, (
            f"a ledger entry of {len(self.payload)} bytes; 1 to {PAYLOAD_MAX} are possible"
        )
