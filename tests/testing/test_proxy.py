"""The proxy delays exactly, keeps the order, and fails in the ways a line fails. Time is virtual;
sockets are real, on loopback."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.testing.proxy import Line, Link, Proxy, open_proxy
from tests.clock import under_mock_clock

PERFECT = Link()

links = st.builds(
    Link,
    delay_s=st.floats(0, 10),
    jitter=st.floats(0, 2),
    bytes_per_s=st.one_of(st.just(math.inf), st.floats(1, 1e9)),
)


# --- the arithmetic -------------------------------------------------------------------------------


@given(
    links, st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20_000)), max_size=20), st.integers()
)
def test_a_line_never_reorders_and_never_delivers_before_the_bytes_are_on_it(
    link: Link, chunks: list[tuple[float, int]], seed: int
) -> None:
    line, now, last = Line(link, random.Random(seed)), 0.0, -math.inf
    for wait, size in chunks:
        now += wait
        arrival = line.arrives_at(now, size)
        assert arrival >= last
        assert arrival >= now + size / link.bytes_per_s
        last = arrival


@given(st.floats(0, 10), st.floats(0, 100), st.integers(0, 10**6))
def test_without_jitter_a_lone_chunk_takes_exactly_its_delay_and_its_length(
    delay_s: float, now: float, size: int
) -> None:
    assert (
        Line(Link(delay_s, 0.0, 1000.0), random.Random(0)).arrives_at(now, size)
        == max(0.0, now) + size / 1000.0 + delay_s
    )


def test_a_busy_line_delivers_at_its_bandwidth_and_delays_once() -> None:
    line = Line(Link(0.5, bytes_per_s=1000.0), random.Random(0))
    assert [line.arrives_at(0.0, 100) for _ in range(4)] == pytest.approx([0.6, 0.7, 0.8, 0.9])
    assert line.arrives_at(10.0, 100) == pytest.approx(10.6)


def test_jitter_is_log_normal_around_the_delay_and_repeats_with_its_seed() -> None:
    def delays(seed: int) -> list[float]:
        line = Line(Link(0.1, jitter=0.4), random.Random(seed))
        # Far apart: none waits for another.
        return [line.arrives_at(now, 1) - now for now in range(0, 40_000, 10)]

    logs = [math.log(delay / 0.1) for delay in delays(1)]
    assert statistics.fmean(logs) == pytest.approx(0.0, abs=0.03)  # Standard error 0.0063.
    assert statistics.stdev(logs) == pytest.approx(0.4, abs=0.03)
    assert delays(1) == delays(1) != delays(2)


# --- the proxy, between real sockets --------------------------------------------------------------


_CLIENTS: list[trio.SocketStream] = []  # What a test connected; closed when it is over.


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Virtual time stands still while any task can run or any socket has bytes; loopback hands
    bytes over within the send call."""

    @under_mock_clock(idle_s=0.005)
    @wraps(test)
    async def whole() -> None:
        try:
            await test()
        finally:
            while _CLIENTS:
                _CLIENTS.pop().socket.close()

    return whole


