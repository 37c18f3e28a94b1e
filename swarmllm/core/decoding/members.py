"""Members are the experts that hold a session for one answer: what each has of the text, and the
question that it has not answered yet.

The requester owns the text; an expert is only a cache of a beginning of it. So every question says
what it builds on, and any expert can take part in any round after catching up.

Laws: at most one question per expert is open at a time; whoever holds less than the text is sent
what it lacks, in pieces of at most `TOKENS_MAX`, and only the last piece asks for distributions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from swarmllm.core.decoding.text import Text
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import LIST_ENTRIES
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    ENTRIES_MAX,
    TOKENS_MAX,
    CapacityRecord,
    Close,
    ExpertRequest,
    Open,
    PeerId,
    Score,
    ScoreAllowed,
    ScoreDraft,
    Scores,
)
from swarmllm.wire.sparse import SparseList, decode_list
from swarmllm.wire.target_logprob import decode_target
from swarmllm.wire.token_set import TokenSet, encode_set

# Need replies of one expert in one round before it rests.
NEEDS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this to an expert (which may be our own)."""

    peer: PeerId
    message: ExpertRequest


@dataclass(frozen=True, slots=True)
class Question:
    """An unanswered Score of the tokens `base..upto - 1`, which the expert holds once it has
    answered.

    The answer brings the distribution of the token behind each of `positions` (none while the
    expert only catches up), and for each position in `evidence` the log-probability of the token
    that follows it in the text. Both are indices into the text. A distribution lists `entries`
    tokens at most, and if `allowed` is given only such as are in it. With `steps` the expert goes
    on by itself, and tells so many distributions more.
    """

    round: int
    base: int
    upto: int
    positions: range
    evidence: Sequence[int]
    entries: int
    sent_at: float
    allowed: TokenSet | None = None
    steps: int = 0

    def lists_in(self, peer: PeerId, reply: Scores, vocab_size: int) -> tuple[SparseList, ...]:
        """The distributions of an answer, one per position that was asked about. RemoteError: it
        brings more or fewer of them, or something else."""
        wanted = len(self.positions) + self.steps
        if len(reply.lists) != wanted:
            raise RemoteError(
                f"expert {peer}: {len(reply.lists)} lists where {wanted} were asked for"
            )
        lists = tuple(decode_list(data, self.entries, vocab_size) for data in reply.lists)
        allowed = self.allowed
        if allowed is not None and not all(allowed.holds(one.ids).all() for one in lists):
            raise RemoteError(f"expert {peer}: a list of tokens that it was not asked about")
        return lists

    def log_mass_in(self, peer: PeerId, reply: Scores) -> float:
        """The log-probability of all that was allowed; 0 where all tokens were. RemoteError: it
        does not tell it."""
        if self.allowed is None:
            return 0.0
        if len(reply.target_logprobs) != 2:
            raise RemoteError(
                f"expert {peer}: {len(reply.target_logprobs)} bytes of target log-probabilities"
                " where the mass of the allowed tokens was asked for"
            )
        return decode_target(reply.target_logprobs)


@dataclass(slots=True)
class Member:
    """`have`: how many tokens of the text it holds; `needs`: how often it said in this round that
    it holds less."""

    record: CapacityRecord
    have: int = 0
    opened: bool = False
    question: Question | None = None
    needs: int = 0


