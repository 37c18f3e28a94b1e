"""Audits: now and then, once a session is over and its expert has signed it, another holder of the
same model is asked about some of its positions.

Nobody waits for an audit: it begins when no answer is being written, or after a while
(`core.trust.waiting`), and its tokens are paid from a share of those of answers
(`core.trust.purse`). What is found goes into the reputation, which says how likely the next session
is audited, and who is asked no more.

Laws: an expert that answers with its model is never excluded while those who lie about its model
are fewer than those who do not; a case ends whoever dies; the expert learns nothing of what is
looked at before it has signed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from swarmllm.core.effects import CloseSession, NodeEffect, Penalise, RunScore, Send
from swarmllm.core.facts import (
    AnswerEnded,
    ExpertReplied,
    ExpertTold,
    Fact,
    PeerGone,
    TokensForbidden,
)
from swarmllm.core.inputs import (
    Asked,
    ContradictionProved,
    Input,
    ReceiptOffered,
    Received,
    Scored,
    TimerFired,
)
from swarmllm.core.part import Part, Told
from swarmllm.core.trust.case import Case, Finding, MayAccuse, Verdict, draw
from swarmllm.core.trust.findings import Findings
from swarmllm.core.trust.history import Audit
from swarmllm.core.trust.purse import Purse
from swarmllm.core.trust.questions import questions
from swarmllm.core.trust.receipt import Signed
from swarmllm.core.trust.receipts import Opinions, Receipts
from swarmllm.core.trust.reputation import Account, Key, Reputation
from swarmllm.core.trust.sessions import Ongoing, Sessions, Unseal
from swarmllm.core.trust.standing import Standing, standing_of
from swarmllm.core.trust.suspicion import POSITIONS
from swarmllm.core.trust.track_record import TrackRecords
from swarmllm.core.trust.transcript import Transcript, replay
from swarmllm.core.trust.waiting import WAIT_S, Queue, Resting, Waiting
from swarmllm.core.values import SessionKey
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    VOCABULARY_MAX,
    CapacityRecord,
    Close,
    ExpertReply,
    Open,
    PeerId,
    Score,
    Scores,
    SessionRecord,
    SessionSigned,
)
from swarmllm.wire.ext import answers_allowed

REPLY_S: Final = 60.0
TRIES_MAX: Final = 4  # Holders that are asked for one case.
FIRST_ORDER: Final = 1 << 48  # Apart from the orders of `serving` and of answers.
FIRST_SESSION: Final = 1 << 31  # Answers begin below.

Holders = Callable[[float], Sequence[tuple[PeerId, CapacityRecord]]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What audits see of their node. `holders`: the experts that can be asked now, our own
    included; `digest`: of our halt records; `is_cleared`: whether tokens may be made with a
    peer."""

    own: PeerId
    holders: Holders
    digest: Callable[[], bytes]
    is_cleared: Callable[[PeerId, float], bool]


@dataclass(frozen=True, slots=True)
class Trust:
    """What a node needs to judge experts. `rng` is secret: whoever could guess it would know what
    is looked at. `unix_at_zero_s`: what the wall clock said when the clock of `now` said 0.
    `history`: of the audits of an earlier life, as it was saved."""

    reputation: Reputation
    rng: random.Random
    seal: Callable[[SessionRecord], bytes]
    unseal: Unseal
    unix_at_zero_s: float
    history: bytes = b""


@dataclass(frozen=True, slots=True)
class TrustView:
    """`accounts` by expert and model, `trust` what each word counts; `audits` oldest first. Of
    what experts computed for this node, `earned` tokens were for answers and `spent` for
    audits. `receipts`: of the last answers for which one was wanted; `opinions`: what came
    of receipts that were looked at."""

    now_s: float
    accounts: tuple[tuple[Key, Account, float], ...]
    audits: tuple[Audit, ...]
    earned: int
    spent: int
    receipts: Receipts
    opinions: Opinions


