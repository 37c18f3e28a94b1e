"""The node as one pure state machine: an input and the time go in, effects come out.

It composes the machines of this package (capacity table, router, peering, serving, one Generation
per request); they return values and never hold each other. The trio driver and the simulator both
drive this class and nothing else.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from swarmllm.core.capacity.advertising import Advertising
from swarmllm.core.capacity.exchange import SHUFFLE_EVERY_S, CapacityExchange, Sealing, Taken
from swarmllm.core.capacity.table import CapacityTable
from swarmllm.core.decoding.requests import Requests
from swarmllm.core.effects import (
    Announce,
    Emit,
    HaltEffect,
    Hangup,
    NodeEffect,
    Save,
    Send,
    StartAgain,
    StopNow,
)
from swarmllm.core.events import (
    Ended,
    ExpertFound,
    ExpertLost,
    HaltHeard,
    NodeHalted,
    NodeResumed,
    PeerSeen,
)
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.inputs import (
    AddressesChanged,
    AddressesFound,
    Asked,
    AskingEnded,
    Cancelled,
    ChangeInput,
    ChannelClosed,
    ChannelOpened,
    DialFailed,
    EngineLoadChanged,
    EngineLost,
    EngineReady,
    FrameReceived,
    HaltInput,
    Input,
    OwnerStarts,
    OwnerStops,
    PeerConnected,
    PeerLost,
    Persisted,
    PingMeasured,
    Received,
    RecordOffered,
    Scored,
    TimerFired,
    TokenizerJudged,
    TokenizerSealed,
    TokenizerSought,
    VocabularyLearned,
    Woke,
)
from swarmllm.core.part import Part, channel_of
from swarmllm.core.peers.dialling import Dialling
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.peers.roster import Roster
from swarmllm.core.peers.router import Router
from swarmllm.core.peers.view import NodeView
from swarmllm.core.peers.vocabularies import vocabularies
from swarmllm.core.serving.admission import Serving
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
from swarmllm.messages.declare import HALT

SAVED_PEERS = "peers"
# Before a peer that said it is halted is asked again; our own start after a halt ends this sooner.
HALTED_REST_S = 5.0
# Inputs that wait while the kill switch asks: 5 s of what all peers together may send,
HELD_MAX = 4_096
HELD_BYTES_MAX = 16 << 20  # in bytes.


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Intervals in seconds; every one is spread by +-20 % so that a swarm started at once does not
    beat in step."""

    # Empty: this node has no model, and learns the vocabulary of the swarm (`VocabularyLearned`).
    vocab_fingerprint: bytes
    # The short hash of its name: with peers of another swarm no records are exchanged.
    swarm: bytes = bytes(8)
    shuffle_every_s: float = SHUFFLE_EVERY_S
    advertise_every_s: float = 600.0
    look_up_every_s: float = 30.0
    look_up_below: int = 16  # Experts known; with more there is nobody to look for.
    save_every_s: float = 120.0


