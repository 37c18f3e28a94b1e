"""Hole punching: a relay gives way to a direct connection, and what was asked is answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p import moving, punch
from swarmllm.adapters.libp2p.link import Link
from swarmllm.adapters.libp2p.links import open_links
from swarmllm.adapters.libp2p.punch import DCUTR_PROTOCOL, Punch
from swarmllm.core.inputs import PeerConnected, PeerLost, PeerMoved, Received
from swarmllm.errors import RemoteError
from swarmllm.messages import HALT, Busy, Score
from swarmllm.messages.goodbye import OTHER
from tests.adapters.libp2p.support import LOOPBACK, until
from tests.adapters.libp2p.test_relay import behind_relays, network_of
from tests.contracts.network_contract import DEADLINE_S, Member, about, greet, opening

ROUNDS = 150


def score(session: int, number: int) -> Score:
    return Score(session, number, 0, 0, bytes(8), (1,), (0,), (), 16, 0, bytes(8))


async def meet_through_relay(caller: Member, hidden: Member) -> None:
    through = tuple(addr for addr in hidden.network.addrs if "/p2p-circuit" in addr)
    caller.network.dial(hidden.peer, through)
    await caller.hears(PeerConnected, about(hidden.peer))
    await hidden.hears(PeerConnected, about(caller.peer))


async def left(member: Member) -> None:
    """Until the connection through the relay is closed on this side."""
    await until(lambda: not network_of(member).relays.circuits)


def nobody_was_lost(one: Member, other: Member) -> bool:
    connects = [e for e in one.told if isinstance(e, PeerConnected) and e.peer == other.peer]
    lost = [e for e in one.told if isinstance(e, PeerLost)]
    closed = [what for what, peer, _ in one.door.calls if peer == other.peer and what == "closed"]
    return len(connects) == 1 and not lost and not closed


async def ask_and_answer(asker: Member, expert: Member, session: int) -> None:
    """So many rounds, one after the other, as an answer has them."""
    asker.network.send(expert.peer, opening(session))
    for number in range(ROUNDS):
        asker.network.send(expert.peer, score(session, number))
        asked = await expert.hears(
            Received,
            lambda e, n=number: e.message == score(session, n),  # type: ignore[misc]
        )
        expert.network.send(asked.peer, Busy(session, number, 0))
        await asker.hears(
            Received,
            lambda e, n=number: e.message == Busy(session, n, 0),  # type: ignore[misc]
        )


def test_answers_on_their_way_both_ways_lose_nothing_when_the_relay_gives_way() -> None:
    async def main() -> None:
        async with behind_relays(listen=(LOOPBACK,)) as (caller, hidden, relay):
            await meet_through_relay(caller, hidden)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_and_answer, caller, hidden, 1)
                nursery.start_soon(ask_and_answer, hidden, caller, 2)
            for one, other in ((caller, hidden), (hidden, caller)):
                await left(one)
                assert nobody_was_lost(one, other)
                assert (await one.hears(PeerMoved, about(other.peer))).host == "127.0.0.1"
                told = [
                    e.message
                    for e in one.told
                    if isinstance(e, Received) and isinstance(e.message, Score | Busy)
                ]
                assert len(told) == 2 * ROUNDS  # Each once.
            assert network_of(hidden).punch.figures["punched"] == 1
            assert network_of(caller).punch.figures["punched_when_asked"] == 1
            assert relay.network.addrs[0] not in caller.network.addrs

    trio.run(main)


def test_the_halt_stream_begins_anew_on_the_direct_connection_and_nobody_hears_of_a_gap() -> None:
    async def main() -> None:
        async with behind_relays(listen=(LOOPBACK,)) as (caller, hidden, relay):
            for one in (caller, hidden):
                greet(one)
            await meet_through_relay(caller, hidden)
            for one, other in ((caller, hidden), (hidden, caller)):
                await one.door.sees("opened", other.peer, skip=1)  # There, and here.
                assert await one.door.sees("received", other.peer, skip=1) == other.peer.encode()
            caller.network.send_frame(HALT, hidden.peer, b"halt")
            assert await hidden.door.sees("received", caller.peer, skip=2) == b"halt"
            for one, other in ((caller, hidden), (hidden, caller)):
                await left(one)
                assert nobody_was_lost(one, other)
            relay.network.hang_up(caller.peer, "so that gossip has one way alone", OTHER)
            await caller.hears(PeerLost, about(relay.peer))
            with trio.fail_after(DEADLINE_S):
                number = 0
                while not hidden.door.saw("heard", caller.peer):
                    caller.network.publish(HALT, b"gossip %d" % number)
                    number += 1
                    await trio.sleep(0.2)

    trio.run(main)


async def meet_and_wait_for_a_hole(
    caller: Member, hidden: Member, monkeypatch: pytest.MonkeyPatch
) -> trio.Event:
    """Through the relay; a direct connection is tried for once the event is set."""
    may_punch = trio.Event()
    improve = Punch._improve

    async def waiting(self: Punch, link: Any) -> None:
        await may_punch.wait()
        await improve(self, link)

    monkeypatch.setattr(Punch, "_improve", waiting)
    await meet_through_relay(caller, hidden)
    return may_punch


def test_no_record_of_gossip_is_lost_in_the_moment_of_a_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        # A relay that takes no part in gossip passes no record on.
        async with behind_relays(listen=(LOOPBACK,), channels=()) as (caller, hidden, _):
            may_punch = await meet_and_wait_for_a_hole(caller, hidden, monkeypatch)
            pair = ((caller, hidden), (hidden, caller))
            for one, other in pair:
                await subscribed(one, other)
                moves = network_of(one)._links.moves

                def moved(
                    link: Link, one: Member = one, then: Callable[[Link], None] = moves.on_moved
                ) -> None:
                    then(link)
                    one.network.publish(HALT, b"now from " + one.peer.encode())

                moves.on_moved = moved
            may_punch.set()
            for one, other in pair:
                while b"now from " + one.peer.encode() not in other.door.saw("heard", one.peer):
                    await other.door.sees("heard", one.peer, len(other.door.saw("heard", one.peer)))

    trio.run(main)


async def subscribed(one: Member, other: Member) -> None:
    """Until what one of them publishes reaches the other."""
    with trio.fail_after(DEADLINE_S):
        while not other.door.saw("heard", one.peer):
            one.network.publish(HALT, b"early %d" % len(one.told))
            await trio.sleep(0.1)


def test_a_direct_connection_that_carries_nothing_gives_way_to_the_relay_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_both(monkeypatch)

    async def main() -> None:
        async with behind_relays(listen=(LOOPBACK,)) as (caller, hidden, relay):
            may_punch = await meet_and_wait_for_a_hole(caller, hidden, monkeypatch)
            may_punch.set()
            pair = ((caller, hidden), (hidden, caller))
            for one, other in pair:
                await until(partial(has_moved, one))
                link = network_of(one)._links.of(other.peer)
                assert link is not None
                assert not link.is_relayed
                link.conn.muxed_conn.secured_conn.write = swallow
            for one, other in pair:
                await one.hears(PeerLost, about(other.peer))
                await one.hears(PeerConnected, about(other.peer), skip=1)
            caller.network.send(hidden.peer, opening(7))
            assert (await hidden.hears(Received, about(caller.peer))).message == opening(7)
            assert network_of(relay).traffic.relay["circuits_opened"] == 1  # The same one.
            assert network_of(hidden).punch.figures["tried"] == 1

    trio.run(main)


def has_moved(one: Member) -> bool:
    return network_of(one).traffic.punching["moved"] > 0


def keep_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old connection stays beside the new one, however slow this machine is."""
    for patience in ("SETTLED_S", "QUIET_S"):
        monkeypatch.setattr(moving, patience, DEADLINE_S)