class Audits(Part):
    inputs = (
        *(ExpertTold, ExpertReplied, SessionSigned, Scored),
        *(Asked, AnswerEnded, PeerGone, TokensForbidden),
        *(ReceiptOffered, ContradictionProved),
    )

    def __init__(
        self, trust: Trust, around: Surroundings, track_records: TrackRecords | None = None
    ) -> None:
        """What is found goes into `track_records` too, which the gate reads."""
        self._around, self._rng = around, trust.rng
        self._reputation, self._zero_s = trust.reputation, trust.unix_at_zero_s
        self._records = records = TrackRecords() if track_records is None else track_records
        records.has_audits = True
        self._findings = Findings(around.own, trust.reputation, records, trust.history)
        self._waiting, self._resting = Queue(), Resting()
        self._current: Waiting | None = None
        self._purse = purse = Purse()
        self._sessions = Sessions(
            *(trust.reputation, trust.rng, trust.unseal),
            lambda session: _affords(purse, records, session),
        )
        self._receipts = Receipts(self._sessions.open_for, trust.unseal)
        self._opinions = Opinions()
        self._answers: set[int] = set()
        self._next_session = FIRST_SESSION + self._rng.randrange(FIRST_SESSION)
        self._next_order = FIRST_ORDER

    def handle(self, event: Input | Fact, now: float) -> Told:
        told = [*self._handled(event, now)]
        told += self._go_on(now)
        return [*told, *self._findings.save(now, self._unix_s(now))]

    def _handled(self, event: Input | Fact, now: float) -> Told:
        match event:
            case ExpertTold(peer=peer, message=message, receipt=receipt):
                return self._told(peer, message, receipt, now)
            case ExpertReplied(peer=peer, reply=reply):
                self._sessions.replied(peer, reply)
                return self._looked_at(peer, reply, now)
            case Received(peer=peer, message=SessionSigned() as signed):
                self._begin(self._sessions.signed(peer, signed), now)
            case Scored(order=order, reply=reply):
                current = self._current
                if current is not None and current.order == order:
                    return self._looked_at(self._around.own, reply, now)
            case ReceiptOffered(number=number, signed=signed):
                digest, now_s = signed.record.model_digest, self._unix_s(now)
                accusers = self._findings.accusers(digest, now_s)
                waiting = _brought(signed, self._around, self._rng, accusers, now)
                if waiting is None:
                    self._opinions.keep(number, Finding(Verdict.NOBODY))
                else:
                    waiting.opinion = number
                    self._waiting.add_first(waiting)
            case ContradictionProved(peer=peer, model_digest=digest, why=why):
                return self._findings.proved(peer, digest, why, self._unix_s(now))
            case Asked(request=request):
                self._answers.add(request)
            case AnswerEnded(request=request):
                self._answers.discard(request)
            case PeerGone(peer=peer):
                return self._gone(peer, now)
            case TokensForbidden():
                return self._halted()
            case TimerFired():
                return self._overdue(now)
            case _:
                pass
        return ()

    def _halted(self) -> Told:
        """Every session is over, and what is still answered goes nowhere."""
        current, self._current = self._current, None
        self._sessions.clear()
        self._waiting.clear()
        if current is not None and current.by == self._around.own:
            return [CloseSession(SessionKey(current.by, current.number))]
        return ()

    def next_deadline(self) -> float:
        deadline = min(self._sessions.next_deadline(), self._findings.next_deadline())
        if self._current is not None:
            return min(deadline, self._current.until)
        return min(deadline, self._waiting.next_at())

    def view(self, now: float) -> TrustView:
        now_s, purse = self._unix_s(now), self._purse
        audits = tuple(self._findings.history)
        accounts, receipts = self._findings.accounts(now_s), self._receipts
        tokens = purse.earned, purse.spent
        return TrustView(now_s, accounts, audits, *tokens, receipts, self._opinions)

    def trust(self, peer: PeerId, digest: bytes, now: float) -> float:
        """What its word counts now, as a factor; 0: it is excluded."""
        if peer == self._around.own:
            return self._reputation.trust_in_own(self._unix_s(now))
        return self._reputation.trust(peer, digest, self._unix_s(now))

    def standing(self, peer: PeerId, digest: bytes, now: float) -> Standing:
        """What this node thinks of it, for people."""
        return standing_of(self._reputation, peer, digest, self._unix_s(now))

    # --- sessions ---------------------------------------------------------------------------------

    def _told(self, peer: PeerId, message: Open | Score | Close, receipt: str, now: float) -> Told:
        match message:
            case Open(model_digest=digest):
                record = next((r for p, r in self._around.holders(now) if p == peer), None)
                if record is not None:
                    self._sessions.opened(peer, message, record, receipt)
                    self._reputation.met(peer, digest, self._unix_s(now))
            case Score(tokens=tokens, answer=answer):
                self._purse.earn(len(tokens), len(answer))
                self._sessions.asked(peer, message)
            case Close(session=session):
                self._findings.used()
                told, over = self._sessions.closing(peer, session, now)
                self._begin(over, now)
                return told
            case _:
                assert_never(message)
        return ()

    # --- the cases --------------------------------------------------------------------------------

    def _begin(self, session: Ongoing | None, now: float) -> None:
        """What is looked at is drawn now that nothing can be changed any more."""
        if session is None:
            return
        self._receipts.keep(session)
        if not session.is_drawn:
            return
        if session.can_sign and session.was_to_sign and not session.is_signed:
            self._reputation.unsigned(session.peer, session.digest, self._unix_s(now))
        try:
            # The answer has checked its lists under the size of their vocabulary.
            found = replay(session.transcript.rounds, VOCABULARY_MAX)
        except RemoteError:
            return  # The answer has parted with such an expert already.
        said = draw(found, self._rng, session.prompt)
        if not said:
            return
        may_accuse = self._findings.accusers(session.digest, self._unix_s(now))
        case = Case(session.peer, said, self._around.own, may_accuse)
        is_urgent = bool(session.written(said)) and not _is_confirmed(self._records, session)
        text = found.text[: said[-1].length]
        self._waiting.add(Waiting(case, text, session, now, is_urgent=is_urgent))

    def _go_on(self, now: float) -> list[NodeEffect | Fact]:
        """The next case, if nothing is in its way."""
        told: list[NodeEffect | Fact] = []
        while self._current is None and self._waiting:
            if self._answers and now < self._waiting.next_at():
                break
            self._current = self._waiting.pop()
            told += self._ask(self._current, now)
        return told

    def _ask(self, waiting: Waiting, now: float) -> Told:
        """The next holder; without one the case ends with what there is."""
        able = self._able(waiting, now)
        size = len(waiting.text)
        if not able or len(waiting.tried) >= TRIES_MAX or not _paid(self._purse, waiting):
            return self._ended(waiting, waiting.case.without_third(), now)
        own = self._around.own
        near = [peer for peer in able if peer in waiting.session.partners]
        waiting.by = own if own in able else self._rng.choice(near or able)
        waiting.tried.add(waiting.by)
        if waiting.by != own:
            self._reputation.met(waiting.by, waiting.session.digest, self._unix_s(now))
        waiting.until, waiting.tokens = now + REPLY_S, waiting.tokens + size
        waiting.number = self._next_session
        self._next_session = FIRST_SESSION + (self._next_session + 1) % FIRST_SESSION
        said, digest = waiting.case.said, self._around.digest()
        waiting.questions = questions(said, waiting.text, waiting.number, digest)
        waiting.readings = []
        opened = replace(waiting.session.opened, session=waiting.number, ctl_digest=digest)
        first = self._next_question(waiting)
        return first if waiting.by == own else [Send(waiting.by, opened), *first]

    def _next_question(self, waiting: Waiting) -> list[NodeEffect | Fact]:
        assert waiting.by is not None
        score = waiting.questions[0].score
        if waiting.by != self._around.own:
            return [Send(waiting.by, score)]
        waiting.order, self._next_order = self._next_order, self._next_order + 1
        return [RunScore(waiting.order, SessionKey(waiting.by, waiting.number), score)]

    def _able(self, waiting: Waiting, now: float) -> list[PeerId]:
        """Who has the model and room for the text, and was not asked yet: others, first those whose
        word may speak against the expert, and when there are no more the expert itself."""
        digest = waiting.session.digest
        is_about_sets = any(one.allowed for one in waiting.case.said)
        able = [
            peer
            for peer, record in self._around.holders(now)
            if record.model_digest == digest
            and (answers_allowed(record.ext) or not is_about_sets)
            and record.context_max >= len(waiting.text)
            and peer not in waiting.tried
            and not self._resting.is_resting(peer, now)
        ]
        others = [peer for peer in able if peer != waiting.case.expert]
        trusted = [peer for peer in others if waiting.case.may_accuse(peer, waiting.case.expert)]
        return trusted or others or (able if waiting.session.written(waiting.case.said) else [])

    def _looked_at(self, by: PeerId, reply: ExpertReply, now: float) -> Told:
        """A holder's reply to an audit."""
        waiting = self._current
        if waiting is None or by != waiting.by or reply.session != waiting.number:
            return ()
        question, *further = waiting.questions
        if reply.round != question.score.round:
            return ()
        told: list[NodeEffect | Fact] = [self._close(waiting)]
        if not isinstance(reply, Scores) or not self._around.is_cleared(by, now):
            return [*told, *self._ask(waiting, now)]
        try:
            waiting.readings += question.read(reply)
        except RemoteError as fault:
            penalty = [Penalise(by, f"expert {by}: {fault}")] if by != self._around.own else []
            return [*told, *penalty, *self._ask(waiting, now)]
        waiting.questions = further
        if further:
            return self._next_question(waiting)
        finding = waiting.case.answered(by, waiting.readings)
        if finding is None:
            return [*told, *self._ask(waiting, now)]
        return [*told, *self._ended(waiting, finding, now)]

    def _close(self, waiting: Waiting) -> NodeEffect:
        assert waiting.by is not None
        if waiting.by == self._around.own:
            return CloseSession(SessionKey(waiting.by, waiting.number))
        return Send(waiting.by, Close(waiting.number))

    def _gone(self, peer: PeerId, now: float) -> Told:
        for session in self._sessions.gone(peer):
            self._begin(session, now)
        if self._current is not None and self._current.by == peer:
            self._resting.rest(peer, now)
            return self._ask(self._current, now)
        return ()

    def _overdue(self, now: float) -> Told:
        for session in self._sessions.overdue(now):
            self._begin(session, now)
        current = self._current
        if current is not None and current.until <= now:
            assert current.by is not None
            self._resting.rest(current.by, now)
            return [self._close(current), *self._ask(current, now)]
        return ()

    def _ended(self, waiting: Waiting, finding: Finding, now: float) -> Told:
        self._current = None
        if waiting.opinion:
            self._opinions.keep(waiting.opinion, finding)
            return ()
        said, tokens = waiting.case.said, waiting.tokens
        return self._findings.ended(waiting.session, finding, said, tokens, self._unix_s(now))

    def _unix_s(self, now: float) -> float:
        return self._zero_s + now


