"""The driver runs the pure `Node` under trio: one task feeds it inputs and performs its effects, in
order.

The node decides and never waits; the world waits and never decides. So this module holds no rule of
the protocol: it signs what the node advertises, starts model work that comes back as an input, sets
the one timer, and hands events to whoever listens. A fault in the node's own code ends the driver
loudly (with the kind of input in the log, never its content): going on with a state that is half
changed would be worse than a restart.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, assert_never

import trio

from swarmllm.core.effects import (
    Advertise,
    AgentEffect,
    AppendToLedger,
    CloseSession,
    Commit,
    Dial,
    DoubtLedger,
    Emit,
    EndStreams,
    Hangup,
    KeepAlarm,
    KeepCheckpoint,
    KeepCosignature,
    KeepHead,
    LedgerEffect,
    LookUp,
    NodeEffect,
    Penalise,
    ProveConsistency,
    PublishRecord,
    RecordChecked,
    RecordKept,
    Relay,
    RunAgent,
    RunScore,
    Save,
    SealTokenizer,
    Send,
    SendFrame,
    StopAgent,
    StopNow,
    TokenizerEffect,
    TokenizerFetched,
    TokenizerMissing,
    Withdraw,
)
from swarmllm.core.events import (
    Ended,
    ExpertFound,
    ExpertLost,
    ExpertsWeighed,
    LifeEvent,
    LogDoubted,
    NodeEvent,
    NodeHalted,
    NodeResumed,
    Noticed,
    NotLetIn,
    PeerSeen,
    ServingPaused,
    ServingResumed,
    TokenChosen,
)
from swarmllm.core.halt.state import Outcome
from swarmllm.core.inputs import (
    Asked,
    Cancelled,
    ChannelClosed,
    ChannelOpened,
    EngineLoadChanged,
    EngineLost,
    EngineReady,
    FrameReceived,
    HaltInput,
    Input,
    NetworkInput,
    NodeStops,
    RecordOffered,
    Scored,
    TimerFired,
    Woke,
)
from swarmllm.core.shell import EffectQueue
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import LocalError
from swarmllm.messages import REFUSED_ENGINE, PeerId, Refused
from swarmllm.messages.declare import HALT
from swarmllm.messages.halt import Records
from swarmllm.runtime.committing import commit
from swarmllm.runtime.halt_performer import HaltOrder, HaltPerformer
from swarmllm.runtime.ports import Door, Engine, Keyring, Machine, Network, Store
from swarmllm.runtime.queues import AnswerFeed, Inbox, LifeFeed
from swarmllm.runtime.suspend_detector import LOOK_EVERY_S, SuspendDetector
from swarmllm.wire.codec import encode
from swarmllm.wire.envelope import seal

# What is handled in one go before other tasks get a turn: inputs, and seconds. With 64 answers a
# token of each may lie here at once, and each takes 0.3 ms.
BATCH_MAX: Final = 64
BATCH_S: Final = 0.005
# Between two timer inputs, whatever deadline the node names: a mistake there must not burn a core.
TIMER_GAP_S: Final = 0.001
LISTENERS_MAX: Final = 64  # Programs that watch this node; each costs a queue.

NODE_STOPPED: Final = (
    "the node stopped before the answer was complete; start it again with `swarmllm join`"
)

Clock = Callable[[], float]
Watch = Callable[[object, float], None]
"""Is shown each input and each effect, with the time; it must not wait, raise or change either."""

log = logging.getLogger("swarmllm.driver")


class Driver:
    """Made before the network, because the network wants it as its door; `run` brings both
    together."""

    def __init__(
        self,
        node: Machine,
        keyring: Keyring,
        store: Store,
        clock: Clock = trio.current_time,
        orders: HaltPerformer | None = None,
        suspend_detector: SuspendDetector | None = None,
        texts: Callable[[TokenizerEffect], None] = lambda _: None,
        ledgers: Callable[[LedgerEffect], None] = lambda _: None,
        kept: Callable[[RecordKept], None] = lambda _: None,
        agent: Callable[[AgentEffect], None] = lambda _: None,
        watch: Watch = lambda _, __: None,
    ) -> None:
        """`orders` None: a node without a kill switch. `suspend_detector` None: one that never
        sleeps, because its time is a test's. `texts` performs what concerns tokenizers, `ledgers`
        what concerns the ledger, `kept` tells who handed a record in, `agent` does what the node's
        agent wants, `watch` counts; none of them may wait."""
        self._watch = watch
        self._kept = kept
        self._texts = texts
        self._agent = agent
        self._ledgers = ledgers
        self._node = node
        self._orders = orders
        self._suspend_detector = suspend_detector
        self._keyring = keyring
        self._store = store
        self._clock = clock
        self._inbox = Inbox()
        self._network: Network | None = None
        self._engine: Engine | None = None
        self._nursery: trio.Nursery | None = None
        self._requests = itertools.count(1)
        # Bounded by the node, which refuses more than ANSWERS_MAX at once.
        self._answers: dict[int, AnswerFeed] = {}
        self._listeners: list[LifeFeed[LifeEvent]] = []
        self._stopping = False
        # One per round at our own engine; bounded by the node's orders.
        self._scoring: set[trio.CancelScope] = set()
        self._effects = EffectQueue(is_halted=orders is not None and orders.is_halted)
        self._checks = itertools.count(1)
        self.saves_failed = 0

    # --- for the network, past every queue (`ports.Door`) -----------------------------------------

    def opened(self, peer: PeerId) -> None:
        if self._orders is not None:
            self._orders.opened(peer)
        self.act(ChannelOpened(peer))

    def closed(self, peer: PeerId) -> None:
        if self._orders is not None:
            self._orders.closed(peer)
        self.act(ChannelClosed(peer))

    def received(self, peer: PeerId, frame: bytes) -> None:
        self.act(FrameReceived(peer, frame))

    def heard(self, forwarder: PeerId, data: bytes) -> bool:
        checked = self._offer(data, forwarder)
        return checked is not None and checked.passes

    @property
    def charter_swarm(self) -> str:
        """The id of the swarm whose charter we are under, in hexadecimal; empty without a kill
        switch."""
        return "" if self._orders is None else self._orders.machine.state.swarm.hex()

    def act(self, event: HaltInput) -> RecordChecked | None:
        """Handle it now, whatever waits in the queues; the loop looks at its timer again, and saves
        what is to be saved. Returns the answer to a `RecordOffered`."""
        checked: RecordChecked | None = None
        now = self._clock()
        self._watch(event, now)
        for effect in self._effects.overtake(self._node.handle(event, now)):
            if isinstance(effect, RecordChecked):
                checked = effect
            else:
                self._perform(effect)
        self._inbox.ring()
        return checked

    def import_halt_record(self, record: bytes) -> Outcome | None:
        """A halt record by hand; None: this node has no kill switch."""
        checked = self._offer(record, None)
        if checked is None:
            return None
        assert isinstance(checked.outcome, Outcome), f"{checked.outcome} of the kill switch"
        return checked.outcome

    def _offer(
        self, record: bytes, forwarder: PeerId | None, channel: str = HALT
    ) -> RecordChecked | None:
        return self.act(RecordOffered(next(self._checks), record, forwarder, channel))

    def door(self, channel: str) -> Door:
        """Where the network brings what comes on the channel of one of the node's parts."""
        return _PartDoor(self, channel)

    # --- for the local user -----------------------------------------------------------------------

    def ask(self, order: GenerateRequest) -> AnswerFeed:
        """Start an answer. Its feed ends with one `Ended` in every case, also when the node
        stops."""
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
        """Nobody will read this answer any more. May be called from any thread, as finalisers
        are."""
        if request in self._answers:
            self._inbox.leave_local(Cancelled(request, "cancelled"))

    @contextmanager
    def listening(self) -> Iterator[LifeFeed[LifeEvent]]:
        """Experts and peers as they come and go, from now on. LocalError if too many listen
        already."""
        if len(self._listeners) >= LISTENERS_MAX:
            raise LocalError(
                f"{LISTENERS_MAX} listeners are watching this node already; close one of them first"
            )
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

    # --- the loop ---------------------------------------------------------------------------------

    async def run(self, network: Network, engine: Engine | None) -> None:
        """Drive the node until `stop` or cancellation. Raises whatever the node's code raises."""
        self._network, self._engine = network, engine
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                if self._orders is not None:
                    nursery.start_soon(self._orders.remember, self.act)
                if self._suspend_detector is not None:
                    nursery.start_soon(self._beat)
                nursery.start_soon(self._pump, network.inputs)
                if engine is not None:
                    nursery.start_soon(self._pump, engine.inputs)
                await self._loop()
                for request in list(self._answers):
                    await self._handle(Cancelled(request, "cancelled"))
                await self._handle(NodeStops())
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
            await self._perform_waiting()
            until = self._clock() + BATCH_S
            for _ in range(BATCH_MAX):
                self._look()
                event = self._inbox.take()
                if event is None:
                    break
                await self._handle(event)
                if self._clock() >= until:
                    break
            now = self._clock()
            wake_at = max(self._node.next_deadline(), fired_at + TIMER_GAP_S)
            if wake_at <= now:
                fired_at = now
                await self._handle(TimerFired())
                wake_at = max(self._node.next_deadline(), fired_at + TIMER_GAP_S)
            if not self._stopping:
                await self._inbox.wait(max(0.0, wake_at - self._clock()))

    def _look(self) -> None:
        """If this process was stopped, the kill switch hears of it before anything else."""
        if self._suspend_detector is not None and self._suspend_detector.missed():
            log.info(
                "this process did not run for a while;"
                " peers are asked for orders before anything goes on"
            )
            self.act(Woke())

    async def _beat(self) -> None:
        while True:
            await trio.sleep(LOOK_EVERY_S)
            self._look()

    async def _handle(self, event: Input) -> None:
        now = self._clock()
        self._watch(event, now)
        try:
            effects = self._node.handle(event, now)
        except Exception:
            # Named by its kind alone: the input may hold what a user wrote.
            log.critical(
                "a fault in the node's own code while handling %s; the node stops",
                type(event).__name__,
            )
            raise
        self._effects.put(effects)
        await self._perform_waiting()

    async def _perform_waiting(self) -> None:
        for effect in self._effects.take():
            if isinstance(effect, Save):
                await self._save(effect)
            else:
                self._perform(effect)

    def _perform(self, effect: NodeEffect) -> None:
        self._watch(effect, self._clock())
        match effect:
            case RunScore():
                assert self._nursery is not None
                self._nursery.start_soon(self._score, effect)
            case Emit(event=event):
                self._emit(event)
            case CloseSession(key=key):
                if self._engine is not None:
                    self._engine.close(key)
            case SendFrame() | Relay() | PublishRecord() | EndStreams():
                if self._network is not None:  # Before there is one there is nobody to tell.
                    self._tell(self._network, effect)
            case Send() | Dial() | Hangup() | Advertise() | Withdraw() | LookUp():
                assert self._network is not None, "nothing is sent before there is a network"
                self._send(self._network, effect)
            case Penalise(peer=peer, reason=reason):
                if self._network is not None:
                    self._network.penalise(peer, reason)
            case Commit():
                assert self._nursery is not None
                self._nursery.start_soon(commit, effect, self._store, self._inbox.put)
            case RecordKept():
                self._kept(effect)
            case Save() | RecordChecked():
                raise AssertionError(f"{type(effect).__name__} is not performed here")
            case SealTokenizer() | TokenizerFetched() | TokenizerMissing():
                self._texts(effect)
            case (
                AppendToLedger()
                | KeepCheckpoint()
                | KeepCosignature()
                | KeepHead()
                | KeepAlarm()
                | ProveConsistency()
                | DoubtLedger()
            ):
                self._ledgers(effect)
            case RunAgent() | StopAgent():
                self._agent(effect)
            case StopNow():
                for scope in self._scoring:
                    scope.cancel()
                self._order(effect)
            case _:
                self._order(effect)

    def _order(self, effect: HaltOrder) -> None:
        assert self._orders is not None, f"{type(effect).__name__} of a node without a kill switch"
        self._orders.perform(effect)

    def _tell(
        self, network: Network, effect: SendFrame | Relay | PublishRecord | EndStreams
    ) -> None:
        match effect:
            case SendFrame(peer=peer, message=message, channel=channel):
                network.send_frame(channel, peer, encode(message))
            case Relay(record=record, to=to, is_live=is_live):
                frame = encode(Records((record,)))
                for peer in to:
                    network.send_frame(HALT, peer, frame, droppable=is_live)
            case PublishRecord(record=record, channel=channel):
                network.publish(channel, record)
            case EndStreams(message=message):
                network.end_streams(message)
            case _:
                assert_never(effect)

    def _send(
        self, network: Network, effect: Send | Dial | Hangup | Advertise | Withdraw | LookUp
    ) -> None:
        match effect:
            case Send(peer=peer, message=message):
                network.send(peer, message)
            case Dial(peer=peer, addrs=addrs):
                network.dial(peer, addrs)
            case Hangup(peer=peer, reason=reason, goodbye=goodbye):
                network.hang_up(peer, reason, goodbye)
            case Advertise(record=record):
                network.advertise(
                    record.vocab_fingerprint,
                    seal(record, self._keyring.public_key, self._keyring.sign),
                )
            case Withdraw(vocab_fingerprint=fingerprint):
                network.advertise(fingerprint, b"")
            case LookUp(vocab_fingerprint=fingerprint):
                network.look_up(fingerprint)
            case _:
                assert_never(effect)

    async def _save(self, effect: Save) -> None:
        """In a thread, since it waits for the disk; the loop waits for it, because later effects
        rely on it."""
        try:
            await trio.to_thread.run_sync(self._store.save, effect.key, effect.value)
        except LocalError as fault:
            # A full disk: what was to be remembered is not, and whoever looks at the status sees
            # it. To stop serving would help nobody.
            self.saves_failed += 1
            log.error("could not remember %r: %s", effect.key, fault)

    async def _score(self, effect: RunScore) -> None:
        request = effect.request
        if self._engine is None:
            await self._inbox.put(
                Scored(effect.order, Refused(request.session, request.round, REFUSED_ENGINE))
            )
            return
        # An order to stop takes the work back, and the node has forgotten it by then.
        with trio.CancelScope() as scope:
            self._scoring.add(scope)
            try:
                await self._inbox.put(
                    Scored(effect.order, await self._engine.score(effect.key, request))
                )
            finally:
                self._scoring.discard(scope)

    async def _pump(
        self,
        inputs: trio.MemoryReceiveChannel[NetworkInput]
        | trio.MemoryReceiveChannel[EngineReady | EngineLoadChanged | EngineLost],
    ) -> None:
        async for event in inputs:
            await self._inbox.put(event)

    def _emit(self, event: NodeEvent) -> None:
        match event:
            case TokenChosen() | Noticed() | ExpertsWeighed():
                self._answers[event.request].put(event)
            case Ended():
                self._answers.pop(event.request).put(event)
            case (
                ExpertFound()
                | ExpertLost()
                | PeerSeen()
                | NodeHalted()
                | NodeResumed()
                | LogDoubted()
                | ServingPaused()
                | ServingResumed()
                | NotLetIn()
            ):
                for listener in self._listeners:
                    listener.put(event)
            case _:
                assert_never(event)


class _PartDoor:
    """`runtime.ports.Door` of a part's channel: every call is an input, handled at once."""

    def __init__(self, driver: Driver, channel: str) -> None:
        self._driver, self._channel = driver, channel

    def opened(self, peer: PeerId) -> None:
        self._driver.act(ChannelOpened(peer, self._channel))

    def closed(self, peer: PeerId) -> None:
        self._driver.act(ChannelClosed(peer, self._channel))

    def received(self, peer: PeerId, frame: bytes) -> None:
        self._driver.act(FrameReceived(peer, frame, self._channel))

    def heard(self, forwarder: PeerId, data: bytes) -> bool:
        checked = self._driver._offer(data, forwarder, self._channel)
        return checked is not None and checked.passes
