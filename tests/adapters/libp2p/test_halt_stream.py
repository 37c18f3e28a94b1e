"""The kill switch's own paths: what they carry passes whatever else goes on, and nothing that comes
along them hurts."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import trio
import trio.testing

from swarmllm.adapters.libp2p import NetworkLimits, NetworkTiming, muxer
from swarmllm.adapters.libp2p.channel_lane import REOPEN_BURST
from swarmllm.adapters.libp2p.lane import write_all
from swarmllm.adapters.libp2p.unread import STREAM_BYTES_MAX
from swarmllm.core.halt.link import QUEUE_MAX
from swarmllm.core.inputs import PeerLost, Received
from swarmllm.messages import HALT_FRAME_MAX, Busy, Halted, Open, Score
from swarmllm.messages.declare import HALT
from swarmllm.runtime.ports import HALT_PROTOCOL
from swarmllm.wire.framing import frame
from tests.adapters.libp2p.halt_stream_support import (
    attacked,
    framed,
    halt_stream,
    link_of,
    strikes,
)
from tests.adapters.libp2p.support import QUICK, RawPeer, ended, member, members, until
from tests.adapters.libp2p.test_hostile import network_of, refused, still_answers
from tests.adapters.libp2p.test_liveness import score
from tests.contracts.network_contract import (
    DEADLINE_S,
    Member,
    connect,
    greet,
    listening,
    meet,
    opening,
)

HALTED = Halted(b"8 bytes.")


BREACHES = {
    "a length of zero": bytes(4),
    "a frame beyond the bound": framed(bytes(HALT_FRAME_MAX + 1)),
    "a length of 4 GiB": b"\xff" * 4,
    "an expert frame of its own size": struct.pack(">I", 1 << 18) + bytes(100),
    "a frame that is not finished": struct.pack(">I", 1000) + b"half",
    "half a length": b"\x00\x00",
}


@pytest.mark.parametrize("stranger_opens", [True, False], ids=["who opens", "who answers"])
@pytest.mark.parametrize("data", BREACHES.values(), ids=BREACHES)
def test_a_broken_frame_is_a_strike_and_costs_the_stream_alone(
    data: bytes, stranger_opens: bool
) -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await halt_stream(node, stranger, conn, stranger_opens)
        await stream.write(framed(b"good"))
        await node.door.sees("received", stranger.peer)
        await stream.write(data)
        with trio.fail_after(DEADLINE_S):
            await ended(stream)
        await node.door.sees("closed", stranger.peer)
        await until(lambda: strikes(node, stranger.peer) == 1)
        assert stranger.peer in network_of(node).peers
        assert node.door.saw("received", stranger.peer) == [b"good"]

    attacked(attack, stranger_opens=stranger_opens, timing=QUICK)


def test_three_broken_frames_and_the_peer_is_refused() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        for _ in range(3):
            stream = await stranger.open(conn, HALT_PROTOCOL)
            await stream.write(bytes(4))
            with trio.fail_after(DEADLINE_S):
                await ended(stream)
        await node.hears(PeerLost, lambda one: one.peer == stranger.peer)
        await refused(stranger, node)

    attacked(attack)


def test_a_control_stream_from_the_side_that_answers_is_a_strike() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, HALT_PROTOCOL)
        with trio.fail_after(DEADLINE_S):
            await ended(stream)
        await until(lambda: strikes(node, stranger.peer) == 1)
        assert node.door.saw("opened", stranger.peer) == []

    attacked(attack, stranger_opens=False)


def test_a_new_control_stream_replaces_the_old_one_and_too_many_are_refused() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        streams = []
        for n in range(int(REOPEN_BURST)):
            streams.append(await stranger.open(conn, HALT_PROTOCOL))
            await node.door.sees("opened", stranger.peer, skip=n)
        await streams[-1].write(framed(b"the last one counts"))
        assert await node.door.sees("received", stranger.peer) == b"the last one counts"
        with trio.fail_after(DEADLINE_S):
            await ended(streams[0])
            await ended(await stranger.open(conn, HALT_PROTOCOL))
        calls = [what for what, peer, _ in node.door.calls if peer == stranger.peer]
        assert calls == ["opened", *["closed", "opened"] * (int(REOPEN_BURST) - 1), "received"]
        assert strikes(node, stranger.peer) == 0

    attacked(attack, limits=NetworkLimits(channel_openings_per_s=1e-3))


def test_an_endless_stream_of_frames_is_read_slowly_and_held_in_bounds() -> None:
    limits = NetworkLimits(channel_bytes_per_s=16.0 * HALT_FRAME_MAX)

    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, HALT_PROTOCOL)
        sent, began = 0, trio.current_time()

        async def endless() -> None:
            nonlocal sent
            while True:
                await write_all(stream, framed(bytes(HALT_FRAME_MAX)))
                sent += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(endless)
            await node.door.sees("received", stranger.peer, skip=50)
            taken = len(node.door.saw("received", stranger.peer))
            # Two seconds' worth at once, then 16 a second.
            assert trio.current_time() - began > (50 - 2 * 16) / 16 - 0.1
            theirs = link_of(node, stranger.peer).conn.muxed_conn
            held = sum(map(len, theirs.stream_buffers.values()))
            assert held <= STREAM_BYTES_MAX
            assert sent <= taken + 1 + (STREAM_BYTES_MAX + 4 * HALT_FRAME_MAX) // HALT_FRAME_MAX
            nursery.cancel_scope.cancel()
        assert strikes(node, stranger.peer) == 0

    attacked(attack, limits=limits)


def test_a_peer_that_reads_no_control_frames_is_lost_when_its_queue_is_full_of_what_matters() -> (
    None
):
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        await halt_stream(node, stranger, conn, stranger_opens=True)
        for _ in range(10 * QUEUE_MAX):
            node.network.send_frame(HALT, stranger.peer, bytes(HALT_FRAME_MAX), droppable=True)
        assert stranger.peer in network_of(node).peers
        for _ in range(QUEUE_MAX):
            node.network.send_frame(HALT, stranger.peer, b"matters")
        assert stranger.peer in network_of(node).peers
        node.network.send_frame(HALT, stranger.peer, b"matters")
        assert (await node.hears(PeerLost)).reason == "halt queue full"

    attacked(attack)


@pytest.mark.parametrize("who", ["opened", "answered"])
def test_a_control_stream_that_is_reset_is_opened_again_and_begins_anew(who: str) -> None:
    async def main() -> None:
        async with members(2, timing=NetworkTiming(channel_retry_min_s=0.01)) as both:
            a, b = both
            for one in both:
                greet(one)
            await meet(a, b)
            await a.door.sees("received")
            await b.door.sees("received")
            resets, sees = sorted(both, key=lambda one: one.peer, reverse=who == "answered")
            lane = link_of(resets, sees.peer).channels[HALT]
            assert lane.opens == (who == "opened")
            lane._scope.cancel()
            for one, other in ((a, b), (b, a)):
                await one.door.sees("received", skip=1)
                calls = [("opened", b""), ("received", other.peer.encode())]
                assert [(what, data) for what, _, data in one.door.calls] == [
                    *calls,
                    ("closed", b""),
                    *calls,
                ]
                lane = link_of(one, other.peer).channels[HALT]
                assert link_of(one, other.peer).conn.muxed_conn.urgent == {
                    lane._stream.muxed_stream.stream_id
                }
            await still_answers(a, b)

    trio.run(main)


def test_a_peer_without_a_kill_switch_stays_connected_and_is_never_opened() -> None:
    async def main() -> None:
        async with members(1) as (node,), members(1, channels=()) as (old,):
            await connect(node, old)
            await still_answers(node, old)
            node.network.send_frame(HALT, old.peer, b"hello?")
            old.network.send_frame(HALT, node.peer, b"hello?")
            old.network.publish(HALT, b"nobody hears this")
            await still_answers(node, old)
            assert node.door.calls == []
            assert HALT_PROTOCOL not in network_of(old)._host.get_mux().get_protocols()

    trio.run(main)


def test_frames_pass_while_no_side_reads_an_expert_stream_and_halted_replaces_what_waits() -> None:
    async def main() -> None:
        limits = NetworkLimits(inputs_max=2)
        async with member(limits=limits) as a, member(limits=limits) as b:
            a.network.dial(b.peer, b.network.addrs)
            await a.door.sees("opened")
            await b.door.sees("opened")
            asking, answering = link_of(a, b.peer)._ask, link_of(b, a.peer)._ask
            assert asking is not None
            assert answering is not None
            for session in range(50):
                a.network.send(b.peer, score(session, tokens=16_000))
                b.network.send(a.peer, score(session, tokens=16_000))
            await until(
                lambda: (
                    len(asking._queue) == len(answering._queue)
                    and is_stuck(a, b)
                    and is_stuck(b, a)
                )
            )
            stuck = len(asking._queue)
            assert stuck > 30
            for n in range(5):  # The library gives a stream without a window up after five seconds.
                a.network.send_frame(HALT, b.peer, bytes([n]))
                assert await b.door.sees("received", skip=n) == bytes([n])
                b.network.send_frame(HALT, a.peer, bytes([n]))
                assert await a.door.sees("received", skip=n) == bytes([n])
            assert len(asking._queue) == len(answering._queue) == stuck
            a.network.end_streams(HALTED)
            assert [data for data, is_upkeep in asking._queue if not is_upkeep] == [frame(HALTED)]
            async with listening([a, b]):
                # On each of the two streams.
                await b.hears(Received, lambda one: one.message == HALTED, skip=1)
                received = [one.message for one in b.told if isinstance(one, Received)]
                assert sum(isinstance(one, Score) for one in received) == 50 - stuck
                await a.hears(Received, lambda one: isinstance(one.message, Score), skip=49)
                await still_answers(a, b)

    trio.run(main)


def is_stuck(sender: Member, receiver: Member) -> bool:
    """The sender's stream has no window left, because the receiver does not read."""
    lane = link_of(sender, receiver.peer)._ask
    return lane is not None and lane.stream.muxed_stream.send_window == 0


