"""Whatever a peer sends, on whatever protocol, ends at most its own connection: the node then still
answers another peer."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils.varint import encode_varint_prefixed

from swarmllm.adapters.libp2p import NetworkLimits, NetworkTiming, muxer
from swarmllm.adapters.libp2p.link import EXPERT_PROTOCOL
from swarmllm.adapters.libp2p.network import Libp2pNetwork
from swarmllm.core.inputs import DialFailed, PeerConnected, PeerLost, Received
from swarmllm.messages import FRAME_MAX, Busy, Pong
from swarmllm.wire.framing import frame
from tests.adapters.libp2p.support import QUICK, RawPeer, ended, members, raw_peer
from tests.contracts.network_contract import DEADLINE_S, Member, connect, opening

KAD = "/swarmllm/test/kad/2"
GOSSIP = str(PROTOCOL_ID_V11)
IDENTIFY_PUSH = "/ipfs/id/push/1.0.0"
PING = "/ipfs/ping/1.0.0"
TOPIC = "/swarmllm/test/halt/2"


def message(**fields: Any) -> bytes:
    """A gossip frame with one message."""
    defaults = {
        "data": b"x",
        "topicIDs": [TOPIC],
        "from_id": b"junk",
        "seqno": b"1",
        "signature": b"s",
        "key": b"k",
    }
    rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message(**(defaults | fields))])
    return bytes(encode_varint_prefixed(rpc.SerializeToString()))


JUNK = {
    "junk": b"\x00\xff\xfe junk that is no message of any protocol " * 8,
    "2^62 as a big-endian length": (1 << 62).to_bytes(8, "big") + bytes(64),
    "2^62 as a varint": b"\x80\x80\x80\x80\x80\x80\x80\x80\x40" + bytes(64),
    "an endless varint": b"\xff" * 64,
    "zeros": bytes(256),
    "an empty frame and one bad byte": b"\x01\xc1",
}

EXPERT = {
    "length of zero": bytes(4),
    "length beyond the bound": struct.pack(">I", FRAME_MAX + 1),
    "length of 4 GiB": b"\xff" * 4,
    "no message": struct.pack(">I", 3) + b"\xc1\xc1\xc1",
    "unknown type": struct.pack(">I", 3) + b"\x92\x7f\x00",
    "a reply where requests belong": frame(Busy(1, 1, 1)),
    "a pong to no ping, and an end": frame(Pong(1)),
    "msgpack nested without end": struct.pack(">I", 4000) + b"\x91" * 4000,
}

GOSSIPED = {
    "undecodable key and author": message(),
    "author that is no multihash": message(from_id=b""),
    "author that hashes elsewhere": message(from_id=b"\x12\x20" + bytes(32)),
    "topic of somebody else": message(topicIDs=["other"]),
    "no topic": message(topicIDs=[]),
    "length beyond the bound": b"\x81\x80\x02" + bytes(64),
    "many subscriptions": encode_varint_prefixed(
        rpc_pb2.RPC(
            subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"t{n}") for n in range(500)]
        ).SerializeToString()
    ),
    "ids that are no ids": encode_varint_prefixed(
        rpc_pb2.RPC(
            control=rpc_pb2.ControlMessage(
                ihave=[rpc_pb2.ControlIHave(topicID=TOPIC)],
                graft=[rpc_pb2.ControlGraft(topicID="none")],
            )
        ).SerializeToString()
    ),
}

CORPUS = [
    *(
        (protocol, name, data)
        for protocol in (EXPERT_PROTOCOL, GOSSIP, KAD, IDENTIFY_PUSH, PING)
        for name, data in JUNK.items()
    ),
    *((EXPERT_PROTOCOL, name, data) for name, data in EXPERT.items()),
    *((GOSSIP, name, data) for name, data in GOSSIPED.items()),
]


async def closed(stream: trio.SocketStream) -> None:
    """Until the other side has closed or reset the socket."""
    with trio.fail_after(DEADLINE_S):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            return


async def still_answers(node: Member, other: Member) -> None:
    """A request goes through in both directions, over the connection that was there before."""
    before = len(node.told)
    told = other.count(Received), node.count(Received)
    node.network.send(other.peer, opening(1))
    other.network.send(node.peer, opening(2))
    await other.hears(Received, skip=told[0])
    await node.hears(Received, skip=told[1])
    assert not [
        one for one in node.told[before:] if isinstance(one, PeerLost) and one.peer == other.peer
    ]


def attacked(attack: Callable[[Member, Any], Awaitable[None]], **changes: Any) -> None:
    """Run one attack on a node that is connected to an honest peer, and see that it answers that
    peer afterwards."""

    async def main() -> None:
        async with members(2, **changes) as (node, other):
            await connect(other, node)
            await attack(node, raw_peer)
            await still_answers(node, other)

    trio.run(main)


def network_of(node: Member) -> Libp2pNetwork:
    assert isinstance(node.network, Libp2pNetwork)
    return node.network


def test_every_malformed_input_on_every_protocol_ends_at_most_its_own_connection() -> None:
    async def attack(node: Member, raw: Any) -> None:
        for protocol, name, data in CORPUS:
            async with raw() as stranger:
                conn = await stranger.dial(network_of(node))
                stream = await stranger.open(conn, protocol)
                await stream.write(data)
                await stream.close_write()
                with trio.fail_after(DEADLINE_S):
                    await ended(stream)
            assert network_of(node).peers, f"{protocol}, {name}: the honest peer was lost"

    attacked(attack)


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe\xfd\n", b"/" + b"x" * 5_000 + b"\n", b"no newline"],
    ids=["not UTF-8", "too long", "unfinished"],
)
def test_a_protocol_name_that_is_none_resets_the_stream(data: bytes) -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            conn = await stranger.dial(network_of(node))
            stream = await conn.new_stream()
            await stream.write(
                encode_varint_prefixed(b"/multistream/1.0.0\n") + encode_varint_prefixed(data)
            )
            with trio.fail_after(DEADLINE_S):
                await ended(stream)

    attacked(attack)


def test_a_length_of_2_to_62_before_the_handshake_ends_the_connection() -> None:
    async def attack(node: Member, raw: Any) -> None:
        host, port = node.network.addrs[0].split("/")[2:5:2]
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(JUNK["2^62 as a varint"])
            await closed(stream)

    attacked(attack)


def test_a_socket_that_says_nothing_is_closed_and_counted_no_longer() -> None:
    async def attack(node: Member, raw: Any) -> None:
        host, port = node.network.addrs[0].split("/")[2:5:2]
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await closed(stream)
        assert network_of(node)._switch.admission.half_open == 0

    attacked(attack, timing=NetworkTiming(handshake_within_s=0.5))


@pytest.mark.parametrize(
    "begun",
    [b"\x00", struct.pack(">I", 1000) + b"\x91"],
    ids=["one byte of the length", "one of the body"],
)
def test_an_expert_frame_that_is_not_finished_is_cut_off(begun: bytes) -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger, trio.open_nursery() as nursery:
            conn = await stranger.dial(network_of(node))
            stream = await stranger.open(conn, EXPERT_PROTOCOL)
            await stream.write(begun)

            async def trickle() -> None:
                for _ in range(100):
                    await trio.sleep(0.05)
                    await stream.write(b"\x00")

            nursery.start_soon(trickle_until_reset, trickle)
            with trio.fail_after(DEADLINE_S):
                await ended(stream)
            nursery.cancel_scope.cancel()

    attacked(attack, timing=QUICK)


async def trickle_until_reset(trickle: Callable[[], Awaitable[None]]) -> None:
    """One byte after the other; that the stream is gone at last is the point."""
    try:
        await trickle()
    # Whatever the library raises for a dead stream.
    except Exception:  # noqa: BLE001
        return


def test_a_gossip_frame_that_is_not_finished_is_cut_off() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            stream = await stranger.open(await stranger.dial(network_of(node)), GOSSIP)
            await stream.write(b"\xc8\x01half")
            with trio.fail_after(DEADLINE_S):
                await ended(stream)

    attacked(attack, timing=QUICK)


def test_a_muxer_frame_beyond_the_window_ends_the_connection() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            conn = await stranger.dial(network_of(node))
            stream = await conn.new_stream()
            size = muxer.FRAME_BYTES_MAX + 1
            await conn.muxed_conn._write_frame(
                struct.pack(
                    yamux.YAMUX_HEADER_FORMAT,
                    0,
                    yamux.TYPE_DATA,
                    0,
                    stream.muxed_stream.stream_id,
                    size,
                )
            )
            with trio.fail_after(DEADLINE_S):
                await ended(stream)
                await conn.muxed_conn.event_closed.wait()

    attacked(attack)


def test_more_streams_than_allowed_are_reset_and_the_rest_served() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            conn = await stranger.dial(network_of(node))
            streams = [await conn.new_stream() for _ in range(12)]
            with trio.fail_after(DEADLINE_S):
                await ended(streams[-1])
                # The first ones still negotiate: each has sent its own greeting.
                assert await streams[0].read(1) != b""

    attacked(attack, limits=NetworkLimits(streams_per_peer_max=4))


def test_three_broken_frames_and_the_peer_is_refused() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            for _ in range(3):
                stream = await stranger.open(await stranger.dial(network_of(node)), EXPERT_PROTOCOL)
                await stream.write(EXPERT["no message"])
                with trio.fail_after(DEADLINE_S):
                    await ended(stream)
            await refused(stranger, node)
            node.network.dial(stranger.peer, ("/ip4/127.0.0.1/tcp/1",))
            assert "refused" in (await node.hears(DialFailed)).reason

    attacked(attack)


async def refused(stranger: RawPeer, node: Member) -> None:
    """Neither a stream nor a connection is to be had."""
    with trio.fail_after(DEADLINE_S):
        conn = await stranger.dial(network_of(node))
        await conn.muxed_conn.event_closed.wait()


def test_a_peer_that_accepts_and_says_nothing_is_given_up() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw(polite=False) as stranger:
            conn = await stranger.dial(network_of(node))
            with trio.fail_after(DEADLINE_S):
                await conn.muxed_conn.event_closed.wait()
            assert all(
                one.peer != stranger.peer for one in node.told if isinstance(one, PeerConnected)
            )

    attacked(attack, timing=QUICK)


def test_300_inbound_connections_in_one_lifetime() -> None:
    """Fault 2: the library stops accepting after 250."""

    async def attack(node: Member, raw: Any) -> None:
        for _ in range(300):
            async with raw() as stranger:
                conn = await stranger.dial(network_of(node))
                conn.muxed_conn.abort()

    attacked(attack)


def test_connections_beyond_the_limit_of_one_address_are_refused() -> None:
    async def attack(node: Member, raw: Any) -> None:
        host, port = node.network.addrs[0].split("/")[2:5:2]
        held = [await trio.open_tcp_stream(host, int(port)) for _ in range(3)]
        with trio.fail_after(DEADLINE_S):
            assert await held[0].receive_some()  # Its greeting.
            extra = await trio.open_tcp_stream(host, int(port))
            await closed(extra)
        for stream in (*held, extra):
            await stream.aclose()

    attacked(attack, limits=NetworkLimits(per_loopback_max=4))  # One is the honest peer's.


def test_a_flood_of_requests_is_slowed_and_not_dropped() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            conn = await stranger.dial(network_of(node))
            await node.hears(PeerConnected, lambda one: one.peer == stranger.peer)
            stream = await stranger.open(conn, EXPERT_PROTOCOL)
            await stream.write(b"".join(frame(opening(n)) for n in range(600)))
            await node.hears(Received, lambda one: one.peer == stranger.peer, skip=599)

    attacked(attack, limits=NetworkLimits(messages_per_s=500.0, inputs_max=8))
