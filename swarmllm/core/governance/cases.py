"""A case: a proposal with all that was signed to it. Records only ever add to it, and each signer
has one say: two different votes of one voter are no vote at all, and evidence against him; two
different reports of one agent are a bad one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from swarmllm.core.governance.tiers import Action, read_action
from swarmllm.messages.governance import (
    CanaryReport,
    GovernanceRecord,
    Proposal,
    Vote,
    Withdrawal,
)

_MARKS: Final[dict[type[GovernanceRecord], bytes]] = {
    Proposal: b"p",
    Vote: b"v",
    Withdrawal: b"w",
    CanaryReport: b"c",
}
Say = tuple[type[GovernanceRecord], bytes, int]
"""What a record says: its kind, who says it, and which of two things."""


def say_of(record: GovernanceRecord) -> Say:
    """Two records that say the same are one."""
    match record:
        case Proposal(author=author):
            return Proposal, author, 0
        case Vote(key=key, yes=yes):
            return Vote, key, yes
        case Withdrawal(key=key):
            return Withdrawal, key, 0
        case CanaryReport(key=key, worse=worse):
            return CanaryReport, key, worse


@dataclass(slots=True)
class Case:
    """`id` is SHA-256 of the proposal's payload. `says` are the records as they were signed, by
    what they say: at most 1 + 2 x 16 + 17 + 2 x 16 of them."""

    id: bytes
    proposal: Proposal
    action: Action | None = field(init=False)
    says: dict[Say, bytes] = field(default_factory=dict)
    digest: bytes = field(init=False, default=bytes(8))
    """8 bytes that two cases have in common exactly if they say the same."""

    def __post_init__(self) -> None:
        self.action = read_action(self.proposal.action)

    @property
    def records(self) -> Sequence[bytes]:
        """The proposal first: whoever reads them in order can check each."""
        order = (Proposal, Vote, Withdrawal, CanaryReport)
        return [self.says[one] for one in sorted(self.says, key=lambda s: (order.index(s[0]), s))]

    def add(self, record: GovernanceRecord, data: bytes) -> bool:
        """One more record, whose signature is good. False if nobody says anything new by it."""
        if say_of(record) in self.says:
            return False
        self.says[say_of(record)] = data
        marks = sorted(_MARKS[kind] + key + bytes((which,)) for kind, key, which in self.says)
        self.digest = sha256(self.id + b"".join(marks)).digest()[:8]
        return True

    @property
    def votes(self) -> dict[bytes, int]:
        """Key id -> 1 or 0, of voters with one say."""
        said = self._said(Vote)
        return {key: found[0] for key, found in said.items() if len(found) == 1}

    @property
    def doubled(self) -> tuple[bytes, ...]:
        """Voters whose two different votes void each other."""
        return tuple(sorted({k for kind, k, _ in self.says if kind is Vote} - self.votes.keys()))

    @property
    def said_yes(self) -> frozenset[bytes]:
        """Voters who have signed a yes, whatever else they signed."""
        return frozenset(key for kind, key, yes in self.says if kind is Vote and yes)

    @property
    def withdrawn_by(self) -> frozenset[bytes]:
        return frozenset(key for kind, key, _ in self.says if kind is Withdrawal)

    @property
    def reports(self) -> dict[bytes, int]:
        """Key id -> 1 (worse) or 0. An agent that has said both says worse: were it to say nothing,
        nodes that had released the change by its first report would differ for good from those
        that heard both at once."""
        said = self._said(CanaryReport)
        return {key: max(found) for key, found in said.items()}

    def _said(self, wanted: type[GovernanceRecord]) -> dict[bytes, list[int]]:
        said: dict[bytes, list[int]] = {}
        for kind, key, which in self.says:
            if kind is wanted:
                said.setdefault(key, []).append(which)
        return said
