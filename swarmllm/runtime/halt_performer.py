"""The kill switch's orders to this machine, carried out: the flag at once, the disk in the
background.

Everything but the disk is a synchronous call, so that nothing stands between an order and the flag:
no queue, no lock, no await. The flag is up from the start and comes down only with the first
`StartAgain`; while it is up `is_halted` keeps every inference message from leaving, whatever was
decided a moment before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol, assert_never

import trio

from swarmllm.core.effects import (
    Announce,
    Persist,
    RevertChanges,
    StartAgain,
    StopNow,
)
from swarmllm.core.events import (
    AckHeard,
    CharterHeard,
    HaltEvent,
    HaltHeard,
    RecordRefused,
    ResumeHeard,
    StateSaved,
)
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.halt.state_file import pack_genesis
from swarmllm.core.inputs import Persisted
from swarmllm.errors import LocalError
from swarmllm.messages import HALT_FRAME_MAX, PeerId
from swarmllm.runtime.ports import Engine

log = logging.getLogger("swarmllm.halt")

LISTENERS_MAX: Final = 64  # Operators that wait for acknowledgements; each is one call per event.
assert HALT_FRAME_MAX > 4_096 + 16, "a frame holds the largest record"


class HaltStore(Protocol):
    """Where the state survives; see `adapters.halt_folder`."""

    def save(self, data: bytes, genesis: bytes) -> None:
        """Durable when it returns. LocalError if it cannot be."""


Listener = Callable[[HaltEvent], None]
HaltOrder = StopNow | Persist | RevertChanges | StartAgain | Announce
"""The kill switch's effects that concern this machine: its engine, its disk, its people. The rest
goes over the network, or to others."""


class HaltPerformer:
    """`engine` is set when it is there."""

    def __init__(self, machine: HaltMachine, store: HaltStore) -> None:
        self.machine = machine
        self.is_halted = True
        self.engine: Engine | None = None
        self.saves_failed = 0
        self.records_refused = 0
        self._store = store
        # With an open halt stream, in the order of opening.
        self._links: dict[PeerId, None] = {}
        self._listeners: list[Listener] = []
        self._to_save: Persist | None = None
        self._bell = trio.Event()
        # Before the first start nothing was stopped that could start again.
        self._was_halted = bool(machine.halted)

    def opened(self, peer: PeerId) -> None:
        self._links[peer] = None

    def closed(self, peer: PeerId) -> None:
        self._links.pop(peer, None)

    @property
    def links(self) -> tuple[PeerId, ...]:
        return tuple(self._links)

    def take_engine(self, engine: Engine) -> None:
        """The flag that has been up since the start is up for this engine, too; before it is
        entered or after."""
        self.engine = engine
        if self.is_halted:
            engine.stop()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every event from now on; the returned function ends it. LocalError if
        too many listen."""
        if len(self._listeners) >= LISTENERS_MAX:
            raise LocalError(
                f"{LISTENERS_MAX} programs are waiting for the kill switch already;"
                " close one of them first"
            )
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def perform(self, effect: HaltOrder) -> None:
        """One order. Never waits, never raises."""
        match effect:
            case StopNow(reasons=reasons):
                self.is_halted = self._was_halted = True
                if self.engine is not None:
                    self.engine.stop()  # Kills a worker that is still busy after 50 ms.
                log.warning("halted: %s", "; ".join(reasons))
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
                # Governance does it (`core.governance.outcome`); this is for people.
                log.warning("the halt takes back the last %d changes of the agent's", count)
            case Announce(event=event):
                self._announce(event)
            case _:
                assert_never(effect)

    def _announce(self, event: HaltEvent) -> None:
        match event:
            case HaltHeard(order=order, peer=peer):
                log.warning(
                    "order %d to halt by key %s, through %s",
                    order.seq,
                    order.key.hex(),
                    peer or "our own operator",
                )
            case ResumeHeard(peer=peer):
                log.warning("order to resume, through %s", peer or "our own operator")
            case CharterHeard(version=version, peer=peer):
                log.warning("charter %d, through %s", version, peer or "our own operator")
            case RecordRefused(peer=peer, reason=reason):
                self.records_refused += 1
                log.info("halt record from %s refused: %s", peer or "our own operator", reason)
            case AckHeard() | StateSaved():
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
        genesis = pack_genesis(self.machine.state.swarm)
        try:
            # Shielded: what has begun ends, so that a node that is being closed does not forget an
            # order.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._store.save, order.data, genesis)
        except LocalError as fault:
            self.saves_failed += 1
            log.error("%s", fault)
            return Persisted(order.number, ok=False)
        return Persisted(order.number, ok=True)
