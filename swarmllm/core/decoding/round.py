"""The pieces of one round: who was asked what, and what came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from swarmllm.core.events import NodeEvent
from swarmllm.core.peers.router import Candidate
from swarmllm.messages import CapacityRecord, ExpertRequest, PeerId
from swarmllm.wire.sparse import SparseList


class Swarm(Protocol):
    """What a generation may ask of the node around it; all answers are values of this moment."""

    def candidates(self, missing: Mapping[PeerId, int], tokens: int, now: float) -> list[Candidate]:
        """Experts that can be asked now; `missing[peer]` is known for members, all others lack all `tokens`."""

    def pick(self, count: int, candidates: Sequence[Candidate], now: float) -> list[PeerId]: ...

    def prior(self, peer: PeerId, record: CapacityRecord, domain: str) -> float:
        """How much an expert is believed in before it has seen the text: relative, > 0."""

    def weighed(self, peer: PeerId, merit: float, share: float, now: float) -> None: ...

    def patience_s(self, candidate: Candidate, now: float) -> float: ...

    def catch_up_s(self, candidate: Candidate, now: float) -> float:
        """How long it will compute before it can answer for the last token alone."""

    def replied(self, peer: PeerId, seconds: float, tokens: int, now: float) -> None: ...

    def missed(self, peer: PeerId, now: float) -> None: ...

    def rest(self, peer: PeerId, seconds: float, now: float) -> None: ...

    @property
    def digest(self) -> bytes:
        """What our control records add up to; it goes into every request."""

    def is_local(self, peer: PeerId) -> bool: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this to an expert (which may be our own)."""

    peer: PeerId
    message: ExpertRequest


Step = Ask | NodeEvent


@dataclass(slots=True)
class Question:
    """An unanswered Score of the tokens `base..upto`, which the expert holds once it has answered."""

    round: int
    base: int
    upto: int
    evidence: Sequence[
        int
    ]  # Positions of the prompt (within base..upto) that it tells the log-probability of the next token for.
    sent_at: float
    final: bool  # Whether the answer brings the list for the round.


@dataclass(slots=True)
class Member:
    """An expert that has a part in this answer."""

    record: CapacityRecord
    have: int = 0
    opened: bool = False
    question: Question | None = None
    needs: int = 0


@dataclass(slots=True)
class Reply:
    found: SparseList
    size_bytes: int
    rtt_s: float


@dataclass(slots=True)
class Round:
    """`wanted` answers of the best experts make a token."""

    started_at: float
    deadline_at: float
    wanted: int
    asked: dict[PeerId, Candidate] = field(default_factory=dict)
    replies: dict[PeerId, Reply] = field(default_factory=dict)
    failed: set[PeerId] = field(default_factory=set)  # Asked, and fell out without an answer.
    late: set[PeerId] = field(default_factory=set)  # Let the deadline pass; may still answer.
    is_wide: bool = False  # Whether a round that began with one expert has been decided on.
