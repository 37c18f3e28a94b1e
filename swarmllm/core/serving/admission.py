"""Session admission on the expert's side: whose rounds the engine runs, and what each requester is
answered.

The engine owns the caches; this machine owns the manners: a session must be opened with the right
model and vocabulary, a peer has a bounded number of sessions and open rounds, every Score gets
exactly one answer, and a peer that is gone takes its work with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import assert_never

from swarmllm.core.effects import CloseSession, Effect, Emit, RunScore, Send
from swarmllm.core.events import ServingPaused, ServingResumed
from swarmllm.core.facts import (
    Fact,
    OwnExpertChanged,
    PeerGone,
    SessionAnswered,
    SettingChanged,
    TokensForbidden,
)
from swarmllm.core.halt.clearance import Clearance
from swarmllm.core.inputs import (
    AskingEnded,
    EngineLoadChanged,
    EngineLost,
    EngineReady,
    Input,
    LendingChanged,
    OwnerOffers,
    Received,
    Scored,
)
from swarmllm.core.part import Part, Told
from swarmllm.core.serving.shares import fits
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import SESSIONS_OFFERED
from swarmllm.core.values import EngineLoad, ModelCard, SessionKey
from swarmllm.messages import (
    NO_HALT_DIGEST,
    REFUSED_CONTEXT,
    REFUSED_ENGINE,
    REFUSED_MODEL,
    REFUSED_SESSION,
    REFUSED_UNSETTLED,
    REFUSED_VOCABULARY,
    Busy,
    Close,
    ExpertReply,
    ExpertRequest,
    Halted,
    Open,
    PeerId,
    Refused,
    Score,
    ScoreAllowed,
    ScoreDraft,
    Scores,
)

# Four times the default engine's sessions: a busy requester with many answers at once.
SESSIONS_PER_PEER_MAX = 64
ROUNDS_PER_PEER_MAX = 64  # Open rounds; strict mode has one per session.
# Of all peers: more than an engine answers within a second only fills memory. See `shares.fits` for
# who gets them.
ROUNDS_MAX = 512
# What a peer with other halt records is told to wait; an exchange takes two round trips.
SETTLE_MS = 250
# So many Busys in a row, two seconds of them, while a greeting may be under way; then it is told
# what is missing.
UNSETTLED_MAX = 8
# What one queued round costs if the engine has not measured its own rate yet.
BUSY_S_PER_ROUND = 0.02


@dataclass(slots=True)
class Requester:
    """One peer's sessions (0: granted, otherwise the code it is refused with) and open rounds.
    `put_off`: its Scores that the kill switch did not let through, until there was one that it did
    (`was_settled`)."""

    sessions: dict[int, int] = field(default_factory=dict)
    rounds: int = 0
    put_off: int = 0
    was_settled: bool = False


class Serving(Part):
    """`clearance` None: a node without a kill switch. Of what its engine holds the node offers
    others `SESSIONS_OFFERED` of `settings`: so many of their sessions have rounds at the engine at
    once."""

    inputs = (
        *(
            Open,
            Score,
            ScoreAllowed,
            ScoreDraft,
            Close,
            Halted,
            Scored,
            AskingEnded,
            PeerGone,
            TokensForbidden,
        ),
        *(EngineReady, EngineLoadChanged, EngineLost, SettingChanged, OwnerOffers),
        LendingChanged,
    )

    def __init__(
        self, clearance: Clearance | None = None, settings: Settings | None = None
    ) -> None:
        self._settings = settings or Settings()
        self._clearance = Clearance(PeerId(""), None) if clearance is None else clearance
        self.card: ModelCard | None = None
        self.load: EngineLoad | None = None
        self.is_offered = True
        self.paused = ""  # Why nobody is served for now, by the owner's rules.
        self._model = b""  # The digest of the one whose sessions are open.
        self._requesters: dict[PeerId, Requester] = {}
        self._orders: dict[int, tuple[SessionKey, Requester, Score]] = {}
        self._answered: set[int] = set()  # Of these, what was refused while the engine was at it.
        self._next_order = 1

    @property
    def rounds_open(self) -> int:
        return len(self._orders)

    @property
    def lends(self) -> bool:
        """Whether others may ask this node's expert, as far as its owner has a say."""
        return self.is_offered and not self.paused

    @property
    def offer(self) -> EngineLoad | None:
        """The engine's load as others are told it: with the sessions that they may have."""
        load = self.load
        if load is not None and not self.lends:
            return replace(load, sessions_free=0, sessions_max=0)
        if load is None or load.sessions_max <= self._settings[SESSIONS_OFFERED]:
            return load
        offered = self._settings[SESSIONS_OFFERED]
        free = max(0, load.sessions_free - (load.sessions_max - offered))
        return replace(load, sessions_free=free, sessions_max=offered)

    def view(self, now: float) -> int:
        """How many rounds the engine is at."""
        return self.rounds_open

    def handle(self, event: Input | Fact, now: float) -> Told:
        match event:
            case Received(peer=peer, message=Score() as message) if not self._clearance.is_cleared(
                peer, now
            ):
                return [Send(peer, self.unsettled(peer, message))]
            case Received(peer=peer, message=Open() | Score() | Close() as message):
                return self.received(peer, message)
            case Scored(order=order, reply=reply):
                return self.scored(order, reply, self._clearance.digest)
            case Received(peer=peer) | AskingEnded(peer=peer) | PeerGone(peer=peer):
                return self.lost(peer)
            case TokensForbidden():
                return self.halted()
            case EngineReady(card=card, load=load):
                self._loaded(card, load)
                return [OwnExpertChanged("ready")]
            case EngineLost():
                self.engine_lost()
                return [OwnExpertChanged("lost")]
            case OwnerOffers(is_offered=is_offered):
                return self._offers(is_offered)
            case LendingChanged(reason=reason):
                return self._lending_changed(reason)
            case EngineLoadChanged(load=load):
                return self._load_changed(load)
            case SettingChanged(setting=setting) if setting is SESSIONS_OFFERED:
                return [OwnExpertChanged("places")] if self.load is not None else ()
            case _:
                return ()

    def _loaded(self, card: ModelCard, load: EngineLoad) -> None:
        """Sessions outlive an engine that starts again, and not the model that they were opened
        for."""
        self.card, self.load = card, load
        if self._model and card.digest != self._model:
            for requester in self._requesters.values():
                for session, code in requester.sessions.items():
                    requester.sessions[session] = code or REFUSED_MODEL
        self._model = card.digest

    def _offers(self, is_offered: bool) -> Told:
        """What others have open goes on to its next round, which is refused."""
        if is_offered == self.is_offered:
            return ()
        self.is_offered = is_offered
        return [OwnExpertChanged("offer")]

    def _lending_changed(self, reason: str) -> Told:
        """A pause ends what others have open, so that the engine is free at once; they are told
        now, and go on with another holder of the model."""
        before, self.paused = self.paused, reason
        if not reason:
            return [OwnExpertChanged("offer"), Emit(ServingResumed())] if before else ()
        told: list[Effect | Fact] = []
        for order, (key, _, message) in self._orders.items():
            if order not in self._answered:
                refusal = Refused(message.session, message.round, REFUSED_ENGINE)
                told.append(Send(key.peer, refusal))
        self._answered = set(self._orders)
        for peer in sorted(self._requesters):
            sessions = self._requesters[peer].sessions
            granted = sorted(session for session, code in sessions.items() if code == 0)
            told += (CloseSession(SessionKey(peer, session)) for session in granted)
            sessions.clear()
        return [*told, OwnExpertChanged("offer"), Emit(ServingPaused(reason))]

    def _load_changed(self, load: EngineLoad) -> Told:
        before, self.load = self.load, load
        if before is not None and (before.sessions_free == 0) != (load.sessions_free == 0):
            return [OwnExpertChanged("places")]
        return ()

    def received(self, peer: PeerId, message: ExpertRequest) -> list[Effect]:
        requester = self._requesters.setdefault(peer, Requester())
        match message:
            case Open():
                return self._open(peer, requester, message)
            case Score():
                return self._score(peer, requester, message)
            case Close(session=session):
                granted = requester.sessions.pop(session, None) == 0
                return [CloseSession(SessionKey(peer, session))] if granted else []
            case _:
                assert_never(message)

    def unsettled(self, peer: PeerId, message: Score) -> Halted | Busy | Refused:
        """The answer to a Score that the kill switch does not let through. A peer with which
        nothing was ever settled is told so after a while: it may be another implementation, whose
        author would see an expert that is busy for ever."""
        if self._clearance.halted:
            return Halted(self._clearance.digest)
        requester = self._requesters.setdefault(peer, Requester())
        requester.put_off += 1
        if requester.put_off > UNSETTLED_MAX and not requester.was_settled:
            return Refused(message.session, message.round, REFUSED_UNSETTLED)
        return Busy(message.session, message.round, SETTLE_MS)

    def scored(
        self, order: int, reply: ExpertReply, ctl_digest: bytes = NO_HALT_DIGEST
    ) -> list[Effect | Fact]:
        """The engine's answer, which leaves with our halt digest. If the session was closed
        while it ran, the engine has begun a new cache for it: close that too."""
        found = self._orders.pop(order, None)
        if found is None:
            return []
        key, requester, question = found
        requester.rounds -= 1
        told: list[Effect | Fact] = []
        if key.session not in requester.sessions:
            told.append(CloseSession(key))
        if order in self._answered:
            self._answered.remove(order)
        elif self._requesters.get(key.peer) is requester:
            if isinstance(reply, Scores) and reply.ctl_digest != ctl_digest:
                reply = replace(reply, ctl_digest=ctl_digest)
            if isinstance(reply, Scores):
                told.append(SessionAnswered(key.peer, question, reply))
            told.append(Send(key.peer, reply))
        return told

    def lost(self, peer: PeerId) -> list[Effect]:
        """The peer is gone: free its sessions; answers still to come are dropped."""
        requester = self._requesters.pop(peer, None)
        if requester is None:
            return []
        granted = sorted(s for s, code in requester.sessions.items() if code == 0)
        requester.sessions.clear()
        return [CloseSession(SessionKey(peer, s)) for s in granted]

    def halted(self) -> list[Effect]:
        """Every session of everybody is over; what the engine still answers goes nowhere."""
        self._orders.clear()
        self._answered.clear()
        return [effect for peer in sorted(self._requesters) for effect in self.lost(peer)]

    def engine_lost(self) -> None:
        """Answers to open orders still come (as REFUSED_ENGINE); new ones are refused from now
        on."""
        self.card = None

    def _open(self, peer: PeerId, requester: Requester, message: Open) -> list[Effect]:
        effects: list[Effect] = []
        if (
            message.session not in requester.sessions
            and len(requester.sessions) >= SESSIONS_PER_PEER_MAX
        ):
            # Dropped for the new one: its owner sees REFUSED_SESSION.
            oldest = next(iter(requester.sessions))
            if requester.sessions.pop(oldest) == 0:
                effects.append(CloseSession(SessionKey(peer, oldest)))
        code = 0
        if self.card is None or not self.lends:
            code = REFUSED_ENGINE
        elif message.vocab_fingerprint != self.card.vocab_fingerprint:
            code = REFUSED_VOCABULARY
        elif message.model_digest != self.card.digest:
            code = REFUSED_MODEL
        requester.sessions[message.session] = code
        return effects

    def _score(self, peer: PeerId, requester: Requester, message: Score) -> list[Effect]:
        requester.was_settled = True
        code = requester.sessions.get(message.session, REFUSED_SESSION)
        if self.card is None or not self.lends:
            code = REFUSED_ENGINE
        elif code == 0 and message.base + len(message.tokens) > self.card.context_max:
            code = REFUSED_CONTEXT
        if code:
            return [Send(peer, Refused(message.session, message.round, code))]
        if requester.rounds >= ROUNDS_PER_PEER_MAX or not fits(
            requester.rounds, len(self._orders), ROUNDS_MAX
        ):
            return [Send(peer, Busy(message.session, message.round, self.retry_after_ms()))]
        key = SessionKey(peer, message.session)
        if not self._has_place(key):
            return [Send(peer, Busy(message.session, message.round, self.retry_after_ms()))]
        order = self._next_order
        self._next_order += 1
        self._orders[order] = (key, requester, message)
        requester.rounds += 1
        return [RunScore(order, key, message)]

    def _has_place(self, key: SessionKey) -> bool:
        """Whether one more round of this session keeps to what is offered. Where that is all that
        the engine holds, the engine itself sees to its places."""
        offered = self._settings[SESSIONS_OFFERED]
        if self.load is None or self.load.sessions_max <= offered:
            return True
        busy = {busy for busy, _, _ in self._orders.values()}
        held = sum(one.peer == key.peer for one in busy)
        return key in busy or fits(held, len(busy), offered)

    def retry_after_ms(self) -> int:
        """When the rounds that wait now should be done."""
        rate = self.load.tokens_per_s if self.load is not None else 0.0
        seconds = len(self._orders) / rate if rate > 0 else len(self._orders) * BUSY_S_PER_ROUND
        return max(50, min(10_000, round(seconds * 1000)))