async def swallow(_: bytes) -> None:
    """Sends nothing, and says that it did."""


def test_who_hangs_up_ends_every_connection_with_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_both(monkeypatch)

    async def main() -> None:
        async with behind_relays(listen=(LOOPBACK,)) as (caller, hidden, _):
            await meet_through_relay(caller, hidden)
            await until(partial(has_moved, caller))
            both = [one for one in open_links(network_of(caller)._links) if one.peer == hidden.peer]
            assert len(both) > 1
            caller.network.hang_up(hidden.peer, "enough", OTHER)
            assert all(one.is_over for one in both)

    trio.run(main)


def test_where_no_hole_can_be_punched_the_relay_stays() -> None:
    async def main() -> None:
        # Who listens nowhere cannot be met.
        async with behind_relays() as (caller, hidden, _):
            await meet_through_relay(caller, hidden)
            stream = await network_of(hidden)._host.open_stream(
                network_of(hidden)._links.of(caller.peer).conn,  # type: ignore[union-attr]
                [DCUTR_PROTOCOL],
            )
            await stream.write(b"\x02\x08\x63")  # Of no type that there is.
            caller.network.send(hidden.peer, opening(7))
            await hidden.hears(Received, about(caller.peer))
            assert network_of(hidden).relays.circuits == network_of(caller).relays.circuits == 1
            assert nobody_was_lost(caller, hidden)

    trio.run(main)


@given(st.binary(max_size=300), st.sampled_from([100, 300]))
def test_any_bytes_are_a_round_of_punching_or_the_senders_fault(data: bytes, kind: int) -> None:
    try:
        assert len(punch._told(data, kind)) <= punch.ADDRS_MAX
    except RemoteError:
        return


def test_a_round_names_few_addresses_and_none_of_system_services() -> None:
    hole = HolePunch(type=HolePunch.CONNECT)
    for port in (22, *range(7_000, 7_020)):
        hole.ObsAddrs.append(Multiaddr(f"/ip4/8.8.8.8/tcp/{port}").to_bytes())
    found = punch._told(hole.SerializeToString(), HolePunch.CONNECT)
    assert [one.port for one in found] == list(range(7_000, 7_000 + punch.ADDRS_MAX - 1))