class Node:
    """`boot` is the Unix time in milliseconds at start; `rng` decides every choice that is left to
    chance; `sealing` signs our capacity records and opens those of others.

    `control` is the kill switch, started already; None leaves it out, for tests of other parts.
    `parts` are further machines, heard after the node's own in their order.
    """

    def __init__(
        self,
        config: NodeConfig,
        peer: PeerId,
        boot: int,
        rng: random.Random,
        sealing: Sealing,
        control: HaltMachine | None = None,
        parts: Sequence[Part] = (),
    ) -> None:
        self._parts = tuple(parts)
        self._config = config
        self._peer = peer
        self._rng = rng
        self._table = CapacityTable()
        self._router = Router(peer, rng)
        self._peering = Dialling(peer, rng)
        self._serving = Serving()
        self._requests = Requests(peer, rng)
        self._control = control
        known = (self._table, self._router, self._peering, self._serving)
        self._roster = Roster(peer, boot, config.vocab_fingerprint, known, control)
        self._pool = partial(ExpertPool, self._roster, self._router)
        own_record, shuffle_s = self._roster.next_record, config.shuffle_every_s
        self._shuffling = CapacityExchange(
            peer, rng, self._table, sealing, own_record, shuffle_s, config.swarm
        )
        every_s = config.advertise_every_s, config.look_up_every_s
        self._advertising = Advertising(self._roster, rng, *every_s, config.look_up_below)
        # Experts that were told of and not yet lost; bounded by connections.
        self._met: set[PeerId] = set()
        self._save_at = float("inf")
        self._control_at = float("inf") if control is None else 0.0
        self._saved = b""
        # What waits while the kill switch asks; see `_hold` for its bounds.
        self._held: deque[Input] = deque()
        self._held_bytes = 0
        self._holding = False
        # The first start is no resume.
        self._was_halted = control is not None and bool(control.halted)

    # --- the seam ---------------------------------------------------------------------------------

    def handle(self, event: Input, now: float) -> list[NodeEffect]:
        """Everything that this input brings about, in order."""
        self._look(now)
        is_urgent = isinstance(event, HaltInput) and channel_of(event) in ("", HALT)
        if self._holding and not (is_urgent or isinstance(event, TimerFired)):
            return self._hold(event)
        if self._held and not (self._holding or is_urgent):
            event = self._next_held(event)
        effects = self._spread_out(event, now)
        self._look(now)
        effects += self._peering.due(now)
        return effects

    def next_deadline(self) -> float:
        """When a `TimerFired` is wanted, on the clock of `now`; infinity if never."""
        if self._holding:
            return self._control_at  # Other deadlines may have passed, and wait as well.
        if self._held:
            return -math.inf
        parts = (
            self._shuffling.next_deadline(),
            self._peering.next_deadline(),
            self._requests.next_deadline(),
        )
        extra = min((part.next_deadline() for part in self._parts), default=float("inf"))
        return min(
            self._advertising.next_deadline(), self._save_at, self._control_at, extra, *parts
        )

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
            answers_open=len(self._requests),
            rounds_served_open=self._serving.rounds_open,
            halted=() if self._control is None else self._control.halted,
            records_dropped=self._shuffling.records_dropped,
            records_refused=self._shuffling.records_refused,
            parts=tuple(part.view(now) for part in self._parts),
            vocabularies=vocabularies(
                self._table.alive(now), self._peering.connected, self._roster.own_record()
            ),
        )

    # --- what waits while the kill switch asks (HALT-34) ------------------------------------------

    def _look(self, now: float) -> None:
        """Whether inputs have to wait now: the node woke, and has not heard yet whether it was
        halted meanwhile."""
        self._holding = self._control is not None and self._control.holds(now)

    def _hold(self, event: Input) -> list[NodeEffect]:
        """Keep it for later, in order. A wait takes 5 s at most; a peer that fills our memory
        meanwhile is hung up, and hints that come again by themselves are let go."""
        if isinstance(event, RecordOffered):
            return []  # Gossip wants to know at once whether to pass it on, and brings it again.
        size = event.size_bytes if isinstance(event, Received) else 0
        if len(self._held) < HELD_MAX and self._held_bytes + size <= HELD_BYTES_MAX:
            self._held.append(event)
            self._held_bytes += size
            return []
        match event:
            case Received(peer=peer):
                return [
                    Hangup(
                        peer,
                        "sent more than this node keeps while it asks for orders that it may have"
                        " missed",
                    )
                ]
            case AddressesFound() | PingMeasured() | EngineLoadChanged():
                return []
            # One per connection, dial, answer or round: each of these is bounded elsewhere.
            case _:
                self._held.append(event)
                return []

    def _next_held(self, event: Input) -> Input:
        """What has waited longest, once nothing has to any more; `event` takes its place behind the
        others. One at a time, so that the effects of each are performed before the next is looked
        at."""
        if not isinstance(event, TimerFired):
            self._held.append(event)
            self._held_bytes += event.size_bytes if isinstance(event, Received) else 0
        first = self._held.popleft()
        self._held_bytes -= first.size_bytes if isinstance(first, Received) else 0
        return first

    # --- inputs -----------------------------------------------------------------------------------

    def _spread_out(self, event: Input, now: float) -> list[NodeEffect]:
        """To the node's own machines, the kill switch first, and then to the parts that want it."""
        channel = channel_of(event)
        effects = self._dispatch(event, now) if channel in ("", HALT) else []
        is_timer = isinstance(event, TimerFired)
        for part in () if is_timer and self._holding else self._parts:
            wants = (
                part.next_deadline() <= now
                if is_timer
                else not channel and isinstance(event, part.inputs)
            )
            if wants or (channel and channel == part.channel):
                effects += part.handle(event, now)
        return effects

    def _dispatch(self, event: Input, now: float) -> list[NodeEffect]:
        match event:
            case Received():
                return self._received(event, now)
            case Scored(order=order, reply=reply):
                if self._requests.owns(order):
                    return [*self._requests.scored(self._pool(now), order, reply)]
                return [*self._serving.scored(order, reply, self._roster.digest)]
            case Asked():
                return self._asked(event, now)
            case Cancelled():
                return [*self._requests.cancelled(event)]
            case TokenizerSought() | TokenizerSealed() | TokenizerJudged():
                return []  # A part's.
            case TimerFired():
                return self._timer(now)
            case (
                ChannelOpened()
                | ChannelClosed()
                | FrameReceived()
                | RecordOffered()
                | Persisted()
                | OwnerStops()
                | OwnerStarts()
                | Woke()
            ):
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
            case VocabularyLearned(fingerprint=fingerprint):
                self._roster.fingerprint = fingerprint
                experts = self._roster.experts(now)
                for peer, record in experts:
                    self._peering.found(peer, record.addrs, now)
                return [effect for peer, _ in experts for effect in self._meet(peer, now)]
            case _:
                assert_never(event)
        return []

    # --- the kill switch --------------------------------------------------------------------------

    def _ordered(self, event: HaltInput, now: float) -> list[NodeEffect]:
        control = self._control
        if control is None:
            return []
        effects = control.handle(event, now)
        met: list[NodeEffect] = []
        if isinstance(event, FrameReceived):
            met = self._meet(event.peer, now)
        return [*self._controlled(effects, now), *met]

    def _controlled(self, effects: Sequence[HaltEffect], now: float) -> list[NodeEffect]:
        """What the kill switch orders, and what follows for answers and sessions: they end with the
        flag, before anything else."""
        assert self._control is not None
        self._control_at = self._control.next_deadline(now)
        found: list[NodeEffect] = []
        for effect in effects:
            found.append(effect)
            match effect:
                case StopNow(reasons=reasons):
                    self._was_halted = True
                    found.append(Emit(self._halted_event(reasons)))
                    found += self._requests.halted(f"no text is generated: {reasons[0]}")
                    found += self._serving.halted()
                    # An order reaches all by itself.
                    self._told_anew(now, to_all=not self._control.state.standing)
                case Announce(event=HaltHeard()) if not self._was_halted and self._control.halted:
                    # It came before the first start, so that nothing had to be stopped.
                    self._was_halted = True
                    found.append(Emit(self._halted_event(self._control.halted)))
                case StartAgain():
                    if self._was_halted:
                        found.append(Emit(NodeResumed()))
                    self._was_halted = False
                    self._router.wake()
                    self._told_anew(now, to_all=True)
                    for peer, _ in self._roster.experts(now):
                        found += self._meet(peer, now)
                case _:
                    pass
        return found

    def _halted_event(self, reasons: tuple[str, ...]) -> NodeHalted:
        assert self._control is not None
        standing = self._control.state.standing
        by, seq = (standing[-1].key.hex(), standing[-1].seq) if standing else ("", 0)
        return NodeHalted(reasons, by, seq)

    def _told_anew(self, now: float, *, to_all: bool = False) -> None:
        """There is news of our own expert: for some peers or `to_all` of them, and for the DHT."""
        self._shuffling.changed(now, to_all=to_all)
        self._advertising.changed(now)

    def _asked(self, event: Asked, now: float) -> list[NodeEffect]:
        if self._control is not None and self._control.halted:
            why = f"no text is generated: {self._control.halted[0]}"
            return [Emit(Ended(event.request, "halted", 0, 0, 0, why))]
        return [*self._requests.asked(event, self._pool(now))]

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
                # Whoever halts says so on its halt stream; whoever differs settles it there.
                return effects
            case Scores() | Need() | Busy() | Refused():
                return [
                    *effects,
                    *self._requests.received(self._pool(now), peer, message, event.size_bytes),
                ]
            case Shuffle():
                return self._took(self._shuffling.asked(peer, message, now), now)
            case Shuffled():
                return self._took(self._shuffling.answered(peer, message, now), now)
            case Halted():
                self._router.rest(peer, HALTED_REST_S, now)
                return [
                    *effects,
                    *self._serving.lost(peer),
                    *self._requests.lost(self._pool(now), peer),
                ]
            case _:
                assert_never(message)

    def _settle(
        self, control: HaltMachine, peer: PeerId, digest: bytes, now: float, *, is_fresh: bool
    ) -> list[NodeEffect]:
        """As a rule there is nothing to settle, and then nothing else is looked at: this stands in
        the way of every message."""
        effects = control.settle(peer, digest, now, is_fresh=is_fresh)
        return self._controlled(effects, now) if effects or digest != control.digest else []

    # --- peers and experts ------------------------------------------------------------------------

    def _connected(self, peer: PeerId, now: float) -> list[NodeEffect]:
        self._router.seen(peer, now)
        self._peering.peer_connected(peer)
        self._table.peer_connected(peer)
        self._advertising.connected(now)
        self._save_at = min(self._save_at, now + self._spread(self._config.save_every_s))
        return [
            Emit(PeerSeen(peer, connected=True)),
            *self._meet(peer, now),
            *self._shuffling.connected(peer, now),
        ]

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
        return [*effects, *self._serving.lost(peer), *self._requests.lost(self._pool(now), peer)]

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
            effects.append(
                Emit(
                    ExpertLost(
                        peer, "it offers no place any more: its engine is down, or it was stopped"
                    )
                )
            )
        return effects

    def _meet(self, peer: PeerId, now: float) -> list[NodeEffect]:
        """An expert became usable, its connection came up, or the kill switch let it: say so once,
        when all three are true."""
        record = self._roster.record_of(peer)
        if (
            peer in self._met
            or record is None
            or not self._roster.is_usable(record)
            or not self._roster.can_ask(peer, now)
        ):
            return []
        self._met.add(peer)
        return [Emit(ExpertFound(peer, record))]

    # --- time -------------------------------------------------------------------------------------

    def _timer(self, now: float) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        if self._control is not None and now >= self._control_at:
            effects += self._controlled(self._control.timer(now, len(self._peering.connected)), now)
        self._look(now)
        if self._holding:
            return effects
        effects += self._shuffling.timer(now)
        effects += self._requests.timer(self._pool(now))
        effects += self._advertising.timer(bool(self._peering.connected), now)
        if now >= self._save_at:
            effects += self._save(now)
        return effects

    def _save(self, now: float) -> list[NodeEffect]:
        self._save_at = (
            now + self._spread(self._config.save_every_s)
            if self._peering.connected
            else float("inf")
        )
        value = self._peering.save()
        if value == self._saved:
            return []
        self._saved = value
        return [Save(SAVED_PEERS, value)]

    def _spread(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.8, 1.2)
