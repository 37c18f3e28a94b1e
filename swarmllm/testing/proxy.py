"""A TCP proxy that makes loopback behave like a distance: delay, jitter, bandwidth, silence and
resets, changeable while it runs.

The kernels of most build machines have no netem. Each direction of each connection has a reader,
which stamps every chunk with the time at which it may leave, and a writer, which waits for that
time. Since nothing sleeps per chunk, many chunks are under way at once and the delay does not limit
throughput, as on a real line. Like a real line it never reorders: a chunk leaves no earlier than
the one before. `Line` is the arithmetic, without clock or sockets; the rest moves bytes.
"""

from __future__ import annotations

import math
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio
from trio.abc import ReceiveStream, SendStream

# What is stamped and delivered at once; 16 KiB take 1.3 ms at 100 Mbit/s.
CHUNK_BYTES: Final = 16 * 1024
# Under way per direction: 64 MiB. Full: the reader stops, and TCP holds the sender back.
CHUNKS_MAX: Final = 4096
CONNECTIONS_MAX: Final = 1024  # At once; further ones wait in the listen backlog.
CONNECT_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Link:
    """What one direction is like. `delay_s` is the median one-way delay; `jitter` is the sigma of a
    log-normal factor on it (0.4 is usual for the internet); `bytes_per_s` is infinite by default.
    """

    delay_s: float = 0.0
    jitter: float = 0.0
    bytes_per_s: float = math.inf

    def __post_init__(self) -> None:
        assert self.delay_s >= 0, self.delay_s
        assert self.jitter >= 0, self.jitter
        assert self.bytes_per_s > 0, self.bytes_per_s


class Line:
    """When each chunk arrives at the far end: it waits for the ones before it to be put on the
    line, then travels."""

    __slots__ = ("_free_at", "_last_at", "_rng", "link")

    def __init__(self, link: Link, rng: random.Random) -> None:
        self.link = link
        self._rng = rng
        self._free_at = -math.inf
        self._last_at = -math.inf

    def arrives_at(self, now: float, size_bytes: int) -> float:
        """The arrival of the last byte of a chunk that the sender hands over now. Never before an
        earlier chunk's."""
        self._free_at = max(self._free_at, now) + size_bytes / self.link.bytes_per_s
        factor = math.exp(self._rng.gauss(0.0, self.link.jitter)) if self.link.jitter else 1.0
        self._last_at = max(self._last_at, self._free_at + self.link.delay_s * factor)
        return self._last_at


@dataclass(eq=False, slots=True)
class _Connection:
    """One accepted connection: its two sockets, and whether it has gone silent for good."""

    client: trio.SocketStream
    server: trio.SocketStream | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_silent: bool = False


