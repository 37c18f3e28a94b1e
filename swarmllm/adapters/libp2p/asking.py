"""The inbound expert stream, on which a peer asks this node: one at a time, and a new one replaces
the one before.

A client whose stream is half dead cannot know that we still hold it, and many libraries open a
stream for each question; neither breaks the protocol. So the newest stream counts, the one before
ends without a strike, and with it the sessions that were opened there. What a peer may not do is to
make us begin anew all the time: beyond a few at once and one a second its streams are reset.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from swarmllm.adapters.libp2p.lane import Bucket, Commons, Heard, Lane, StreamEnded, Take
from swarmllm.adapters.libp2p.options import NetworkLimits, NetworkTiming
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId, Ping, Pong
from swarmllm.messages.goodbye import Goodbye
from swarmllm.wire.codec import EXPERT_REQUESTS

log = logging.getLogger("swarmllm.net")

OPENINGS_BURST: Final = 8.0  # Streams that a peer may open at once.


class Asking:
    """The asking streams of one peer on one connection. `broken` is told how the peer broke the
    protocol; `ended` that a stream is gone on which it had asked something. Neither once the link
    is over, the first of `ends`: from then on nothing is read or written here. The second is that
    its connection is closed. Only then does the stream go, too: its reset would overtake the
    goodbye on the other one.
    """

    def __init__(
        self,
        peer: PeerId,
        common: tuple[NetworkLimits, NetworkTiming, Commons],
        ends: tuple[trio.Event, trio.Event],
        *,
        heard: Heard,
        take: Take,
        broken: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self.lane: Lane | None = None
        """The one that is up; replies go there."""
        self._peer, self._common = peer, common
        self._over, self._closed = ends
        self._heard, self._take, self._broken, self._ended = heard, take, broken, ended
        self._newest = trio.CancelScope()
        self._turn = trio.Lock()
        self._was_asked = False  # Anything on the stream that is up: then there may be sessions.
        rate = common[0].asking_openings_per_s
        self._openings = Bucket(rate, OPENINGS_BURST / rate, trio.current_time())

    async def serve(self, stream: Any) -> None:
        """Until the stream ends, is replaced, or the connection is over."""
        if not self._openings.try_take(1, trio.current_time()):
            log.info("%s opens asking streams too often; reset one", self._peer)
            return
        self._newest.cancel()
        scope = self._newest = trio.CancelScope()
        with scope:
            # The one before has ended, and its end is told, before anything is read on this one.
            async with self._turn:
                await self._carry(stream)

    async def _carry(self, stream: Any) -> None:
        lane = self.lane = Lane(stream, EXPERT_REQUESTS, *self._common)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._half, lane.write, nursery.cancel_scope)
                nursery.start_soon(
                    self._half, lambda: lane.read(self._heard, self._note), nursery.cancel_scope
                )
                await self._over.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.lane = None
            if self._was_asked and not self._over.is_set():
                self._ended()
            self._was_asked = False
        if self._over.is_set():
            await self._closed.wait()

    async def _half(self, work: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        """The end of one direction is the end of the stream."""
        try:
            await work()
        except StreamEnded as error:
            log.debug("asking stream of %s: %s", self._peer, error)
        except RemoteError as error:
            self._broken(f"{error} (on the stream that it opened)")
        scope.cancel()

    async def _note(self, message: Any, size_bytes: int) -> None:
        self._was_asked = self._was_asked or not isinstance(message, Ping | Pong | Goodbye)
        await self._take(message, size_bytes)
