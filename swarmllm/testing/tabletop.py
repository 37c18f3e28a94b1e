"""A swarm on a table top: real `Node`s and scripted models under a virtual clock, small enough to
step by hand.

Messages take `delay_s` each way, models `service_s` per round. Any node can be killed (its peers
are told, as by a TCP reset) or frozen (nobody is told for `SILENT_S`, as with SIGSTOP).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from swarmllm.core.effects import CloseSession, Emit, NodeEffect, Penalise, RunScore, Send
from swarmllm.core.events import Ended, NodeEvent, TokenChosen
from swarmllm.core.inputs import (
    Asked,
    EngineReady,
    Input,
    PeerConnected,
    PeerLost,
    Received,
    Scored,
    TimerFired,
)
from swarmllm.core.node import Node, NodeConfig
from swarmllm.core.peers.liveness import SILENT_S
from swarmllm.core.settings.holder import NONE, Settings, Values
from swarmllm.core.values import GenerateRequest
from swarmllm.messages import ExpertMessage, PeerId, Scores
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.sealing import MemoSealing


@dataclass
class Seat:
    node: Node
    model: ScriptedModel | None
    alive: bool = True
    frozen: bool = False
    delay_s: float = 0.01
    service_s: float = 0.005
    events: list[NodeEvent] = field(default_factory=list)
    penalised: list[str] = field(default_factory=list)
    sent: int = 0
    timer_at: float = float("inf")


class Tabletop:
    """`seeds[i]` is the model seed of node i (None: no expert)."""

    def __init__(
        self,
        seeds: list[int | None],
        *,
        config: NodeConfig | None = None,
        settings: Values = NONE,
        seed: int = 0,
        context_max: int = 4096,
    ) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.seats: dict[PeerId, Seat] = {}
        self.sealing = MemoSealing()
        self.peers = [PeerId(f"peer-{i}") for i in range(len(seeds))]
        for i, (peer, model_seed) in enumerate(zip(self.peers, seeds, strict=True)):
            name = f"model-{model_seed}"
            model = (
                None
                if model_seed is None
                else ScriptedModel(name, model_seed, context_max=context_max)
            )
            rng = random.Random(seed * 1000 + i)
            node = Node(
                *(config or NodeConfig(bytes(32)), peer, 1000 + i, rng, self.sealing.of(peer)),
                settings=Settings(values=settings),
            )
            self.seats[peer] = Seat(node, model)
        for peer, seat in self.seats.items():
            if seat.model is not None:
                self.feed(peer, EngineReady(seat.model.card, seat.model.load))
        for a, b in itertools.permutations(self.peers, 2):
            self.feed(a, PeerConnected(b))

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._order), action))

    def feed(self, peer: PeerId, event: Input) -> None:
        seat = self.seats[peer]
        if not seat.alive:
            return
        if seat.frozen:
            # It waits in the socket's buffer.
            self.at(self.now + 0.05, lambda: self.feed(peer, event))
            return
        for effect in seat.node.handle(event, self.now):
            self._perform(peer, seat, effect)
        deadline = seat.node.next_deadline()
        if deadline != seat.timer_at and deadline != float("inf"):
            seat.timer_at = deadline
            self.at(max(self.now, deadline), lambda: self._tick(peer, deadline))

    def _tick(self, peer: PeerId, deadline: float) -> None:
        seat = self.seats[peer]
        if seat.alive and seat.timer_at == deadline:
            seat.timer_at = float("inf")
            self.feed(peer, TimerFired())

    def _perform(self, peer: PeerId, seat: Seat, effect: NodeEffect) -> None:
        match effect:
            case Send(peer=to, message=message):
                seat.sent += 1
                self.at(self.now + seat.delay_s, lambda: self._deliver(peer, to, message))
            case RunScore():
                self.at(self.now + seat.service_s, lambda: self._score(peer, effect))
            case CloseSession(key=key):
                if seat.model is not None:
                    seat.model.close(key)
            case Emit(event=event):
                seat.events.append(event)
            case Penalise(reason=reason):
                seat.penalised.append(reason)
            case _:
                pass

    def _deliver(self, sender: PeerId, to: PeerId, message: ExpertMessage) -> None:
        if self.seats[sender].alive:
            self.feed(to, Received(sender, message, 100 if isinstance(message, Scores) else 20))

    def _score(self, peer: PeerId, effect: RunScore) -> None:
        seat = self.seats[peer]
        if seat.frozen:
            self.at(self.now + 0.05, lambda: self._score(peer, effect))
        elif seat.alive and seat.model is not None:
            self.feed(peer, Scored(effect.order, seat.model.score(effect.key, effect.request)))

    def kill(self, peer: PeerId) -> None:
        self.seats[peer].alive = False
        self._tell(peer, "reset", 0.001)

    def freeze(self, peer: PeerId) -> None:
        self.seats[peer].frozen = True
        self._tell(peer, "silent", SILENT_S)

    def _tell(self, peer: PeerId, reason: str, after_s: float) -> None:
        for other in self.peers:
            if other != peer:
                self.at(self.now + after_s, lambda o=other: self.feed(o, PeerLost(peer, reason)))  # type: ignore[misc]

    def run_until(
        self, when: float, *, done: Callable[[], bool] = lambda: False, steps_max: int = 200_000
    ) -> None:
        for _ in range(steps_max):
            if done() or not self._heap or self._heap[0][0] > when:
                self.now = max(self.now, when) if not done() else self.now
                return
            self.now, _, action = heapq.heappop(self._heap)
            action()
        raise AssertionError(
            f"{steps_max} steps and still not at {when}: a loop without progress at {self.now}"
        )

    # --- one answer -------------------------------------------------------------------------------

    def ask(self, peer: PeerId, order: GenerateRequest, request: int = 1) -> None:
        self.feed(peer, Asked(request, order))

    def finish(self, peer: PeerId, request: int = 1, within_s: float = 120.0) -> Ended:
        """Run until the request has ended."""
        self.run_until(self.now + within_s, done=lambda: bool(self.ends(peer, request)))
        ends = self.ends(peer, request)
        assert len(ends) == 1, f"{len(ends)} ends"
        return ends[0]

    def ends(self, peer: PeerId, request: int = 1) -> list[Ended]:
        return [e for e in self.seats[peer].events if isinstance(e, Ended) and e.request == request]

    def chosen(self, peer: PeerId, request: int = 1) -> list[TokenChosen]:
        return [
            e
            for e in self.seats[peer].events
            if isinstance(e, TokenChosen) and e.request == request
        ]

    def tokens(self, peer: PeerId, request: int = 1) -> list[int]:
        return [e.token for e in self.chosen(peer, request)]
