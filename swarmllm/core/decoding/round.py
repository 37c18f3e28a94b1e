"""The state of one round: which experts were asked what, and what came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from swarmllm.core.events import ExpertUse, NodeEvent
from swarmllm.core.peers.router import Candidate
from swarmllm.messages import CapacityRecord, ExpertRequest, Open, PeerId, Score
from swarmllm.wire.sparse import SparseList


class Swarm(Protocol):
    """What a generation may ask of the node around it; all answers are values of this moment."""

    def candidates(self, missing: Mapping[PeerId, int], tokens: int, now: float) -> list[Candidate]:
        """Experts that can be asked now; `missing[peer]` is known for members, all others lack all
        `tokens`."""

    def pick(self, count: int, candidates: Sequence[Candidate], now: float) -> list[PeerId]: ...

    def suspect(self, candidates: Sequence[Candidate], now: float) -> list[PeerId]:
        """At most one expert of those that rest: worth a try where nobody else is left."""

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

    def hopes(self, tokens: int, now: float) -> bool:
        """Whether an expert is known that could take so many tokens, but cannot be asked now: not
        connected, or not let yet."""

    def shortage(self, tokens: int, now: float) -> str:
        """Why hardly anybody can be asked about a text of so many tokens: half a sentence for a
        person."""


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
        # Positions of the prompt (within base..upto) that it tells the log-probability of the next
        # token for.
    ]
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
    """`wanted` answers of the best experts make a token. Times are on the clock of whoever asks, in
    seconds."""

    index: int
    started_at: float
    deadline_at: float
    wanted: int
    asked: dict[PeerId, Candidate] = field(default_factory=dict)
    replies: dict[PeerId, Reply] = field(default_factory=dict)
    failed: set[PeerId] = field(default_factory=set)  # Asked, and fell out without an answer.
    late: set[PeerId] = field(default_factory=set)  # Let the deadline pass; may still answer.
    until: dict[PeerId, float] = field(default_factory=dict)  # How long each is waited for.
    is_told: bool = False  # Whether the user has heard that nobody answers.
    has_known: bool = False  # Whether there was anybody to ask, be it one who rests ...
    has_hope: bool = False  # ... or anybody known who could be asked if it were reached.
    is_wide: bool = False  # Whether a round that began with one expert has been decided on.

    @property
    def waiting(self) -> list[PeerId]:
        """Asked, and neither answered nor fallen out."""
        return [p for p in self.asked if p not in self.replies and p not in self.failed]

    @property
    def wants_more(self) -> bool:
        return len(self.replies) + len(self.waiting) < self.wanted

    def uses(self, used: Sequence[PeerId], weights: Sequence[float]) -> tuple[ExpertUse, ...]:
        """What a token was made of."""
        parts = [(peer, self.asked[peer].record.model, self.replies[peer]) for peer in used]
        return tuple(
            ExpertUse(p, m, w, r.size_bytes, r.rtt_s, True)
            for (p, m, r), w in zip(parts, weights, strict=True)
        )

    def fell_out(self, peer: PeerId) -> None:
        if peer in self.asked and peer not in self.replies:
            self.failed.add(peer)


def questions(
    session: int,
    member: Member,
    context_hash: bytes,
    tokens: tuple[int, ...],
    entries: int,
    ctl_digest: bytes,
) -> list[ExpertRequest]:
    """The messages that ask what `member.question` stands for; the first ones open the session."""
    question = member.question
    assert question is not None
    score = Score(
        session=session,
        round=question.round,
        epoch=0,
        base=question.base,
        context_hash=context_hash,
        tokens=tokens,
        answer=(len(tokens) - 1,) if question.final else (),
        targets=tuple(position - question.base for position in question.evidence),
        entries_max=entries,
        tail_max=0,
        ctl_digest=ctl_digest,
    )
    if member.opened:
        return [score]
    member.opened = True
    return [
        Open(session, member.record.model_digest, member.record.vocab_fingerprint, ctl_digest),
        score,
    ]
