"""Peers that speak libp2p and not our protocols: welcome for a while, and in nobody's way
(protocols/streams.md)."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from swarmllm.adapters.libp2p import NetworkLimits, NetworkTiming
from swarmllm.adapters.libp2p.agent import own_agent
from swarmllm.adapters.libp2p.link import EXPERT_PROTOCOL
from swarmllm.core.inputs import DialFailed, PeerConnected, PeerLost
from tests.adapters.libp2p.halt_stream_support import strikes
from tests.adapters.libp2p.support import RawPeer, members, raw_peer, until
from tests.adapters.libp2p.test_hostile import network_of, still_answers
from tests.contracts.network_contract import DEADLINE_S, connect

GUEST = NetworkTiming(guest_s=1.5)


class Guest(RawPeer):
    """Speaks libp2p's own protocols and none of ours."""

    def __init__(self, key: Any, polite: bool) -> None:
        super().__init__(key, polite)
        del self.host.multiselect.handlers[EXPERT_PROTOCOL]


async def ping(guest: RawPeer, conn: Any) -> None:
    """libp2p's own, once."""
    stream = await guest.open(conn, "/ipfs/ping/1.0.0")
    await stream.write(bytes(range(32)))
    with trio.fail_after(DEADLINE_S):
        assert await stream.read(32) == bytes(range(32))
    await stream.reset()


def test_a_peer_without_the_expert_protocol_is_a_guest_for_a_while_and_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.INFO, "swarmllm.net")
    monkeypatch.setattr("tests.adapters.libp2p.support.RawPeer", Guest)

    async def main() -> None:
        async with members(2, timing=GUEST) as (node, other):
            await connect(other, node)
            async with raw_peer() as guest:
                conn = await guest.dial(network_of(node))
                began = trio.current_time()
                for _ in range(5):
                    await ping(guest, conn)
                    await trio.sleep(0.1)
                assert not conn.is_closed
                assert network_of(node).peers == (other.peer,)
                assert network_of(node)._links._commons.peers == 1
                with trio.fail_after(DEADLINE_S):
                    await conn.muxed_conn.event_closed.wait()
                assert trio.current_time() - began >= GUEST.guest_s - 0.1
                assert strikes(node, guest.peer) == 0
                told = [line for line in caplog.messages if guest.peer in line]
                assert any(
                    "does not speak /swarmllm/expert/2" in line and own_agent() in line
                    for line in told
                )
                assert any("did not speak /swarmllm/expert/2 within 1.5 s" in line for line in told)
            assert not [
                one
                for one in node.told
                if isinstance(one, PeerConnected | PeerLost) and one.peer == guest.peer
            ]
            await still_answers(node, other)

    trio.run(main)


def test_guests_beyond_the_limit_are_hung_up_and_peers_never(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.INFO, "swarmllm.net")
    monkeypatch.setattr("tests.adapters.libp2p.support.RawPeer", Guest)

    async def main() -> None:
        async with members(2, limits=NetworkLimits(guests_max=1)) as (node, other):
            async with raw_peer() as first, raw_peer() as second:
                held = await first.dial(network_of(node))
                await until(
                    lambda: any(link.is_guest for link in network_of(node)._links._by_conn.values())
                )
                conn = await second.dial(network_of(node))
                with trio.fail_after(DEADLINE_S):
                    await conn.muxed_conn.event_closed.wait()
                assert any(
                    second.peer in line and "does not speak" in line for line in caplog.messages
                )
                await ping(first, held)
                await connect(other, node)
                await still_answers(node, other)

    trio.run(main)


def test_a_guest_that_begins_to_speak_the_protocol_is_a_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.adapters.libp2p.support.RawPeer", Guest)

    async def main() -> None:
        async with members(1, timing=GUEST) as (node,), raw_peer() as late:
            conn = await late.dial(network_of(node))
            await until(
                lambda: any(link.is_guest for link in network_of(node)._links._by_conn.values())
            )
            late.host.set_stream_handler(EXPERT_PROTOCOL, late._answer, lasting=True)
            await node.hears(PeerConnected, lambda one: one.peer == late.peer)
            with trio.move_on_after(GUEST.guest_s + 0.2):
                await conn.muxed_conn.event_closed.wait()
            assert not conn.is_closed
            assert network_of(node)._links._commons.peers == 1

    trio.run(main)


def test_whom_we_dialled_and_does_not_speak_the_protocol_is_no_guest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with members(2) as (node, other):
            del network_of(other)._host.multiselect.handlers[EXPERT_PROTOCOL]
            node.network.dial(other.peer, other.network.addrs)
            await node.hears(DialFailed)
            await until(lambda: not network_of(node)._links._by_conn)

    trio.run(main)
