"""The sessions of answers as they are written down: what was asked and answered, until the expert
has signed it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.core.effects import Send
from swarmllm.core.part import Told
from swarmllm.core.trust.reputation import FLOOR, Reputation
from swarmllm.core.trust.transcript import Said, Transcript
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    CapacityRecord,
    ExpertReply,
    Open,
    PeerId,
    Score,
    Scores,
    SessionRecord,
    SessionSigned,
    SignSession,
)
from swarmllm.wire.ext import signs_sessions

SESSIONS_MAX: Final = 512  # That are written down at once; more than answers have.
PARTY_MAX: Final = 64
SIGN_S: Final = 10.0

Unseal = Callable[[bytes], tuple[PeerId, SessionRecord]]


@dataclass(slots=True)
class Ongoing:
    """A session of an answer with an expert. `sealed`: what the expert has signed; `partners`: who
    else took part in the answer; `receipt`: the name under which it is wanted, if it is;
    `is_drawn`: it is audited."""

    peer: PeerId
    transcript: Transcript
    opened: Open
    record: CapacityRecord
    question: Score | None = None
    signed_by: float = math.inf
    sealed: bytes = b""
    is_signed: bool = False
    partners: tuple[PeerId, ...] = ()
    receipt: str = ""
    is_drawn: bool = False
    prompt: int = 0
    """How many tokens the text had when the last question of its first round was asked: behind them
    the answer is written."""
    length: int = 0
    """How many it has now."""
    is_written: bool = False
    """It has said what it expects in the middle of the answer. Others were asked about the prompt
    alone, where hidden tokens try them: few of their sessions are audited."""

    def written(self, said: Sequence[Said]) -> int:
        """How many of these positions are in the middle of the answer."""
        return sum(one.length > self.prompt for one in said)

    @property
    def digest(self) -> bytes:
        return self.transcript.model_digest

    @property
    def can_sign(self) -> bool:
        return signs_sessions(self.record.ext)

    @property
    def was_to_sign(self) -> bool:
        """Whether its expert has been asked to."""
        return self.signed_by < math.inf

    @property
    def can_be_looked_at(self) -> bool:
        """Whether it is known as a whole, and something that was said is kept."""
        return not self.transcript.is_cut and any(one.body for one in self.transcript.rounds)


class Sessions:
    """`rng` is secret; `reputation` says how likely a session is audited, and `affords` whether an
    audit of it can be paid: nobody signs for one that cannot."""

    def __init__(
        self,
        reputation: Reputation,
        rng: random.Random,
        unseal: Unseal,
        affords: Callable[[Ongoing], bool],
    ) -> None:
        self._reputation, self._rng, self._unseal = reputation, rng, unseal
        self._affords = affords
        self._sessions: dict[tuple[PeerId, int], Ongoing] = {}
        self._signing: dict[tuple[PeerId, int], Ongoing] = {}  # Of these, whose answer is over.
        # Who took part in which answer, of the last ones: they hold its text.
        self._parties: dict[int, list[PeerId]] = {}

    def next_deadline(self) -> float:
        return min((one.signed_by for one in self._signing.values()), default=math.inf)

    def opened(self, peer: PeerId, opened: Open, record: CapacityRecord, receipt: str = "") -> None:
        self._took_part(opened.session, peer)
        if len(self._sessions) < SESSIONS_MAX:
            self._signing.pop((peer, opened.session), None)
            transcript = Transcript(opened.session, opened.model_digest)
            self._sessions[peer, opened.session] = Ongoing(
                peer, transcript, opened, record, receipt=receipt
            )

    def _took_part(self, session: int, peer: PeerId) -> None:
        if session not in self._parties and len(self._parties) >= SESSIONS_MAX:
            del self._parties[next(iter(self._parties))]
        party = self._parties.setdefault(session, [])
        if peer not in party and len(party) < PARTY_MAX:
            party.append(peer)

    def asked(self, peer: PeerId, question: Score) -> None:
        ongoing = self._sessions.get((peer, question.session))
        if ongoing is not None:
            ongoing.question = question
            ongoing.length = question.base + len(question.tokens)
            if not question.round:
                ongoing.prompt = ongoing.length

    def replied(self, peer: PeerId, reply: ExpertReply) -> None:
        ongoing = self._sessions.get((peer, reply.session))
        if ongoing is None or ongoing.question is None:
            return
        question = ongoing.question
        if question.round != reply.round:
            return
        ongoing.question = None
        if isinstance(reply, Scores):
            ongoing.transcript.add(question, reply, self._rng)
            ongoing.is_written |= question.round > 0

    def closing(self, peer: PeerId, session: int, now: float) -> tuple[Told, Ongoing | None]:
        """The session is over: whether it is audited is drawn now, and never told. What is sent to
        have it signed, or the session, if its expert signs none."""
        ongoing = self._sessions.get((peer, session))
        if ongoing is None:
            return (), None
        ongoing.is_drawn = self._is_drawn(ongoing)
        is_wanted = ongoing.is_drawn or (ongoing.receipt and ongoing.can_sign)
        if not is_wanted or not ongoing.can_be_looked_at:
            del self._sessions[peer, session]
            return (), None
        if not ongoing.can_sign:
            return (), self._over(ongoing)
        ongoing.signed_by = now + SIGN_S
        self._signing[peer, session] = ongoing
        return [Send(peer, SignSession(session))], None

    def signed(self, peer: PeerId, signed: SessionSigned) -> Ongoing | None:
        """The session that this is of, if it was asked for."""
        ongoing = self._sessions.get((peer, signed.session))
        if ongoing is None or not ongoing.was_to_sign:
            return None
        ongoing.sealed = signed.sealed
        ongoing.is_signed = self._is_of(ongoing)
        return self._over(ongoing)

    def open_for(self, receipt: str) -> int:
        """How many sessions of this receipt are not over yet, or not signed."""
        return sum(one.receipt == receipt for one in self._sessions.values())

    def overdue(self, now: float) -> list[Ongoing]:
        """Those whose expert has not signed them in time."""
        due = [one for one in self._signing.values() if one.signed_by <= now]
        return [self._over(one) for one in due]

    def gone(self, peer: PeerId) -> list[Ongoing]:
        """The sessions of a peer whose connection is lost. They are looked at as they stand: who
        could end them so would be audited in none, for only those that are drawn are to be
        signed."""
        left = [one for (of, _), one in self._sessions.items() if of == peer]
        for one in left:
            if not one.was_to_sign:
                one.is_drawn = self._is_drawn(one)
        over = [self._over(one) for one in left]
        return [one for one in over if one.can_be_looked_at]

    def _is_drawn(self, ongoing: Ongoing) -> bool:
        """Whether this session is audited; drawn when nothing of it can be changed any more."""
        chance = FLOOR
        if ongoing.is_written:
            chance = self._reputation.audit_chance(ongoing.peer, ongoing.digest)
        return self._rng.random() < chance and self._affords(ongoing)

    def clear(self) -> None:
        self._sessions.clear()
        self._signing.clear()

    def _over(self, ongoing: Ongoing) -> Ongoing:
        session = ongoing.opened.session
        del self._sessions[ongoing.peer, session]
        self._signing.pop((ongoing.peer, session), None)
        ongoing.partners = tuple(self._parties.get(session, ()))
        return ongoing

    def _is_of(self, ongoing: Ongoing) -> bool:
        """Whether the expert has signed the session as it was."""
        found = ongoing.transcript
        wanted = SessionRecord(found.session, found.model_digest, len(found.rounds), found.link)
        try:
            return self._unseal(ongoing.sealed) == (ongoing.peer, wanted)
        except RemoteError:
            return False
