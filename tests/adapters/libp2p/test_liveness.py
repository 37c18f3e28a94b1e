"""Peers that die, freeze, stop reading, come back or arrive twice."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from swarmllm.adapters.keyfile import KeyFile
from swarmllm.adapters.libp2p import NetworkLimits, NetworkTiming, open_network
from swarmllm.adapters.libp2p.link import EXPERT_PROTOCOL
from swarmllm.adapters.libp2p.network import Libp2pNetwork
from swarmllm.core.inputs import (
    AddressesFound,
    DialFailed,
    PeerConnected,
    PeerLost,
    PingMeasured,
    Received,
)
from swarmllm.messages import NO_HALT_DIGEST, Busy, Score
from tests.adapters.libp2p.support import LOOPBACK, QUICK, member, members, options, raw_peer, until
from tests.adapters.libp2p.test_hostile import network_of, still_answers
from tests.contracts.network_contract import DEADLINE_S, Member, connect, listening, opening


def score(session: int, tokens: int = 1) -> Score:
    return Score(session, 0, 0, 0, bytes(8), tuple(range(tokens)), (), (), 1, 0, NO_HALT_DIGEST)


@asynccontextmanager
async def child(addr: str) -> AsyncIterator[trio.Process]:
    """Another process with a network that has `addr` as its bootstrap peer."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.adapters.libp2p.child", addr]
    )
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def test_a_frozen_and_then_killed_process_is_lost_each_time_and_comes_back_when_it_wakes() -> None:
    async def main() -> None:
        async with members(1, timing=QUICK) as (node,):
            async with child(node.network.addrs[0]) as process:
                peer = (await node.hears(PeerConnected)).peer
                node.network.send(peer, opening(1))
                node.network.send(peer, score(1))
                assert (await node.hears(Received)).message == Busy(1, 0, 0)
                process.send_signal(signal.SIGSTOP)
                assert (await node.hears(PeerLost)).reason == "silent"
                process.send_signal(signal.SIGCONT)
                assert (await node.hears(PeerConnected, skip=1)).peer == peer
                process.send_signal(signal.SIGKILL)
                assert (await node.hears(PeerLost, skip=1)).reason in (
                    "connection closed",
                    "connection reset",
                )

    trio.run(main)


def test_a_peer_that_reads_nothing_is_lost_when_its_queue_is_full() -> None:
    async def main() -> None:
        async with (
            members(2, limits=NetworkLimits(queue_messages_max=8)) as (node, other),
            raw_peer() as stranger,
        ):
            await connect(other, node)
            await stranger.dial(network_of(node))
            await node.hears(PeerConnected, lambda one: one.peer == stranger.peer)
            for session in range(20):
                node.network.send(stranger.peer, score(session, tokens=16_000))
            assert (await node.hears(PeerLost)).reason == "queue full"
            await still_answers(node, other)

    trio.run(main)


def test_a_peer_whose_socket_takes_nothing_is_cut_off_under_the_stuck_write() -> None:
    """Fault 5: with data queued behind a full socket, only closing the socket helps."""

    async def main() -> None:
        async with members(1, timing=QUICK) as (node,), raw_peer() as stranger:
            conn = await stranger.dial(network_of(node))
            await node.hears(PeerConnected)
            # The raw peer's reader waits for this lock from now on, so that its socket fills up.
            await conn.muxed_conn.streams_lock.acquire()
            # And if it is reading now, this is its last time.
            conn.muxed_conn.secured_conn.read = never
            for session in range(60):
                node.network.send(stranger.peer, score(session, tokens=16_000))
            assert (await node.hears(PeerLost)).reason in ("silent", "reset", "connection reset")
            await until(lambda: not network_of(node)._switch.get_connections())

    trio.run(main)


async def never(*_: Any) -> bytes:
    await trio.sleep_forever()
    return b""


def test_simultaneous_dials_settle_on_one_connection_and_tell_each_side_once() -> None:
    async def main() -> None:
        for _ in range(5):
            async with members(2) as (a, b):
                a.network.dial(b.peer, b.network.addrs)
                b.network.dial(a.peer, a.network.addrs)
                await a.hears(PeerConnected)
                await b.hears(PeerConnected)
                await one_connection(a, b)
                await still_answers(a, b)
                assert a.count(PeerConnected) == b.count(PeerConnected) == 1
                assert (
                    a.count(PeerLost)
                    == b.count(PeerLost)
                    == a.count(DialFailed)
                    == b.count(DialFailed)
                    == 0
                )

    trio.run(main)


