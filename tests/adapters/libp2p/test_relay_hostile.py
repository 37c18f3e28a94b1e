"""Relays that lie, drop or say nothing, and peers that ask a relay for too much."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.network.connection.raw_connection import RawConnection
from multiaddr import Multiaddr

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p import relay_client, relay_server
from swarmllm.adapters.libp2p import relay_messages as messages
from swarmllm.adapters.libp2p.relay_client import HALF_OPEN_MAX
from swarmllm.adapters.libp2p.relay_messages import HOP_PROTOCOL, STOP_PROTOCOL
from swarmllm.core.inputs import DialFailed, PeerConnected, PeerLost, Received
from swarmllm.core.peers.relay_quota import RelayLimits, RelayStatus
from swarmllm.messages import PeerId
from tests.adapters.libp2p.support import LOOPBACK, RawPeer, member, raw_peer, until
from tests.adapters.libp2p.test_relay import behind_relays, figures_of, network_of
from tests.contracts.network_contract import Member, about, connect, listening, opening

Handler = Callable[[Any], Awaitable[None]]


async def garbage(stream: Any) -> None:
    await messages.read(stream)
    await stream.write(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")


async def drop(stream: Any) -> None:
    await messages.read(stream)
    await stream.reset()


async def silence(_stream: Any) -> None:
    await trio.sleep_forever()


async def elsewhere(stream: Any) -> None:
    """A reservation, at an address of somebody else."""
    await messages.read(stream)
    addrs = [Multiaddr("/ip4/8.8.8.8/tcp/7339"), Multiaddr("/ip4/10.0.0.1/tcp/7339")]
    await messages.write(stream, messages.reserved(2_000_000_000, addrs, RelayLimits()))


@asynccontextmanager
async def near(
    bad_relay: Handler | None, **changes: Any
) -> AsyncIterator[tuple[Member, RawPeer, Any]]:
    """A node, and a peer of no good that has dialled it and answers on hop streams like this."""
    async with member(**changes) as node, raw_peer(polite=True) as bad:
        if bad_relay is not None:
            bad.host.set_stream_handler(HOP_PROTOCOL, bad_relay, lasting=True)
        async with listening([node]):
            conn = await bad.dial(network_of(node))
            await node.hears(PeerConnected, about(bad.peer))
            yield node, bad, conn


@pytest.mark.parametrize(
    ("relay", "says"),
    [
        (garbage, "no relay message"),
        (drop, "no relay message"),
        (silence, "no answer in time"),
        (elsewhere, "it names no address at 127.0.0.1, where it is seen"),
        (None, "does not open /libp2p/circuit/relay/0.2.0/hop"),
    ],
)
def test_a_relay_of_no_good_gives_no_address_and_one_sentence(
    relay: Handler | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_client, "ANSWER_WITHIN_S", 0.2)

    async def main() -> None:
        async with near(relay, listen=(LOOPBACK,), behind_nat=True) as (node, bad, _):
            relays = network_of(node).relays
            await until(lambda: relays.last_error)
            assert relays.last_error.startswith(f"{bad.peer} is no relay for us: ")
            assert says in relays.last_error
            assert relays.addrs == ()
            assert len(node.network.addrs) == 1

    trio.run(main)


async def refuse(stream: Any) -> None:
    await messages.read(stream)
    await messages.write(stream, messages.hop_status(RelayStatus.RESOURCE_LIMIT_EXCEEDED))


async def accept_and_drop(stream: Any) -> None:
    await messages.read(stream)
    await messages.write(stream, messages.hop_status(RelayStatus.OK))


@pytest.mark.parametrize(
    ("relay", "says"),
    [
        (garbage, "no relay message"),
        (refuse, "it lends no more at the moment"),
        (accept_and_drop, ""),
        (silence, "no answer in time"),
    ],
)
def test_a_dial_through_a_relay_of_no_good_fails_in_one_sentence_that_names_it(
    relay: Handler, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_client, "ANSWER_WITHIN_S", 0.2)

    async def main() -> None:
        async with near(relay) as (node, bad, _):
            somebody = ephemeral_key().peer
            node.network.dial(somebody, (f"/ip4/127.0.0.1/tcp/7339/p2p/{bad.peer}/p2p-circuit",))
            failed = await node.hears(DialFailed)
            assert failed.peer == somebody
            assert f"the relay {bad.peer}: " in failed.reason
            assert says in failed.reason
            assert node.count(PeerLost) == 0  # The relay itself is still there.

    trio.run(main)


def test_a_relay_cannot_be_somebody_else() -> None:
    async def main() -> None:
        async with member() as node, raw_peer(polite=True) as bad:

            async def imposter(stream: Any) -> None:
                await accept_and_drop(stream)
                raw = RawConnection(stream, initiator=False)
                await bad.switch.upgrade_inbound_raw_conn(raw, Multiaddr("/ip4/0.0.0.0/tcp/0"))

            bad.host.set_stream_handler(HOP_PROTOCOL, imposter, lasting=True)
            async with listening([node]):
                await bad.dial(network_of(node))
                await node.hears(PeerConnected, about(bad.peer))
                somebody = ephemeral_key().peer
                through = f"/ip4/127.0.0.1/tcp/7339/p2p/{bad.peer}/p2p-circuit"
                node.network.dial(somebody, (through,))
                assert (await node.hears(DialFailed)).peer == somebody
                assert network_of(node).peers in ((), (bad.peer,))

    trio.run(main)


def test_circuits_come_only_from_where_they_were_asked_for() -> None:
    async def main() -> None:
        async with near(None) as (node, bad, conn):
            stream = await bad.open(conn, STOP_PROTOCOL)
            await messages.write(stream, messages.stop(ephemeral_key().peer, RelayLimits()))
            status = messages.stop_answer(await messages.read(stream))
            assert status == RelayStatus.PERMISSION_DENIED
            assert network_of(node).relays.circuits == 0

    trio.run(main)


def test_a_relay_that_fills_its_circuits_takes_none_of_those_of_another() -> None:
    async def main() -> None:
        async with (
            raw_peer(polite=True) as bad,
            member(relay=True) as relay,
            member(
                listen=(LOOPBACK,), behind_nat=True, bootstrap=(relay.network.addrs[0],)
            ) as hidden,
            member() as caller,
        ):

            async def reserve(stream: Any) -> None:
                await messages.read(stream)
                addrs = [Multiaddr("/ip4/127.0.0.1/tcp/7339")]
                await messages.write(stream, messages.reserved(2**32, addrs, RelayLimits()))

            bad.host.set_stream_handler(HOP_PROTOCOL, reserve, lasting=True)
            async with listening([caller, hidden, relay]):
                conn = await bad.dial(network_of(hidden))
                relays = network_of(hidden).relays
                await until(lambda: len(relays.relays) == 2)
                got = []
                for _ in range(HALF_OPEN_MAX + 1):
                    stream = await bad.open(conn, STOP_PROTOCOL)
                    await messages.write(stream, messages.stop(caller.peer, RelayLimits()))
                    got.append(messages.stop_answer(await messages.read(stream)))
                assert got == [RelayStatus.OK] * HALF_OPEN_MAX + [
                    RelayStatus.RESOURCE_LIMIT_EXCEEDED
                ]
                through = f"{relay.network.addrs[0]}/p2p-circuit"
                caller.network.dial(hidden.peer, (through,))
                await caller.hears(PeerConnected, about(hidden.peer))

    trio.run(main)


@pytest.mark.parametrize("data", [b"\x02\x08\x63", b"\x00", b"\xff" * 12, b"\x04\x08\x01\x12\x01"])
def test_who_writes_nonsense_to_a_relay_is_told_so_and_keeps_its_connection(data: bytes) -> None:
    async def main() -> None:
        async with near(None, relay=True) as (node, bad, conn):
            stream = await bad.open(conn, HOP_PROTOCOL)
            await stream.write(data)
            status = messages.hop_answer(await messages.read(stream)).status
            assert status == RelayStatus.MALFORMED_MESSAGE
            assert node.count(PeerLost) == 0
            assert figures_of(node)["reservations"] == 0

    trio.run(main)


def test_who_says_nothing_to_a_relay_holds_its_stream_no_longer_than_a_request_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_server, "REQUEST_WITHIN_S", 0.1)

    async def main() -> None:
        async with near(None, relay=True) as (_, bad, conn):
            stream = await bad.open(conn, HOP_PROTOCOL)
            status = messages.hop_answer(await messages.read(stream)).status
            assert status == RelayStatus.MALFORMED_MESSAGE

    trio.run(main)


def test_a_flood_of_requests_is_refused_with_its_status_and_nobody_is_hurt() -> None:
    async def main() -> None:
        async with near(None, relay=True, dht=False) as (node, bad, conn):
            got = []
            for _ in range(60):
                stream = await bad.open(conn, HOP_PROTOCOL)
                await messages.write(stream, messages.reserve())
                got.append(messages.hop_answer(await messages.read(stream)).status)
            assert set(got) == {RelayStatus.OK, RelayStatus.RESOURCE_LIMIT_EXCEEDED}
            assert got[:20] == [RelayStatus.OK] * 20
            assert figures_of(node)["reservations"] == 1
            assert figures_of(node)["requests_refused"] == got.count(
                RelayStatus.RESOURCE_LIMIT_EXCEEDED
            )
            assert node.count(PeerLost) == 0

    trio.run(main)


def test_who_speaks_nothing_else_is_lent_a_place_reached_there_and_leaves_none_behind() -> None:
    async def main() -> None:
        async with (
            member(relay=True, dht=False) as node,
            raw_peer(polite=False) as stranger,
            raw_peer(polite=False) as caller,
            listening([node]),
        ):
            conn = await stranger.dial(network_of(node))
            stream = await stranger.open(conn, HOP_PROTOCOL)
            await messages.write(stream, messages.reserve())
            assert messages.hop_answer(await messages.read(stream)).status == RelayStatus.OK
            wanted: list[PeerId] = []

            async def agree(stream: Any) -> None:
                wanted.append(messages.stop_request(await messages.read(stream)))
                await messages.write(stream, messages.stop_status(RelayStatus.OK))
                await stream.write(await stream.read(5))

            stranger.host.set_stream_handler(STOP_PROTOCOL, agree, lasting=True)
            stream = await caller.open(await caller.dial(network_of(node)), HOP_PROTOCOL)
            await messages.write(stream, messages.connect(stranger.peer))
            assert messages.hop_answer(await messages.read(stream)).status == RelayStatus.OK
            await stream.write(b"hello")
            assert await stream.read(5) == b"hello"
            assert wanted == [caller.peer]
            conn.muxed_conn.abort()
            await until(lambda: figures_of(node)["reservations"] == 0)

    trio.run(main)


def test_a_circuit_that_carries_too_much_ends_and_a_new_one_can_be_had() -> None:
    limits = RelayLimits(circuit_bytes_max=20_000)

    async def main() -> None:
        async with behind_relays(relay_limits=limits) as (caller, hidden, relay):
            await connect(caller, hidden)
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    for session in range(1_000):
                        caller.network.send(hidden.peer, opening(session))
                        await trio.sleep(0.001)

                nursery.start_soon(ask)
                await caller.hears(PeerLost, about(hidden.peer))
                nursery.cancel_scope.cancel()
            await hidden.hears(PeerLost, about(caller.peer))
            assert figures_of(relay)["carried_bytes"] <= 20_000 * 1.1
            caller.network.dial(hidden.peer, hidden.network.addrs)
            await caller.hears(PeerConnected, about(hidden.peer), skip=1)
            caller.network.send(hidden.peer, opening(5_000))
            await hidden.hears(Received, lambda one: one.message == opening(5_000))

    trio.run(main)


def test_a_full_relay_says_so_and_the_node_stays_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_client, "RETRY_S", 60.0)

    async def main() -> None:
        full = RelayLimits(reservations_max=0)
        async with (
            member(relay=True, relay_limits=full) as relay,
            member(listen=(), behind_nat=True, bootstrap=(relay.network.addrs[0],)) as hidden,
            listening([relay, hidden]),
        ):
            await hidden.hears(PeerConnected)
            relays = network_of(hidden).relays
            await until(lambda: relays.last_error)
            assert "it has no room for one more reservation" in relays.last_error
            assert PeerId(relay.peer) not in relays.relays

    trio.run(main)
