"""Relays: peers that nobody can dial are reached through others, end to end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from swarmllm.adapters.libp2p import relay_client
from swarmllm.adapters.libp2p.addresses import own_addr
from swarmllm.adapters.libp2p.network import Libp2pNetwork
from swarmllm.adapters.libp2p.relay_client import RELAYS_MAX
from swarmllm.adapters.libp2p.relay_server import RelayServer
from swarmllm.core.inputs import AddressesChanged, PeerConnected, PeerLost, Received
from swarmllm.messages import Busy, Halted, PeerId, Shuffle
from tests.adapters.libp2p.support import member, until
from tests.contracts.network_contract import (
    Member,
    about,
    connect,
    listening,
    opening,
)


@asynccontextmanager
async def behind_relays(
    count: int = 1, listen: tuple[str, ...] = (), **relay: Any
) -> AsyncIterator[tuple[Member, ...]]:
    """A caller, a node behind a NAT that has its reservations, and the relays."""
    async with AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(member(relay=True, **relay)) for _ in range(count)
        ]
        hidden = await stack.enter_async_context(
            member(
                listen=listen,
                behind_nat=True,
                bootstrap=tuple(one.network.addrs[0] for one in relays),
            )
        )
        caller = await stack.enter_async_context(member())
        async with listening([caller, hidden, *relays]):
            await hidden.hears(AddressesChanged, lambda one: len(one.addrs) == count + len(listen))
            yield caller, hidden, *relays


def network_of(member: Member) -> Libp2pNetwork:
    assert isinstance(member.network, Libp2pNetwork)
    return member.network


def figures_of(relay: Member) -> Mapping[str, int]:
    return network_of(relay).traffic.relay


def test_a_question_and_its_answer_go_through_a_relay() -> None:
    async def main() -> None:
        async with behind_relays() as (caller, hidden, relay):
            assert "/p2p-circuit/p2p/" in hidden.network.addrs[0]
            await connect(caller, hidden)
            assert [
                (await caller.hears(PeerConnected, about(one.peer))).is_relayed
                for one in (hidden, relay)
            ] == [True, False]
            caller.network.send(hidden.peer, opening(7))
            assert (await hidden.hears(Received, about(caller.peer))).message == opening(7)
            hidden.network.send(caller.peer, Busy(7, 0, 10))
            assert (await caller.hears(Received, about(hidden.peer))).message == Busy(7, 0, 10)
            figures = figures_of(relay)
            assert figures["circuits"] == figures["reservations"] == 1
            assert figures["carried_bytes"] > 1_000
            is_lent = network_of(relay)._switch.admission.is_lent
            assert [is_lent(PeerId(one.peer)) for one in (hidden, caller)] == [True, False]

    trio.run(main)


def test_the_relay_sees_ciphertext_and_both_ends_know_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = bytearray()
    pump = RelayServer._pump

    async def overhear(self: RelayServer, here: Any, there: Any, purse: Any) -> str:
        read = here.read

        async def reading(size: int) -> bytes:
            data: bytes = await read(size)
            seen.extend(data)
            return data

        here.read = reading
        return await pump(self, here, there, purse)

    monkeypatch.setattr(RelayServer, "_pump", overhear)

    async def main() -> None:
        async with behind_relays() as (caller, hidden, _):
            await connect(caller, hidden)
            secret = Shuffle(b"8 bytes.", (3,), (b"what nobody else may read",), 0)
            caller.network.send(hidden.peer, secret)
            assert (await hidden.hears(Received, about(caller.peer))).message == secret
            assert len(seen) > 1_000
            assert b"what nobody" not in seen

    trio.run(main)


async def mortal(dies: trio.Event, *, task_status: Any) -> None:
    """A relay until it dies."""
    async with member(relay=True) as relay, listening([relay]):
        task_status.started(relay)
        await dies.wait()


def test_a_relay_that_dies_is_replaced_and_its_address_taken_back() -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            dies = trio.Event()
            dying: Member = await nursery.start(mortal, dies)
            others = [
                await stack.enter_async_context(member(relay=True)) for _ in range(RELAYS_MAX)
            ]
            addrs = [one.network.addrs[0] for one in (dying, *others)]
            hidden = await stack.enter_async_context(
                member(listen=(), behind_nat=True, bootstrap=tuple(addrs[:1]))
            )
            caller = await stack.enter_async_context(member())
            await stack.enter_async_context(listening([caller, hidden, *others]))
            await hidden.hears(AddressesChanged, lambda one: len(one.addrs) == 1)
            await connect(caller, hidden)
            network_of(hidden)._dialer._owners = frozenset(
                own_addr(addr, "bootstrap") for addr in addrs
            )
            for relay, addr in zip(others, addrs[1:], strict=True):
                hidden.network.dial(relay.peer, (addr,))
            await hidden.hears(AddressesChanged, lambda one: len(one.addrs) == RELAYS_MAX)
            dies.set()
            await caller.hears(PeerLost, about(hidden.peer))
            await until(
                lambda: set(network_of(hidden).relays.relays) == {one.peer for one in others}
            )
            assert not [addr for addr in hidden.network.addrs if dying.peer in addr]
            caller.network.dial(hidden.peer, hidden.network.addrs)
            await caller.hears(PeerConnected, about(hidden.peer), skip=1)

    trio.run(main)


def test_a_relay_that_dialled_us_is_announced_where_it_listens_and_its_connection_kept() -> None:
    async def main() -> None:
        async with member(relay=True) as relay, member(behind_nat=True) as hidden:
            async with listening([relay, hidden]):
                relay.network.dial(hidden.peer, hidden.network.addrs)
                told = await hidden.hears(AddressesChanged, lambda one: len(one.addrs) == 2)
                at = relay.network.addrs[0]
                assert told.addrs[1] == f"{at}/p2p-circuit/p2p/{hidden.peer}"
                assert network_of(hidden)._switch.admission.ours == 1

    trio.run(main)


def test_a_relay_that_has_lost_a_reservation_is_asked_again_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_client, "REFRESH_S", 0.05)

    async def main() -> None:
        async with behind_relays() as (caller, hidden, relay):
            server = network_of(relay)._relay
            assert server is not None
            server.lost(hidden.peer)
            assert figures_of(relay)["reservations"] == 0
            await until(lambda: figures_of(relay)["reservations"] == 1)
            await connect(caller, hidden)
            assert hidden.count(AddressesChanged) == 2  # None of it changed where it is.

    trio.run(main)


def test_who_needs_relays_no_more_gives_its_reservations_back() -> None:
    async def main() -> None:
        async with behind_relays() as (_, hidden, _relay):
            network_of(hidden).relays.need(False)
            await hidden.hears(AddressesChanged, lambda one: not one.addrs, skip=1)
            assert network_of(hidden).relays.relays == ()

    trio.run(main)


def test_a_halted_node_ends_the_streams_of_whoever_came_through_a_relay() -> None:
    async def main() -> None:
        async with behind_relays() as (caller, hidden, _):
            await connect(caller, hidden)
            caller.network.end_streams(Halted(b"8 bytes."))
            assert (await hidden.hears(Received)).message == Halted(b"8 bytes.")
            assert hidden.count(PeerLost) == 0

    trio.run(main)


def test_whoever_is_told_to_begin_with_a_peer_behind_a_relay_finds_it() -> None:
    async def main() -> None:
        async with behind_relays() as (_, hidden, relay):
            # Who listens nowhere is not on loopback alone: only its owner can send it there.
            async with member(listen=(), bootstrap=hidden.network.addrs) as friend:
                async with listening([friend]):
                    await friend.hears(PeerConnected, about(hidden.peer))
                    await hidden.hears(PeerConnected, about(friend.peer))
                    assert network_of(friend).peers == tuple(sorted((hidden.peer, relay.peer)))

    trio.run(main)


def test_which_of_many_is_asked_for_a_place_is_not_chosen_by_its_peer_id() -> None:
    """Ids cost nothing: whoever made one that comes first would be everybody's relay."""

    class Nothing:
        def set_stream_handler(self, *_: object, **__: object) -> None:
            pass

    def link(peer: PeerId) -> Any:
        muxed = SimpleNamespace(circuit=None, get_remote_address=lambda: ("8.8.8.8", 7339))
        return SimpleNamespace(peer=peer, is_guest=False, conn=SimpleNamespace(muxed_conn=muxed))

    found = {peer: link(peer) for peer in map(PeerId, "abcdefgh")}
    links: Any = SimpleNamespace(ready_peers=tuple(found), of=found.get)
    parts: Any = Nothing(), None, links
    rest: Any = None, None, None, None
    client = relay_client.RelayClient(parts, *rest)
    client.need(True)

    async def main() -> None:
        asked = {one.peer for _ in range(200) if (one := client._next()) is not None}
        assert asked == set(found)

    trio.run(main)