async def one_connection(a: Member, b: Member) -> None:
    """Until each side has exactly one connection, with nobody dialling."""
    for network in (network_of(a), network_of(b)):
        await until(functools.partial(is_settled, network))


def is_settled(network: Libp2pNetwork) -> bool:
    return (
        not network._dialer._dialling
        and len(network._links._by_conn) == len(network._switch.get_connections()) == 1
    )


@pytest.mark.parametrize("decides", ["the one that lost it", "the other one"])
def test_a_peer_that_lost_its_side_unnoticed_replaces_the_old_connection(decides: str) -> None:
    async def main() -> None:
        # Only what a second connection provokes may find the old one dead.
        timing = NetworkTiming(ping_every_s=60, dead_after_s=600, probe_within_s=0.3)
        async with members(3, timing=timing) as (one, two, c):
            b, a = sorted(
                (one, two), key=lambda member: member.peer, reverse=decides == "the other one"
            )
            await connect(a, b)
            await connect(c, a)
            forget_connections(network_of(b))
            b.network.dial(a.peer, a.network.addrs)
            await b.hears(PeerConnected, skip=1)
            await a.hears(PeerConnected, lambda one: one.peer == b.peer, skip=1)
            await still_answers(a, c)
            await still_answers(a, b)

    trio.run(main)


def forget_connections(network: Libp2pNetwork) -> None:
    """Without a word on the wire: their streams are no longer read or answered."""
    link = network._links._by_conn.popitem()[1]
    network._links._settled.clear()
    link._asking.lane = None
    link._on_request = never  # type: ignore[method-assign, assignment]
    link._on_reply = never  # type: ignore[method-assign, assignment]
    network._switch.connections.clear()


def test_who_comes_back_is_settled_on_as_soon_as_the_old_connection_ends() -> None:
    async def main() -> None:
        # Nothing is found dead by waiting.
        timing = NetworkTiming(ping_every_s=60, dead_after_s=600, probe_within_s=600)
        async with members(2, timing=timing) as pair:
            decides, other = sorted(pair, key=lambda member: member.peer)
            await connect(decides, other)
            links = network_of(decides)._links
            (old,) = links._by_conn.values()
            forget_connections(network_of(other))
            other.network.dial(decides.peer, decides.network.addrs)
            await until(lambda: len(links._by_conn) == 2)
            links.lost(old.conn)
            await other.hears(PeerConnected, skip=1)
            await decides.hears(PeerConnected, skip=1)
            await still_answers(decides, other)

    trio.run(main)


def test_dialling_an_address_where_somebody_else_lives_fails() -> None:
    async def main() -> None:
        async with members(3) as (a, b, c):
            a.network.dial(b.peer, c.network.addrs)
            a.network.dial(c.peer, tuple(addr.replace(c.peer, b.peer) for addr in c.network.addrs))
            assert (
                await a.hears(DialFailed, lambda one: one.peer == b.peer)
            ).reason == "no usable address"
            assert (
                await a.hears(DialFailed, lambda one: one.peer == c.peer)
            ).reason == "no usable address"
            bare = tuple(addr.partition("/p2p/")[0] for addr in c.network.addrs)
            a.network.dial(b.peer, bare)
            assert (await a.hears(DialFailed, lambda one: one.peer == b.peer, skip=1)).reason
            assert a.count(PeerConnected) == 0
            a.network.dial(c.peer, ("/ip4/127.0.0.1/tcp/1", *bare))
            assert (await a.hears(PeerConnected)).peer == c.peer

    trio.run(main)


def test_a_dial_to_a_host_that_accepts_and_says_nothing_fails_in_time() -> None:
    async def main() -> None:
        async with members(2, timing=NetworkTiming(dial_within_s=0.5)) as (a, b):
            sockets = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = sockets[0].socket.getsockname()[1]
            a.network.dial(b.peer, (f"/ip4/127.0.0.1/tcp/{port}",))
            assert "within 0.5 s" in (await a.hears(DialFailed)).reason
            await sockets[0].aclose()

    trio.run(main)


