"""One direction of the expert protocol: a long-lived stream, one task that writes it and one that
reads it.

Callers only touch a bounded queue, so that nobody is ever cancelled inside a write (fault 3), and a
peer that does not read costs us at most the queue. The reader judges lengths before it buffers,
gives a begun frame a deadline, and slows down for a peer that sends more than its share: Yamux's
window then slows the peer.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio
from libp2p.exceptions import BaseLibp2pError

from swarmllm.adapters.libp2p.options import NetworkLimits, NetworkTiming
from swarmllm.errors import RemoteError
from swarmllm.messages import FRAME_MAX, Halted, Ping, Pong, StreamMessage
from swarmllm.messages.goodbye import Goodbye
from swarmllm.wire.codec import decode
from swarmllm.wire.framing import LENGTH_BYTES, FrameReader, frame

log = logging.getLogger("swarmllm.net")

READ_BYTES: Final = 65_536
BURST_S: Final = 2.0  # The budgets of a peer that was quiet for so long are full.
WRITE_BYTES: Final = 65_536  # Frames that wait together travel together, up to about this.

Heard = Callable[[], None]
Take = Callable[[Any, int], Awaitable[None]]


class StreamEnded(Exception):
    """The peer or the connection closed the stream: ordinary news, with the reason."""


class Bucket:
    """A token bucket, full at first: `rate` per second, at most `rate` times `burst_s` at once."""

    def __init__(self, rate: float, burst_s: float, now: float) -> None:
        self._rate, self._most = rate, rate * burst_s
        self._left, self._at = self._most, now

    def refit(self, rate: float, burst_s: float) -> None:
        """From now on this rate and burst; what is left of a larger one is cut."""
        self._rate, self._most = rate, rate * burst_s

    def take(self, amount: float, now: float) -> float:
        """Take `amount`, and return how many seconds to wait until it was really there (0: it
        is)."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate) - amount
        self._at = now
        return max(0.0, -self._left / self._rate)

    def try_take(self, amount: float, now: float) -> bool:
        """Take `amount` only if it is there."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < amount:
            return False
        self._left -= amount
        return True


class Commons:
    """What all peers together may send this node, in equal shares: many who each keep to a limit
    must not be too many together."""

    def __init__(self, limits: NetworkLimits) -> None:
        self._limits = limits
        self.peers = 1

    @property
    def messages_per_s(self) -> float:
        return self._limits.messages_per_s / max(1, self.peers)

    @property
    def bytes_per_s(self) -> float:
        return self._limits.bytes_per_s / max(1, self.peers)


class Lane:
    """`kinds` are the messages that may arrive on this stream."""

    def __init__(
        self,
        stream: Any,
        kinds: Sequence[type[StreamMessage | Goodbye]],
        limits: NetworkLimits,
        timing: NetworkTiming,
        commons: Commons,
    ) -> None:
        self.stream = stream
        self._commons = commons
        self._kinds = kinds
        self._limits, self._timing = limits, timing
        # With whether it is a ping or pong, which keep the stream itself alive.
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._queued_bytes = 0
        self._more = trio.Event()
        self._is_writing = False

    def put(self, message: StreamMessage) -> bool:
        """Queue a message. False if the queue is full: the peer is then as good as lost. LocalError
        if it breaks its own bounds."""
        data = frame(message)
        if (
            len(self._queue) >= self._limits.queue_messages_max
            or self._queued_bytes + len(data) > self._limits.queue_bytes_max
        ):
            return False
        self._push(data, isinstance(message, Ping | Pong))
        return True

    def end_with(self, message: Halted) -> None:
        """Drop what is queued and send this instead. Only what is being written already is
        finished."""
        waiting = list(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        self._push(frame(message), is_upkeep=False)
        for data, is_upkeep in waiting:
            if is_upkeep:
                self._push(data, is_upkeep)

    def _push(self, data: bytes, is_upkeep: bool) -> None:
        self._queue.append((data, is_upkeep))
        self._queued_bytes += len(data)
        self._more.set()

    async def write(self) -> None:
        """Write what is queued until cancelled. StreamEnded when the stream will take no more."""
        while True:
            while not self._queue:
                self._more = trio.Event()
                await self._more.wait()
            batch = bytearray(self._queue.popleft()[0])
            while self._queue and len(batch) + len(self._queue[0][0]) <= WRITE_BYTES:
                batch += self._queue.popleft()[0]
            self._queued_bytes -= len(batch)
            self._is_writing = True
            await write_all(self.stream, bytes(batch))
            self._is_writing = False

    async def say_goodbye(self, goodbye: Goodbye) -> None:
        """Write this as the last frame. Nothing if the stream takes no more, or ends in half a
        frame: `write` was cancelled in it."""
        if not self._is_writing:
            try:
                await write_all(self.stream, frame(goodbye))
            except StreamEnded as error:
                log.debug("no goodbye: %s", error)

    async def read(self, heard: Heard, take: Take) -> None:
        """Read until the stream ends (StreamEnded) or breaks the protocol (RemoteError). `heard` is
        called for every arrival of bytes, `take` with every message and its whole size, in order.
        """
        reader = FrameReader(FRAME_MAX)
        now, share = trio.current_time(), self._commons
        messages, volume = (
            Bucket(share.messages_per_s, BURST_S, now),
            Bucket(share.bytes_per_s, BURST_S, now),
        )
        frame_by = float("inf")
        while True:
            data = await read_some(self.stream, READ_BYTES, frame_by, self._timing.frame_within_s)
            heard()
            frames = reader.feed(data)
            for body in frames:
                await take(decode(body, self._kinds), LENGTH_BYTES + len(body))
            now = trio.current_time()
            if not reader.mid_frame:
                frame_by = float("inf")
            elif frames or frame_by == float("inf"):
                frame_by = now + self._timing.frame_within_s
            messages.refit(share.messages_per_s, BURST_S)
            volume.refit(share.bytes_per_s, BURST_S)
            wait_s = max(messages.take(len(frames), now), volume.take(len(data), now))
            if wait_s:
                frame_by += wait_s  # Our slowness is not the peer's.
                await trio.sleep(wait_s)


async def write_all(stream: Any, data: bytes) -> None:
    """StreamEnded when the stream will take no more."""
    try:
        await stream.write(data)
    except (BaseLibp2pError, OSError, trio.ClosedResourceError) as error:
        raise StreamEnded(_why(error)) from error


async def read_some(stream: Any, bytes_max: int, frame_by: float, within_s: float) -> bytes:
    """What has arrived, at least one byte. StreamEnded at the end; RemoteError at `frame_by`, when
    a begun frame should be whole (`within_s` is only for the sentence)."""
    data: bytes = b""
    with trio.move_on_at(frame_by) as scope:
        try:
            data = await stream.read(bytes_max)
        except (BaseLibp2pError, OSError, trio.ClosedResourceError) as error:
            raise StreamEnded(_why(error)) from error
    if scope.cancelled_caught:
        raise RemoteError(f"frame not finished within {within_s} s")
    if not data:
        raise StreamEnded("closed")
    return data


def _why(error: BaseException) -> str:
    """The library's stream errors are often empty; their names speak for themselves."""
    names = {"StreamEOF": "closed", "StreamReset": "reset", "StreamClosed": "closed"}
    return names.get(type(error).__name__) or str(error) or type(error).__name__
