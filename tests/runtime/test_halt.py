"""The promises of the kill switch on whole nodes: drivers, engines and disks, over a network in
memory and a clock that jumps.

Names are those of protocols/halt.md's list of tests. Under it a second is a
second whatever the machine does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from swarmllm.core.events import NodeHalted
from swarmllm.core.halt.state import Applied
from swarmllm.core.inputs import OwnerStarts, OwnerStops
from swarmllm.errors import HaltedError
from swarmllm.testing.memory_halts import MemoryHalts
from swarmllm.testing.operators import Founders
from swarmllm.testing.scripted_model import ScriptedModel
from tests.clock import under_mock_clock
from tests.runtime.little_swarm import LittleSwarm, Member, joined, little_swarm

WE = Founders()
STRANGERS = Founders("strangers")


@dataclass
class Reader:
    """Reads an answer to its end, and when each token came."""

    member: Member
    times: list[float] = field(default_factory=list)
    ended_at: float | None = None
    failure: HaltedError | None = None

    async def run(self, tokens: int = 4000) -> None:
        answer = self.member.local.generate("a text that goes on", k=2, max_tokens=tokens, seed=1)
        try:
            async for _ in answer:
                self.times.append(trio.current_time())
        except HaltedError as failure:
            self.failure = failure
        self.ended_at = trio.current_time()


@asynccontextmanager
async def streaming(
    seeds: list[int | None], readers: int = 0
) -> AsyncIterator[tuple[LittleSwarm, list[Reader]]]:
    """A swarm of ours whose members all know each other, with some of them in the middle of long
    answers."""
    async with (
        little_swarm(seeds, pin=WE.pin, context_max=8192) as swarm,
        trio.open_nursery() as nursery,
    ):
        await swarm.wait_met()
        found = [Reader(member) for member in swarm.members[:readers]]
        for reader in found:
            nursery.start_soon(reader.run)
        await trio.sleep(1.0)
        assert all(len(reader.times) > 5 for reader in found)
        yield swarm, found
        nursery.cancel_scope.cancel()


def all_halted(swarm: LittleSwarm) -> bool:
    return all(member.halted for member in swarm.members)


@under_mock_clock
async def test_halt_during_full_streaming_load() -> None:
    async with streaming([7, 8, 9, 7], readers=4) as (swarm, readers):
        at = trio.current_time()
        assert isinstance(swarm.members[0].driver.import_halt_record(WE.halt()), Applied)
        await trio.sleep(1.0)
        assert all_halted(swarm)
        assert all(reader.failure is not None for reader in readers)
        assert all("halted by key" in str(reader.failure) for reader in readers)
        await trio.sleep(30.0)
        assert max(t for reader in readers for t in reader.times) <= at + 1.0
        assert all(m.engine is None or m.engine.load.queue_depth == 0 for m in swarm.members)


@under_mock_clock
async def test_while_halted_nothing_is_asked_or_answered_and_status_is() -> None:
    async with streaming([7, 7]) as (swarm, _):
        swarm.members[0].driver.import_halt_record(WE.halt())
        await trio.sleep(1.0)
        served = [m.engine.served for m in swarm.members if m.engine is not None]
        for member in swarm.members:
            answer = member.local.generate("once", k=2, max_tokens=3)
            with pytest.raises(HaltedError):
                assert [piece async for piece in answer] == []
            assert answer.result is not None
            assert answer.result.reason == "halted"
            assert member.local.status().view.peers
        await trio.sleep(20.0)
        assert [m.engine.served for m in swarm.members if m.engine is not None] == served


@under_mock_clock
async def test_one_resume_signature_is_refused_and_two_resume() -> None:
    async with streaming([7, 7, 7]) as (swarm, _):
        swarm.members[0].driver.import_halt_record(WE.halt())
        await trio.sleep(1.0)
        for bad in (WE.resume(signers=(0,)), STRANGERS.resume(), STRANGERS.halt()):
            assert not isinstance(swarm.members[1].driver.import_halt_record(bad), Applied)
        await trio.sleep(1.0)
        assert all_halted(swarm)
        assert isinstance(swarm.members[2].driver.import_halt_record(WE.resume()), Applied)
        await trio.sleep(2.0)
        assert not any(member.halted for member in swarm.members)
        for member in swarm.members:
            assert (
                len([piece async for piece in member.local.generate("on", k=3, max_tokens=4)]) == 4
            )
        swarm.members[0].driver.import_halt_record(WE.halt())  # Replayed.
        await trio.sleep(1.0)
        assert not any(member.halted for member in swarm.members)


@under_mock_clock
async def test_after_a_resume_experts_that_were_halted_are_asked_again_at_once() -> None:
    async with streaming([7, 8, 9], readers=3) as (swarm, readers):
        swarm.members[0].driver.import_halt_record(WE.halt())
        await trio.sleep(1.0)
        assert all(reader.failure is not None for reader in readers)
        swarm.members[1].driver.import_halt_record(WE.resume())
        await trio.sleep(1.0)
        for member in swarm.members:
            pieces = [piece async for piece in member.local.generate("on", k=3, max_tokens=3)]
            assert min(sum(use.used for use in piece.experts) for piece in pieces) >= 2


@under_mock_clock
async def test_late_joiner_halts_before_first_request() -> None:
    async with streaming([7, 7]) as (swarm, _):
        swarm.members[0].driver.import_halt_record(WE.halt())
        await trio.sleep(1.0)
        async with joined(swarm.wire, 9, ScriptedModel("late", 7), pin=WE.pin) as late:
            reader = Reader(late)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader.run)
                await trio.sleep(8.0)
                assert late.halted
                assert reader.times == []
                assert late.engine is not None
                assert late.engine.served == 0
                nursery.cancel_scope.cancel()


@under_mock_clock
async def test_heal_after_partition() -> None:
    async with streaming([7, 7, 7, 7]) as (swarm, _):
        far = swarm.members[3]
        far.freeze()
        await trio.sleep(10.0)
        swarm.members[0].driver.import_halt_record(WE.halt())
        await trio.sleep(5.0)
        assert not far.halted
        far.thaw()
        at = trio.current_time()
        while not far.halted:
            await trio.sleep(0.05)
            assert trio.current_time() < at + 30, "it never heard of the halt"
        assert far.engine is not None
        served = far.engine.served
        await trio.sleep(10.0)
        assert far.engine.served == served


@under_mock_clock
async def test_a_halt_survives_a_restart_and_is_obeyed_before_anything_listens() -> None:
    disk = MemoryHalts()
    async with streaming([7]) as (swarm, _):
        async with joined(swarm.wire, 9, ScriptedModel("one", 7), pin=WE.pin, halts=disk) as first:
            first.driver.import_halt_record(WE.halt())
            await trio.sleep(1.0)
    async with little_swarm([], pin=WE.pin) as lonely:
        async with joined(lonely.wire, 9, ScriptedModel("one", 7), pin=WE.pin, halts=disk) as again:
            assert again.halted
            await trio.sleep(10.0)
            assert again.halted
        disk.files.clear()
        disk.files["halt.genesis"] = b"swarmllm-genesis-1\n" + WE.swarm
        async with joined(lonely.wire, 9, ScriptedModel("one", 7), pin=WE.pin, halts=disk) as lost:
            assert lost.halted
            lost.driver.act(OwnerStarts())
            await trio.sleep(10.0)
            assert not lost.halted


@under_mock_clock
async def test_disk_full_still_stops() -> None:
    async with streaming([7, 7, 7], readers=2) as (swarm, readers):
        for member in swarm.members:
            member.halts.full = True
        swarm.members[0].driver.import_halt_record(WE.halt())
        await trio.sleep(1.0)
        assert all_halted(swarm)
        assert all(reader.failure is not None for reader in readers)
        performer = swarm.members[0].orders
        assert performer is not None
        # "On disk" is never said of what is not.
        assert performer.machine.acknowledged == frozenset()
        for member in swarm.members:
            member.halts.full = False
        await trio.sleep(3.0)
        assert len(performer.machine.acknowledged) == 2


@under_mock_clock
async def test_the_owners_stop_needs_no_key_and_concerns_this_node_alone() -> None:
    async with streaming([7, 7, 7], readers=1) as (swarm, readers):
        stopped = swarm.members[2]
        stopped.driver.act(OwnerStops())
        assert stopped.halted
        await trio.sleep(3.0)
        assert [bool(m.halted) for m in swarm.members] == [False, False, True]
        assert readers[0].failure is None
        before = len(readers[0].times)
        await trio.sleep(2.0)
        assert len(readers[0].times) > before + 10  # The others go on without it.
        stopped.driver.act(OwnerStarts())
        await trio.sleep(2.0)
        assert not stopped.halted
        assert len([piece async for piece in stopped.local.generate("on", k=2, max_tokens=4)]) == 4


@under_mock_clock
async def test_swarms_of_different_charters_make_no_tokens_together() -> None:
    async with little_swarm([7], pin=WE.pin) as swarm:
        async with joined(swarm.wire, 9, ScriptedModel("other", 8), pin=STRANGERS.pin) as other:
            await trio.sleep(8.0)
            assert (
                len([piece async for piece in other.local.generate("on", k=2, max_tokens=4)]) == 4
            )
            assert (
                len(
                    [
                        piece
                        async for piece in swarm.members[0].local.generate("on", k=2, max_tokens=4)
                    ]
                )
                == 4
            )
            for member in (other, swarm.members[0]):
                experts = {e.peer: e.replies for e in member.local.experts()}
                assert all(replies == 0 for peer, replies in experts.items() if peer != member.peer)


@under_mock_clock
async def test_an_order_is_not_told_to_nodes_of_another_swarm_and_costs_nobody_a_strike() -> None:
    async with little_swarm([7, 7], pin=WE.pin) as swarm:
        async with joined(swarm.wire, 9, ScriptedModel("other", 8), pin=STRANGERS.pin) as other:
            await trio.sleep(8.0)
            for seq in range(1, 6):
                assert isinstance(swarm.members[0].driver.import_halt_record(WE.halt(seq)), Applied)
                await trio.sleep(0.5)
            assert all_halted(swarm)
            assert not other.halted
            assert other.orders is not None
            assert other.orders.records_refused == 0
            assert set(other.local.view().peers) == {m.peer for m in swarm.members}


@under_mock_clock
async def test_a_halt_that_comes_before_the_first_start_is_told_as_any_other() -> None:
    """A node asks its peers before it starts; an order that it hears meanwhile stops nothing, and
    its owner wants to know of it."""

    async with little_swarm([7, 8], pin=WE.pin) as swarm:
        member = swarm.members[0]
        assert member.orders is not None
        assert not member.orders.machine.serves
        with member.local.events() as events:
            assert isinstance(member.driver.import_halt_record(WE.halt()), Applied)
            async for event in events:
                if isinstance(event, NodeHalted):
                    assert event.seq > 0
                    return
