"""No crowd from few places keeps out others: not at the door, not at the table, and never those
that we or the owner chose."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.network.exceptions import SwarmException
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p import NetworkLimits, NetworkTiming
from swarmllm.adapters.libp2p.admission import Admission, Full, Standing, Worth
from swarmllm.adapters.libp2p.links import libp2p_id
from swarmllm.core.inputs import PeerConnected, PeerLost
from swarmllm.messages import NO_HALT_DIGEST, PeerId, Score, Scores
from tests.adapters.libp2p.support import RawPeer, member, members, raw_peer, until
from tests.adapters.libp2p.test_hostile import attacked, network_of, still_answers
from tests.contracts.network_contract import Member, connect, listening

OWNERS = PeerId("the owner's")


class Conn:
    """A connection to nobody."""

    def __init__(self) -> None:
        self.open = True

    def abort(self) -> None:
        self.open = False


def in_trio(body: Any) -> None:
    async def main() -> None:
        body()

    trio.run(main)


def admission(**limits: int) -> Admission:
    return Admission(NetworkLimits(**limits), frozenset({OWNERS}))


Comers = st.lists(
    st.tuples(st.sampled_from(["theirs", "ours", "owner", "route", "leaves"]), st.integers(0, 9)),
    max_size=120,
)


@given(Comers, st.integers(1, 24))
def test_the_table_holds_at_most_its_seats_and_a_third_are_for_those_that_we_choose(
    comers: list[tuple[str, int]], most: int
) -> None:
    def body() -> None:
        door = admission(connections_max=most)
        conns: dict[Conn, tuple[str, int]] = {}
        for number, (what, where) in enumerate(comers):
            if what == "leaves":
                gone = next(iter(conns), None)
                if gone is not None:
                    door.free(gone)
                    del conns[gone]
                continue
            conn, peer = Conn(), OWNERS if what == "owner" else PeerId(f"peer {number}")
            before = dict(conns)
            try:
                if what == "ours":
                    with door.wanting(peer):
                        door.seat(conn, peer, f"203.0.{where}.1", inbound=False)
                else:
                    door.seat(conn, peer, f"203.0.{where}.1", inbound=what != "route")
            except Full:
                assert what != "owner" or {kind for kind, _ in before.values()} == {"owner"}
                assert what != "ours" or not [
                    kind for kind, _ in before.values() if kind in ("theirs", "route")
                ]
            else:
                conns[conn] = (what, where)
            conns = {one: kind for one, kind in conns.items() if one.open}
            evicted = [kind for one, (kind, _) in before.items() if one not in conns]
            assert len(evicted) <= 1
            assert "owner" not in evicted
            assert "ours" not in evicted or what == "owner"
            assert len(conns) <= most
            assert door.theirs <= door.theirs_max <= max(1, most * 2 // 3)

    in_trio(body)


def test_useful_connections_stay_when_a_crowd_comes() -> None:
    def body() -> None:
        door = admission(connections_max=48)
        expert = Conn()
        door.standings = lambda: {expert: Standing(answered=3)}
        door.seat(expert, PeerId("expert"), "203.0.113.1", inbound=True)
        for number in range(200):
            try:
                door.seat(
                    Conn(), PeerId(f"stranger {number}"), f"198.51.{number % 5}.7", inbound=True
                )
            except Full:
                continue
        assert expert.open
        newcomer = Conn()
        door.seat(newcomer, PeerId("newcomer"), "192.0.2.9", inbound=True)
        assert newcomer.open

    in_trio(body)


def test_who_holds_a_reservation_stays_when_a_crowd_comes_and_gives_way_once_it_has_ended() -> None:
    def body() -> None:
        door = admission(connections_max=48)
        lent = [PeerId(f"hidden {number}") for number in range(door.lent_max)]
        door.is_lent = lent.__contains__
        hidden = [Conn() for _ in lent]
        # All of one block, so that nobody else would go before them.
        for peer, conn in zip(lent, hidden, strict=True):
            door.seat(conn, peer, "203.0.113.1", inbound=True)
        strangers = came(door, "stranger")
        assert any(conn.open for conn in strangers)  # A part is theirs to share.
        with door.wanting(PeerId("ours")):
            door.seat(Conn(), PeerId("ours"), "192.0.2.1", inbound=False)
        assert all(conn.open for conn in hidden)
        lent.clear()
        came(door, "late")
        assert not all(conn.open for conn in hidden)

    in_trio(body)


def came(door: Admission, name: str) -> list[Conn]:
    """200 strangers from five blocks; those that were let in and have not given way are open."""
    conns = [Conn() for _ in range(200)]
    for number, conn in enumerate(conns):
        try:
            door.seat(conn, PeerId(f"{name} {number}"), f"198.51.{number % 5}.7", inbound=True)
        except Full:
            conn.open = False
    return conns


def test_answers_that_nobody_asked_for_make_nobody_useful() -> None:
    worth = Worth()
    answer, question = (
        Scores(1, 1, 0, (), b"", 0, 0, NO_HALT_DIGEST),
        Score(1, 1, 0, 0, bytes(8), (1,), (0,), (), 1, 0, NO_HALT_DIGEST),
    )
    worth.received(answer)
    assert worth.answered == 0
    worth.sent(question)
    worth.received(answer)
    worth.received(answer)
    assert worth.answered == 1


def test_sockets_of_one_block_are_bounded_and_those_of_another_come_in() -> None:
    def body() -> None:
        door = admission(per_block_max=4, per_address_max=2)
        one = [door.enter(f"203.0.113.{number // 2}") for number in range(6)]
        assert [entrant is not None for entrant in one] == [True] * 4 + [False] * 2
        assert door.enter("203.0.114.1") is not None
        for entrant in one[:4]:
            assert entrant is not None
            door.leave(entrant)
        assert door.enter("203.0.113.9") is not None

    in_trio(body)


# --- over real connections ------------------------------------------------------------------------


def port_of(node: Member) -> int:
    return int(node.network.addrs[0].split("/")[4])


def sockets(node: Member, count: int, host: str, stack: ExitStack) -> list[socket.socket]:
    """Connections from this address of the loopback interface, each of which counts as a block of
    its own."""
    found = []
    for _ in range(count):
        sock = stack.enter_context(socket.socket())
        sock.bind((host, 0))
        sock.connect(("127.0.0.1", port_of(node)))
        found.append(sock)
    return found


def test_sockets_that_shake_no_hand_keep_no_newcomer_out() -> None:
    """Six times as many as there are places, for longer than the newcomer needs."""

    async def attack(node: Member, raw: Any) -> None:
        with ExitStack() as stack:
            for number in (2, 3, 4):
                sockets(node, 32, f"127.0.0.{number}", stack)
            await until(lambda: network_of(node)._switch.admission.half_open == 16)
            async with raw() as newcomer:
                conn = await newcomer.dial(network_of(node))
                await node.hears(PeerConnected, lambda one: one.peer == newcomer.peer)
                assert not conn.is_closed

    attacked(
        attack,
        limits=NetworkLimits(half_open_max=16),
        timing=NetworkTiming(handshake_within_s=60.0),
    )


async def dial_from(raw: RawPeer, node: Member, host: str) -> Any:
    """A connection that the node sees come from this address."""
    addr = Multiaddr(network_of(node).addrs[0].partition("/p2p/")[0])
    return await raw.switch.dial_addr(addr, libp2p_id(node.peer), (host, 0))


@asynccontextmanager
async def crowd(node: Member, count: int) -> AsyncIterator[list[RawPeer]]:
    """Polite strangers of `count` identities from two addresses, as many as get in."""
    async with AsyncExitStack() as stack:
        found = []
        for number in range(count):
            raw = await stack.enter_async_context(raw_peer())
            try:
                await dial_from(raw, node, f"127.0.0.{2 + number % 2}")
            except SwarmException:
                continue  # Turned away.
            found.append(raw)
        await until(
            lambda: len(network_of(node).peers) >= network_of(node)._switch.admission.theirs_max
        )
        yield found


FEW = NetworkLimits(connections_max=12)


def test_a_crowd_from_two_addresses_keeps_neither_newcomers_out_nor_us_in() -> None:
    async def main() -> None:
        async with members(3, limits=FEW) as (node, friend, other):
            await connect(node, friend)
            async with crowd(node, 16), raw_peer() as newcomer:
                assert network_of(node)._switch.admission.theirs == 8
                await still_answers(node, friend)
                await dial_from(newcomer, node, "127.0.0.9")
                await node.hears(PeerConnected, lambda one: one.peer == newcomer.peer)
                await connect(node, other)  # One more that we choose.
                await still_answers(node, friend)
                assert network_of(node)._switch.admission.ours == 2
                assert network_of(node).traffic.crowding["evicted"] > 0  # What `status` shows.

    trio.run(main)


def test_what_the_dht_dials_takes_no_place_that_is_ours() -> None:
    async def main() -> None:
        async with members(2, limits=FEW) as (node, friend):
            identity = libp2p_id(friend.peer)
            addr = Multiaddr(network_of(friend).addrs[0].partition("/p2p/")[0])
            network_of(node)._switch.peerstore.add_addrs(identity, [addr], 60)
            await network_of(node)._host.connect(PeerInfo(identity, [addr]))
            door = network_of(node)._switch.admission
            assert (door.ours, door.theirs) == (0, 1)
            node.network.dial(friend.peer, friend.network.addrs)  # Now it is we who want it.
            await until(lambda: (door.ours, door.theirs) == (1, 0))

    trio.run(main)


def test_the_owners_own_peer_comes_in_where_every_place_is_taken() -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            key = ephemeral_key()
            node = await stack.enter_async_context(
                member(
                    limits=NetworkLimits(connections_max=4),
                    bootstrap=(f"/ip4/127.0.0.1/tcp/1/p2p/{key.peer}",),
                )
            )
            friends = [await stack.enter_async_context(member()) for _ in range(4)]
            await stack.enter_async_context(listening([node, *friends]))
            for friend in friends:
                await connect(node, friend)
            assert network_of(node)._switch.admission.ours == 4
            late = await stack.enter_async_context(raw_peer(key=key))
            await late.dial(network_of(node))
            await node.hears(PeerConnected, lambda one: one.peer == late.peer)
            assert node.count(PeerLost) == 1
            assert len(network_of(node).peers) == 4

    trio.run(main)
