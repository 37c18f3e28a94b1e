"""What no peer is struck for: whatever a library decides, its own or ours
(protocols/strikes.md)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from libp2p.network.stream.exceptions import StreamError
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed

from swarmllm.adapters.libp2p.gossip import RPC_BYTES_MAX, RPC_ITEMS_MAX
from swarmllm.adapters.libp2p.link import EXPERT_PROTOCOL
from tests.adapters.libp2p.halt_stream_support import attacked, rpc, signed_gossip, strikes
from tests.adapters.libp2p.support import RawPeer, ended
from tests.adapters.libp2p.test_hostile import CORPUS, GOSSIP, TOPIC, network_of
from tests.contracts.network_contract import DEADLINE_S, Member

JUNK = [(protocol, data) for protocol, _, data in CORPUS if protocol != EXPERT_PROTOCOL]


def test_junk_on_what_libraries_speak_is_no_strike() -> None:  # STRIKE-1
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        async def send(protocol: str, data: bytes) -> None:
            stream = await stranger.open(conn, protocol)
            try:
                await stream.write(data)
                await stream.close_write()
            except StreamError:
                return  # Reset in the middle of it, which is as well.
            with trio.fail_after(DEADLINE_S):
                await ended(stream)

        for at in range(0, len(JUNK), 6):
            async with trio.open_nursery() as nursery:
                for protocol, data in JUNK[at : at + 6]:
                    nursery.start_soon(send, protocol, data)
            assert strikes(node, stranger.peer) == 0
        assert stranger.peer in network_of(node).peers, (
            "three such streams and more, and the connection lives"
        )

    attacked(attack)


@pytest.mark.parametrize(
    "first",
    [
        rpc(*[rpc_pb2.Message(data=b"x" * 1000, topicIDs=["other"]) for _ in range(40)]),
        encode_varint_prefixed(rpc_pb2.RPC(senderRecord=b"no envelope").SerializeToString()),
        encode_varint_prefixed(
            rpc_pb2.RPC(
                subscriptions=[
                    rpc_pb2.RPC.SubOpts(subscribe=True, topicid="t")
                    for _ in range(RPC_ITEMS_MAX + 1)
                ]
            ).SerializeToString()
        ),
    ],
    ids=[
        "a frame that is too long for us",
        "an address record that is none",
        "more entries than are looked at",
    ],
)
# STRIKE-1
def test_a_frame_of_another_library_is_passed_over_and_the_next_one_is_heard(first: bytes) -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, GOSSIP)
        await stream.write(first + rpc(signed_gossip(stranger, TOPIC, b"the next")))
        await node.door.sees("heard", stranger.peer)
        assert node.door.saw("heard") == [b"the next"]
        assert strikes(node, stranger.peer) == 0

    assert len(first) > RPC_BYTES_MAX or len(first) < 1000
    attacked(attack)
