"""The kill switch as a part of the node: what comes in for `HaltMachine`, and what follows from its
orders for the other parts.

Answers and sessions end right behind the flag, before anything else is told or remembered.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from swarmllm.core.effects import (
    Announce,
    AppendToLedger,
    Emit,
    HaltEffect,
    NodeEffect,
    StartAgain,
    StopNow,
)
from swarmllm.core.events import HaltHeard, NodeHalted, NodeResumed
from swarmllm.core.facts import (
    Fact,
    HaltStateChanged,
    PeerSettled,
    RecordsHeard,
    TokensAllowed,
    TokensForbidden,
)
from swarmllm.core.halt.entries import HaltEntries
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.inputs import (
    FrameReceived,
    Input,
    OwnerStarts,
    OwnerStops,
    Persisted,
    Received,
    TimerFired,
    Woke,
)
from swarmllm.core.part import Part, Told
from swarmllm.messages import Halted, Open, PeerId, Score, ScoreAllowed, ScoreDraft, Scores
from swarmllm.messages.declare import HALT


class HaltPart(Part):
    """`connected` are the peers that there are, with a control stream or without."""

    channel = HALT
    inputs = (
        *(Persisted, OwnerStops, OwnerStarts, Woke),
        # Each says which records its author has.
        *(Open, Score, ScoreAllowed, ScoreDraft, Scores, Halted, RecordsHeard),
    )

    def __init__(self, machine: HaltMachine, connected: Collection[PeerId]) -> None:
        self._machine = machine
        self._connected = connected
        self._deadline = 0.0
        # The first start is no resume.
        self._was_halted = bool(machine.halted)
        self._state = machine.state
        self._entries = HaltEntries(machine)

    def handle(self, event: Input | Fact, now: float) -> Told:
        match event:
            case RecordsHeard(heard=heard):
                settled = [
                    self._settle(peer, record.ctl_digest, now, is_fresh=False)
                    for peer, record, _ in heard
                ]
                return [one for told in settled for one in told]
            case Received(peer=peer, message=Open() | Score() | Scores() | Halted() as message):
                return self._settle(peer, message.ctl_digest, now, is_fresh=True)
            case TimerFired():
                return self._told(self._machine.timer(now, len(self._connected)), now)
            case FrameReceived(peer=peer):
                return [*self._told(self._machine.handle(event, now), now), PeerSettled(peer)]
            case OwnerStops() | OwnerStarts():
                told = self._told(self._machine.handle(event, now), now)
                return [*told, *map(AppendToLedger, self._entries.ordered(event))]
            case _:
                return self._told(self._machine.handle(event, now), now)  # type: ignore[arg-type]

    def next_deadline(self) -> float:
        return self._deadline

    def view(self, now: float) -> tuple[str, ...]:
        """Why no token is made here, a sentence each."""
        return self._machine.halted

    def _settle(self, peer: PeerId, digest: bytes, now: float, *, is_fresh: bool) -> Told:
        """As a rule there is nothing to settle, and then nothing else is looked at: this stands in
        the way of every message."""
        effects = self._machine.settle(peer, digest, now, is_fresh=is_fresh)
        return self._told(effects, now) if effects or digest != self._machine.digest else ()

    def _told(self, effects: Sequence[HaltEffect], now: float) -> Told:
        """What the kill switch orders, and what the others and the user have to know of it."""
        machine = self._machine
        self._deadline = machine.next_deadline(now)
        told: list[NodeEffect | Fact] = []
        for effect in effects:
            told.append(effect)
            match effect:
                case StopNow(reasons=reasons):
                    self._was_halted = True
                    told.append(Emit(self._halted_event(reasons)))
                    told.append(TokensForbidden(reasons, by_order=bool(machine.state.standing)))
                case Announce(event=HaltHeard()) if not self._was_halted and machine.halted:
                    # It came before the first start, so that nothing had to be stopped.
                    self._was_halted = True
                    told.append(Emit(self._halted_event(machine.halted)))
                case StartAgain():
                    if self._was_halted:
                        told.append(Emit(NodeResumed()))
                    self._was_halted = False
                    told.append(TokensAllowed())
                case _:
                    pass
        # Behind all that stops, tells and remembers: the switch waits for no ledger.
        told += map(AppendToLedger, self._entries.of(effects))
        if machine.state is not self._state:
            self._state = machine.state
            told.append(HaltStateChanged())
        return told

    def _halted_event(self, reasons: tuple[str, ...]) -> NodeHalted:
        standing = self._machine.state.standing
        by, seq = (standing[-1].key.hex(), standing[-1].seq) if standing else ("", 0)
        return NodeHalted(reasons, by, seq)
