"""The Engine port without a model: the pure `ScriptedModel` behind a queue that takes time, and
that can die, freeze and fill up.

Rounds are served one after another, each for `service_s`, as one worker process would; with
`batch_max` up to so many in one step, which takes `service_s` and `round_s` more for each: a
decoding step reads all weights once, whoever it serves. Under trio's MockClock that costs no real
time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import trio

from swarmllm.core.inputs import EngineLoadChanged, EngineLost, EngineReady
from swarmllm.core.values import EngineLoad, ModelCard, SessionKey
from swarmllm.messages import REFUSED_ENGINE, Busy, ExpertReply, Refused, Score
from swarmllm.testing.scripted_model import ScriptedModel

WAITING_MAX: Final = 256  # Rounds in the queue; the next one is told to come back later.
BUSY_MS: Final = 50
# Unread load reports; newer ones replace older ones, so the newest is never the one that is lost.
INPUTS_MAX: Final = 64


@dataclass(slots=True, eq=False)
class _Round:
    key: SessionKey
    request: Score
    done: trio.Event = field(default_factory=trio.Event)
    reply: ExpertReply | None = None

    def answer(self, reply: ExpertReply) -> None:
        self.reply = reply
        self.done.set()


class ScriptedEngine:
    """`runtime.ports.Engine`. `die` and `revive` are the worker's crash and restart; `freeze` and
    `thaw` its SIGSTOP and SIGCONT."""

    def __init__(
        self,
        model: ScriptedModel | None = None,
        *,
        service_s: float = 0.005,
        round_s: float = 0.0,
        batch_max: int = 1,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self.model = ScriptedModel() if model is None else model
        self.service_s, self.round_s = service_s, round_s
        self.served = 0
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Round] = deque()
        self._current: list[_Round] = []
        self._bell = trio.Event()
        self._running = trio.Event()
        self._running.set()
        self._alive = False
        self._stopped = False
        # With a cache, as far as we know; emptied by `close` and `die`.
        self._sessions: set[SessionKey] = set()
        self._sender, self._receiver = trio.open_memory_channel[
            EngineReady | EngineLoadChanged | EngineLost
        ](INPUTS_MAX)
        self._nursery: trio.Nursery | None = None

    # --- the port ---------------------------------------------------------------------------------

    @property
    def card(self) -> ModelCard:
        return self.model.card

    @property
    def inputs(self) -> trio.MemoryReceiveChannel[EngineReady | EngineLoadChanged | EngineLost]:
        return self._receiver

    @property
    def load(self) -> EngineLoad:
        load = self.model.load
        return EngineLoad(
            len(self._waiting), load.sessions_free, load.sessions_max, load.tokens_per_s
        )

    async def score(self, key: SessionKey, request: Score) -> ExpertReply:
        if not self._alive or self._stopped:
            await trio.lowlevel.checkpoint()
            return Refused(request.session, request.round, REFUSED_ENGINE)
        if len(self._waiting) >= self._waiting_max:
            await trio.lowlevel.checkpoint()
            return Busy(request.session, request.round, BUSY_MS)
        waiting = _Round(key, request)
        self._waiting.append(waiting)
        self._bell.set()
        try:
            await waiting.done.wait()
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
        assert waiting.reply is not None
        return waiting.reply

    def close(self, key: SessionKey) -> None:
        for waiting in [w for w in self._waiting if w.key == key]:
            self._waiting.remove(waiting)
            waiting.answer(Busy(waiting.request.session, waiting.request.round, 0))
        self._sessions.discard(key)
        self.model.close(key)

    def stop(self) -> None:
        self._stopped = True
        self._fail_all()

    def resume(self) -> None:
        self._stopped = False

    async def __aenter__(self) -> Self:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(self._work)
        self.revive()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._nursery is not None
        self._fail_all()
        self._alive = False
        self._sender.close()
        self._nursery.cancel_scope.cancel()
        await self._manager.__aexit__(kind, value, trace)

    # --- controls ---------------------------------------------------------------------------------

    def die(self, reason: str = "killed") -> None:
        """As by SIGKILL of the worker: nothing is answered but refusals, and every cache is
        gone."""
        self._alive = False
        self._fail_all()
        for key in self._sessions:
            self.model.close(key)
        self._sessions.clear()
        self._report(EngineLost(reason))

    def revive(self) -> None:
        self._alive = True
        self._report(EngineReady(self.card, self.load))

    def freeze(self) -> None:
        self._running = trio.Event()

    def thaw(self) -> None:
        self._running.set()

    # --- inside -----------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._bell = trio.Event()
                await self._bell.wait()
            self._current = [
                self._waiting.popleft() for _ in range(min(self._batch_max, len(self._waiting)))
            ]
            await trio.sleep(self.service_s + self.round_s * len(self._current))
            await self._running.wait()
            for current in self._current:
                if not current.done.is_set():
                    self._answer(current)
            self._current = []

    def _answer(self, current: _Round) -> None:
        before = self.model.load.sessions_free
        self._sessions.add(current.key)
        current.answer(self.model.score(current.key, current.request))
        self.served += 1
        if self.model.load.sessions_free != before:
            self._report(EngineLoadChanged(self.load))

    def _fail_all(self) -> None:
        lost = [*self._waiting, *self._current]
        self._waiting.clear()
        for waiting in lost:
            if not waiting.done.is_set():
                waiting.answer(
                    Refused(waiting.request.session, waiting.request.round, REFUSED_ENGINE)
                )

    def _report(self, event: EngineReady | EngineLoadChanged | EngineLost) -> None:
        try:
            self._sender.send_nowait(event)
        except trio.WouldBlock:
            self._receiver.receive_nowait()
            self._sender.send_nowait(event)
