"""The doubles keep the contracts of the ports; what a test decides about them happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio
import trio.testing

from swarmllm.core.inputs import (
    AddressesFound,
    DialFailed,
    PeerConnected,
    PeerLost,
    PingMeasured,
    Received,
)
from swarmllm.core.peers.liveness import SILENT_S
from swarmllm.messages import Close
from swarmllm.messages.declare import HALT
from swarmllm.runtime.ports import halt_channel
from swarmllm.testing.memory_network import MemorySwarm
from tests.clock import under_mock_clock
from tests.contracts.network_contract import (
    Door,
    Member,
    NetworkContract,
    about,
    connect,
    listening,
)
from tests.runtime.little_swarm import key


class TestMemoryNetwork(NetworkContract):
    @asynccontextmanager
    async def open_members(self, count: int) -> AsyncIterator[Sequence[Member]]:
        async with open_members(MemorySwarm(), count) as members:
            yield members

    def run(self, count: int, law: Callable[..., object]) -> None:
        async def main() -> None:
            async with self.open_members(count) as members:
                await law(*members)  # type: ignore[misc]

        under_mock_clock(main)()


@asynccontextmanager
async def open_members(
    swarm: MemorySwarm, count: int, *, lan: bool = False
) -> AsyncIterator[Sequence[Member]]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(swarm)
        members: list[Member] = []
        for i in range(count):
            keyring, door = key(i + 1), Door()
            network = await stack.enter_async_context(
                swarm.network(keyring.peer, lan=lan, channels=(halt_channel(door, ""),))
            )
            members.append(Member(network, keyring, door))
        yield await stack.enter_async_context(listening(members))


def run_law(
    swarm: Callable[[], MemorySwarm], count: int, law: Callable[..., object], *, lan: bool = False
) -> None:
    async def main() -> None:
        wire = swarm()
        async with open_members(wire, count, lan=lan) as members:
            await law(wire, *members)  # type: ignore[misc]

    under_mock_clock(main)()


def test_a_message_takes_the_delay_of_its_direction() -> None:
    async def law(wire: MemorySwarm, a: Member, b: Member) -> None:
        await connect(a, b)
        wire.set_delay(a.peer, b.peer, 0.25)
        sent_at = trio.current_time()
        a.network.send(b.peer, Close(1))
        await b.hears(Received)
        assert abs(trio.current_time() - sent_at - 0.25) < 1e-6
        b.network.send(a.peer, Close(1))
        await a.hears(Received)
        assert abs(trio.current_time() - sent_at - 0.26) < 1e-6

    run_law(lambda: MemorySwarm(delay_s=0.01), 2, law)


def test_a_killed_peer_is_noticed_after_what_it_had_sent_and_not_before() -> None:
    async def law(wire: MemorySwarm, a: Member, b: Member) -> None:
        await connect(a, b)
        b.network.send(a.peer, Close(5))
        wire.kill(b.peer)
        b.network.send(a.peer, Close(6))
        await a.hears(PeerLost)
        assert [one.message for one in a.told if isinstance(one, Received)] == [Close(5)]
        assert b.count(PeerLost) == 0
        a.network.dial(b.peer, b.network.addrs)
        await a.hears(DialFailed)

    run_law(MemorySwarm, 2, law)


def test_a_frozen_peer_is_noticed_by_its_silence_and_itself_when_it_thaws() -> None:
    async def law(wire: MemorySwarm, a: Member, b: Member) -> None:
        await connect(a, b)
        await a.hears(PingMeasured)
        frozen_at = trio.current_time()
        wire.freeze(b.peer)
        a.network.send(b.peer, Close(1))
        lost = await a.hears(PeerLost)
        assert lost.reason == "silent"
        assert SILENT_S <= trio.current_time() - frozen_at <= SILENT_S + 2.5
        assert b.count(Received) == b.count(PeerLost) == 0
        wire.thaw(b.peer)
        await b.hears(PeerLost)
        # What had reached its socket, then the end.
        assert [type(one) for one in b.told][-2:] == [Received, PeerLost]
        a.network.dial(b.peer, b.network.addrs)
        await a.hears(PeerConnected, skip=1)

    run_law(MemorySwarm, 2, law)


def test_a_short_freeze_only_delays() -> None:
    async def law(wire: MemorySwarm, a: Member, b: Member) -> None:
        await connect(a, b)
        wire.freeze(b.peer)
        for session in range(5):
            a.network.send(b.peer, Close(session))
        await trio.sleep(3)
        assert b.count(Received) == 0
        wire.thaw(b.peer)
        await b.hears(Received, skip=4)
        assert [one.message for one in b.told if isinstance(one, Received)] == [
            Close(session) for session in range(5)
        ]
        assert a.count(PeerLost) == 0

    run_law(MemorySwarm, 2, law)


def test_a_peer_that_takes_nothing_is_given_up_when_its_queue_is_full() -> None:
    async def law(wire: MemorySwarm, a: Member, b: Member) -> None:
        await connect(a, b)
        wire.freeze(b.peer)
        while a.count(PeerLost) == 0:
            a.network.send(b.peer, Close(1))
            await trio.sleep(0.02)
        assert "full" in (await a.hears(PeerLost)).reason

    run_law(MemorySwarm, 2, law)


def test_on_the_lan_all_hear_of_each_other() -> None:
    async def law(wire: MemorySwarm, a: Member, b: Member, c: Member) -> None:
        for one in (a, b, c):
            for other in (a, b, c):
                if one is not other:
                    found = await one.hears(AddressesFound, about(other.peer))
                    assert found.addrs == other.network.addrs

    run_law(MemorySwarm, 3, law, lan=True)


def test_gossip_is_lost_as_often_as_a_test_says() -> None:
    async def law(wire: MemorySwarm, a: Member, b: Member) -> None:
        await connect(a, b)
        for i in range(400):
            a.network.publish(HALT, i.to_bytes(4, "big"))
        await trio.sleep(1)
        assert 150 < len(b.door.saw("heard")) < 250

    run_law(lambda: MemorySwarm(gossip_loss=0.5, seed=3), 2, law)