def test_an_unreachable_bootstrap_peer_shows_and_is_found_when_it_comes_up() -> None:
    async def main() -> None:
        async with member() as late:
            addr = late.network.addrs[0]
            port, key = addr.split("/")[4], node_key(late)
        async with members(1, bootstrap=(addr,), timing=QUICK) as (node,):
            assert await node.hears(AddressesFound) == AddressesFound(
                late.peer, (addr,), "bootstrap"
            )
            await until(lambda: network_of(node).bootstrap[0].error)
            status = network_of(node).bootstrap[0]
            assert not status.connected
            assert "refused" in status.error
            again = options(key, listen=(LOOPBACK.replace("/0", f"/{port}"),))
            async with open_network(again):
                assert (await node.hears(PeerConnected)).peer == late.peer
                assert network_of(node).bootstrap[0].connected

    trio.run(main)


def test_a_consumer_that_reads_nothing_stops_its_peers_and_loses_none() -> None:
    async def main() -> None:
        limits = NetworkLimits(inputs_max=16, queue_messages_max=1_000)
        async with (
            member(limits=limits, timing=QUICK) as lazy,
            members(1, limits=limits, timing=QUICK) as (busy,),
        ):
            busy.network.dial(lazy.peer, lazy.network.addrs)
            await busy.hears(PeerConnected)
            for session in range(200):
                busy.network.send(lazy.peer, opening(session))
            await busy.hears(PingMeasured)
            inbox = network_of(lazy)._inbox
            await until(lambda: inbox.full)
            assert len(inbox._waiting) <= limits.inputs_max + 8
            async with listening([lazy]):
                await lazy.hears(Received, skip=199)
            assert lazy.count(PeerLost) == 0

    trio.run(main)


def test_closing_says_goodbye_and_ends_within_its_time_whatever_peers_do() -> None:
    async def main() -> None:
        async with members(1) as (polite,), raw_peer(polite=False) as mute, raw_peer() as stuck:
            async with members(1) as (node,):
                await connect(polite, node)
                await mute.dial(network_of(node))
                conn = await stuck.dial(network_of(node))
                await node.hears(PeerConnected, lambda one: one.peer == stuck.peer)
                conn.muxed_conn.secured_conn.read = never
                for session in range(60):
                    node.network.send(stuck.peer, score(session, tokens=16_000))
                began = trio.current_time()
            # Two seconds of its own, and room for a busy machine.
            assert trio.current_time() - began < 2.0 + 8.0
            assert (await polite.hears(PeerLost)).reason == "it hung up: it is closing"

    trio.run(main)


def test_a_request_stream_is_opened_once_per_connection() -> None:
    async def main() -> None:
        async with members(1, timing=QUICK) as (node,), raw_peer() as stranger:
            opened: list[str] = []
            answer = stranger.host.multiselect.handlers[EXPERT_PROTOCOL]

            async def counting(stream: Any) -> None:
                opened.append(stream.get_protocol())
                await answer(stream)

            stranger.host.set_stream_handler(EXPERT_PROTOCOL, counting, lasting=True)
            await stranger.dial(network_of(node))
            await node.hears(PeerConnected)
            for session in range(10):
                node.network.send(stranger.peer, opening(session))
            await node.hears(PingMeasured, skip=1)
            assert opened == [EXPERT_PROTOCOL]

    trio.run(main)


def test_nothing_is_left_open() -> None:
    """No socket or pipe of a closed network survives (fault 8)."""

    def held() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        before = held()
        async with members(3, lan=True) as (a, b, c):
            await connect(a, b)
            await connect(c, b)
        # Zeroconf finishes its goodbyes in a thread of its own.
        await until(lambda: held() <= before)

    trio.run(main)


def test_a_connection_from_our_own_identity_is_refused() -> None:
    """A copied data folder makes two nodes with one id."""

    async def main() -> None:
        async with members(2) as (node, other), raw_peer(key=node_key(node)) as copy:
            await connect(other, node)
            conn = await copy.dial(network_of(node))
            with trio.fail_after(DEADLINE_S):
                await conn.muxed_conn.event_closed.wait()
            node.network.dial(node.peer, node.network.addrs)
            assert (await node.hears(DialFailed)).reason == "that is ourselves"
            assert node.count(PeerConnected) == 1
            await still_answers(node, other)

    trio.run(main)


def node_key(node: Member) -> KeyFile:
    assert isinstance(node.keyring, KeyFile)
    return node.keyring