class Members:
    """Of one answer. `evidence` are the positions of the prompt that every expert is asked about as
    it takes the prompt in."""

    def __init__(
        self, session: int, text: Text, evidence: Sequence[int], settings: Settings
    ) -> None:
        self._settings = settings
        self.session = session
        self.text = text
        self._evidence = evidence
        self._members: dict[PeerId, Member] = {}

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._members

    def __iter__(self) -> Iterator[tuple[PeerId, Member]]:
        return iter(self._members.items())

    def begin_round(self) -> None:
        for member in self._members.values():
            member.needs = 0

    # --- what is known of them --------------------------------------------------------------------

    def question_of(self, peer: PeerId) -> Question | None:
        """What it has not answered yet."""
        member = self._members.get(peer)
        return member.question if member is not None else None

    def record_of(self, peer: PeerId) -> CapacityRecord:
        return self._members[peer].record

    def open_questions(self) -> int:
        return sum(member.question is not None for member in self._members.values())

    def missing(self, length: int) -> dict[PeerId, int]:
        """How many of the first `length` tokens each of them lacks."""
        return {peer: max(0, length - member.have) for peer, member in self._members.items()}

    def room(self, length: int) -> int:
        """How many tokens more than `length` all of them can take."""
        return min((m.record.context_max for m in self._members.values()), default=length) - length

    # --- asking -----------------------------------------------------------------------------------

    def ask(
        self,
        peer: PeerId,
        record: CapacityRecord,
        number: int,
        positions: range,
        pool: ExpertPool,
        allowed: TokenSet | None = None,
        steps: int = 0,
    ) -> list[Ask]:
        """Ask for the distributions behind `positions`, or send a first piece of what it lacks for
        them. Whoever has no session yet gets one. With `allowed` it is asked about these tokens
        alone, behind one position, and sent all that it lacks before it first. With `steps` it goes
        on by itself behind the last position."""
        member = self._members.setdefault(peer, Member(record))
        # Who has answered for these positions already is asked behind the last of them again.
        base, upto = min(member.have, positions.start), positions.stop
        if upto - base > TOKENS_MAX or (allowed is not None and base < positions.start):
            upto = min(base + TOKENS_MAX, positions.start)
        is_piece = upto != positions.stop
        asked = range(0) if is_piece else positions
        among = None if is_piece else allowed
        evidence = tuple(position for position in self._evidence if base <= position < upto - 1)
        entries = self._settings[LIST_ENTRIES] if among is None else ENTRIES_MAX
        ahead = 0 if is_piece else steps
        member.question = Question(
            *(number, base, upto, asked, evidence, entries, pool.now), among, ahead
        )
        score = Ask(peer, self._score(member.question, pool.digest))
        if member.opened:
            return [score]
        member.opened = True
        return [Ask(peer, self._open(member, pool.digest)), score]

    def _open(self, member: Member, digest: bytes) -> Open:
        record = member.record
        return Open(self.session, record.model_digest, record.vocab_fingerprint, digest)

    def _score(self, question: Question, digest: bytes) -> Score:
        score = Score(
            session=self.session,
            round=question.round,
            epoch=0,
            base=question.base,
            context_hash=self.text.digest(question.base),
            tokens=self.text.piece(question.base, question.upto),
            answer=tuple(position - question.base for position in question.positions),
            targets=tuple(position - question.base for position in question.evidence),
            entries_max=question.entries,
            tail_max=0,
            ctl_digest=digest,
        )
        if question.allowed is None and not question.steps:
            return score
        said = {f.name: getattr(score, f.name) for f in fields(score)}
        if question.allowed is None:
            return ScoreDraft(**said, steps=question.steps)
        return ScoreAllowed(**said, allowed=encode_set(question.allowed))

    # --- what comes back --------------------------------------------------------------------------

    def answered(self, peer: PeerId) -> None:
        """It holds what it was sent."""
        member = self._members[peer]
        assert member.question is not None
        member.have = member.question.upto
        member.question = None

    def needs(self, peer: PeerId, have: int) -> bool:
        """It holds only the first `have` tokens: whether that has happened too often in one round.
        RemoteError: it wants no more than it was sent."""
        member = self._members[peer]
        question = member.question
        assert question is not None
        if have >= max(question.base, 1):
            raise RemoteError(
                f"expert {peer}: needs from {have} where it was sent from {question.base}"
            )
        member.needs += 1
        member.have, member.question = have, None
        return member.needs > NEEDS_MAX

    def cut(self, length: int) -> None:
        """Of the text that they were asked about only the first `length` tokens stand: whoever
        holds more, or will have it by its answer, holds no more than these of what counts."""
        for member in self._members.values():
            member.have = min(member.have, length)
            if member.question is not None and member.question.upto > length:
                member.question = replace(member.question, upto=length)

    def refused(self, peer: PeerId) -> None:
        """It will not answer the question that is open."""
        self._members[peer].question = None

    # --- parting ----------------------------------------------------------------------------------

    def drop(self, peer: PeerId) -> bool:
        """Its session is gone; whether a text that it was working on has to be taken up by
        others."""
        member = self._members.pop(peer, None)
        return member is not None and member.question is not None and member.have > 0

    def close(self, peer: PeerId) -> Ask:
        """It is not needed again."""
        self._members.pop(peer, None)
        return Ask(peer, Close(self.session))

    def close_all(self) -> list[Ask]:
        return [self.close(peer) for peer in sorted(self._members)]

    def clear(self) -> None:
        """Forget them all, without a goodbye."""
        self._members.clear()