def _affords(purse: Purse, records: TrackRecords, session: Ongoing) -> bool:
    is_urgent = session.is_written and not _is_confirmed(records, session)
    return purse.has(session.length, POSITIONS, is_urgent=is_urgent)


def _paid(purse: Purse, waiting: Waiting) -> bool:
    """Whether the next holder may be asked; and pay for it."""
    if waiting.opinion:
        return True
    size, lists = len(waiting.text), len(waiting.case.said)
    if waiting.tried:
        return purse.go_on(size, lists)
    return purse.pay(size, lists, is_urgent=waiting.is_urgent)


def _is_confirmed(records: TrackRecords, session: Ongoing) -> bool:
    return records.of(session.peer, session.digest).is_confirmed


def _brought(
    signed: Signed, around: Surroundings, rng: random.Random, accusers: MayAccuse, now: float
) -> Waiting | None:
    """A session of a receipt, to be looked at now. Whoever brings it has chosen it, so it changes
    nothing that this node thinks of its expert. None: nobody has the model."""
    said, record = draw(signed.found, rng), signed.record
    known = [r for _, r in around.holders(now) if r.model_digest == record.model_digest]
    if not known or not said:
        return None
    opened = Open(0, record.model_digest, known[0].vocab_fingerprint, around.digest())
    transcript = Transcript(record.session, record.model_digest)
    session = Ongoing(signed.peer, transcript, opened, known[0])
    case = Case(signed.peer, said, around.own, accusers)
    text = signed.found.text[: said[-1].length]
    return Waiting(case, text, session, now - WAIT_S)
