"""What a stranger does to the kill switch's paths, and what a node is left with."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import trio
import trio.testing
from libp2p.host.exceptions import StreamFailure
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed

from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.libp2p.lane import StreamEnded, write_all
from swarmllm.adapters.libp2p.link import EXPERT_PROTOCOL, Link
from swarmllm.core.inputs import PeerConnected
from swarmllm.messages import PeerId
from swarmllm.messages.declare import HALT
from swarmllm.runtime.ports import HALT_PROTOCOL
from swarmllm.wire.framing import frame
from tests.adapters.libp2p.support import RawPeer, members, raw_peer
from tests.adapters.libp2p.test_hostile import GOSSIP, TOPIC, network_of, still_answers
from tests.contracts.network_contract import DEADLINE_S, Member, meet, opening


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def key_that(fits: Callable[[PeerId], bool]) -> KeyFile:
    """A key whose peer id fits: the smaller id opens the halt stream."""
    while not fits((key := ephemeral_key()).peer):
        pass
    return key


def link_of(node: Member, peer: PeerId) -> Link:
    link = network_of(node)._links.of(peer)
    assert link is not None
    return link


def strikes(node: Member, peer: PeerId) -> int:
    return network_of(node)._links._strikes._count(peer, trio.current_time())


Attack = Callable[[Member, RawPeer, Any], Awaitable[None]]


def attacked(attack: Attack, *, stranger_opens: bool = True, **changes: Any) -> None:
    """Run one attack by a stranger with a connection, and see that the node still answers an honest
    peer on every path."""

    async def main() -> None:
        async with members(2, **changes) as (node, other):
            key = key_that(lambda peer: (peer < node.peer) == stranger_opens)
            async with raw_peer(key=key) as stranger:
                await meet(other, node)
                conn = await stranger.dial(network_of(node))
                await node.hears(PeerConnected, lambda one: one.peer == stranger.peer)
                await attack(node, stranger, conn)
            await still_answers(node, other)
            other.network.send_frame(HALT, node.peer, b"still there")
            before = len(other.door.saw("received"))
            node.network.send_frame(HALT, other.peer, b"yes")
            assert await node.door.sees(
                "received",
                other.peer,
                skip=node.door.saw("received", other.peer).count(b"still there"),
            )
            assert await other.door.sees("received", node.peer, skip=before) == b"yes"

    trio.run(main)


async def halt_stream(node: Member, stranger: RawPeer, conn: Any, stranger_opens: bool) -> Any:
    """The stranger's end of a halt stream that is up."""
    if stranger_opens:
        stream = await stranger.open(conn, HALT_PROTOCOL)
    else:
        stream = await answered(stranger)
    await node.door.sees("opened", stranger.peer)
    return stream


async def answered(stranger: RawPeer) -> Any:
    """The next halt stream that is opened to the stranger; it keeps it open."""
    send, receive = trio.open_memory_channel[Any](1)

    async def answer(stream: Any) -> None:
        await send.send(stream)
        await trio.sleep_forever()

    stranger.host.set_stream_handler(HALT_PROTOCOL, answer, lasting=True)
    with trio.fail_after(DEADLINE_S):
        return await receive.receive()


def signed_gossip(raw: RawPeer, topic: str, data: bytes) -> rpc_pb2.Message:
    """A gossip message that every signature check passes."""
    message = rpc_pb2.Message(
        data=data, topicIDs=[topic], from_id=raw.host.get_id().to_bytes(), seqno=data[:8]
    )
    message.signature = raw.host.get_private_key().sign(
        b"libp2p-pubsub:" + message.SerializeToString()
    )
    message.key = raw.host.get_public_key().serialize()
    return message


def rpc(*messages: rpc_pb2.Message) -> bytes:
    return bytes(encode_varint_prefixed(rpc_pb2.RPC(publish=messages).SerializeToString()))


FLOOD = [struct.pack(">Q", n) + bytes(400) for n in range(500)]
"""What a flooder gossips: no door wants it."""


class Flooder:
    """Sends everything at once, as fast as the node takes it: requests, and gossip that passes
    every check but is too much."""

    def __init__(self, raw: RawPeer) -> None:
        self._raw = raw
        records = [signed_gossip(raw, TOPIC, data) for data in FLOOD]
        self._records = [rpc(*records[n : n + 20]) for n in range(0, len(records), 20)]
        self._requests = b"".join(frame(opening(n)) for n in range(500))

    async def connect(self, network: Any) -> None:
        """`network` needs no more than `addrs` and `peer`."""
        self._conn = await self._raw.dial(network)
        self._expert, self._gossip = (
            await self._raw.open(self._conn, EXPERT_PROTOCOL),
            await self._raw.open(self._conn, GOSSIP),
        )

    async def run(self, *, asks: bool = True) -> None:
        """Until the node has got rid of us. Without `asks` gossip alone, which it puts up with for
        longer."""
        async with trio.open_nursery() as nursery:
            if asks:
                nursery.start_soon(self._endlessly, self._expert, itertools.repeat(self._requests))
            with suppress(StreamFailure):
                while True:
                    await self._endlessly(self._gossip, itertools.cycle(self._records))
                    self._gossip = await self._raw.open(self._conn, GOSSIP)

    async def _endlessly(self, stream: Any, data: Iterable[bytes]) -> None:
        """Until the library gives up, after five seconds without a window."""
        with suppress(StreamEnded):
            for one in data:
                await write_all(stream, one)
