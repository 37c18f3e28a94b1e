"""What peers send and nobody reads is bounded for each connection and for all together, and nothing
of it outlives its stream."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from libp2p.stream_muxer.yamux import yamux

from swarmllm.adapters.libp2p import NetworkLimits
from swarmllm.adapters.libp2p.muxer import _Streams
from swarmllm.adapters.libp2p.unread import STREAM_BYTES_MAX, Buffers, Overrun, Share, Unread
from tests.adapters.libp2p.support import RawPeer, ended, until
from tests.adapters.libp2p.test_hostile import attacked, network_of
from tests.contracts.network_contract import DEADLINE_S, Member

PER_CONNECTION, PER_NODE = 1_000, 2_500
WINDOW = yamux.DEFAULT_WINDOW_SIZE


class Line:
    """One connection as the account sees it."""

    def __init__(self, account: Unread) -> None:
        self.open = True
        self.breaches = 0
        self.share: Share = account.share(self._give_way, self._breach)
        self.buffers = Buffers(self.share)

    def _give_way(self, reason: str) -> None:
        self.open = False

    def _breach(self, reason: str) -> None:
        self.breaches += 1

    @property
    def buffered(self) -> int:
        return sum(map(len, self.buffers.values()))


Steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["open", "receive", "receive", "receive", "read", "reset", "replace", "close"]
        ),
        st.integers(0, 4),
        st.integers(0, 3),
        st.integers(0, 700),
    ),
    max_size=80,
)


@given(Steps)
def test_whatever_peers_do_what_is_counted_is_what_is_held_and_within_bounds(
    steps: list[tuple[str, int, int, int]],
) -> None:
    account = Unread(PER_CONNECTION, PER_NODE)
    lines = [Line(account) for _ in range(5)]
    for what, number, stream, amount in steps:
        line = lines[number]
        buffers = line.buffers
        before = {one: one.buffered for one in lines}
        match what:
            case "open" if stream not in buffers and line.open:
                buffers[stream] = bytearray()
            case "receive" if stream in buffers and line.open:
                try:
                    buffers[stream].extend(bytes(amount))
                except Overrun:
                    assert (
                        before[line] + amount > PER_CONNECTION
                        or sum(before.values()) + amount > PER_NODE
                    )
                    line.share.close()  # As the connection does.
                    line.open = False
            case "read" if stream in buffers:
                del buffers[stream][:amount]
            case "reset":
                buffers.pop(stream, None)
            case "replace" if stream in buffers and line.open:
                buffers[stream] = bytearray()
            case "close":
                buffers.clear()
            case _:
                pass
        assert account.total == sum(one.share.held for one in lines) <= PER_NODE
        for one in lines:
            assert one.share.held == one.buffered <= PER_CONNECTION
            if not one.open:
                assert one.buffered == 0


def test_the_connection_that_breaks_its_bound_is_named_and_holds_nothing_more() -> None:
    account = Unread(PER_CONNECTION, PER_NODE)
    line = Line(account)
    line.buffers[1] = bytearray(600)
    line.buffers[2] = bytearray()
    with pytest.raises(Overrun):
        line.buffers[2].extend(bytes(401))
    assert line.breaches == 1


def test_whoever_holds_most_gives_way_and_nobody_else() -> None:
    account = Unread(PER_CONNECTION, PER_NODE)
    big, small, third = lines = [Line(account) for _ in range(3)]
    for line, amount in ((big, 1_000), (small, 700), (third, 600)):
        line.buffers[1] = bytearray(amount)
    small.buffers[1].extend(bytes(250))
    assert [line.open for line in lines] == [False, True, True]
    assert big.share.held == 0
    assert [line.breaches for line in lines] == [0, 0, 0]
    assert account.given_way == 1


def test_a_stream_has_a_bound_of_its_own() -> None:
    line = Line(Unread(4 * STREAM_BYTES_MAX, 4 * STREAM_BYTES_MAX))
    line.buffers[1] = bytearray(STREAM_BYTES_MAX)
    with pytest.raises(Overrun):
        line.buffers[1].extend(b"x")
    assert line.share.held == STREAM_BYTES_MAX


# --- over a real connection -----------------------------------------------------------------------


class Hostile:
    """Speaks Yamux by hand on a connection that the library has opened."""

    def __init__(self, conn: Any) -> None:
        self.conn = conn
        self._next = 1001  # Odd, as whoever dials has it, and far from what the library uses.

    async def frame(
        self, kind: int, flags: int, stream: int, length: int, body: bytes = b""
    ) -> None:
        await self.conn.muxed_conn._write_frame(
            struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, kind, flags, stream, length) + body
        )

    async def open(self) -> int:
        self._next += 2
        await self.frame(yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN, self._next, 0)
        return self._next

    async def fill(self, stream: int, amount: int = WINDOW) -> None:
        """After a greeting that makes the node wait for a reader: bytes that nobody asks for."""
        while amount:
            size = min(amount, 65_536)
            await self.frame(yamux.TYPE_DATA, 0, stream, size, b"\xff" * size)
            amount -= size

    async def reset(self, stream: int) -> None:
        await self.frame(yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_RST, stream, 0)


async def fill_until_closed(stranger: RawPeer, conn: Any) -> None:
    """One stream after the other."""
    hostile = Hostile(conn)
    try:
        for _ in range(12):
            stream = await stranger.open(conn, "/test/idle")
            await hostile.fill(stream.muxed_stream.stream_id)
    # Whatever the library raises for a connection that is gone.
    except Exception:  # noqa: BLE001
        return


def theirs(node: Member, stranger: RawPeer) -> Any:
    """The node's end of the stranger's connection."""
    return next(
        link.conn.muxed_conn
        for link in network_of(node)._links._by_conn.values()
        if link.peer == stranger.peer
    )


def test_a_reset_stream_frees_its_buffer_at_once() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            conn = await stranger.dial(network_of(node))
            hostile = Hostile(conn)
            account = network_of(node)._switch.unread
            for _ in range(200):  # 50 MB in all.
                stream = await hostile.open()
                await hostile.fill(stream)
                await hostile.reset(stream)
                assert account.total <= NetworkLimits().unread_bytes_per_peer_max + WINDOW
            end = theirs(node, stranger)
            await until(lambda: not account.total and max(end.streams, default=0) < 1000)
            assert not [
                number for number in (*end.stream_buffers, *end.stream_events) if number > 1000
            ]
            assert not conn.is_closed

    attacked(attack)


def test_a_reader_whose_stream_is_reset_leaves_nothing_behind() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            conn = await stranger.dial(network_of(node))
            await until(lambda: network_of(node)._links.of(stranger.peer) is not None)
            end, hostile = theirs(node, stranger), Hostile(conn)
            stream = await hostile.open()
            await until(lambda: network_of(node)._host._open[end] == 1)
            await trio.testing.wait_all_tasks_blocked()
            await hostile.reset(stream)
            await until(lambda: network_of(node)._host._open[end] == 0)
            assert stream not in end.stream_events

    attacked(attack)


def test_a_connection_that_holds_more_than_its_bound_is_closed() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            conn = await stranger.dial(network_of(node))
            await until(lambda: network_of(node)._links.of(stranger.peer) is not None)
            muxed = theirs(node, stranger)

            async def idle(stream: Any) -> None:
                """It reads nothing, as a handler that waits for something else."""
                await trio.sleep_forever()

            network_of(node)._host.set_stream_handler("/test/idle", idle)
            with trio.fail_after(DEADLINE_S):
                await fill_until_closed(stranger, conn)
                await conn.muxed_conn.event_closed.wait()
                await muxed.event_closed.wait()
            await until(lambda: network_of(node)._switch.unread.total == 0)
            assert network_of(node)._switch.unread.exceeded == 1

    attacked(attack)


def test_frames_that_never_end_count_as_unread() -> None:
    """Each connection sends the header of a frame of 256 KiB, and nothing behind it."""

    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            conns = []
            for _ in range(5):
                conn = await stranger.dial(network_of(node))
                await Hostile(conn).frame(yamux.TYPE_DATA, 0, 999, WINDOW)
                conns.append(conn)
            await until(lambda: network_of(node)._switch.unread.given_way >= 1)
            assert network_of(node)._switch.unread.total <= 4 * WINDOW

    attacked(attack, limits=NetworkLimits(unread_bytes_max=4 * WINDOW))


def test_streams_of_a_connection_are_bounded_whether_anybody_has_accepted_them_or_not() -> None:
    breaches: list[str] = []
    streams = _Streams(4, peer_parity=1, breach=breaches.append)
    for number in range(1, 9, 2):
        streams[number] = SimpleNamespace(is_initiator=False, send_closed=False)
    with pytest.raises(Overrun):
        streams[9] = SimpleNamespace(is_initiator=False, send_closed=False)
    assert (len(streams), len(breaches)) == (4, 1)
    streams[2] = SimpleNamespace(is_initiator=True, send_closed=False)  # Ours are counted apart.
    assert (streams.count(inbound=True), streams.count(inbound=False)) == (4, 1)


def test_thousands_of_streams_in_one_packet_are_held_in_bounds() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger, trio.open_nursery() as nursery:
            conn = await stranger.dial(network_of(node))
            await until(lambda: network_of(node)._links.of(stranger.peer) is not None)
            end, most = theirs(node, stranger), 0

            async def look() -> None:
                nonlocal most
                while True:
                    most = max(most, len(end.streams))
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(look)
            kind, flag = yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN
            packet = [
                struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, kind, flag, 1001 + 2 * n, 0)
                for n in range(4096)
            ]
            await conn.muxed_conn._write_frame(b"".join(packet))
            with trio.move_on_after(2.0):
                await conn.muxed_conn.event_closed.wait()
            nursery.cancel_scope.cancel()
            assert most <= 2 * 8 + 8

    attacked(attack, limits=NetworkLimits(streams_per_peer_max=8))


def test_a_stream_id_of_ours_is_not_the_peers_to_open() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            conn = await stranger.dial(network_of(node))
            stream = await conn.new_stream()
            await Hostile(conn).frame(yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN, 1000, 0)
            with trio.fail_after(DEADLINE_S):
                await ended(stream)
                await conn.muxed_conn.event_closed.wait()

    attacked(attack)


def test_what_we_closed_and_the_peer_leaves_open_is_forgotten() -> None:
    async def attack(node: Member, raw: Any) -> None:
        async with raw() as stranger:
            conn = await stranger.dial(network_of(node))
            await until(lambda: network_of(node)._links.of(stranger.peer) is not None)
            end = theirs(node, stranger)

            async def hang_up(stream: Any) -> None:
                await stream.close()

            network_of(node)._host.set_stream_handler("/test/brief", hang_up)
            for _ in range(60):
                stream = await stranger.open(conn, "/test/brief")
                with trio.fail_after(DEADLINE_S):
                    await ended(stream)
            assert end.streams.count(inbound=True) <= 16
            assert not conn.is_closed

    attacked(attack, limits=NetworkLimits(streams_per_peer_max=8))
