"""Text requests under way: one Generation for each answer that the local user waits for.

Remote experts are asked by `Send`, our own by `RunScore`; what comes back finds its generation by
session or by order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import assert_never

from swarmllm.core.decoding.generation import Generation, Step
from swarmllm.core.decoding.members import Ask
from swarmllm.core.decoding.speculation import Speculation
from swarmllm.core.effects import CloseSession, Effect, Emit, NodeEffect, Penalise, RunScore, Send
from swarmllm.core.events import Ended, TokenChosen
from swarmllm.core.facts import (
    AnswerEnded,
    ExpertAsked,
    ExpertReplied,
    ExpertTold,
    Fact,
    PeerGone,
    TokenMeasured,
    TokensForbidden,
)
from swarmllm.core.halt.clearance import Clearance
from swarmllm.core.inputs import Asked, Cancelled, Input, Received, Scored, TimerFired
from swarmllm.core.part import Part, Told
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.settings.holder import Settings
from swarmllm.core.values import SessionKey
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    Busy,
    Close,
    ExpertReply,
    ExpertRequest,
    Halted,
    Need,
    Open,
    PeerId,
    Refused,
    Score,
    Scores,
)

REQUESTS_MAX = 64  # At once; the 65th is refused with one sentence.
FIRST_ORDER = 1 << 32  # Apart from the orders of `serving`.


class Requests(Part):
    """`own` is our peer id: asking it goes to the engine. `pool` gives the experts of a moment."""

    inputs = (
        *(Scores, Need, Busy, Refused, Halted, Scored),
        *(Asked, Cancelled, PeerGone, TokensForbidden),
    )

    def __init__(
        self,
        own: PeerId,
        rng: random.Random,
        pool: Callable[[float], ExpertPool],
        clearance: Clearance,
        settings: Settings,
    ) -> None:
        self._own = own
        self._settings = settings
        self._pool, self._clearance = pool, clearance
        self._speculation = Speculation()
        self._generations: dict[int, Generation] = {}
        self._by_session: dict[int, int] = {}
        # At our own engine: order -> (request, score).
        self._orders: dict[int, tuple[int, Score]] = {}
        self._next_order = FIRST_ORDER
        self._next_session = rng.randrange(1 << 31)

    def __len__(self) -> int:
        return len(self._generations)

    def view(self, now: float) -> int:
        """How many answers are written."""
        return len(self)

    def handle(self, event: Input | Fact, now: float) -> Told:
        """What the input brings about; and behind it, what experts were asked, what each token has
        cost, and which answers have ended. What passes between this node and an expert of another
        is told before it does anything else."""
        told = self._handled(event, now)
        found = [one for one in map(_measured, told) if one is not None]
        told = [*told, *found] if found else told
        match event:
            case Received(peer=peer, message=Scores() | Need() | Busy() | Refused() as reply):
                return [ExpertReplied(peer, reply), *self._with_questions(told)]
            case _:
                return self._with_questions(told) if told else told

    def _with_questions(self, told: Told) -> Told:
        """With a fact before whatever is sent to an expert."""
        found: list[NodeEffect | Fact] = []
        for one in told:
            match one:
                case Send(peer=peer, message=Open(session=session) as message):
                    found.append(ExpertTold(peer, message, self._receipt_of(session)))
                case Send(peer=peer, message=Score() | Close() as message):
                    found.append(ExpertTold(peer, message))
                case _:
                    pass
            found.append(one)
        return found

    def _receipt_of(self, session: int) -> str:
        request = self._by_session.get(session)
        return "" if request is None else self._generations[request].order.receipt

    def _handled(self, event: Input | Fact, now: float) -> Told:
        match event:
            case Received(peer=peer, message=Scores()) if not self._clearance.is_cleared(peer, now):
                # Whoever halts says so on its halt stream; whoever differs settles it there.
                return ()
            case Received(message=Scores() | Need() | Busy() | Refused() as reply):
                return self.received(self._pool(now), event.peer, reply, event.size_bytes)
            case Received(peer=peer) | PeerGone(peer=peer):
                return self.lost(self._pool(now), peer)
            case Scored(order=order, reply=reply):
                return self.scored(self._pool(now), order, reply) if self.owns(order) else ()
            case TimerFired():
                return self.timer(self._pool(now))
            case Asked() if reasons := self._clearance.halted:
                return [Emit(Ended(event.request, "halted", 0, 0, 0, refused(reasons)))]
            case Asked():
                return self.asked(event, self._pool(now))
            case Cancelled():
                return self.cancelled(event)
            case TokensForbidden(reasons=reasons):
                return self.halted(f"the answer was stopped: {reasons[0]}")
            case _:
                return ()

    def generations(self) -> Sequence[Generation]:
        return tuple(self._generations.values())

    def next_deadline(self) -> float:
        return min((g.next_deadline() for g in self._generations.values()), default=float("inf"))

    def asked(self, event: Asked, pool: ExpertPool) -> list[Effect]:
        assert event.request not in self._generations
        if len(self._generations) >= REQUESTS_MAX:
            refusal = (
                f"{REQUESTS_MAX} answers are being written already; try again when one is finished"
            )
            return [Emit(Ended(event.request, "error", 0, 0, 0, refusal))]
        session, self._next_session = self._next_session, (self._next_session + 1) % (1 << 32)
        generation = Generation(
            *(event.request, session, event.order, self._settings, pool.now),
            self._speculation if event.order.only.among is None else Speculation(),
        )
        self._generations[event.request] = generation
        self._by_session[session] = event.request
        return self._perform(generation, generation.start(pool.seen_by(event.order.only)))

    def cancelled(self, event: Cancelled) -> list[Effect]:
        found = self._generations.get(event.request)
        return [] if found is None else self._perform(found, found.cancel(event.reason))

    def halted(self, why: str) -> list[Effect]:
        """All of them end now."""
        self._orders.clear()
        ended: list[Effect] = [
            CloseSession(SessionKey(self._own, g.session)) for g in self.generations()
        ]
        return ended + [e for g in self.generations() for e in self._perform(g, g.halt(why))]

    def received(
        self, pool: ExpertPool, peer: PeerId, reply: ExpertReply, size_bytes: int
    ) -> list[Effect]:
        request = self._by_session.get(reply.session)
        return [] if request is None else self._answered(request, pool, peer, reply, size_bytes)

    def owns(self, order: int) -> bool:
        return order in self._orders

    def scored(self, pool: ExpertPool, order: int, reply: ExpertReply) -> list[Effect]:
        """Our own engine's answer to an order of ours."""
        request, score = self._orders.pop(order)
        # Ended while the round ran, which has begun a new cache.
        if request not in self._generations:
            return [CloseSession(SessionKey(self._own, score.session))]
        return self._answered(request, pool, self._own, reply, 0)

    def lost(self, pool: ExpertPool, peer: PeerId) -> list[Effect]:
        return [
            e
            for g in self.generations()
            for e in self._perform(g, g.lost(pool.seen_by(g.order.only), peer))
        ]

    def timer(self, pool: ExpertPool) -> list[Effect]:
        due = [g for g in self.generations() if g.next_deadline() <= pool.now]
        return [e for g in due for e in self._perform(g, g.timer(pool.seen_by(g.order.only)))]

    def _answered(
        self,
        request: int,
        pool: ExpertPool,
        peer: PeerId,
        reply: ExpertReply,
        size_bytes: int,
    ) -> list[Effect]:
        generation = self._generations[request]
        pool = pool.seen_by(generation.order.only)
        try:
            return self._perform(generation, generation.received(pool, peer, reply, size_bytes))
        except RemoteError as fault:
            penalty: list[Effect] = [Penalise(peer, str(fault))] if peer != self._own else []
            return penalty + self._perform(generation, generation.misbehaved(pool, peer))

    def _perform(self, generation: Generation, steps: Sequence[Step]) -> list[Effect]:
        effects: list[Effect] = []
        for step in steps:
            if not isinstance(step, Ask):
                effects.append(Emit(step))
            elif step.peer == self._own:
                effects += self._ask_own(generation, step.message)
            else:
                effects.append(Send(step.peer, step.message))
        if generation.ended:
            self._generations.pop(generation.request, None)
            self._by_session.pop(generation.session, None)
        return effects

    def _ask_own(self, generation: Generation, message: ExpertRequest) -> list[Effect]:
        key = SessionKey(self._own, generation.session)
        match message:
            case Open():
                return []  # The engine opens a session with its first round.
            case Score():
                order, self._next_order = self._next_order, self._next_order + 1
                self._orders[order] = (generation.request, message)
                return [RunScore(order, key, message)]
            case Close():
                return [CloseSession(key)]
            case _:
                assert_never(message)


def _measured(one: NodeEffect | Fact) -> Fact | None:
    """The fact that stands behind an effect."""
    match one:
        case Send(message=Score(tokens=tokens)) | RunScore(request=Score(tokens=tokens)):
            return ExpertAsked(len(tokens))
        case Emit(event=TokenChosen(k=k, round_s=round_s, index=index, shared=shared)) if k:
            # Forced ones cost nothing.
            return TokenMeasured(round_s / shared, k, index == 0)
        case Emit(event=Ended(request=request, reason=reason, tokens=tokens, failovers=failovers)):
            return AnswerEnded(reason not in {"error", "halted"}, tokens, failovers, request)
        case _:
            return None


def refused(reasons: tuple[str, ...]) -> str:
    """What a halted node says to whoever asks for text."""
    return f"no text is generated: {reasons[0]}"
