"""Halt records by gossip: first everywhere, in a budget of their own, and under every flood."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import trio
import trio.testing
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed

from swarmllm.adapters.libp2p import NetworkLimits
from swarmllm.core.inputs import Received
from swarmllm.messages import CHARTER_RECORD_MAX
from swarmllm.messages.declare import HALT
from tests.adapters.libp2p.halt_stream_support import (
    FLOOD,
    Flooder,
    attacked,
    rpc,
    signed_gossip,
    strikes,
)
from tests.adapters.libp2p.support import RawPeer, ended, members, raw_peer, until
from tests.adapters.libp2p.test_hostile import GOSSIP, TOPIC, network_of, still_answers
from tests.contracts.network_contract import DEADLINE_S, Member, about, connect, meet


def test_frames_and_records_pass_under_four_flooders() -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            node, other, beyond = await stack.enter_async_context(members(3))
            node.door.refused.update(FLOOD)
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
                    await node.hears(Received, about(raw.peer), skip=40)
                for n in range(5):
                    other.network.send_frame(HALT, node.peer, bytes([n]))
                    assert await node.door.sees("received", other.peer, skip=n) == bytes([n])
                    node.network.send_frame(HALT, other.peer, bytes([n]))
                    assert await other.door.sees("received", node.peer, skip=n) == bytes([n])
                other.network.publish(HALT, b"halt")
                assert await beyond.door.sees("heard", node.peer) == b"halt"
                assert beyond.door.saw("received") == []  # It came by gossip alone, over two hops.
                nursery.cancel_scope.cancel()
            await still_answers(node, other)

    trio.run(main)


def own_talk() -> rpc_pb2.RPC:
    """What gossip says of itself."""
    return rpc_pb2.RPC(
        control=rpc_pb2.ControlMessage(
            ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"00" * 32])]
        )
    )


def test_a_full_queue_to_a_peer_makes_room_for_a_control_record() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        gossip = network_of(node)._gossip
        assert gossip is not None
        pubsub = gossip._pubsub
        await until(lambda: stranger.host.get_id() not in pubsub.peers and pubsub.peers)
        ((peer, queue),) = pubsub.peer_queues.items()
        while queue.push(own_talk()):
            pass
        full = len(queue)
        pubsub.router.send_rpc(
            peer, rpc_pb2.RPC(publish=[signed_gossip(stranger, TOPIC, b"8 bytes.")])
        )
        assert len(queue) == full
        assert list(queue._queue.pop().publish[0].topicIDs) == [TOPIC]

    attacked(attack)


def test_what_gossip_says_of_itself_beyond_its_budget_leaves_that_of_records_alone() -> None:
    limits = NetworkLimits(gossip_per_s=1.0, gossip_control_per_s=50.0)

    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, GOSSIP)
        talk = bytes(encode_varint_prefixed(own_talk().SerializeToString()))
        records = [signed_gossip(stranger, TOPIC, bytes([n]) * 8) for n in range(30)]
        await stream.write(talk * 200 + rpc(*records) + talk)
        await node.door.sees("heard", stranger.peer, skip=29)
        assert node.door.saw("heard") == [bytes([n]) * 8 for n in range(30)]

    attacked(attack, limits=limits)


def test_gossip_on_another_topic_is_not_looked_at() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, GOSSIP)
        other = signed_gossip(stranger, "/swarmllm/test/capacity/1", b"8 bytes.")
        await stream.write(rpc(other, signed_gossip(stranger, TOPIC, b"the last")))
        await node.door.sees("heard", stranger.peer)
        assert node.door.saw("heard") == [b"the last"]

    attacked(attack)


def test_control_records_beyond_their_own_budget_wait_and_none_is_lost() -> None:
    limits = NetworkLimits(gossip_control_per_s=20.0)

    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, GOSSIP)
        messages = [signed_gossip(stranger, TOPIC, bytes([n]) * 8) for n in range(60)]
        began = trio.current_time()
        await stream.write(rpc(*messages))
        await node.door.sees("heard", stranger.peer, skip=59)
        assert trio.current_time() - began >= (60 - 40) / limits.gossip_control_per_s - 0.01

    attacked(attack, limits=limits)


def test_the_door_looks_before_the_signature_on_the_copy_does_and_what_it_refuses_costs_none() -> (
    None
):
    """Records prove themselves. One whose copy was spoilt on the way is acted on, and goes no
    further."""

    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        pubsub = network_of(node)._gossip._pubsub  # type: ignore[union-attr]
        passed: list[bytes] = []
        publish = pubsub.router.publish

        async def watched(forwarder: Any, message: Any) -> None:
            passed.append(bytes(message.data))
            await publish(forwarder, message)

        pubsub.router.publish = watched
        node.door.refused.add(b"refused.")
        spoilt = signed_gossip(stranger, TOPIC, b"spoilt..")
        spoilt.signature = bytes(64)
        good = signed_gossip(stranger, TOPIC, b"and good")
        stream = await stranger.open(conn, GOSSIP)
        await stream.write(rpc(signed_gossip(stranger, TOPIC, b"refused."), spoilt, good))
        await node.door.sees("heard", stranger.peer, skip=2)
        await until(lambda: bool(passed))
        assert node.door.saw("heard") == [b"refused.", b"spoilt..", b"and good"]
        assert passed == [b"and good"]
        await stream.write(rpc(good, signed_gossip(stranger, TOPIC, b"the last")))
        await node.door.sees("heard", stranger.peer, skip=3)
        # What has been passed on is not even shown to the door again.
        assert node.door.saw("heard")[3:] == [b"the last"]

    attacked(attack)


def test_frames_of_gossip_beyond_their_budget_are_read_more_slowly() -> None:
    limits = NetworkLimits(gossip_frames_per_s=20.0)

    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, GOSSIP)
        began = trio.current_time()
        await stream.write(
            b"".join(rpc() for _ in range(60)) + rpc(signed_gossip(stranger, TOPIC, b"the last"))
        )
        await node.door.sees("heard", stranger.peer)
        assert trio.current_time() - began >= (60 - 40) / limits.gossip_frames_per_s - 0.01

    attacked(attack, limits=limits)


def test_a_control_record_that_is_too_long_is_a_strike() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, GOSSIP)
        await stream.write(rpc(signed_gossip(stranger, TOPIC, bytes(CHARTER_RECORD_MAX + 1))))
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
            a.network.publish(HALT, b"halt")
            await c.door.sees("heard", b.peer)
            c.network.publish(HALT, b"halt")
            a.network.publish(HALT, b"next")
            await c.door.sees("heard", b.peer, skip=1)
            c.network.publish(HALT, b"last")
            await b.door.sees("heard", c.peer)
            assert b.door.saw("heard", c.peer) == [b"last"]

    trio.run(main)