def test_an_expert_that_halts_tells_who_asked_and_whom_it_asked() -> None:
    async def main() -> None:
        async with members(2) as (a, b):
            await connect(a, b)
            a.network.send(b.peer, HALTED)  # By itself, too, in answer to a request.
            assert (await b.hears(Received)).message == HALTED
            a.network.send(b.peer, opening(1))
            b.network.send(a.peer, Busy(1, 0, 0))
            await a.hears(Received)
            await b.hears(Received, lambda one: isinstance(one.message, Open))

    trio.run(main)


def test_urgent_frames_take_their_turn_first_and_a_cancelled_one_loses_nobody_else_s() -> None:
    async def main() -> None:
        turns = muxer.Turns()
        order: list[str] = []

        async def write(name: str, urgent: bool) -> None:
            async with turns.turn(urgent):
                order.append(name)
                await trio.testing.wait_all_tasks_blocked()

        async with trio.open_nursery() as nursery:
            async with turns.turn(urgent=False):
                async with trio.open_nursery() as given_up:
                    given_up.start_soon(write, "given up", True)
                    for n, urgent in enumerate([False, False, True, False, True]):
                        nursery.start_soon(write, f"{'urgent' if urgent else 'plain'} {n}", urgent)
                        await trio.testing.wait_all_tasks_blocked()
                    given_up.cancel_scope.cancel()
        assert order == ["urgent 2", "urgent 4", "plain 0", "plain 1", "plain 3"]
        async with turns.turn(urgent=False):
            order.append("free again")

    trio.run(main)
