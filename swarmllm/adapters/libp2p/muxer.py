"""Yamux with correct flow control, uninterrupted writes and size limits.

A cancelled write leaves half a Noise message on the wire, or skips one of its nonces; either kills
the connection for everybody on it (fault 3). So every write to the connection, ours and the
library's, happens here behind a shield, and a shield needs a deadline: a peer that takes no byte
for `stall_s` has its socket closed under it (fault 5), which is also what ends the stuck write.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.yamux import yamux

from swarmllm.adapters.libp2p.relay_stream import CircuitStream
from swarmllm.adapters.libp2p.unread import Buffers, Overrun, Unread

log = logging.getLogger("swarmllm.net")

# No honest peer sends more in one frame than its window; the library takes 16 MiB.
FRAME_BYTES_MAX: Final = yamux.DEFAULT_WINDOW_SIZE
# That we opened on one connection, finished or not; the library allows as many unfinished ones.
OWN_STREAMS_MAX: Final = 256
_LAYERS: Final = ("conn", "read_writer", "read_write_closer", "stream", "stream")
"""From the secured connection down to trio's SocketStream: session, Noise, packets, raw connection,
TCP stream."""


class _Streams(dict[int, yamux.YamuxStream]):
    """The streams of one connection, finished or not. A peer opens at most `inbound_max` of them,
    and only with ids of its own."""

    def __init__(self, inbound_max: int, peer_parity: int, breach: Callable[[str], None]) -> None:
        super().__init__()
        self._inbound_max, self._peer_parity, self._breach = inbound_max, peer_parity, breach

    def __setitem__(self, stream_id: int, stream: yamux.YamuxStream) -> None:
        if not stream.is_initiator:
            if stream_id == 0 or stream_id % 2 != self._peer_parity:
                raise Overrun(f"stream id {stream_id} is not the peer's to give")
            if self.count(inbound=True) >= self._inbound_max:
                self._breach(f"more than {self._inbound_max} streams at once")
                raise Overrun("too many streams")
        super().__setitem__(stream_id, stream)

    def count(self, inbound: bool) -> int:
        return sum(stream.is_initiator is not inbound for stream in self.values())

    def lingering(self, inbound: bool) -> yamux.YamuxStream | None:
        """The oldest one that we have finished with and the peer has not."""
        return next(
            (one for one in self.values() if one.is_initiator is not inbound and one.send_closed),
            None,
        )


class _Events(dict[int, trio.Event]):
    """What wakes the readers. A reader that wakes because its stream is gone would put a new event
    there that nobody takes away."""

    def __init__(self, streams: _Streams) -> None:
        super().__init__()
        self._streams = streams

    def __setitem__(self, stream_id: int, event: trio.Event) -> None:
        if stream_id in self._streams:
            super().__setitem__(stream_id, event)


async def _credit(stream: Any, *, bytes_read: int = 0) -> None:
    """Window updates after half a window, as the Yamux specification has it. The library sends one
    per read and grows the window to 16 MiB, so that an unread stream buffers megabytes; it is also
    twice as slow for small messages."""
    stream._pending_recv_release += bytes_read
    if stream._pending_recv_release >= yamux.DEFAULT_WINDOW_SIZE // 2:
        increment, stream._pending_recv_release = stream._pending_recv_release, 0
        stream.recv_window += increment
        await stream.send_window_update(increment)


def apply() -> None:
    """The streams are made inside the library, so this one method is replaced on its class."""
    yamux.YamuxStream._auto_tune_and_send_window_update = _credit


class Turns:
    """Whose frame is written next: the library's lock is first come, first served, and here the
    urgent streams go first. A frame that has begun is finished, so an urgent one waits for at most
    64 KiB of others."""

    def __init__(self) -> None:
        self._taken = False
        self._urgent, self._rest = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def turn(self, urgent: bool) -> AsyncIterator[None]:
        if self._taken:
            # Whoever wakes us leaves the turn to us.
            await (self._urgent if urgent else self._rest).park()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._taken = True
        try:
            yield
        finally:
            if not self._urgent.unpark() and not self._rest.unpark():
                self._taken = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """`stall_s` is how long one write may take, `inbound_streams_max` how many streams a peer may
    have, finished or not."""

    stall_s: float
    inbound_streams_max: int
    unread: Unread


class GuardedYamux(yamux.Yamux):  # type: ignore[misc]
    """One connection. `urgent` are the ids of streams whose frames have the right of way."""

    def __init__(self, secured_conn: Any, peer_id: Any, bounds: Bounds) -> None:
        super().__init__(secured_conn, peer_id, is_initiator=secured_conn.is_initiator)
        self.stall_s = bounds.stall_s
        under = self._under(_LAYERS[:-1])
        self.circuit = under if isinstance(under, CircuitStream) else None
        """The stream through a relay on which this connection runs; None on a socket."""

        def breach(reason: str) -> None:
            """No strike: what is unread and which streams are open is partly our own and partly a
            library's doing."""
            log.info("hung up on %s: %s", peer_id, reason)

        self._unread = bounds.unread.share(self._give_way, breach)
        self.streams = _Streams(
            bounds.inbound_streams_max, 0 if self.is_initiator_value else 1, breach
        )
        self.stream_buffers = Buffers(self._unread)
        self.stream_events = _Events(self.streams)
        self._inbound_max = bounds.inbound_streams_max
        self.urgent: set[int] = set()
        self._turns = Turns()

    @property
    def is_relayed(self) -> bool:
        return self.circuit is not None

    async def start(self) -> None:
        try:
            await super().start()
        # The guard's purpose (fault 1): a connection whose reader dies of anything at all is
        # closed, and only that connection.
        except Exception as error:  # noqa: BLE001
            log.debug("connection to %s broke: %r", self.peer_id, error)
            self.abort()
            with trio.CancelScope(deadline=trio.current_time() + 1.0, shield=True):
                await self._cleanup_on_error()

    async def _write_frame(self, data: bytes) -> None:
        """Fault 3: waiting for the turn can be cancelled, writing cannot. Fault 5: nor can it
        last."""
        stream_id = int.from_bytes(data[4:8], "big")  # See the header's format in the library.
        async with self._turns.turn(stream_id in self.urgent):
            with trio.CancelScope(
                deadline=trio.current_time() + self.stall_s, shield=True
            ) as scope:
                await self.secured_conn.write(data)
            if scope.cancelled_caught:
                self.abort()
                raise ConnectionClosedError(f"write stalled for {self.stall_s} s", transport="tcp")
        # What is written is written: the caller must learn that it happened.
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _read_data_body(self, length: int) -> bytes:
        """A frame counts as unread from its header on: many that never end hold as much as many
        that do."""
        if length > FRAME_BYTES_MAX:
            raise Overrun(f"frame of {length} bytes")
        self._unread.take(length)
        try:
            body: bytes = await super()._read_data_body(length)
        finally:
            self._unread.give(length)
        return body

    async def open_stream(self) -> Any:
        """MuxedStreamError where the peer leaves everything open that we closed."""
        self._forget_lingering(inbound=False, most=OWN_STREAMS_MAX)
        return await super().open_stream()

    async def accept_stream(self) -> Any:
        self._forget_lingering(inbound=True, most=self._inbound_max // 2)
        return await super().accept_stream()

    def _forget_lingering(self, *, inbound: bool, most: int) -> None:
        """A stream whose end we have said stays until the peer says so, too; the oldest of too many
        are not waited for."""
        while (
            self.streams.count(inbound) >= most
            and (oldest := self.streams.lingering(inbound)) is not None
        ):
            oldest.closed = oldest.recv_closed = True
            if (event := self.stream_events.get(oldest.stream_id)) is not None:
                event.set()
            self._forget(oldest)

    def _finalize_stream_locked(self, stream: yamux.YamuxStream, *, fully_closed: bool) -> None:
        """The library keeps what a reset stream has not read for 60 to 90 s, in case that somebody
        reads it yet. Nobody does."""
        if (
            fully_closed
            and stream.reset_received
            and (buffer := self.stream_buffers.get(stream.stream_id)) is not None
        ):
            buffer.clear()
        super()._finalize_stream_locked(stream, fully_closed=fully_closed)

    async def forget(self, stream: yamux.YamuxStream) -> None:
        """Nobody reads this stream any more: if both ends have closed it, drop what it holds."""
        async with self.streams_lock:
            if stream.closed:
                self._forget(stream)

    def _forget(self, stream: yamux.YamuxStream) -> None:
        if stream.stream_id in self.streams:
            stream.reset_received = True
            self._finalize_stream_locked(stream, fully_closed=True)

    def _give_way(self, reason: str) -> None:
        log.info(
            "hung up on %s: this node holds too many unread bytes, and %s", self.peer_id, reason
        )
        self.abort()

    async def _cleanup_on_error(self) -> None:
        self._unread.close()  # At once: what follows may wait.
        await super()._cleanup_on_error()

    def abort(self) -> None:
        """Close the OS socket under the connection, at once, whatever is stuck above it; what was
        not sent yet is dropped.

        Fault 5: `close` cannot do this, because its GO_AWAY queues behind the write that is stuck.
        """
        if self.circuit is not None:
            self.circuit.abort()
        else:
            layer = self._under(_LAYERS)
            assert isinstance(layer, trio.SocketStream), (
                f"no socket under {type(self.secured_conn).__name__}"
            )
            try:
                layer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                log.debug("connection to %s is already closed", self.peer_id)
            layer.socket.close()
        self._unread.close()

    def _under(self, names: Sequence[str]) -> Any:
        layer: Any = self.secured_conn
        for name in names:
            layer = getattr(layer, name, None)
        return layer
