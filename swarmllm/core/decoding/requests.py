"""The answers that the local user is waiting for: one Generation each, asked of experts near and
far.

Remote experts are asked by `Send`, our own by `RunScore`; what comes back finds its generation by
session or by order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import assert_never

from swarmllm.core.decoding.generation import Generation
from swarmllm.core.decoding.round import Ask, Step, Swarm
from swarmllm.core.effects import CloseSession, Effect, Emit, Penalise, RunScore, Send
from swarmllm.core.events import Ended
from swarmllm.core.inputs import Asked, Cancelled
from swarmllm.core.values import SessionKey
from swarmllm.errors import RemoteError
from swarmllm.messages import Close, ExpertReply, ExpertRequest, Open, PeerId, Score

ANSWERS_MAX = 64  # At once; the 65th is refused with one sentence.
FIRST_ORDER = 1 << 32  # Apart from the orders of `serving`.


class Answers:
    """`own` is our peer id: asking it goes to the engine."""

    def __init__(self, own: PeerId, rng: random.Random) -> None:
        self._own = own
        self._generations: dict[int, Generation] = {}
        self._by_session: dict[int, int] = {}
        # At our own engine: order -> (request, score).
        self._orders: dict[int, tuple[int, Score]] = {}
        self._next_order = FIRST_ORDER
        self._next_session = rng.randrange(1 << 31)

    def __len__(self) -> int:
        return len(self._generations)

    def generations(self) -> Sequence[Generation]:
        return tuple(self._generations.values())

    def next_deadline(self) -> float:
        return min((g.next_deadline() for g in self._generations.values()), default=float("inf"))

    def asked(self, event: Asked, swarm: Swarm, now: float) -> list[Effect]:
        assert event.request not in self._generations
        if len(self._generations) >= ANSWERS_MAX:
            refusal = (
                f"{ANSWERS_MAX} answers are being written already; try again when one is finished"
            )
            return [Emit(Ended(event.request, "error", 0, 0, 0, refusal))]
        session, self._next_session = self._next_session, (self._next_session + 1) % (1 << 32)
        generation = Generation(event.request, session, event.order, now)
        self._generations[event.request] = generation
        self._by_session[session] = event.request
        return self._perform(generation, generation.start(swarm, now))

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
        self, swarm: Swarm, peer: PeerId, reply: ExpertReply, size_bytes: int, now: float
    ) -> list[Effect]:
        request = self._by_session.get(reply.session)
        return (
            [] if request is None else self._answered(request, swarm, peer, reply, size_bytes, now)
        )

    def owns(self, order: int) -> bool:
        return order in self._orders

    def scored(self, swarm: Swarm, order: int, reply: ExpertReply, now: float) -> list[Effect]:
        """Our own engine's answer to an order of ours."""
        request, score = self._orders.pop(order)
        # Ended while the round ran, which has begun a new cache.
        if request not in self._generations:
            return [CloseSession(SessionKey(self._own, score.session))]
        return self._answered(request, swarm, self._own, reply, 0, now)

    def lost(self, swarm: Swarm, peer: PeerId, now: float) -> list[Effect]:
        return [e for g in self.generations() for e in self._perform(g, g.lost(swarm, peer, now))]

    def timer(self, swarm: Swarm, now: float) -> list[Effect]:
        due = [g for g in self.generations() if g.next_deadline() <= now]
        return [e for g in due for e in self._perform(g, g.timer(swarm, now))]

    def _answered(
        self,
        request: int,
        swarm: Swarm,
        peer: PeerId,
        reply: ExpertReply,
        size_bytes: int,
        now: float,
    ) -> list[Effect]:
        generation = self._generations[request]
        try:
            return self._perform(
                generation, generation.received(swarm, peer, reply, size_bytes, now)
            )
        except RemoteError as fault:
            penalty: list[Effect] = [Penalise(peer, str(fault))] if peer != self._own else []
            return penalty + self._perform(generation, generation.misbehaved(swarm, peer, now))

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
