"""The node as one pure state machine: an input and the time go in, effects come out.

It composes the machines of this package (capacity table, router, peering, serving, one Generation per request); they return values and
never hold each other. The trio driver and the simulator both drive this class and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from swarmllm.core.advertising import Advertising
from swarmllm.core.answers import Answers
from swarmllm.core.capacity import CapacityTable
from swarmllm.core.control import Control
from swarmllm.core.control_events import (
    ControlClosed,
    ControlInput,
    ControlOpened,
    ControlReceived,
    OwnerStarts,
    OwnerStops,
    Persisted,
    Woke,
)
from swarmllm.core.control_inputs import told
from swarmllm.core.control_link import ControlEffect, StartAgain, StopNow
from swarmllm.core.events import (
    AddressesChanged,
    AddressesFound,
    Asked,
    AskingEnded,
    Cancelled,
    ChangeInput,
    DialFailed,
    Effect,
    Emit,
    Ended,
    EngineLoadChanged,
    EngineLost,
    EngineReady,
    ExpertFound,
    ExpertLost,
    Input,
    PeerConnected,
    PeerLost,
    PeerSeen,
    PingMeasured,
    Received,
    Save,
    Scored,
    Send,
    TimerFired,
)
from swarmllm.core.halt import Outcome
from swarmllm.core.peering import Peering
from swarmllm.core.roster import Roster
from swarmllm.core.router import Router
from swarmllm.core.serving import Serving
from swarmllm.core.shuffling import SHUFFLE_EVERY_S, Sealing, Shuffling, Taken
from swarmllm.core.view import NodeView
from swarmllm.messages import (
    Busy,
    CapacityRecord,
    Close,
    Halted,
    Need,
    Open,
    PeerId,
    Refused,
    Score,
    Scores,
    Shuffle,
    Shuffled,
)

SAVED_PEERS = "peers"
HALTED_REST_S = 5.0  # Before a peer that said it is halted is asked again; our own start after a halt ends this sooner.


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Intervals in seconds; every one is spread by +-20 % so that a swarm started at once does not beat in step."""

    vocab_fingerprint: bytes
    swarm: bytes = bytes(8)  # The short hash of its name: with peers of another swarm no records are exchanged.
    shuffle_every_s: float = SHUFFLE_EVERY_S
    advertise_every_s: float = 600.0
    look_up_every_s: float = 30.0
    look_up_below: int = 16  # Experts known; with more there is nobody to look for.
    save_every_s: float = 120.0


NodeEffect = Effect | ControlEffect