@asynccontextmanager
async def _target(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _echo(stream: trio.SocketStream) -> None:
    try:
        async for data in stream:
            await stream.send_all(data)
        await stream.send_eof()
    except trio.BrokenResourceError:
        pass  # Some of these tests cut the line.


async def _connect(proxy: Proxy) -> trio.SocketStream:
    _CLIENTS.append(await trio.open_tcp_stream(proxy.host, proxy.port))
    return _CLIENTS[-1]


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        assert more, f"closed after {len(data)} of {size} bytes"
        data += more
    return data


@asynccontextmanager
async def _echo_behind(
    forward: Link = PERFECT, backward: Link | None = None
) -> AsyncIterator[Proxy]:
    async with _target(_echo) as port, open_proxy("127.0.0.1", port, forward, backward) as proxy:
        yield proxy


@virtually
async def test_each_direction_has_its_own_exact_delay() -> None:
    arrivals: list[float] = []

    async def note(stream: trio.SocketStream) -> None:
        async for data in stream:
            arrivals.append(trio.current_time())
            await stream.send_all(data)

    async with (
        _target(note) as port,
        open_proxy("127.0.0.1", port, Link(0.1), Link(0.025)) as proxy,
    ):
        stream = await _connect(proxy)
        for _ in range(3):
            sent_at = trio.current_time()
            await stream.send_all(b"ping")
            assert await _exactly(stream, 4) == b"ping"
            assert arrivals.pop() - sent_at == pytest.approx(0.1, abs=1e-9)
            assert trio.current_time() - sent_at == pytest.approx(0.125, abs=1e-9)


@virtually
async def test_delay_does_not_limit_throughput() -> None:
    async with _echo_behind(Link(0.1)) as proxy:
        stream, begun_at, size = await _connect(proxy), trio.current_time(), 3_000_000
        data = random.Random(0).randbytes(size)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            assert await _exactly(stream, size) == data
        assert trio.current_time() - begun_at == pytest.approx(0.2, abs=1e-9)


@virtually
async def test_many_small_messages_sent_one_after_the_other_travel_together() -> None:
    async with _echo_behind(Link(1.0), Link(0.0)) as proxy:
        stream, begun_at = await _connect(proxy), trio.current_time()
        for number in range(100):
            await stream.send_all(b"%02d" % number)
            await trio.sleep(0.001)
        assert await _exactly(stream, 200) == b"".join(b"%02d" % number for number in range(100))
        assert trio.current_time() - begun_at == pytest.approx(1.099, abs=1e-6)


@virtually
async def test_bandwidth_is_capped() -> None:
    async with _echo_behind(Link(0.5, bytes_per_s=10_000), Link()) as proxy:
        stream, begun_at = await _connect(proxy), trio.current_time()
        await stream.send_all(bytes(20_000))
        await _exactly(stream, 20_000)
        assert trio.current_time() - begun_at == pytest.approx(2.5, abs=1e-9)


@virtually
async def test_jitter_never_reorders() -> None:
    async with _echo_behind(Link(0.1, jitter=1.5)) as proxy:
        stream = await _connect(proxy)
        for number in range(200):
            await stream.send_all(bytes([number]))
            await trio.sleep(0.01)
        assert await _exactly(stream, 200) == bytes(range(200))


@virtually
async def test_a_link_may_change_while_it_carries() -> None:
    async with _echo_behind() as proxy:
        stream = await _connect(proxy)
        for delay_s in (0.0, 0.3, 0.1):
            proxy.forward = proxy.backward = Link(delay_s)
            sent_at = trio.current_time()
            await stream.send_all(b"x")
            await _exactly(stream, 1)
            assert trio.current_time() - sent_at == pytest.approx(2 * delay_s, abs=1e-9)


@virtually
async def test_the_end_of_a_stream_travels_behind_its_bytes_and_the_other_way_stays_open() -> None:
    async def answer_at_the_end(stream: trio.SocketStream) -> None:
        data = b"".join([data async for data in stream])
        await stream.send_all(b"got " + data)

    async with (
        _target(answer_at_the_end) as port,
        open_proxy("127.0.0.1", port, Link(0.2)) as proxy,
    ):
        stream, begun_at = await _connect(proxy), trio.current_time()
        await stream.send_all(b"all")
        await stream.send_eof()
        assert b"".join([data async for data in stream]) == b"got all"
        assert trio.current_time() - begun_at == pytest.approx(0.4, abs=1e-9)


@virtually
async def test_a_paused_line_loses_nothing_and_goes_on_where_it_was() -> None:
    async with _echo_behind(Link(0.1)) as proxy:
        stream, begun_at = await _connect(proxy), trio.current_time()
        proxy.pause()
        await stream.send_all(b"held")
        with trio.move_on_after(5) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught
        proxy.resume()
        assert await _exactly(stream, 4) == b"held"
        # There at once, back with the delay.
        assert trio.current_time() - begun_at == pytest.approx(5.1, abs=1e-9)


@virtually
async def test_a_black_hole_accepts_and_says_nothing_and_ends_for_new_connections_only() -> None:
    async with _echo_behind() as proxy:
        old = await _connect(proxy)
        await old.send_all(b"x")
        await _exactly(old, 1)
        proxy.drop()
        new = await _connect(proxy)
        for stream in (old, new):
            await stream.send_all(b"anybody?")
            with trio.move_on_after(60) as scope:
                await stream.receive_some()
            assert scope.cancelled_caught
        proxy.restore()
        fresh = await _connect(proxy)
        await fresh.send_all(b"y")
        assert await _exactly(fresh, 1) == b"y"
        with trio.move_on_after(60) as scope:
            await old.receive_some()
        assert scope.cancelled_caught


@virtually
async def test_a_black_hole_keeps_the_end_of_a_stream_to_itself() -> None:
    ended = trio.Event()

    async def wait_for_the_end(stream: trio.SocketStream) -> None:
        await stream.send_all(b"hello")
        async for _ in stream:
            pass
        ended.set()

    async with _target(wait_for_the_end) as port, open_proxy("127.0.0.1", port) as proxy:
        stream = await _connect(proxy)
        await _exactly(stream, 5)
        proxy.drop()
        await stream.aclose()
        with trio.move_on_after(60):
            await ended.wait()
        assert not ended.is_set()


@virtually
async def test_a_reset_breaks_both_ends_at_once_and_new_connections_work() -> None:
    broken = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await _echo_once(stream)
            await stream.receive_some()
        except trio.BrokenResourceError:
            broken.set()

    async with _target(serve) as port, open_proxy("127.0.0.1", port) as proxy:
        stream = await _connect(proxy)
        await stream.send_all(b"x")
        await _exactly(stream, 1)
        begun_at = trio.current_time()
        proxy.forward = Link(100.0)
        await stream.send_all(b"under way")
        proxy.reset()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await broken.wait()
        assert trio.current_time() == begun_at
        proxy.forward = Link()
        fresh = await _connect(proxy)
        await fresh.send_all(b"y")
        assert await _exactly(fresh, 1) == b"y"


async def _echo_once(stream: trio.SocketStream) -> None:
    await stream.send_all(await stream.receive_some())


@virtually
async def test_a_reset_by_the_target_reaches_the_client() -> None:
    async def slam(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)  # Closing with bytes unread makes the kernel send a reset.
        await trio.aclose_forcefully(stream)

    async with _target(slam) as port, open_proxy("127.0.0.1", port) as proxy:
        stream = await _connect(proxy)
        await stream.send_all(b"more than one")
        with pytest.raises(trio.BrokenResourceError):
            await _exactly(stream, 1)


@virtually
async def test_a_target_that_is_not_there_shows_as_a_closed_connection() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with open_proxy("127.0.0.1", port) as proxy:
        stream = await _connect(proxy)
        assert await stream.receive_some() == b""


@virtually
async def test_many_connections_are_carried_at_once_and_none_is_left_over() -> None:
    async with _echo_behind(Link(0.1)) as proxy:
        begun_at = trio.current_time()

        async def one(number: int) -> None:
            async with await _connect(proxy) as stream:
                await stream.send_all(b"%03d" % number)
                await stream.send_eof()
                assert await _exactly(stream, 3) == b"%03d" % number
                assert await stream.receive_some() == b""

        async with trio.open_nursery() as nursery:
            for number in range(150):
                nursery.start_soon(one, number)
        assert trio.current_time() - begun_at == pytest.approx(0.2, abs=1e-9)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert proxy.connections == 0


@virtually
async def test_leaving_the_block_closes_everything() -> None:
    async with _target(_echo) as port:
        async with open_proxy("127.0.0.1", port, Link(10.0)) as proxy:
            stream = await _connect(proxy)
            await stream.send_all(b"never arrives")
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await stream.receive_some() == b""
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", proxy.port)
