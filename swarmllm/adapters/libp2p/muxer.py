"""Yamux with honest credit, whole writes and bounds: one connection can neither corrupt itself, nor hang, nor eat our memory.

A cancelled write leaves half a Noise message on the wire, or skips one of its nonces; either kills the connection for everybody on it
(fault 3). So every write to the connection, ours and the library's, happens here behind a shield, and a shield needs a deadline: a
peer that takes no byte for `stall_s` has its socket closed under it (fault 5), which is also what ends the stuck write.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.yamux import yamux

log = logging.getLogger("swarmllm.net")

FRAME_BYTES_MAX: Final = (
    yamux.DEFAULT_WINDOW_SIZE
)  # No honest peer sends more in one frame than its window; the library takes 16 MiB.
BUFFER_BYTES_MAX: Final = 2 * yamux.DEFAULT_WINDOW_SIZE  # Unread bytes of one stream: the window, and as much again for rounding.
_LAYERS: Final = ("conn", "read_writer", "read_write_closer", "stream", "stream")
"""From the secured connection down to trio's SocketStream: session, Noise, packets, raw connection, TCP stream."""


class _Overrun(trio.TooSlowError):
    """The peer broke flow control. A TooSlowError because that is what makes Yamux close the connection instead of going on."""


class _Buffer(bytearray):
    """What a stream has received and nobody has read. The library only warns when a peer sends more than its window."""

    def extend(self, data: Any, /) -> None:
        if len(self) + len(data) > BUFFER_BYTES_MAX:
            raise _Overrun(f"{len(self) + len(data)} unread bytes on one stream")
        super().extend(data)


class _Buffers(dict[int, bytearray]):
    def __setitem__(self, stream_id: int, buffer: bytearray) -> None:
        super().__setitem__(stream_id, _Buffer(buffer))


async def _credit(stream: Any, *, bytes_read: int = 0) -> None:
    """Window updates after half a window, as the Yamux specification has it. The library sends one per read and grows the window to
    16 MiB, so that an unread stream buffers megabytes; it is also twice as slow for small messages."""
    stream._pending_recv_release += bytes_read
    if stream._pending_recv_release >= yamux.DEFAULT_WINDOW_SIZE // 2:
        increment, stream._pending_recv_release = stream._pending_recv_release, 0
        stream.recv_window += increment
        await stream.send_window_update(increment)


def apply() -> None:
    """The streams are made inside the library, so this one method is replaced on its class."""
    yamux.YamuxStream._auto_tune_and_send_window_update = _credit


class Turns:
    """Whose frame is written next: the library's lock is first come, first served, and here the urgent streams go first. A frame that
    has begun is finished, so an urgent one waits for at most 64 KiB of others."""

    def __init__(self) -> None:
        self._taken = False
        self._urgent, self._rest = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def turn(self, urgent: bool) -> AsyncIterator[None]:
        if self._taken:
            await (self._urgent if urgent else self._rest).park()  # Whoever wakes us leaves the turn to us.
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._taken = True
        try:
            yield
        finally:
            if not self._urgent.unpark() and not self._rest.unpark():
                self._taken = False


class GuardedYamux(yamux.Yamux):  # type: ignore[misc]
    """One connection. `stall_s` is how long one write may take; `urgent` are the ids of streams whose frames have the right of way."""

    def __init__(self, secured_conn: Any, peer_id: Any, stall_s: float) -> None:
        super().__init__(secured_conn, peer_id, is_initiator=secured_conn.is_initiator)
        self.stall_s = stall_s
        self.stream_buffers = _Buffers()
        self.urgent: set[int] = set()
        self._turns = Turns()

    async def start(self) -> None:
        try:
            await super().start()
        # The guard's purpose (fault 1): a connection whose reader dies of anything at all is closed, and only that connection.
        except Exception as error:  # noqa: BLE001
            log.debug("connection to %s broke: %r", self.peer_id, error)
            self.abort()
            with trio.CancelScope(deadline=trio.current_time() + 1.0, shield=True):
                await self._cleanup_on_error()

    async def _write_frame(self, data: bytes) -> None:
        """Fault 3: waiting for the turn can be cancelled, writing cannot. Fault 5: nor can it last."""
        stream_id = int.from_bytes(data[4:8], "big")  # See the header's format in the library.
        async with self._turns.turn(stream_id in self.urgent):
            with trio.CancelScope(deadline=trio.current_time() + self.stall_s, shield=True) as scope:
                await self.secured_conn.write(data)
            if scope.cancelled_caught:
                self.abort()
                raise ConnectionClosedError(f"write stalled for {self.stall_s} s", transport="tcp")
        await trio.lowlevel.cancel_shielded_checkpoint()  # What is written is written: the caller must learn that it happened.

    async def _read_data_body(self, length: int) -> bytes:
        if length > FRAME_BYTES_MAX:
            raise _Overrun(f"frame of {length} bytes")
        body: bytes = await super()._read_data_body(length)
        return body

    def abort(self) -> None:
        """Close the OS socket under the connection, at once, whatever is stuck above it; what was not sent yet is dropped.

        Fault 5: `close` cannot do this, because its GO_AWAY queues behind the write that is stuck.
        """
        layer: Any = self.secured_conn
        for name in _LAYERS:
            layer = getattr(layer, name, None)
        assert isinstance(layer, trio.SocketStream), f"no socket under {type(self.secured_conn).__name__}"
        try:
            layer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            log.debug("connection to %s is already closed", self.peer_id)
        layer.socket.close()