class Proxy:
    """A running proxy, from `open_proxy`. `forward` is towards the target, `backward` from it.
    Every change holds from the next chunk on; what is already under way arrives when it would have.
    """

    def __init__(
        self, target_host: str, target_port: int, forward: Link, backward: Link, seed: int
    ) -> None:
        self.target_host = target_host
        self.target_port = target_port
        self.forward = forward
        self.backward = backward
        self.host = ""
        self.port = 0
        self._rng = random.Random(seed)
        # In order of arrival; bounded by the limiter in `_accept`.
        self._connections: dict[_Connection, None] = {}
        self._is_silent = False
        self._flowing = trio.Event()
        self._flowing.set()

    @property
    def connections(self) -> int:
        return len(self._connections)

    def pause(self) -> None:
        """Deliver nothing until `resume`; nothing is lost. A frozen machine, or a route that
        flaps."""
        if self._flowing.is_set():
            self._flowing = trio.Event()

    def resume(self) -> None:
        self._flowing.set()

    def drop(self) -> None:
        """Become a black hole: swallow all bytes, say nothing, keep accepting. Connections that
        live through it stay silent for good, because bytes of theirs are missing."""
        self._is_silent = True
        for connection in self._connections:
            connection.is_silent = True

    def restore(self) -> None:
        """End `drop` for connections that begin from now on."""
        self._is_silent = False

    def reset(self) -> None:
        """Abort every connection on both sides with a TCP reset, at once, whatever is under way."""
        for connection in list(self._connections):
            for stream in (connection.client, connection.server):
                if stream is not None:
                    # Linger for 0 s: closing sends RST and discards what was not sent yet.
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.scope.cancel()

    async def _serve(self, listener: trio.SocketListener) -> None:
        limiter = trio.CapacityLimiter(CONNECTIONS_MAX)
        async with trio.open_nursery() as nursery:
            while True:
                token = object()
                await limiter.acquire_on_behalf_of(token)
                client = await listener.accept()
                nursery.start_soon(self._carry, client, limiter, token)

    async def _carry(
        self, client: trio.SocketStream, limiter: trio.CapacityLimiter, token: object
    ) -> None:
        """One connection, from its beginning to the end of both directions, a failure of either, or
        a reset."""
        connection = _Connection(client, is_silent=self._is_silent)
        self._connections[connection] = None
        try:
            with connection.scope:
                if connection.is_silent:
                    await _swallow(client)
                    return
                connection.server = await self._connect()
                if connection.server is not None:
                    await self._both_ways(connection, connection.server)
        finally:
            del self._connections[connection]
            limiter.release_on_behalf_of(token)
            # Shielded, or a cancellation would be noticed after the first close and leave the
            # second stream open.
            with trio.CancelScope(shield=True):
                for stream in (client, connection.server):
                    if stream is not None:
                        await trio.aclose_forcefully(stream)

    async def _connect(self) -> trio.SocketStream | None:
        """None when the target does not answer: the client then sees its connection close, as
        behind any proxy."""
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                return await trio.open_tcp_stream(self.target_host, self.target_port)
        except (OSError, trio.TooSlowError):
            return None

    async def _both_ways(self, connection: _Connection, server: trio.SocketStream) -> None:
        # Each direction of each connection has a generator of its own, so that traffic on one does
        # not change another's jitter.
        there = random.Random(self._rng.getrandbits(64))
        back = random.Random(self._rng.getrandbits(64))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                self._one_way,
                connection,
                connection.client,
                server,
                Line(self.forward, there),
                True,
            )
            nursery.start_soon(
                self._one_way,
                connection,
                server,
                connection.client,
                Line(self.backward, back),
                False,
            )

    async def _one_way(
        self,
        connection: _Connection,
        source: ReceiveStream,
        sink: SendStream,
        line: Line,
        is_forward: bool,
    ) -> None:
        send, receive = trio.open_memory_channel[tuple[float, bytes]](CHUNKS_MAX)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deliver, connection, receive, sink)
                async with send:
                    await self._read(connection, source, send, line, is_forward)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            # One side was reset: so is the other, which is what a line does.
            self._abort(connection)

    async def _read(
        self,
        connection: _Connection,
        source: ReceiveStream,
        send: trio.MemorySendChannel[tuple[float, bytes]],
        line: Line,
        is_forward: bool,
    ) -> None:
        while True:
            chunk = await source.receive_some(CHUNK_BYTES)
            line.link = self.forward if is_forward else self.backward
            if not connection.is_silent:
                # An end of file travels too, as an empty chunk.
                await send.send((line.arrives_at(trio.current_time(), len(chunk)), bytes(chunk)))
            if not chunk:
                return

    async def _deliver(
        self,
        connection: _Connection,
        receive: trio.MemoryReceiveChannel[tuple[float, bytes]],
        sink: SendStream,
    ) -> None:
        async with receive:
            async for arrives_at, chunk in receive:
                await trio.sleep_until(arrives_at)
                while not self._flowing.is_set():
                    await self._flowing.wait()
                if connection.is_silent:
                    # Also the end of file: a black hole does not say that the other side has left.
                    continue
                if chunk:
                    await sink.send_all(chunk)
                else:
                    assert isinstance(sink, trio.abc.HalfCloseableStream)
                    await sink.send_eof()

    def _abort(self, connection: _Connection) -> None:
        for stream in (connection.client, connection.server):
            if stream is not None and stream.socket.fileno() >= 0:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.scope.cancel()


async def _swallow(stream: ReceiveStream) -> None:
    try:
        while await stream.receive_some(CHUNK_BYTES):
            pass
    except trio.BrokenResourceError:
        pass  # The client gave up, which is all that can be learnt from a black hole.


@asynccontextmanager
async def open_proxy(
    target_host: str,
    target_port: int,
    forward: Link = Link(),  # Frozen, so that sharing it is safe.
    backward: Link | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
) -> AsyncIterator[Proxy]:
    """Listen on `host` and `port` (0: any; see `Proxy.port`) and carry each connection to the
    target. `backward` is `forward` unless given. Leaving the block closes everything. OSError if
    the address cannot be listened on."""
    proxy = Proxy(
        target_host, target_port, forward, forward if backward is None else backward, seed
    )
    (listener,) = await trio.open_tcp_listeners(port, host=host, backlog=CONNECTIONS_MAX)
    async with listener, trio.open_nursery() as nursery:
        proxy.host, proxy.port = listener.socket.getsockname()[:2]
        nursery.start_soon(proxy._serve, listener)
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
