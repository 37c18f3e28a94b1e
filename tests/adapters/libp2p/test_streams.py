"""The life and death of connections and streams, as protocols/streams.md says: a foreign client on
a real connection, and what it sees."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response

from swarmllm.adapters.libp2p import NetworkLimits
from swarmllm.adapters.libp2p.agent import own_agent, readable
from swarmllm.adapters.libp2p.asking import OPENINGS_BURST
from swarmllm.adapters.libp2p.link import EXPERT_PROTOCOL
from swarmllm.core.inputs import AskingEnded, PeerConnected, PeerLost, Received
from swarmllm.messages import FRAME_MAX, Busy, Ping, Pong, Score
from swarmllm.messages.goodbye import BREACH, DOUBLE, FOREIGN, LEAVING, OTHER, REFUSED, Goodbye
from swarmllm.wire.codec import EXPERT_REPLIES, EXPERT_REQUESTS, decode
from swarmllm.wire.framing import FrameReader, frame
from tests.adapters.libp2p.halt_stream_support import attacked, link_of, strikes
from tests.adapters.libp2p.support import RawPeer, ended, members, raw_peer, until
from tests.adapters.libp2p.test_hostile import network_of, still_answers
from tests.adapters.libp2p.test_liveness import score
from tests.contracts.network_contract import DEADLINE_S, Member, connect, opening


async def answered(stream: Any, *, count: int = 1) -> list[Any]:
    """So many messages from a stream on which we ask."""
    reader, found = FrameReader(FRAME_MAX), list[Any]()
    with trio.fail_after(DEADLINE_S):
        while len(found) < count:
            found += [decode(body, EXPERT_REPLIES) for body in reader.feed(await stream.read(4096))]
    return found


async def asked(stranger: RawPeer) -> Any:
    """The next stream on which the node asks the stranger; nobody else reads it."""
    send, receive = trio.open_memory_channel[Any](1)

    async def answer(stream: Any) -> None:
        await send.send(stream)
        await trio.sleep_forever()

    stranger.host.set_stream_handler(EXPERT_PROTOCOL, answer, lasting=True)
    with trio.fail_after(DEADLINE_S):
        return await receive.receive()


def listening_for_goodbye(stranger: RawPeer, seen: list[int]) -> None:
    """The stranger answers pings on the node's stream and writes down the goodbye that it reads
    there."""

    async def answer(stream: Any) -> None:
        reader = FrameReader(FRAME_MAX)
        while True:
            for body in reader.feed(await stream.read(4096)):
                match decode(body, EXPERT_REQUESTS):
                    case Ping(nonce):
                        await stream.write(frame(Pong(nonce)))
                    case Goodbye(code):
                        seen.append(code)
                        return
                    case _:
                        pass

    stranger.host.set_stream_handler(EXPERT_PROTOCOL, answer, lasting=True)


# --- streams --------------------------------------------------------------------------------------


def test_a_new_asking_stream_takes_the_place_of_the_old_one_without_a_strike() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        first = await stranger.open(conn, EXPERT_PROTOCOL)
        await first.write(frame(opening(1)) + frame(score(1)))
        await node.hears(Received, lambda one: one.peer == stranger.peer, skip=1)
        second = await stranger.open(conn, EXPERT_PROTOCOL)
        await second.write(frame(Ping(7)) + frame(opening(2)))
        assert await answered(second) == [Pong(7)]
        with trio.fail_after(DEADLINE_S):
            await ended(first)
        await node.hears(Received, lambda one: one.peer == stranger.peer, skip=2)
        mine = [
            one
            for one in node.told
            if isinstance(one, Received | AskingEnded) and one.peer == stranger.peer
        ]
        assert mine[2:] == [AskingEnded(stranger.peer), mine[3]], (
            "the sessions of the old stream end before the new one is read"
        )
        node.network.send(stranger.peer, Busy(2, 0, 9))
        assert await answered(second) == [Busy(2, 0, 9)]
        assert strikes(node, stranger.peer) == 0
        assert node.count(PeerLost) == 0

    attacked(attack)


def test_of_many_asking_streams_at_once_the_newest_counts() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        streams = [await stranger.open(conn, EXPERT_PROTOCOL) for _ in range(int(OPENINGS_BURST))]
        await streams[-1].write(frame(Ping(1)))
        assert await answered(streams[-1]) == [Pong(1)]
        with trio.fail_after(DEADLINE_S):
            for stream in streams[:-1]:
                await ended(stream)
        assert strikes(node, stranger.peer) == 0

    attacked(attack)


def test_asking_streams_that_come_too_often_are_reset_without_a_strike_but_the_first() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        for _ in range(int(OPENINGS_BURST)):
            stream = await stranger.open(conn, EXPERT_PROTOCOL)
            await stream.write(frame(Ping(1)))
            assert await answered(stream) == [Pong(1)]
        with trio.fail_after(DEADLINE_S):
            await ended(await stranger.open(conn, EXPERT_PROTOCOL))
        await stream.write(frame(Ping(2)))
        assert await answered(stream) == [Pong(2)]
        assert strikes(node, stranger.peer) == 0

    attacked(attack, limits=NetworkLimits(asking_openings_per_s=1e-3))


@pytest.mark.parametrize("how", ["half-closed", "reset"])
def test_the_end_of_the_asking_stream_ends_its_sessions_and_not_the_connection(how: str) -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, EXPERT_PROTOCOL)
        await stream.write(frame(opening(1)))
        await node.hears(Received, lambda one: one.peer == stranger.peer)
        await (stream.close_write() if how == "half-closed" else stream.reset())
        assert (await node.hears(AskingEnded)).peer == stranger.peer
        # Nobody is there to read it; that is no fault of anybody.
        node.network.send(stranger.peer, Busy(1, 0, 9))
        again = await stranger.open(conn, EXPERT_PROTOCOL)
        await again.write(frame(Ping(3)))
        assert await answered(again) == [Pong(3)]
        assert node.count(PeerLost) == strikes(node, stranger.peer) == 0
        assert stranger.peer in network_of(node).peers

    attacked(attack)


def test_a_stream_on_which_nothing_was_asked_ends_without_a_word() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        for n in range(3):
            stream = await stranger.open(conn, EXPERT_PROTOCOL)
            await stream.write(frame(Ping(n)))
            assert await answered(stream) == [Pong(n)]
            await stream.close_write()
        with trio.fail_after(DEADLINE_S):
            await ended(stream)
        assert node.count(AskingEnded) == 0

    attacked(attack)


def test_who_ends_our_own_stream_after_it_answered_there_ends_the_connection() -> None:
    async def main() -> None:
        async with members(2) as (node, other), raw_peer() as stranger:
            await connect(other, node)
            held: list[Any] = []
            polite = stranger.host.multiselect.handlers[EXPERT_PROTOCOL]

            async def keep(stream: Any) -> None:
                held.append(stream)
                await polite(stream)

            stranger.host.set_stream_handler(EXPERT_PROTOCOL, keep, lasting=True)
            conn = await stranger.dial(network_of(node))
            await node.hears(PeerConnected, lambda one: one.peer == stranger.peer)
            await held[0].reset()
            lost = await node.hears(PeerLost)
            assert lost.peer == stranger.peer
            assert lost.reason in ("connection reset", "connection closed")
            with trio.fail_after(DEADLINE_S):
                await conn.muxed_conn.event_closed.wait()
            assert strikes(node, stranger.peer) == 0
            await still_answers(node, other)

    trio.run(main)


def test_pings_go_both_ways_on_both_streams_and_pongs_that_nobody_asked_for_are_ignored() -> None:
    async def main() -> None:
        async with members(1) as (node,), raw_peer() as stranger, trio.open_nursery() as nursery:
            nursery.start_soon(stranger.dial, network_of(node))
            theirs = await asked(stranger)
            reader = FrameReader(FRAME_MAX)
            [first] = [
                decode(body, EXPERT_REQUESTS) for body in reader.feed(await theirs.read(4096))
            ]
            assert isinstance(first, Ping)
            await theirs.write(
                frame(Pong(first.nonce))
                + frame(Pong(first.nonce + 1))
                + frame(Pong(0))
                + frame(Ping(77))
            )
            await node.hears(PeerConnected)
            found: list[Any] = []
            with trio.fail_after(DEADLINE_S):
                while Pong(77) not in found:
                    found += [
                        decode(body, EXPERT_REQUESTS)
                        for body in reader.feed(await theirs.read(4096))
                    ]
            conn = link_of(node, stranger.peer).conn
            mine = await stranger.open(stranger.switch.get_connections()[0], EXPERT_PROTOCOL)
            await mine.write(frame(Pong(5)) + frame(Ping(6)))
            assert await answered(mine) == [Pong(6)]
            assert not conn.is_closed
            assert strikes(node, stranger.peer) == node.count(PeerLost) == 0
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_breach_on_an_expert_stream_is_a_strike_and_ends_the_connection_with_a_reason(
    caplog: Any,
) -> None:
    caplog.set_level(logging.INFO, "swarmllm.net")

    async def main() -> None:
        async with members(2) as (node, other), raw_peer() as stranger:
            await connect(other, node)
            seen: list[int] = []
            listening_for_goodbye(stranger, seen)
            conn = await stranger.dial(network_of(node))
            await node.hears(PeerConnected, lambda one: one.peer == stranger.peer)
            stream = await stranger.open(conn, EXPERT_PROTOCOL)
            await stream.write(frame(Busy(1, 1, 1)))
            with trio.fail_after(DEADLINE_S):
                await ended(stream)
            await until(lambda: seen == [BREACH])
            assert strikes(node, stranger.peer) == 1
            await still_answers(node, other)
            ends = [line for line in caplog.messages if "ended after" in line]
            assert len(ends) == 1
            assert stranger.peer in ends[0]
            assert "it dialled" in ends[0]
            assert "broke the protocol" in ends[0]
            assert "the stream that it opened" in ends[0]

    trio.run(main)


# --- goodbyes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "code"), [("leaves", LEAVING), ("hangs up", OTHER), ("refuses", REFUSED)]
)
def test_who_is_hung_up_on_reads_why(why: str, code: int) -> None:
    async def main() -> None:
        seen: list[int] = []
        async with raw_peer() as stranger:
            listening_for_goodbye(stranger, seen)
            async with members(1) as (node,):
                await stranger.dial(network_of(node))
                await node.hears(PeerConnected)
                if why == "hangs up":
                    node.network.hang_up(stranger.peer, "enough")
                elif why == "refuses":
                    for _ in range(3):
                        node.network.penalise(stranger.peer, "lies")
                if why != "leaves":
                    await until(lambda: seen)
            await until(lambda: seen)
        assert seen == [code]

    trio.run(main)


def test_a_refused_peer_that_dials_again_is_told_so_and_the_log_says_it_once(caplog: Any) -> None:
    caplog.set_level(logging.INFO, "swarmllm.net")

    async def main() -> None:
        async with members(2) as (node, other), raw_peer() as stranger:
            await connect(other, node)
            for _ in range(3):
                node.network.penalise(stranger.peer, "lies")
            seen: list[int] = []
            listening_for_goodbye(stranger, seen)
            for n in range(4):
                conn = await stranger.dial(network_of(node))
                with trio.fail_after(DEADLINE_S):
                    await conn.muxed_conn.event_closed.wait()
                assert seen == [REFUSED] * (n + 1)
            about = [line for line in caplog.messages if stranger.peer in line]
            assert sum("is refused for 600 s: lies" in line for line in about) == 1
            assert sum("dialled again and is still refused" in line for line in about) == 1
            await still_answers(node, other)

    trio.run(main)


def test_a_peer_that_says_goodbye_is_lost_for_the_reason_that_it_gave() -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        stream = await stranger.open(conn, EXPERT_PROTOCOL)
        await stream.write(frame(Goodbye(FOREIGN)))
        assert (
            await node.hears(PeerLost)
        ).reason == "it hung up: we do not speak its expert protocol"
        with trio.fail_after(DEADLINE_S):
            await conn.muxed_conn.event_closed.wait()
        assert strikes(node, stranger.peer) == 0

    attacked(attack)


@pytest.mark.parametrize("code", [1, 8, 9, 255])
def test_every_goodbye_has_a_meaning_of_our_own(code: int) -> None:
    assert Goodbye(code).meaning
    assert Goodbye(code).meaning.isascii()


@pytest.mark.parametrize("stranger_decides", [True, False])
def test_two_connections_of_one_peer_end_with_one_and_the_other_reads_that_it_is_a_double(
    stranger_decides: bool,
) -> None:
    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        seen: list[int] = []
        listening_for_goodbye(stranger, seen)
        second = await stranger.dial(network_of(node))
        await until(lambda: conn.is_closed if stranger_decides else second.is_closed)
        # The honest peer's, and one of these.
        await until(lambda: len(network_of(node)._links._by_conn) == 2)
        # On the first one the stranger reads nothing but pings.
        assert seen == ([] if stranger_decides else [DOUBLE])

    attacked(attack, stranger_opens=stranger_decides)


# --- names and hints ------------------------------------------------------------------------------


def test_identify_names_the_product_and_its_version() -> None:
    async def main() -> None:
        async with members(1) as (node,), raw_peer() as stranger:
            stream = await stranger.open(await stranger.dial(network_of(node)), str(IDENTIFY))
            data = b""
            with trio.fail_after(DEADLINE_S):
                while part := await read_to_end(stream):
                    data += part
            assert parse_identify_response(data).agent_version == own_agent()
            assert own_agent().startswith("swarmllm/")

    trio.run(main)


async def read_to_end(stream: Any) -> bytes:
    try:
        return bytes(await stream.read(4096))
    # The library has several types for the end of a stream.
    except Exception:  # noqa: BLE001
        return b""


def test_a_stranger_s_name_for_itself_reaches_the_log_as_plain_letters_only() -> None:
    assert readable("js-libp2p/3.3.11 (node)") == "js-libp2p/3.3.11 (node)"
    assert (
        readable("\x1b]52;c;aGk=\x07[red]\u202e" + "x" * 100)
        == "?]52?c?aGk??".replace("]", "?") + "?red??" + "x" * 46
    )


def test_who_asks_without_a_greeting_is_named_in_the_log_once(caplog: Any) -> None:
    caplog.set_level(logging.INFO, "swarmllm.net")

    async def attack(node: Member, stranger: RawPeer, conn: Any) -> None:
        link_of(node, stranger.peer).began_at -= 10
        stream = await stranger.open(conn, EXPERT_PROTOCOL)
        for n in range(3):
            await stream.write(frame(opening(n)) + frame(score(n)))
        await node.hears(
            Received,
            lambda one: one.peer == stranger.peer and isinstance(one.message, Score),
            skip=2,
        )
        hints = [
            line for line in caplog.messages if "before it has greeted on /swarmllm/halt/2" in line
        ]
        assert len(hints) == 1
        assert stranger.peer in hints[0]

    attacked(attack)


@pytest.mark.parametrize(
    ("how", "meaning"),
    [("hangs up", OTHER), ("refuses", REFUSED), ("breach", BREACH)],
    ids=["hangs up", "refuses", "breach"],
)
def test_a_peer_of_our_own_kind_always_hears_why_before_its_own_stream_is_reset(
    how: str, meaning: int
) -> None:
    async def main() -> None:
        for _ in range(10):
            async with members(2) as (node, other):
                await connect(other, node)
                other.network.send(node.peer, opening(1))
                await node.hears(Received)
                if how == "hangs up":
                    node.network.hang_up(other.peer, "enough")
                elif how == "refuses":
                    for _ in range(3):
                        node.network.penalise(other.peer, "lies")
                else:
                    lane = link_of(other, node.peer)._ask
                    assert lane is not None
                    lane._push(frame(Busy(1, 1, 1)), is_upkeep=False)
                assert (
                    await other.hears(PeerLost)
                ).reason == f"it hung up: {Goodbye(meaning).meaning}"

    trio.run(main)
