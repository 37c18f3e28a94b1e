"""A few nodes with ledgers, whose effects are performed and whose frames are delivered at once, and
what a liar does to his ledger."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from swarmllm.core.effects import (
    AppendToLedger,
    DoubtLedger,
    Emit,
    KeepAlarm,
    KeepCheckpoint,
    KeepCosignature,
    KeepHead,
    NodeEffect,
    Penalise,
    ProveConsistency,
    Save,
    SendFrame,
)
from swarmllm.core.events import LogDoubted
from swarmllm.core.inputs import (
    ChannelClosed,
    ChannelOpened,
    FrameReceived,
    Input,
    LedgerFaulty,
    TimerFired,
)
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.core.ledger.own_log import CHECKPOINT_AFTER_S, Keys
from swarmllm.core.ledger.part import LedgerPart, LedgerView
from swarmllm.messages import LEDGER, PeerId
from swarmllm.runtime.ledger_performer import open_with, perform_group
from swarmllm.testing.memory_ledger import MemoryLedger
from swarmllm.testing.operators import Operator, verify
from swarmllm.wire.codec import encode
from swarmllm.wire.identity import peer_id_of

UNIX_MS = 1_790_000_000_000


def keys_of(name: str) -> Keys:
    who = Operator(name)
    return Keys(peer_id_of(who.public_key), who.public_key, who.sign, verify)


@dataclass
class Machine:
    """One node: its key, its disk, and its part, which a restart makes anew."""

    name: str
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    performed: list[NodeEffect] = field(default_factory=list)
    inbox: deque[Input] = field(default_factory=deque)
    neighbours: dict[PeerId, Machine] = field(default_factory=dict)
    saved: dict[str, bytes] = field(default_factory=dict)
    is_lying: bool = False  # It answers questions for proofs with nothing.

    def __post_init__(self) -> None:
        self.keys = keys_of(self.name)
        self.start()

    @property
    def peer(self) -> PeerId:
        return self.keys.peer

    def start(self) -> None:
        self.part = LedgerPart(self.keys, random.Random(self.name), _unix_ms)
        _, _, _, told = open_with(lambda: self.ledger, lambda _: "", ())
        self.inbox.append(told)

    def of(self, kind: type) -> list[Any]:
        return [effect for effect in self.performed if isinstance(effect, kind)]

    @property
    def alarms(self) -> list[PeerId]:
        return [e.event.peer for e in self.of(Emit) if isinstance(e.event, LogDoubted)]

    @property
    def doubts(self) -> list[str]:
        return [effect.sentence for effect in self.of(DoubtLedger)]

    @property
    def strikes(self) -> list[str]:
        return [effect.reason for effect in self.of(Penalise)]


def _unix_ms(now: float) -> int:
    return UNIX_MS + round(1000 * now)


class Village:
    """Machines that are all connected, and a clock."""

    def __init__(self, *names: str) -> None:
        self.now = 0.0
        self.machines = [Machine(name) for name in names]
        for at, one in enumerate(self.machines):
            for other in self.machines[at + 1 :]:
                self.connect(one, other)
        self.settle()

    def connect(self, one: Machine, other: Machine) -> None:
        for here, there in ((one, other), (other, one)):
            here.neighbours[there.peer] = there
            here.inbox.append(ChannelOpened(there.peer, LEDGER))

    def disconnect(self, one: Machine, other: Machine) -> None:
        for here, there in ((one, other), (other, one)):
            here.neighbours.pop(there.peer, None)
            here.inbox.append(ChannelClosed(there.peer, LEDGER))
        self.settle()

    def restart(self, machine: Machine) -> None:
        """It is stopped and started on what its disk holds, and connects to all that it knew."""
        before = list(machine.neighbours.values())
        for other in before:
            self.disconnect(machine, other)
        machine.start()
        self.settle()
        for other in before:
            self.connect(machine, other)
        self.settle()

    def append(self, machine: Machine, *texts: str) -> None:
        for text in texts:
            entry = LedgerEntry(LedgerKind.COMMAND, text.encode())
            self._perform(machine, AppendToLedger(entry))
        self.settle()

    def settle(self) -> None:
        """Until nobody has anything to handle."""
        while busy := [machine for machine in self.machines if machine.inbox]:
            for machine in busy:
                self.handle(machine, machine.inbox.popleft())

    def handle(self, machine: Machine, event: Input) -> None:
        for effect in machine.part.handle(event, self.now):
            machine.performed.append(effect)
            self._perform(machine, effect)

    def run_for(self, seconds: float) -> None:
        """The clock goes on, from deadline to deadline."""
        until = self.now + seconds
        while (at := min(m.part.next_deadline() for m in self.machines)) <= until:
            self.now = max(self.now, at)
            for machine in self.machines:
                if machine.part.next_deadline() <= self.now:
                    self.handle(machine, TimerFired())
            self.settle()
        self.now = until

    def checkpoint(self, machine: Machine, *texts: str) -> None:
        """New entries, and all that follows from them."""
        self.append(machine, *texts)
        self.run_for(CHECKPOINT_AFTER_S + 1)

    def view(self, machine: Machine) -> LedgerView:
        return machine.part.view(self.now)

    def _perform(self, machine: Machine, effect: NodeEffect) -> None:
        match effect:
            case SendFrame(peer=peer, message=message):
                if (other := machine.neighbours.get(peer)) is not None:
                    other.inbox.append(FrameReceived(machine.peer, encode(message), LEDGER))
            case ProveConsistency(peer=peer) if machine.is_lying and peer != machine.peer:
                pass
            case DoubtLedger(sentence=sentence):
                machine.inbox.append(LedgerFaulty(sentence))
            case Save(key=key, value=value):
                machine.saved[key] = value
            case (
                AppendToLedger()
                | KeepCheckpoint()
                | KeepCosignature()
                | KeepHead()
                | KeepAlarm()
                | ProveConsistency()
            ):
                machine.inbox.extend(perform_group(machine.ledger, [effect], _unix_ms(self.now)))
            case _:
                pass