class Node:
    """`boot` is the Unix time in milliseconds at start; `rng` decides every choice that is left to chance; `sealing` signs our capacity
    records and opens those of others.

    `control` is the kill switch, started already; None leaves it out, for tests of other parts.
    """

    def __init__(
        self,
        config: NodeConfig,
        peer: PeerId,
        boot: int,
        rng: random.Random,
        sealing: Sealing,
        control: Control | None = None,
    ) -> None:
        self._config = config
        self._peer = peer
        self._rng = rng
        self._table = CapacityTable()
        self._router = Router(peer, rng)
        self._peering = Peering(peer, rng)
        self._serving = Serving()
        self._answers = Answers(peer, rng)
        self._control = control
        parts = (self._table, self._router, self._peering, self._serving)
        self._roster = Roster(peer, boot, config.vocab_fingerprint, parts, control)
        own_record, shuffle_s = self._roster.next_record, config.shuffle_every_s
        self._shuffling = Shuffling(peer, rng, self._table, sealing, own_record, shuffle_s, config.swarm)
        every_s = config.advertise_every_s, config.look_up_every_s
        self._advertising = Advertising(self._roster, rng, config.vocab_fingerprint, *every_s, config.look_up_below)
        self._met: set[PeerId] = set()  # Experts that were told of and not yet lost; bounded by connections.
        self._save_at = float("inf")
        self._control_at = float("inf") if control is None else 0.0
        self._saved = b""

    # --- the seam ------------------------------------------------------------------------------------------------------------

    def handle(self, event: Input, now: float) -> list[NodeEffect]:
        """Everything that this input brings about, in order."""
        effects = self._dispatch(event, now)
        effects += self._peering.due(now)
        return effects

    def next_deadline(self) -> float:
        """When a `TimerFired` is wanted, on the clock of `now`; infinity if never."""
        parts = (self._shuffling.next_deadline(), self._peering.next_deadline(), self._answers.next_deadline())
        return min(self._advertising.next_deadline(), self._save_at, self._control_at, *parts)

    def holds(self, now: float) -> bool:
        """Whether only what concerns the kill switch may be handled now, because this node woke (HALT-34); the rest waits outside."""
        return self._control is not None and self._control.holds(now)

    def hear_control(self, forwarder: PeerId, record: bytes, now: float) -> tuple[bool, list[NodeEffect]]:
        """A control record from gossip, within the validator: whether to pass it on, and what it brings about."""
        if self._control is None:
            return False, []
        passes, effects = self._control.heard(forwarder, record, now)
        return passes, self._controlled(effects, now)

    def import_control(self, record: bytes, now: float) -> tuple[Outcome | None, list[NodeEffect]]:
        """A control record by hand: from the node's own operator, or from a file. None: this node has no kill switch."""
        if self._control is None:
            return None, []
        outcome, effects = self._control.import_record(record, now)
        return outcome, self._controlled(effects, now)

    def view(self, now: float) -> NodeView:
        """What `status` and `experts` show."""
        return NodeView(
            peer=self._peer,
            boot=self._roster.boot,
            card=self._serving.card,
            load=self._serving.load,
            addrs=self._roster.addrs,
            peers=tuple(sorted(self._peering.connected)),
            experts=self._roster.view(now),
            answers_open=len(self._answers),
            rounds_served_open=self._serving.rounds_open,
            halted=() if self._control is None else self._control.halted,
            records_dropped=self._shuffling.records_dropped,
            records_refused=self._shuffling.records_refused,
        )

    def _dispatch(self, event: Input, now: float) -> list[NodeEffect]:
        match event:
            case Received():
                return self._received(event, now)
            case Scored(order=order, reply=reply):
                if self._answers.owns(order):
                    return [*self._answers.scored(self._roster, order, reply, now)]
                return [*self._serving.scored(order, reply, self._roster.digest)]
            case Asked():
                return self._asked(event, now)
            case Cancelled():
                return [*self._answers.cancelled(event)]
            case TimerFired():
                return self._timer(now)
            case ControlOpened() | ControlClosed() | ControlReceived() | Persisted() | OwnerStops() | OwnerStarts() | Woke():
                return self._ordered(event, now)
            case _:
                return self._changed(event, now)

    def _changed(self, event: ChangeInput, now: float) -> list[NodeEffect]:
        match event:
            case PeerConnected(peer=peer):
                return self._connected(peer, now)
            case PeerLost(peer=peer, reason=reason):
                return self._lost(peer, reason, now)
            case AskingEnded(peer=peer):
                return [*self._serving.lost(peer)]
            case PingMeasured(peer=peer, rtt_s=rtt_s):
                self._router.pinged(peer, rtt_s, now)
            case AddressesFound(peer=peer, addrs=addrs, source=source):
                self._peering.found(peer, addrs, now, proven=source == "saved")
            case DialFailed(peer=peer):
                self._peering.dial_failed(peer, now)
                self._table.dial_failed(peer, now)
            case EngineReady(card=card, load=load):
                self._serving.card, self._serving.load = card, load
                self._told_anew(now)
                self._met.discard(self._peer)
                return self._meet(self._peer, now)
            case EngineLoadChanged(load=load):
                before, self._serving.load = self._serving.load, load
                if before is not None and (before.sessions_free == 0) != (load.sessions_free == 0):
                    self._shuffling.changed(now)
            case EngineLost(reason=reason):
                self._serving.engine_lost()
                self._told_anew(now)
                return [Emit(ExpertLost(self._peer, reason))]
            case AddressesChanged(addrs=addrs):
                self._roster.addrs = addrs
                self._told_anew(now)
            case _:
                assert_never(event)
        return []

    # --- the kill switch -----------------------------------------------------------------------------------------------------

    def _ordered(self, event: ControlInput, now: float) -> list[NodeEffect]:
        control = self._control
        if control is None:
            return []
        effects = told(control, event, now)
        met: list[NodeEffect] = []
        if isinstance(event, ControlReceived):
            met = self._meet(event.peer, now)
        return [*self._controlled(effects, now), *met]

    def _controlled(self, effects: Sequence[ControlEffect], now: float) -> list[NodeEffect]:
        """What the kill switch orders, and what follows for answers and sessions: they end with the flag, before anything else."""
        assert self._control is not None
        self._control_at = self._control.next_deadline(now)
        found: list[NodeEffect] = []
        for effect in effects:
            found.append(effect)
            match effect:
                case StopNow(reasons=reasons):
                    found += self._answers.halted(f"no text is generated: {reasons[0]}")
                    found += self._serving.halted()
                    self._told_anew(now, to_all=not self._control.state.standing)  # An order reaches all by itself.
                case StartAgain():
                    self._router.wake()
                    self._told_anew(now, to_all=True)
                    for peer, _ in self._roster.experts(now):
                        found += self._meet(peer, now)
                case _:
                    pass
        return found

    def _told_anew(self, now: float, *, to_all: bool = False) -> None:
        """There is news of our own expert: for some peers or `to_all` of them, and for the DHT."""
        self._shuffling.changed(now, to_all=to_all)
        self._advertising.changed(now)

    def _asked(self, event: Asked, now: float) -> list[NodeEffect]:
        if self._control is not None and self._control.halted:
            why = f"no text is generated: {self._control.halted[0]}"
            return [Emit(Ended(event.request, "halted", 0, 0, 0, why))]
        return [*self._answers.asked(event, self._roster, now)]

    def _received(self, event: Received, now: float) -> list[NodeEffect]:
        peer, message = event.peer, event.message
        effects: list[NodeEffect] = []
        if self._control is not None and isinstance(message, (Open, Score, Scores, Halted)):
            effects += self._settle(self._control, peer, message.ctl_digest, now, is_fresh=True)
        match message:
            case Score() if not self._roster.is_cleared(peer, now):
                return [*effects, Send(peer, self._serving.unsettled(peer, message, self._control))]
            case Open() | Score() | Close():
                return [*effects, *self._serving.received(peer, message)]
            case Scores() if not self._roster.is_cleared(peer, now):
                return effects  # Whoever halts says so on its control stream; whoever differs settles it there.
            case Scores() | Need() | Busy() | Refused():
                return [*effects, *self._answers.received(self._roster, peer, message, event.size_bytes, now)]
            case Shuffle():
                return self._took(self._shuffling.asked(peer, message, now), now)
            case Shuffled():
                return self._took(self._shuffling.answered(peer, message, now), now)
            case Halted():
                self._router.rest(peer, HALTED_REST_S, now)
                return [*effects, *self._serving.lost(peer), *self._answers.lost(self._roster, peer, now)]
            case _:
                assert_never(message)

    def _settle(self, control: Control, peer: PeerId, digest: bytes, now: float, *, is_fresh: bool) -> list[NodeEffect]:
        """As a rule there is nothing to settle, and then nothing else is looked at: this stands in the way of every message."""
        effects = control.settle(peer, digest, now, is_fresh=is_fresh)
        return self._controlled(effects, now) if effects or digest != control.digest else []

    # --- peers and experts ---------------------------------------------------------------------------------------------------

    def _connected(self, peer: PeerId, now: float) -> list[NodeEffect]:
        self._router.seen(peer, now)
        self._peering.peer_connected(peer)
        self._table.peer_connected(peer)
        self._advertising.connected(now)
        self._save_at = min(self._save_at, now + self._spread(self._config.save_every_s))
        return [Emit(PeerSeen(peer, connected=True)), *self._meet(peer, now), *self._shuffling.connected(peer, now)]

    def _lost(self, peer: PeerId, reason: str, now: float) -> list[NodeEffect]:
        if peer not in self._peering.connected:
            return []
        self._peering.peer_lost(peer, now)
        effects: list[NodeEffect] = [Emit(PeerSeen(peer, connected=False, reason=reason))]
        if self._roster.is_usable(self._table.get(peer)):
            effects.append(Emit(ExpertLost(peer, reason)))
        self._met.discard(peer)
        self._shuffling.lost(peer)
        self._table.peer_lost(peer, now)  # Whoever is alive says so again within seconds.
        return [*effects, *self._serving.lost(peer), *self._answers.lost(self._roster, peer, now)]

    def _took(self, taken: Taken, now: float) -> list[NodeEffect]:
        effects: list[NodeEffect] = [*taken.effects]
        for peer, record in taken.heard:
            if peer in self._peering.connected:
                effects += self._heard(peer, record, now)
            if self._roster.is_usable(record):
                self._peering.found(peer, record.addrs, now)
        return effects

    def _heard(self, peer: PeerId, record: CapacityRecord, now: float) -> list[NodeEffect]:
        """What is new about a peer that we are connected to."""
        effects: list[NodeEffect] = []
        if self._control is not None:
            effects += self._settle(self._control, peer, record.ctl_digest, now, is_fresh=False)
        if self._roster.is_usable(record):
            return [*effects, *self._meet(peer, now)]
        if peer in self._met:
            self._met.discard(peer)
            effects.append(Emit(ExpertLost(peer, "it offers no place any more: its engine is down, or it was stopped")))
        return effects

    def _meet(self, peer: PeerId, now: float) -> list[NodeEffect]:
        """An expert became usable, its connection came up, or the kill switch let it: say so once, when all three are true."""
        record = self._roster.record_of(peer)
        if peer in self._met or record is None or not self._roster.is_usable(record) or not self._roster.can_ask(peer, now):
            return []
        self._met.add(peer)
        return [Emit(ExpertFound(peer, record))]

    # --- time ----------------------------------------------------------------------------------------------------------------

    def _timer(self, now: float) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        if self._control is not None and now >= self._control_at:
            effects += self._controlled(self._control.timer(now, len(self._peering.connected)), now)
        if self.holds(now):
            return effects
        effects += self._shuffling.timer(now)
        effects += self._answers.timer(self._roster, now)
        effects += self._advertising.timer(bool(self._peering.connected), now)
        if now >= self._save_at:
            effects += self._save(now)
        return effects

    def _save(self, now: float) -> list[NodeEffect]:
        self._save_at = now + self._spread(self._config.save_every_s) if self._peering.connected else float("inf")
        value = self._peering.save()
        if value == self._saved:
            return []
        self._saved = value
        return [Save(SAVED_PEERS, value)]

    def _spread(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.8, 1.2)
