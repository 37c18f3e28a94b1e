"""What the kill switch leaves in the ledger, and that it never waits for it."""

from __future__ import annotations

import random

from swarmllm.core.effects import (
    Announce,
    AppendToLedger,
    EndStreams,
    NodeEffect,
    Persist,
    StopNow,
)
from swarmllm.core.halt.entries import entries_of
from swarmllm.core.inputs import (
    FrameReceived,
    Input,
    OwnerStarts,
    OwnerStops,
    Persisted,
    RecordOffered,
)
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.core.node import Node, NodeConfig
from swarmllm.core.shell import EffectQueue
from swarmllm.messages import HaltedHere, OwnerCommand, PeerId, Records, ResumedHere
from swarmllm.testing.sealing import MemoSealing
from swarmllm.wire.codec import decode, encode
from tests.core.halt.support import HALTERS, P, Q, halt, linked, resume, running

OWN = PeerId("own")


class Desk:
    """A node with a kill switch, whose disk answers at once."""

    def __init__(self) -> None:
        self.machine = linked(running(), P, Q)
        self.node = Node(
            NodeConfig(bytes(32)), OWN, 1, random.Random(1), MemoSealing().of(OWN), self.machine
        )
        self.effects: list[NodeEffect] = []

    def handle(self, event: Input) -> list[NodeEffect]:
        effects = list(self.node.handle(event, 20.0))
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Persist):
                effects += self.handle(Persisted(effect.number, ok=True))
        return effects

    @property
    def entries(self) -> list[LedgerEntry]:
        return [one.entry for one in self.effects if isinstance(one, AppendToLedger)]

    @property
    def kinds(self) -> list[LedgerKind]:
        return [entry.kind for entry in self.entries]


def test_a_halt_and_a_resume_are_entries_as_they_were_signed() -> None:
    desk, order = Desk(), halt()
    desk.handle(FrameReceived(P, encode(Records((order,)))))
    assert desk.entries[0] == LedgerEntry(LedgerKind.HALT, order)
    assert decode(desk.entries[1].payload, (HaltedHere,)).reasons == desk.machine.halted
    lifted = resume({HALTERS[0]: 1})
    desk.handle(RecordOffered(1, lifted))
    assert desk.kinds == [
        LedgerKind.HALT,
        LedgerKind.HALTED,
        LedgerKind.RESUME,
        LedgerKind.RESUMED,
    ]
    assert desk.entries[2].payload == lifted
    decode(desk.entries[3].payload, (ResumedHere,))
    assert {*entries_of(desk.machine.state)} >= {desk.entries[0], desk.entries[2]}


def test_what_is_known_already_or_not_valid_is_no_entry() -> None:
    desk, order = Desk(), halt()
    for _ in range(3):
        desk.handle(FrameReceived(P, encode(Records((order,)))))
    desk.handle(FrameReceived(Q, encode(Records((order[:-1] + b"\1",)))))
    assert desk.kinds == [LedgerKind.HALT, LedgerKind.HALTED]


def test_the_owners_orders_are_entries() -> None:
    desk = Desk()
    desk.handle(OwnerStops())
    desk.handle(OwnerStarts())
    commands = [entry for entry in desk.entries if entry.kind is LedgerKind.COMMAND]
    assert [decode(one.payload, (OwnerCommand,)).name for one in commands] == ["stop", "start"]
    assert [kind for kind in desk.kinds if kind is not LedgerKind.COMMAND] == [
        LedgerKind.HALTED,
        LedgerKind.RESUMED,
    ]


def test_the_entry_stands_behind_the_flag_the_word_and_the_disk() -> None:
    desk = Desk()
    effects = desk.handle(FrameReceived(P, encode(Records((halt(),)))))
    at = {
        kind: [type(one) for one in effects].index(kind)
        for kind in (StopNow, EndStreams, Persist, Announce, AppendToLedger)
    }
    assert at[AppendToLedger] > max(at[kind] for kind in (StopNow, EndStreams, Persist, Announce))


def test_no_shell_lets_a_halt_wait_for_the_ledger() -> None:
    """An entry overtakes like the rest of the order, since performing it is a note in a queue."""
    queue = EffectQueue(is_halted=False)
    order: list[NodeEffect] = [
        StopNow(("x",)),
        AppendToLedger(LedgerEntry(LedgerKind.HALT, b"x")),
        Persist(1, b""),
    ]
    assert [*queue.overtake(order)] == order
