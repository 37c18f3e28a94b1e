"""The shell round the pure `Node`: one task feeds it inputs and performs its effects, in order; everything else here is a queue.

The node decides and never waits; the world waits and never decides. So this module holds no rule of the protocol: it signs what the
node advertises, starts model work that comes back as an input, sets the one timer, and hands events to whoever listens. A fault in the
node's own code ends the driver loudly (with the kind of input in the log, never its content): going on with a state that is half
changed would be worse than a restart.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, assert_never

import trio

from swarmllm.core.control_events import ControlClosed, ControlInput, ControlOpened, ControlReceived, Woke
from swarmllm.core.control_link import Announce, ControlEffect, HaltHeard, StartAgain, StopNow
from swarmllm.core.events import (
    Advertise,
    Asked,
    Cancelled,
    CloseSession,
    Dial,
    Emit,
    Ended,
    EngineLoadChanged,
    EngineLost,
    EngineReady,
    ExpertFound,
    ExpertLost,
    ExpertsWeighed,
    GenerateOrder,
    Hangup,
    Input,
    LookUp,
    NetworkInput,
    NodeEvent,
    Noticed,
    PeerSeen,
    Penalise,
    RunScore,
    Save,
    Scored,
    Send,
    TimerFired,
    TokenChosen,
    Withdraw,
)
from swarmllm.core.halt import Outcome
from swarmllm.core.node import NodeEffect
from swarmllm.errors import LocalError
from swarmllm.messages import REFUSED_ENGINE, PeerId, Refused, Score, Scores
from swarmllm.runtime.machine import Machine
from swarmllm.runtime.orders import NodeHalted, NodeResumed, Orders
from swarmllm.runtime.ports import Engine, Keyring, Network, Store
from swarmllm.runtime.pulse import LOOK_EVERY_S, Pulse
from swarmllm.runtime.queues import AnswerFeed, Inbox, LifeFeed
from swarmllm.wire.envelope import seal

BATCH_MAX: Final = 64  # Inputs handled in one go before other tasks get a turn: a few milliseconds.
HELD_LOOK_S: Final = 0.05  # While inputs are held back, timers of the kill switch are looked at so often.
TIMER_GAP_S: Final = 0.001  # Between two timer inputs, whatever deadline the node names: a mistake there must not burn a core.
LISTENERS_MAX: Final = 64  # Programs that watch this node; each costs a queue.

NODE_STOPPED: Final = "the node stopped before the answer was complete; start it again with `swarmllm join`"

LifeEvent = ExpertFound | ExpertLost | PeerSeen | NodeHalted | NodeResumed
Clock = Callable[[], float]

log = logging.getLogger("swarmllm.driver")


class Driver:
    """Made before the network, because the network wants it as its door; `run` brings both together."""

    def __init__(
        self,
        node: Machine,
        keyring: Keyring,
        store: Store,
        clock: Clock = trio.current_time,
        orders: Orders | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        """`orders` None: a node without a kill switch. `pulse` None: one that never sleeps, because its time is a test's."""
        self._node = node
        self._orders = orders
        self._pulse = pulse
        self._keyring = keyring
        self._store = store
        self._clock = clock
        self._inbox = Inbox()
        self._network: Network | None = None
        self._engine: Engine | None = None
        self._nursery: trio.Nursery | None = None
        self._requests = itertools.count(1)
        self._answers: dict[int, AnswerFeed] = {}  # Bounded by the node, which refuses more than ANSWERS_MAX at once.
        self._listeners: list[LifeFeed[LifeEvent]] = []
        self._stopping = False
        self._scoring: set[trio.CancelScope] = set()  # One per round at our own engine; bounded by the node's orders.
        self._tells_resume = orders is not None and bool(orders.control.halted)  # The first start is no resume.
        self._saves: list[Save] = []  # Of inputs that were handled out of turn; the next one in turn takes them along.
        self.saves_failed = 0

    # --- for the network, past every queue (`ports.ControlDoor`) --------------------------------------------------------------

    def opened(self, peer: PeerId) -> None:
        if self._orders is not None:
            self._orders.opened(peer)
        self.act(ControlOpened(peer))

    def closed(self, peer: PeerId) -> None:
        if self._orders is not None:
            self._orders.closed(peer)
        self.act(ControlClosed(peer))

    def received(self, peer: PeerId, frame: bytes) -> None:
        self.act(ControlReceived(peer, frame))

    def heard(self, forwarder: PeerId, data: bytes) -> bool:
        passes, effects = self._node.hear_control(forwarder, data, self._clock())
        self._perform_all(effects)
        return passes

    @property
    def control_swarm(self) -> str:
        """The id of the swarm whose charter we are under, in hexadecimal; empty without a kill switch."""
        return "" if self._orders is None else self._orders.control.state.swarm.hex()

    def act(self, event: ControlInput) -> None:
        """Handle it now, whatever waits in the queues."""
        self._perform_all(self._node.handle(event, self._clock()))

    def import_control(self, record: bytes) -> Outcome | None:
        """A control record by hand; None: this node has no kill switch."""
        outcome, effects = self._node.import_control(record, self._clock())
        self._perform_all(effects)
        return outcome

    def _perform_all(self, effects: Iterable[NodeEffect]) -> None:
        """Of an input that is handled out of turn: the loop looks at its timer again, and saves what is to be saved."""
        for effect in effects:
            if isinstance(effect, Save):
                self._saves.append(effect)
            else:
                self._perform(effect)
        self._inbox.ring()

    # --- for the local user --------------------------------------------------------------------------------------------------

    def ask(self, order: GenerateOrder) -> AnswerFeed:
        """Start an answer. Its feed ends with one `Ended` in every case, also when the node stops."""
        feed = AnswerFeed(next(self._requests))
        if self._stopping:
            feed.put(Ended(feed.request, "error", 0, 0, 0, NODE_STOPPED))
            return feed
        self._answers[feed.request] = feed
        self._inbox.put_local(Asked(feed.request, order))
        return feed

    def cancel(self, cancelled: Cancelled) -> None:
        """End an answer; one that has ended already is no mistake."""
        if cancelled.request in self._answers:
            self._inbox.put_local(cancelled)

    def abandon(self, request: int) -> None:
        """Nobody will read this answer any more. May be called from any thread, as finalisers are."""
        if request in self._answers:
            self._inbox.leave_local(Cancelled(request, "cancelled"))

    @contextmanager
    def listening(self) -> Iterator[LifeFeed[LifeEvent]]:
        """Experts and peers as they come and go, from now on. LocalError if too many listen already."""
        if len(self._listeners) >= LISTENERS_MAX:
            raise LocalError(f"{LISTENERS_MAX} listeners are watching this node already; close one of them first")
        feed: LifeFeed[LifeEvent] = LifeFeed()
        if self._stopping:
            feed.close()
        self._listeners.append(feed)
        try:
            yield feed
        finally:
            self._listeners.remove(feed)

    async def feed(self, event: Input) -> None:
        """An input from somewhere else than the ports: saved addresses, a test."""
        await self._inbox.put(event)

    def stop(self) -> None:
        """Cancel all answers, tell the experts so, and let `run` return."""
        self._stopping = True
        self._inbox.ring()

    # --- the loop ------------------------------------------------------------------------------------------------------------

    async def run(self, network: Network, engine: Engine | None) -> None:
        """Drive the node until `stop` or cancellation. Raises whatever the node's code raises."""
        self._network, self._engine = network, engine
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                if self._orders is not None:
                    self._orders.network = network
                    nursery.start_soon(self._orders.remember, self.act)
                if self._pulse is not None:
                    nursery.start_soon(self._beat)
                nursery.start_soon(self._pump, network.inputs)
                if engine is not None:
                    nursery.start_soon(self._pump, engine.inputs)
                await self._loop()
                for request in list(self._answers):
                    await self._handle(Cancelled(request, "cancelled"))
                nursery.cancel_scope.cancel()
        finally:
            self._stopping = True
            self._close()

    def _close(self) -> None:
        """Nobody waits for a node that is gone."""
        for request, feed in self._answers.items():
            feed.put(Ended(request, "error", 0, 0, 0, NODE_STOPPED))
        self._answers.clear()
        for listener in self._listeners:
            listener.close()

    async def _loop(self) -> None:
        fired_at = -math.inf
        while not self._stopping:
            for _ in range(BATCH_MAX):
                event = None if self._is_held() else self._inbox.take()
                if event is None:
                    break
                await self._handle(event)
            now = self._clock()
            wake_at = max(self._node.next_deadline(), fired_at + TIMER_GAP_S)
            if wake_at <= now:
                fired_at = now
                await self._handle(TimerFired())
                wake_at = max(self._node.next_deadline(), fired_at + TIMER_GAP_S)
            if held := self._is_held():
                wake_at = self._clock() + HELD_LOOK_S  # Other deadlines may have passed, and wait as well.
            if not self._stopping:
                await self._inbox.wait(max(0.0, wake_at - self._clock()), whatever_waits=held)

    def _is_held(self) -> bool:
        """Whether inputs have to wait until the kill switch has heard from peers, because this process was stopped."""
        if self._pulse is not None and self._pulse.missed():
            log.info("this process did not run for a while; peers are asked for orders before anything goes on")
            self.act(Woke())
        return self._node.holds(self._clock())

    async def _beat(self) -> None:
        while True:
            await trio.sleep(LOOK_EVERY_S)
            self._is_held()

    async def _handle(self, event: Input) -> None:
        try:
            effects = self._node.handle(event, self._clock())
        except Exception:
            # Named by its kind alone: the input may hold what a user wrote.
            log.critical("a fault in the node's own code while handling %s; the node stops", type(event).__name__)
            raise
        while self._saves:
            await self._save(self._saves.pop(0))
        for effect in effects:
            if isinstance(effect, Save):
                await self._save(effect)
            else:
                self._perform(effect)

    def _perform(self, effect: NodeEffect) -> None:
        network = self._network
        if network is None:
            # Before `run` there are only orders of the kill switch: to stop, to remember.
            assert self._orders is not None
            self._orders.perform(effect)  # type: ignore[arg-type]  # The machine of the kill switch gives no others.
            return
        halted = self._orders is not None and self._orders.is_halted
        match effect:
            case Send(message=Score() | Scores()) | RunScore() if halted:
                pass  # Decided before the order came: nothing of it leaves any more.
            case Send(peer=peer, message=message):
                network.send(peer, message)
            case RunScore():
                assert self._nursery is not None
                self._nursery.start_soon(self._score, effect)
            case Emit(event=event):
                self._tell(event)
            case CloseSession(key=key):
                if self._engine is not None:
                    self._engine.close(key)
            case Advertise(record=record):
                network.advertise(record.vocab_fingerprint, seal(record, self._keyring.public_key, self._keyring.sign))
            case Withdraw(vocab_fingerprint=fingerprint):
                network.advertise(fingerprint, b"")
            case LookUp(vocab_fingerprint=fingerprint):
                network.look_up(fingerprint)
            case Dial(peer=peer, addrs=addrs):
                network.dial(peer, addrs)
            case Hangup(peer=peer, reason=reason):
                network.hang_up(peer, reason)
            case Penalise(peer=peer, reason=reason):
                network.penalise(peer, reason)
            case Save():
                raise AssertionError("saving waits for the disk; see `_handle`")
            case _:
                self._order(effect)

    def _order(self, effect: ControlEffect) -> None:
        assert self._orders is not None
        self._orders.perform(effect)
        match effect:
            case StopNow(reasons=reasons):
                for scope in self._scoring:
                    scope.cancel()
                self._tells_resume = True
                self._proclaim(self._orders.halted_event(reasons))
            case Announce(event=HaltHeard()) if (
                not self._tells_resume
            ):  # It came before the first start, so nothing had to be stopped.
                self._tells_resume = True
                self._proclaim(self._orders.halted_event(self._orders.control.halted))
            case StartAgain() if self._tells_resume:
                self._tells_resume = False
                self._proclaim(NodeResumed())
            case _:
                pass

    async def _save(self, effect: Save) -> None:
        """In a thread, since it waits for the disk; the loop waits for it, because later effects rely on it."""
        try:
            await trio.to_thread.run_sync(self._store.save, effect.key, effect.value)
        except LocalError as fault:
            # A full disk: what was to be remembered is not, and whoever looks at the status sees it. To stop serving would help nobody.
            self.saves_failed += 1
            log.error("could not remember %r: %s", effect.key, fault)

    async def _score(self, effect: RunScore) -> None:
        request = effect.request
        if self._engine is None:
            await self._inbox.put(Scored(effect.order, Refused(request.session, request.round, REFUSED_ENGINE)))
            return
        with trio.CancelScope() as scope:  # An order to stop takes the work back, and the node has forgotten it by then.
            self._scoring.add(scope)
            try:
                await self._inbox.put(Scored(effect.order, await self._engine.score(effect.key, request)))
            finally:
                self._scoring.discard(scope)

    async def _pump(
        self,
        inputs: trio.MemoryReceiveChannel[NetworkInput] | trio.MemoryReceiveChannel[EngineReady | EngineLoadChanged | EngineLost],
    ) -> None:
        async for event in inputs:
            await self._inbox.put(event)

    def _tell(self, event: NodeEvent) -> None:
        match event:
            case TokenChosen() | Noticed() | ExpertsWeighed():
                self._answers[event.request].put(event)
            case Ended():
                self._answers.pop(event.request).put(event)
            case ExpertFound() | ExpertLost() | PeerSeen():
                self._proclaim(event)
            case _:
                assert_never(event)

    def _proclaim(self, event: LifeEvent) -> None:
        for listener in self._listeners:
            listener.put(event)
