"""One connection to one peer, with the two streams on which the expert protocol runs over it.

Each side opens one stream of its own and asks on it; the other side answers there. A link is `ready` when the peer has answered our
first ping: only then is it known that somebody is behind the connection who has settled on it, too. A link lives as long as bytes
arrive; silence, a broken protocol, a full queue and the end of either stream all end it, and the connection with it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import trio
from libp2p.host.exceptions import StreamFailure

from swarmllm.adapters.libp2p.control_lane import ControlLane
from swarmllm.adapters.libp2p.host import Host
from swarmllm.adapters.libp2p.lane import Commons, Lane, StreamEnded
from swarmllm.adapters.libp2p.options import NetworkLimits, NetworkTiming
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    ExpertMessage,
    Halted,
    PeerId,
    Ping,
    Pong,
)
from swarmllm.messages.declare import DECLARED
from swarmllm.wire.codec import EXPERT_REPLIES, EXPERT_REQUESTS

log = logging.getLogger("swarmllm.net")

EXPERT_PROTOCOL: Final = "/swarmllm/expert/2"
PINGS_MAX: Final = 8  # In flight; more than ever happens within `dead_after_s`.
LATE_S: Final = 0.5  # A timer that fires later than this says that we were stopped, not the peer.


@dataclass(frozen=True, slots=True)
class LinkEvents:
    """What a link tells its owner."""

    on_ready: Callable[[Link], None]
    on_pong: Callable[[Link, float], None]
    on_message: Callable[[Link, ExpertMessage, int], Awaitable[None]]
    on_broken: Callable[[Link, str], None]
    """The peer broke the protocol."""
    on_over: Callable[[Link], None]
    """At the first `end`, at once: closing the connection may take a while longer."""


class Link:
    """`settled` is set by the owner once this connection, of perhaps several to this peer, is the one to use. `control` runs from the
    moment that the link is ready; None without a kill switch."""

    def __init__(
        self,
        conn: Any,
        peer: PeerId,
        host: Host,
        limits: NetworkLimits,
        timing: NetworkTiming,
        commons: Commons,
        events: LinkEvents,
    ) -> None:
        self.control: ControlLane | None = None
        self.conn = conn
        self.peer = peer
        self.settled = trio.Event()
        self.ready = trio.Event()
        self.over = trio.Event()
        self.reason = ""
        self.heard_at = trio.current_time()
        self._heard = trio.Event()
        self._blocked = 0  # Readers that wait for our own consumer: then silence is our fault.
        self._host = host
        self._limits, self._timing, self._commons, self._events = limits, timing, commons, events
        self._ask: Lane | None = None
        self._answer: Lane | None = None
        self._pings: dict[int, float] = {}
        self._nonce = 0
        self._scope = trio.CancelScope()
        self._closed = trio.Event()

    @property
    def is_over(self) -> bool:
        return self.over.is_set()

    def end(self, reason: str, abort: bool = False) -> None:
        """End the link; the first reason counts. With `abort` the socket is closed at once, without a goodbye."""
        if abort:
            self.conn.muxed_conn.abort()
        if not self.is_over:
            self.reason = reason
            self.over.set()
            self._scope.cancel()
            if self.control is not None:
                self.control.shut()
            self._events.on_over(self)

    def send(self, message: ExpertMessage) -> None:
        """Requests go out on our stream, replies on the peer's. A full queue ends the link, as does a reply that nobody asked for."""
        match DECLARED[type(message)].sender:
            case "asker":
                lane = self._ask
            case "answerer":
                lane = self._answer
            case _:
                lane = self._answer or self._ask  # Halted ends the sessions of both; who has asked us reads it first.
        if lane is None or not lane.put(message):
            self.end("queue full" if lane is not None else "no stream to answer on")

    def end_streams(self, message: Halted) -> None:
        """See `runtime.ports.Network.end_streams`."""
        for lane in (self._ask, self._answer):
            if lane is not None:
                lane.end_with(message)

    async def run(self) -> None:
        """The life of the link. Returns when it is over and its connection closed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reap)
            try:
                with self._scope:
                    await self._live()
            finally:
                self.end("connection closed")
                with trio.CancelScope(shield=True):
                    await self.conn.close()  # Bounded: see `_reap`.
                self._closed.set()

    async def _reap(self) -> None:
        """A goodbye that takes too long, or a write that is stuck behind its shield, ends with the socket under it."""
        with trio.CancelScope(shield=True):
            await self.over.wait()
            with trio.move_on_after(self._timing.close_within_s):
                await self._closed.wait()
            self.conn.muxed_conn.abort()

    async def _live(self) -> None:
        try:
            await self.settled.wait()
            stream = await self._host.open_stream(self.conn, [EXPERT_PROTOCOL])
            lane = self._ask = Lane(stream, EXPERT_REPLIES, self._limits, self._timing, self._commons)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, lane.write)
                nursery.start_soon(self._serve, lambda: lane.read(self._on_bytes, self._on_reply))
                nursery.start_soon(self._watch)
                if self.control is not None and self.control.opens:
                    await self.ready.wait()
                    await self.control.keep_open(self._host, self.conn)
        except StreamFailure as error:
            self.end(f"does not speak {EXPERT_PROTOCOL}: {error}")
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.end(f"connection lost: {error}")
        # The guard's purpose (fault 1): the library's connection may raise anything while it closes.
        except Exception as error:  # noqa: BLE001
            log.debug("link to %s failed: %r", self.peer, error)
            self.end("connection lost")

    async def answer(self, stream: Any) -> None:
        """Serve the stream that the peer opened; returns when either ends. RemoteError if it has one already."""
        if self._answer is not None:
            raise RemoteError(f"a second {EXPERT_PROTOCOL} stream on one connection")
        lane = self._answer = Lane(stream, EXPERT_REQUESTS, self._limits, self._timing, self._commons)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, lane.write)
            nursery.start_soon(self._serve, lambda: lane.read(self._on_bytes, self._on_request))
            await self.over.wait()
            nursery.cancel_scope.cancel()

    async def answer_control(self, stream: Any) -> None:
        """Serve the control stream that the peer opened; returns when either ends. RemoteError if the peer breaks the protocol."""
        if self.control is None:
            return
        with trio.move_on_after(self._timing.ready_within_s):
            await self.ready.wait()
        if not self.ready.is_set() or self.is_over:
            return
        faults: list[RemoteError] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_after, self.over, nursery.cancel_scope)
            try:
                await self.control.answer(stream)
            except RemoteError as error:
                faults.append(error)  # Out of here it would be wrapped in a group.
            nursery.cancel_scope.cancel()
        if faults:
            raise faults[0]

    async def _serve(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except StreamEnded as error:
            self.end(f"connection {error}" if str(error) in ("closed", "reset") else str(error))
        except RemoteError as error:
            self.end(f"broke the protocol: {error}")
            self._events.on_broken(self, str(error))

    def _on_bytes(self) -> None:
        self.heard_at = trio.current_time()
        self._heard.set()

    async def _on_request(self, message: Any, size_bytes: int) -> None:
        match message:
            case Ping():
                if self._answer is None or not self._answer.put(Pong(message.nonce)):
                    self.end("queue full")
            case Pong():
                raise RemoteError("pong to a ping that was never sent")
            case _:
                await self._pass_on(message, size_bytes)

    async def _on_reply(self, message: Any, size_bytes: int) -> None:
        match message:
            case Pong():
                if not 0 < message.nonce <= self._nonce:
                    raise RemoteError("pong to a ping that was never sent")
                sent_at = self._pings.pop(message.nonce, None)
                if sent_at is None:
                    return  # One that we gave up waiting for. A peer that is late, as on a machine that is overloaded, is no liar.
                if not self.ready.is_set():
                    self.ready.set()
                    self._events.on_ready(self)
                self._events.on_pong(self, trio.current_time() - sent_at)
            case Ping():
                raise RemoteError("ping on a stream that we opened")
            case _:
                await self._pass_on(message, size_bytes)

    async def _pass_on(self, message: ExpertMessage, size_bytes: int) -> None:
        self._blocked += 1
        try:
            await self.ready.wait()  # Our consumer hears of the peer before it hears from it.
            await self._events.on_message(self, message, size_bytes)
        finally:
            self._blocked -= 1
            self.heard_at = trio.current_time()

    def ping(self) -> None:
        if self._ask is None:
            return
        self._nonce = (self._nonce + 1) % 2**32
        while len(self._pings) >= PINGS_MAX:
            del self._pings[next(iter(self._pings))]
        self._pings[self._nonce] = trio.current_time()
        if not self._ask.put(Ping(self._nonce)):
            self.end("queue full")

    async def is_alive(self, within_s: float) -> bool:
        """Whether a byte arrives within `within_s`, provoked by a ping."""
        self._heard = trio.Event()
        self.ping()
        with trio.move_on_after(within_s):
            await self._heard.wait()
        return self._heard.is_set() and not self.is_over

    async def _watch(self) -> None:
        """Ping, and end the link when nothing comes back (fault 5). The first ping also decides whether the link gets ready."""
        self.heard_at = trio.current_time()
        ready_by = self.heard_at + self._timing.ready_within_s
        next_ping = self.heard_at
        while True:
            now = trio.current_time()
            if self._blocked and self.ready.is_set():
                self.heard_at = now
            if now >= self.heard_at + self._timing.dead_after_s:
                self.end("silent", abort=True)
            elif not self.ready.is_set() and now >= ready_by:
                self.end(f"did not answer within {self._timing.ready_within_s} s")
            if now >= next_ping:
                self.ping()
                next_ping = now + self._timing.ping_every_s
            wake_at = min(next_ping, self.heard_at + self._timing.dead_after_s)
            await trio.sleep_until(wake_at)
            late_s = trio.current_time() - wake_at
            if late_s > LATE_S:
                self.heard_at += late_s  # We were stopped; what the peer sent meanwhile is still in the socket.


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
