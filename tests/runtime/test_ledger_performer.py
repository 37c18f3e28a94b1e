"""Laws of the ledger's writer: what waits together is written together, whoever asked gets an
answer in every case, and what the kill switch left is entered sooner or later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from swarmllm.core.effects import (
    AppendToLedger,
    KeepCheckpoint,
    KeepHead,
    LedgerEffect,
    ProveConsistency,
)
from swarmllm.core.inputs import (
    CheckpointKept,
    ConsistencyProved,
    HeadKept,
    LedgerFaulty,
    LedgerGrew,
    LedgerInput,
    LedgerOpened,
    Recorded,
)
from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.errors import LocalError
from swarmllm.messages import PeerId
from swarmllm.runtime.ledger_performer import RETRY_S, WAITING_MAX, LedgerPerformer
from swarmllm.runtime.ports import Ledger
from swarmllm.testing.memory_ledger import MemoryLedger
from tests.clock import under_mock_clock

P = PeerId("peer")


def entry(text: str, kind: LedgerKind = LedgerKind.ENACTMENT) -> LedgerEntry:
    return LedgerEntry(kind, text.encode())


@dataclass
class Bench:
    """A writer at work, and what it answered."""

    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    held: Sequence[LedgerEntry] = ()
    wrong: Sequence[str] = ()
    look: Callable[[Ledger], str] = lambda _: ""
    is_there: bool = True
    answers: list[LedgerInput] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, *before: LedgerEffect) -> AsyncIterator[LedgerPerformer]:
        performer = LedgerPerformer(
            self._open,
            self.look,
            lambda: self.wrong,
            lambda: self.held,
            lambda: 7,
            self.warned.append,
        )
        for effect in before:
            performer.perform(effect)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(performer.run, self._feed)
            await trio.sleep(1)
            yield performer
            nursery.cancel_scope.cancel()

    @property
    def written(self) -> list[str]:
        return [read_leaf(data).payload.decode() for data in self.ledger.leaves]

    def _open(self) -> Ledger:
        if not self.is_there:
            raise LocalError("the ledger cannot be opened")
        return self.ledger

    async def _feed(self, answer: LedgerInput) -> None:
        await trio.lowlevel.checkpoint()
        self.answers.append(answer)


@under_mock_clock
async def test_what_waits_together_is_one_transaction_in_order() -> None:
    bench = Bench()
    async with bench.running() as performer:
        for number in range(1, 21):
            performer.perform(AppendToLedger(entry(str(number)), number))
        performer.perform(KeepCheckpoint(20, b"note"))
        await trio.sleep(1)
    assert bench.ledger.writes == 1
    assert bench.written == [str(number) for number in range(1, 21)]
    opened, *answers = bench.answers
    assert isinstance(opened, LedgerOpened)
    assert answers == [
        *(Recorded(LedgerKind.ENACTMENT, number, ok=True) for number in range(1, 21)),
        CheckpointKept(20, ok=True),
        LedgerGrew(20, bench.ledger.root),
    ]


@under_mock_clock
async def test_a_full_disk_refuses_what_must_be_recorded_and_keeps_the_halts_for_later() -> None:
    bench = Bench()
    async with bench.running() as performer:
        bench.ledger.is_full = True
        halt = entry("a halt", LedgerKind.HALT)
        performer.perform(AppendToLedger(halt))
        performer.perform(AppendToLedger(entry("enact"), 5))
        performer.perform(KeepHead(P, b"head"))
        performer.perform(ProveConsistency(P, 1, 2))
        await trio.sleep(0.5)
        assert bench.answers[1:] == [
            Recorded(LedgerKind.ENACTMENT, 5, ok=False),
            HeadKept(P, b"head", ok=False),
            ConsistencyProved(P, 1, 2, None),
            LedgerFaulty("cannot write the ledger in memory: it was told to be full"),
        ]
        performer.perform(AppendToLedger(entry("enact"), 6))
        await trio.sleep(0.5)
        assert bench.answers[-1] == Recorded(LedgerKind.ENACTMENT, 6, ok=False)
        assert performer.fault
        bench.ledger.is_full = False
        await trio.sleep(RETRY_S[1])
        assert not performer.fault
    assert bench.written == ["a halt"]
    assert bench.answers[-2:] == [LedgerFaulty(""), LedgerGrew(1, bench.ledger.root)]
    assert len(bench.warned) == 1


@under_mock_clock
async def test_a_ledger_that_cannot_be_opened_refuses_and_is_tried_again() -> None:
    bench = Bench(is_there=False)
    async with bench.running(AppendToLedger(entry("halt", LedgerKind.HALT))) as performer:
        performer.perform(AppendToLedger(entry("enact"), 1))
        await trio.sleep(0.5)
        assert bench.answers == [
            LedgerFaulty("the ledger cannot be opened"),
            Recorded(LedgerKind.ENACTMENT, 1, ok=False),
        ]
        bench.is_there = True
        await trio.sleep(RETRY_S[1])
    assert bench.written == ["halt"]


@under_mock_clock
async def test_what_the_halt_state_proves_is_entered_at_the_start_once() -> None:
    records = [entry(f"record {at}", LedgerKind.HALT) for at in range(3)]
    bench = Bench(held=records)
    for _ in range(3):
        # The last of them came while the ledger was being opened.
        async with bench.running(AppendToLedger(records[2])):
            pass
        assert bench.written[:3] == ["record 0", "record 1", "record 2"]
        assert bench.written.count("record 0") == 1


@under_mock_clock
async def test_upon_a_log_that_was_tampered_with_nothing_is_written() -> None:
    for bench in (
        Bench(wrong=("entry 5 is not what was written", "and more")),
        Bench(look=lambda _: "its end was cut off"),
    ):
        async with bench.running() as performer:
            performer.perform(AppendToLedger(entry("enact"), 1))
            performer.perform(AppendToLedger(entry("halt", LedgerKind.HALT)))
            await trio.sleep(10 * RETRY_S[1])
            assert Recorded(LedgerKind.ENACTMENT, 1, ok=False) in bench.answers
            assert "swarmllm ledger verify" in performer.fault
        assert bench.ledger.writes == 0


@under_mock_clock
async def test_what_waits_when_the_node_stops_is_still_written() -> None:
    bench = Bench()
    async with bench.running() as performer:
        performer.perform(AppendToLedger(entry("last")))
    assert bench.written == ["last"]


@under_mock_clock
async def test_what_waits_is_bounded_and_what_is_dropped_is_counted() -> None:
    bench = Bench(is_there=False)
    async with bench.running() as performer:
        for at in range(WAITING_MAX + 10):
            performer.perform(AppendToLedger(entry(str(at), LedgerKind.HALT)))
        assert performer.dropped == 10
        performer.perform(AppendToLedger(entry("asked"), 1))
        await trio.sleep(1)
        assert bench.answers[-1] == Recorded(LedgerKind.ENACTMENT, 1, ok=False)
