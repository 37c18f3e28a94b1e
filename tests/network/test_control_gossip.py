"""Control records by gossip: first everywhere, in a budget of their own, and under every flood."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import trio
import trio.testing
from libp2p.pubsub.pb import rpc_pb2

from swarmllm.adapters.libp2p import NetworkLimits
from swarmllm.core.events import Received
from swarmllm.messages import CHARTER_RECORD_MAX
from tests.contracts.network_contract import DEADLINE_S, Member, connect, meet
from tests.network.control_support import (
    CONTROL_TOPIC,
    Flooder,
    attacked,
    rpc,
    signed_gossip,
    strikes,
)
from tests.network.support import RawPeer, ended, members, raw_peer, until
from tests.network.test_hostile import GOSSIP, TOPIC, network_of, still_answers


def test_frames_and_records_pass_under_four_flooders() -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            node, other, beyond = await stack.enter_async_context(members(3))
            await meet(other, node)
            await meet(node, beyond)
            raws = [await stack.enter_async_context(raw_peer()) for _ in range(4)]
            flooders = [Flooder(raw) for raw in raws]
            for flooder in flooders:
                await flooder.connect(node.network)
            async with trio.open_nursery() as nursery:
                for flooder in flooders:
                    nursery.start_soon(flooder.run)
                for raw in raws:
                    await node.hears(Received, lambda heard, raw=raw: heard.peer == raw.peer, skip=40)  # type: ignore[misc]
                for n in range(5):
                    other.network.tell(node.peer, bytes([n]))
                    assert await node.door.sees("received", other.peer, skip=n) == bytes([n])
                    node.network.tell(other.peer, bytes([n]))
                    assert await other.door.sees("received", node.peer, skip=n) == bytes([n])
                other.network.publish_control(b"halt")
                assert await beyond.door.sees("heard", node.peer) == b"halt"
                assert beyond.door.saw("received") == []  # It came by gossip alone, over two hops.
                nursery.cancel_scope.cancel()
            await still_answers(node, other)

    trio.run(main)


def test_control_records_go_out_ahead_of_capacity_records() -> None:
    async def main() -> None:
        async with members(2) as (a, b):
            await connect(a, b)
            a.network.publish(b"first")
            await b.validates(b"first")  # From now on gossip goes straight through.
            for n in range(20):
                a.network.publish(bytes([n]))
            seen: list[int] = []
            heard = b.door.heard
            b.door.heard = lambda peer, data: seen.append(len(b.gossip)) or heard(peer, data)  # type: ignore[method-assign, assignment, func-returns-value]
            a.network.publish_control(b"halt")
            await b.door.sees("heard")
            await b.validates(bytes([19]))
            assert seen == [1]

    trio.run(main)


def test_a_full_queue_to_a_peer_makes_room_for_a_control_record() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        pubsub = network_of(node)._gossip._pubsub
        await until(lambda: stranger.host.get_id() not in pubsub.peers and pubsub.peers)
        ((peer, queue),) = pubsub.peer_queues.items()
        capacity, control = (
            rpc_pb2.RPC(publish=[signed_gossip(stranger, topic, b"8 bytes.")]) for topic in (TOPIC, CONTROL_TOPIC)
        )
        while queue.push(capacity):
            pass
        full = len(queue)
        pubsub.router.send_rpc(peer, control)
        assert len(queue) == full
        assert list(queue._queue.pop().publish[0].topicIDs) == [CONTROL_TOPIC]

    attacked(attack)


def test_capacity_records_beyond_their_budget_leave_that_of_control_records_alone() -> None:
    limits = NetworkLimits(gossip_per_s=1.0, gossip_control_per_s=50.0)

    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, GOSSIP)
        capacity = [signed_gossip(stranger, TOPIC, bytes([n]) * 8) for n in range(30)]
        control = [signed_gossip(stranger, CONTROL_TOPIC, bytes([n]) * 8) for n in range(30)]
        await stream.write(rpc(*capacity) + rpc(*capacity, *control))
        await node.door.sees("heard", stranger.peer, skip=29)
        assert node.door.saw("heard") == [bytes([n]) * 8 for n in range(30)]
        assert (
            len([data for peer, data in node.gossip if peer == stranger.peer]) <= 4
        )  # Two, and one for each second that passed.

    attacked(attack, limits=limits)


def test_control_records_beyond_their_own_budget_wait_and_none_is_lost() -> None:
    limits = NetworkLimits(gossip_control_per_s=20.0)

    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, GOSSIP)
        messages = [signed_gossip(stranger, CONTROL_TOPIC, bytes([n]) * 8) for n in range(60)]
        began = trio.current_time()
        await stream.write(rpc(*messages))
        await node.door.sees("heard", stranger.peer, skip=59)
        assert trio.current_time() - began >= (60 - 40) / limits.gossip_control_per_s - 0.01

    attacked(attack, limits=limits)


def test_a_control_record_that_is_too_long_is_a_strike() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, GOSSIP)
        await stream.write(rpc(signed_gossip(stranger, CONTROL_TOPIC, bytes(CHARTER_RECORD_MAX + 1))))
        with trio.fail_after(DEADLINE_S):
            await ended(stream)
        await until(lambda: strikes(node, stranger.peer) == 1)
        assert node.door.saw("heard") == []

    attacked(attack)


def test_the_same_record_from_many_is_one_message() -> None:
    async def main() -> None:
        async with members(3) as (a, b, c):
            await connect(a, b)
            await connect(c, b)
            a.network.publish_control(b"halt")
            await c.door.sees("heard", b.peer)
            c.network.publish_control(b"halt")
            a.network.publish_control(b"next")
            await c.door.sees("heard", b.peer, skip=1)
            c.network.publish_control(b"last")
            await b.door.sees("heard", c.peer)
            assert b.door.saw("heard", c.peer) == [b"last"]

    trio.run(main)
