"""The kill switch's orders, carried out: flag, tell and end at once and in order, the disk in the background.

Everything but the disk is a synchronous call, so that nothing stands between an order and the flag: no queue, no lock, no await. The
flag is up from the start and comes down only with the first `StartAgain`; while it is up `is_halted` keeps every inference message from
leaving, whatever was decided a moment before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

import trio

from swarmllm.core.control import Control
from swarmllm.core.control_events import Persisted
from swarmllm.core.control_link import (
    AckHeard,
    Announce,
    CharterHeard,
    ControlEffect,
    ControlEvent,
    EndStreams,
    HaltHeard,
    KillAfter,
    Persist,
    RecordRefused,
    Relay,
    ResumeHeard,
    RevertChanges,
    Rumour,
    StartAgain,
    StopNow,
    Tell,
)
from swarmllm.core.events import Penalise
from swarmllm.core.halt_file import pack_genesis
from swarmllm.errors import LocalError
from swarmllm.messages import CONTROL_FRAME_MAX, Live, PeerId, Records
from swarmllm.runtime.ports import Engine, Network
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import open_record

log = logging.getLogger("swarmllm.halt")

LISTENERS_MAX: Final = 64  # Operators that wait for acknowledgements; each is one call per event.
assert CONTROL_FRAME_MAX > 4_096 + 16, "a frame holds the largest record"


class Memory(Protocol):
    """Where the state survives; see `adapters.halt_folder`."""

    def save(self, data: bytes, genesis: bytes) -> None:
        """Durable when it returns. LocalError if it cannot be."""


@dataclass(frozen=True, slots=True)
class NodeHalted:
    """No token is made here any more; `by` (hex key id) and `seq` name the order, empty and 0 for the owner's own stop."""

    reasons: tuple[str, ...]
    by: str
    seq: int


@dataclass(frozen=True, slots=True)
class NodeResumed:
    """Nothing halts this node any more."""


Listener = Callable[[ControlEvent], None]


class Orders:
    """`revert` takes back the agent's last changes. `network` and `engine` are set when they are there."""

    def __init__(self, control: Control, memory: Memory, revert: Callable[[int], object]) -> None:
        self.control = control
        self.is_halted = True
        self.network: Network | None = None
        self.engine: Engine | None = None
        self.saves_failed = 0
        self.records_refused = 0
        self._memory = memory
        self._revert = revert
        self._links: dict[PeerId, None] = {}  # With an open control stream, in the order of opening.
        self._listeners: list[Listener] = []
        self._to_save: Persist | None = None
        self._bell = trio.Event()
        self._was_halted = bool(control.halted)  # Before the first start nothing was stopped that could start again.

    def opened(self, peer: PeerId) -> None:
        self._links[peer] = None

    def closed(self, peer: PeerId) -> None:
        self._links.pop(peer, None)

    @property
    def links(self) -> tuple[PeerId, ...]:
        return tuple(self._links)

    def take_engine(self, engine: Engine) -> None:
        """The flag that has been up since the start is up for this engine, too; before it is entered or after."""
        self.engine = engine
        if self.is_halted:
            engine.stop()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every event from now on; the returned function ends it. LocalError if too many listen."""
        if len(self._listeners) >= LISTENERS_MAX:
            raise LocalError(f"{LISTENERS_MAX} programs are waiting for the kill switch already; close one of them first")
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def halted_event(self, reasons: tuple[str, ...]) -> NodeHalted:
        standing = self.control.state.standing
        by, seq = (standing[-1].key.hex(), standing[-1].seq) if standing else ("", 0)
        return NodeHalted(reasons, by, seq)

    def perform(self, effect: ControlEffect) -> None:
        """One order. Never waits, never raises."""
        match effect:
            case StopNow(reasons=reasons):
                self.is_halted = self._was_halted = True
                if self.engine is not None:
                    self.engine.stop()  # Kills a worker that is still busy after 50 ms.
                log.warning("halted: %s", "; ".join(reasons))
            case KillAfter():
                pass  # Done by `Engine.stop`, which alone knows its workers.
            case StartAgain():
                self.is_halted = False
                if self.engine is not None:
                    self.engine.resume()
                if self._was_halted:
                    log.warning("started again: nothing halts this node any more")
                else:
                    log.info("started: nothing halts this node")
            case Persist():
                self._to_save = effect
                self._bell.set()
            case RevertChanges(count=count):
                self._revert(count)
            case Announce(event=event):
                self._announce(event)
            case Relay() | Rumour() | EndStreams() | Tell() | Penalise():
                if self.network is not None:
                    self._send(self.network, effect)
            case _:
                assert_never(effect)

    def _send(self, network: Network, effect: Relay | Rumour | EndStreams | Tell | Penalise) -> None:
        match effect:
            case Relay(record=record, skip=skip):
                frame = encode(Records((record,)))
                is_live = isinstance(open_record(record).record, Live)
                for peer in self.links:
                    if peer != skip and self.control.is_kin(peer):
                        network.tell(peer, frame, is_live=is_live)
            case Rumour(record=record):
                network.publish_control(record)
            case EndStreams(message=message):
                network.end_streams(message)
            case Tell(peer=peer, message=message):
                network.tell(peer, encode(message))
            case Penalise(peer=peer, reason=reason):
                network.penalise(peer, reason)
            case _:
                assert_never(effect)

    def _announce(self, event: ControlEvent) -> None:
        match event:
            case HaltHeard(order=order, peer=peer):
                log.warning("order %d to halt by key %s, through %s", order.seq, order.key.hex(), peer or "our own operator")
            case ResumeHeard(peer=peer):
                log.warning("order to resume, through %s", peer or "our own operator")
            case CharterHeard(version=version, peer=peer):
                log.warning("charter %d, through %s", version, peer or "our own operator")
            case RecordRefused(peer=peer, reason=reason):
                self.records_refused += 1
                log.info("control record from %s refused: %s", peer or "our own operator", reason)
            case AckHeard():
                pass
            case _:
                assert_never(event)
        for listener in list(self._listeners):
            listener(event)

    async def remember(self, act: Callable[[Persisted], None]) -> None:
        """Write what is to be written, for ever; `act` hears how each attempt ended."""
        while True:
            if (event := await self.save_next()) is not None:
                act(event)
            else:
                self._bell = trio.Event()
                await self._bell.wait()

    async def save_next(self) -> Persisted | None:
        """Write what is to be written now; None if there is nothing."""
        if self._to_save is None:
            return None
        order, self._to_save = self._to_save, None
        return await self._save(order)

    async def _save(self, order: Persist) -> Persisted:
        genesis = pack_genesis(self.control.state.swarm)
        try:
            # Shielded: what has begun ends, so that a node that is being closed does not forget an order.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._memory.save, order.data, genesis)
        except LocalError as fault:
            self.saves_failed += 1
            log.error("%s", fault)
            return Persisted(order.number, ok=False)
        return Persisted(order.number, ok=True)
