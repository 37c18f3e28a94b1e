"""The stream of one channel to one peer, such as the kill switch's /swarmllm/halt/2: one stream
both ways, opened again when it dies.

One stream and not a pair, because what is said on it is an exchange that begins with a greeting on
either side: a stream that dies takes its exchange along, and the next one begins with greetings
again, with nothing of before still under way in the other direction. The peer with the smaller id
opens it, the other one answers; which of two simultaneous streams counts is then no question.

Nothing here waits for the expert protocol: the stream has its own window and queue, its own two
tasks, if urgent the right of way on the connection (`muxer.Turns`), and what arrives goes straight
through the channel's door. A peer without this protocol keeps its connection; what it would say on
it is just unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from libp2p.host.exceptions import StreamFailure

from swarmllm.adapters.libp2p.host import Host, reset
from swarmllm.adapters.libp2p.lane import BURST_S, Bucket, StreamEnded, read_some, write_all
from swarmllm.adapters.libp2p.options import NetworkLimits, NetworkTiming
from swarmllm.core.halt.link import Outbox
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId
from swarmllm.runtime.ports import Channel
from swarmllm.wire.framing import LENGTH_BYTES, FrameReader

log = logging.getLogger("swarmllm.net")

RETRY_FACTOR: Final = 2.0
REOPEN_BURST: Final = 6.0  # What an honest peer needs in the first six seconds of its backoff.


class ChannelLane:
    """The streams of one channel on one link, one after the other. `broken` is told how the peer
    broke the protocol, `stuck` that it does not read; `takes_over` is called before a stream is up,
    to end one of the same channel on another link to this peer."""

    def __init__(
        self,
        peer: PeerId,
        opens: bool,
        channel: Channel,
        limits: NetworkLimits,
        timing: NetworkTiming,
        broken: Callable[[str], None],
        stuck: Callable[[str], None],
        takes_over: Callable[[], None] = lambda: None,
    ) -> None:
        self._peer, self.opens, self.channel, self._door = peer, opens, channel, channel.door
        self._limits, self._timing = limits, timing
        self._broken, self._stuck, self._takes_over = broken, stuck, takes_over
        self._is_left = False
        self._outbox = Outbox()
        self._more = trio.Event()
        self.was_up = False
        self._stream: Any = None  # The one that is up, and what ends its tasks.
        self._scope = trio.CancelScope()
        now = trio.current_time()
        self._openings = Bucket(
            limits.channel_openings_per_s, REOPEN_BURST / limits.channel_openings_per_s, now
        )

    @property
    def is_up(self) -> bool:
        return self._stream is not None

    def send(self, frame: bytes, droppable: bool) -> None:
        """Queue one frame; it goes nowhere while no stream is up."""
        assert 1 <= len(frame) <= self.channel.frame_max, f"frame of {len(frame)} bytes"
        if not self.is_up:
            return
        if not self._outbox.push(len(frame).to_bytes(LENGTH_BYTES, "big") + frame, droppable):
            self._stuck(f"{self.channel.name} queue full")
        self._more.set()

    def shut(self) -> None:
        """The stream that is up is up no more; its tasks end at once."""
        if self._stream is not None:
            self._stream = None
            self._scope.cancel()
            self._door.closed(self._peer)

    def hand_over(self) -> None:
        """Another link's stream takes this one's place: no door hears of the end, and no more are
        opened here."""
        self._is_left = True
        self._stream = None
        self._scope.cancel()

    async def keep_open(self, host: Host, conn: Any) -> None:
        """Open the stream, and open it again with backoff, until cancelled."""
        wait_s = self._timing.channel_retry_min_s
        while not self._is_left:
            opened_at = trio.current_time()
            try:
                await self._carry(await host.open_stream(conn, [self.channel.protocol]))
            except StreamFailure as error:
                log.debug("%s offers no %s stream: %s", self._peer, self.channel.name, error)
            except RemoteError as error:
                self._broken(str(error))
            if trio.current_time() - opened_at > self._timing.channel_retry_max_s:
                wait_s = self._timing.channel_retry_min_s  # It worked for long enough.
            await trio.sleep(wait_s)
            wait_s = min(wait_s * RETRY_FACTOR, self._timing.channel_retry_max_s)

    async def answer(self, stream: Any) -> None:
        """Serve the stream that the peer opened, in place of any before. RemoteError if it breaks
        the protocol."""
        if self._is_left:
            return
        if self.opens:
            raise RemoteError(f"a {self.channel.protocol} stream from the peer with the larger id")
        if not self._openings.try_take(1, trio.current_time()):
            log.info("%s opens %s streams too often; refused one", self._peer, self.channel.name)
            return
        await self._carry(stream)

    async def _carry(self, stream: Any) -> None:
        """The life of one stream. Returns when it ends or is replaced; RemoteError if the peer
        broke the protocol."""
        self.shut()
        self._takes_over()
        self._outbox = Outbox()
        self._more = trio.Event()
        self._stream = stream
        self.was_up = True
        self._scope = trio.CancelScope()
        faults: list[RemoteError] = []
        if self.channel.urgent:
            stream.muxed_conn.urgent.add(stream.muxed_stream.stream_id)
        try:
            self._door.opened(self._peer)
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._half, self._write, stream, faults)
                    nursery.start_soon(self._half, self._read, stream, faults)
        finally:
            if self._stream is stream:
                self.shut()
            # While it is urgent: a peer that does not hear of the end believes that the stream is
            # up.
            await reset(stream)
            stream.muxed_conn.urgent.discard(stream.muxed_stream.stream_id)
        if faults:
            raise faults[0]

    async def _half(
        self, work: Callable[[Any], Awaitable[None]], stream: Any, faults: list[RemoteError]
    ) -> None:
        """The end of one direction is the end of the stream."""
        try:
            await work(stream)
        except StreamEnded as error:
            log.debug("%s stream of %s: %s", self.channel.name, self._peer, error)
        except RemoteError as error:
            faults.append(error)
        # The guard's purpose: whatever fails here costs this stream, and neither the connection nor
        # the node.
        except Exception:
            log.exception("%s stream of %s failed", self.channel.name, self._peer)
        if self._stream is stream:
            self.shut()

    async def _write(self, stream: Any) -> None:
        """One frame at a time, so that what may be dropped can be until its turn comes."""
        while True:
            while (frame := self._outbox.pop()) is None:
                self._more = trio.Event()
                await self._more.wait()
            await write_all(stream, frame)

    async def _read(self, stream: Any) -> None:
        """Every frame through the door the moment it is whole; a peer that sends more than its
        share is read more slowly."""
        reader = FrameReader(self.channel.frame_max)
        now = trio.current_time()
        frames, volume = (
            Bucket(self._limits.channel_frames_per_s, BURST_S, now),
            Bucket(self._limits.channel_bytes_per_s, BURST_S, now),
        )
        frame_by = float("inf")
        while True:
            data = await read_some(
                stream, LENGTH_BYTES + self.channel.frame_max, frame_by, self._timing.frame_within_s
            )
            found = reader.feed(data)
            waited_s = await _slow_down(volume.take(len(data), trio.current_time()))
            for body in found:
                waited_s += await _slow_down(frames.take(1, trio.current_time()))
                if self._stream is not stream:
                    return
                self._door.received(self._peer, body)
            if not reader.mid_frame:
                frame_by = float("inf")
            elif found or frame_by == float("inf"):
                frame_by = trio.current_time() + self._timing.frame_within_s
            else:
                frame_by += waited_s  # Our slowness is not the peer's.


async def _slow_down(wait_s: float) -> float:
    if wait_s:
        await trio.sleep(wait_s)
    return wait_s
