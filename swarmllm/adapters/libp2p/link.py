"""One connection to one peer, with the two streams on which the expert protocol runs over it
(protocols/streams.md).

Each side opens one stream of its own and asks on it; the other side answers there. A link is
`ready` when the peer has answered our first ping: only then is it known that somebody is behind the
connection who has settled on it, too. A link lives as long as bytes arrive; silence, a broken
protocol, a full queue and the end of our own stream all end it, and the connection with it: what
was asked there is lost, and who asked must know at once. The end of the peer's stream only ends the
sessions that it had there; the peer may open another one at any time. A peer that dialled us and
does not speak the protocol is a guest: its connection lives for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import trio
from libp2p.host.exceptions import StreamFailure

from swarmllm.adapters.libp2p.agent import ask_agent
from swarmllm.adapters.libp2p.asking import Asking
from swarmllm.adapters.libp2p.channel_lane import ChannelLane
from swarmllm.adapters.libp2p.host import Host, reset
from swarmllm.adapters.libp2p.lane import Commons, Lane, StreamEnded
from swarmllm.adapters.libp2p.open_work import OpenWork
from swarmllm.adapters.libp2p.options import NetworkLimits, NetworkTiming
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    ExpertMessage,
    Halted,
    PeerId,
    Ping,
    Pong,
)
from swarmllm.messages.declare import DECLARED, HALT
from swarmllm.messages.expert import Score
from swarmllm.messages.goodbye import BREACH, DOUBLE, FOREIGN, SLOW, Goodbye
from swarmllm.wire.codec import EXPERT_REPLIES

log = logging.getLogger("swarmllm.net")

EXPERT_PROTOCOL: Final = "/swarmllm/expert/2"
PINGS_MAX: Final = 8  # In flight; more than ever happens within `dead_after_s`.
# For the peer to read why, and to close; one that does not wait for it closes within milliseconds.
GOODBYE_S: Final = 0.5
# Until a guest is asked again whether it speaks the protocol; doubles each time.
GUEST_RETRY_S: Final = 1.0
GREETED_BY_S: Final = 1.0  # An honest peer's halt stream is up by then.
LATE_S: Final = 0.5  # A timer that fires later than this says that we were stopped, not the peer.


@dataclass(frozen=True, slots=True)
class LinkEvents:
    """What a link tells its owner."""

    on_ready: Callable[[Link], None]
    on_pong: Callable[[Link, float], None]
    on_message: Callable[[Link, ExpertMessage, int], Awaitable[None]]
    on_broken: Callable[[Link, str], None]
    """The peer broke the protocol."""
    on_guest: Callable[[Link], bool]
    """The peer dialled us and does not speak the protocol: whether it may stay for a while, and is
    marked as a guest."""
    on_asking_ended: Callable[[Link], None]
    """The stream is gone on which the peer has asked us something; the connection is not."""
    on_over: Callable[[Link], None]
    """At the first `end`, at once: closing the connection may take a while longer."""


class Link:
    """`settled` is set by the owner once this connection, of perhaps several to this peer, is the
    one to use. `channels`, by name, run from the moment that the link is ready."""

    def __init__(
        self,
        conn: Any,
        peer: PeerId,
        host: Host,
        limits: NetworkLimits,
        timing: NetworkTiming,
        commons: Commons,
        events: LinkEvents,
        *,
        is_relayed: bool = False,
    ) -> None:
        self.channels: dict[str, ChannelLane] = {}
        self.conn = conn
        self.peer = peer
        self.settled = trio.Event()
        self.ready = trio.Event()
        self.over = trio.Event()
        self.reason = ""
        self.agent = ""  # What a guest calls itself.
        self.is_guest = False
        self.began_at = trio.current_time()
        self.is_relayed = is_relayed
        # What is open here, for when a direct connection takes this one's place.
        self.work = OpenWork(self.began_at) if self.is_relayed else None
        # A direct connection took this one's place and did not last: no other is looked for.
        self.is_last_resort = False
        self.heard_at = trio.current_time()
        self._heard = trio.Event()
        self._blocked = 0  # Readers that wait for our own consumer: then silence is our fault.
        self._host = host
        self._limits, self._timing, self._commons, self._events = limits, timing, commons, events
        self._ask: Lane | None = None
        self._closed = trio.Event()
        self._asking = Asking(
            peer,
            (limits, timing, commons),
            (self.over, self._closed),
            heard=self._on_bytes,
            take=self._on_request,
            broken=self._broke,
            ended=lambda: events.on_asking_ended(self),
        )
        self._goodbye = 0
        self.is_farewell = False  # One side has said that it wants this peer no more.
        self._hinted = False
        self._pings: dict[int, float] = {}
        self._nonce = 0
        self._scope = trio.CancelScope()

    @property
    def is_over(self) -> bool:
        return self.over.is_set()

    @property
    def we_dialled(self) -> bool:
        return bool(self.conn.muxed_conn.is_initiator)

    def end(self, reason: str, abort: bool = False, goodbye: int = 0) -> None:
        """End the link; the first reason counts. `goodbye` is the code that the peer reads
        (`messages.goodbye`; 0: it went by itself). With `abort` the socket is closed at once,
        without a goodbye."""
        if abort:
            self.conn.muxed_conn.abort()
        if not self.is_over:
            self.reason, self._goodbye = reason, 0 if abort else goodbye
            self.is_farewell |= bool(self._goodbye)
            self.over.set()
            self._heard.set()  # Whoever waits to hear from it has waited long enough.
            self._scope.cancel()
            for lane in self.channels.values():
                lane.shut()
            self._events.on_over(self)

    def send(self, message: ExpertMessage) -> None:
        """Requests go out on our stream, replies on the peer's. A full queue ends the link. A reply
        goes nowhere once the stream on which it was asked for is gone: whoever closes it wants
        none."""
        if self.work is not None:
            self.work.sent(message, trio.current_time())
        match DECLARED[type(message)].sender:
            case "asker":
                lane = self._ask
            case "answerer":
                lane = self._asking.lane
            case _:
                # Halted ends the sessions of both; who has asked us reads it first.
                lane = self._asking.lane or self._ask
        if lane is None:
            log.debug("%s for %s dropped: its stream is gone", type(message).__name__, self.peer)
        elif not lane.put(message):
            self.end("queue full", goodbye=SLOW)

    def end_streams(self, message: Halted) -> None:
        """See `runtime.ports.Network.end_streams`."""
        for lane in (self._ask, self._asking.lane):
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
                    await self._say_goodbye()
                    await self.conn.close()  # Bounded: see `_reap`.
                self._closed.set()

    async def _reap(self) -> None:
        """A goodbye that takes too long, or a write that is stuck behind its shield, ends with the
        socket under it."""
        with trio.CancelScope(shield=True):
            await self.over.wait()
            with trio.move_on_after(self._timing.close_within_s):
                await self._closed.wait()
            self.conn.muxed_conn.abort()

    async def _say_goodbye(self) -> None:
        """On our own stream, which every peer reads; the connection is closed once the peer has had
        a moment to do so."""
        if not self._goodbye:
            return
        with trio.move_on_after(GOODBYE_S):
            # Nothing was opened on a connection that was not to be used.
            if self._ask is None and self._goodbye == DOUBLE:
                with suppress(StreamFailure):
                    self._ask = self._lane(
                        await self._host.open_stream(self.conn, [EXPERT_PROTOCOL])
                    )
            if self._ask is not None:
                await self._ask.say_goodbye(Goodbye(self._goodbye))
                await self.conn.muxed_conn.event_closed.wait()

    def _lane(self, stream: Any) -> Lane:
        return Lane(stream, EXPERT_REPLIES, self._limits, self._timing, self._commons)

    async def _live(self) -> None:
        try:
            await self.settled.wait()
            async with trio.open_nursery() as nursery:
                wait_s = GUEST_RETRY_S
                while not self.is_over:
                    try:
                        await self._talk(await self._host.open_stream(self.conn, [EXPERT_PROTOCOL]))
                    except StreamFailure as error:
                        self._not_spoken(str(error), nursery)
                    await trio.sleep(wait_s)
                    wait_s *= 2
        # The guard's purpose (fault 1): the library's connection may raise anything while it
        # closes.
        except Exception as error:  # noqa: BLE001
            log.debug("link to %s failed: %r", self.peer, error)
            self.end("connection lost")

    async def _talk(self, stream: Any) -> None:
        """Ask on our own stream. Returns only if it ends before the peer has answered anything on
        it; later, its end is the link's."""
        lane = self._ask = self._lane(stream)
        refusals: list[str] = []
        async with trio.open_nursery() as nursery:

            async def serve(work: Callable[[], Awaitable[None]]) -> None:
                try:
                    await work()
                except StreamEnded as error:
                    if self.ready.is_set() or self._is_gone():
                        self.end(
                            f"connection {error}"
                            if str(error) in ("closed", "reset")
                            else str(error)
                        )
                    refusals.append(str(error))
                    nursery.cancel_scope.cancel()
                except RemoteError as error:
                    self._broke(f"{error} (on our own {EXPERT_PROTOCOL} stream)")

            nursery.start_soon(serve, lane.write)
            nursery.start_soon(serve, lambda: lane.read(self._on_bytes, self._on_reply))
            nursery.start_soon(self._watch)
            await self.ready.wait()
            for channel in self.channels.values():
                if channel.opens:
                    nursery.start_soon(channel.keep_open, self._host, self.conn)
        self._ask = None
        await reset(stream)
        raise StreamFailure(
            f"the stream was {refusals[0] if refusals else 'ended'} before a ping was answered on"
            " it"
        )

    def _is_gone(self) -> bool:
        muxed = self.conn.muxed_conn
        return bool(self.conn.is_closed or muxed.is_closed or muxed.event_shutting_down.is_set())

    def _not_spoken(self, why: str, nursery: trio.Nursery) -> None:
        """The peer will not have our stream. Whom we dialled is no use then; whoever dialled us may
        have come for something else."""
        was_guest = self.is_guest
        if self._is_gone():
            self.end("connection closed")
        elif self.we_dialled or not self._events.on_guest(self):
            self.end(f"does not speak {EXPERT_PROTOCOL}: {why}", goodbye=FOREIGN)
        elif not was_guest:
            nursery.start_soon(self._host_guest)

    async def _host_guest(self) -> None:
        """Until the guest's time is over, or it has begun to speak the protocol."""
        self.agent = await ask_agent(self._host, self.conn)
        log.info(
            "%s (agent %r) dialled us and does not speak %s; its connection may stay for %.0f s",
            self.peer,
            self.agent,
            EXPERT_PROTOCOL,
            self._timing.guest_s,
        )
        with trio.move_on_after(self._timing.guest_s):
            await self.ready.wait()
            return
        self.end(
            f"did not speak {EXPERT_PROTOCOL} within {self._timing.guest_s:g} s", goodbye=FOREIGN
        )

    async def answer(self, stream: Any) -> None:
        """Serve the stream that the peer opened; returns when it ends or is replaced, or with the
        link."""
        await self._asking.serve(stream)

    async def answer_channel(self, name: str, stream: Any) -> None:
        """Serve a channel's stream that the peer opened; returns when either ends. RemoteError if
        the peer breaks the protocol."""
        with trio.move_on_after(self._timing.ready_within_s):
            await self.ready.wait()
        if not self.ready.is_set() or self.is_over:
            return
        faults: list[RemoteError] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_after, self.over, nursery.cancel_scope)
            try:
                await self.channels[name].answer(stream)
            except RemoteError as error:
                faults.append(error)  # Out of here it would be wrapped in a group.
            nursery.cancel_scope.cancel()
        if faults:
            raise faults[0]

    def _broke(self, why: str) -> None:
        self.end(f"broke the protocol: {why}", goodbye=BREACH)
        self._events.on_broken(self, why)

    def _on_bytes(self) -> None:
        self.heard_at = trio.current_time()
        self._heard.set()

    async def _on_request(self, message: Any, size_bytes: int) -> None:
        match message:
            case Ping():
                self._pong(self._asking.lane, message)
            case Pong():
                pass  # To a ping that was never sent: of no use to anybody, and no harm.
            case Goodbye():
                self.is_farewell = True
                self.end(f"it hung up: {message.meaning}")
            case _:
                if isinstance(message, Score):
                    self._hint()
                await self._pass_on(message, size_bytes)

    async def _on_reply(self, message: Any, size_bytes: int) -> None:
        match message:
            case Pong():
                sent_at = self._pings.pop(message.nonce, None)
                if sent_at is None:
                    # Never sent, or given up: a peer may be late, as on a machine that is
                    # overloaded.
                    return
                if not self.ready.is_set():
                    self.ready.set()
                    self.is_guest = False
                    self._events.on_ready(self)
                self._events.on_pong(self, trio.current_time() - sent_at)
            case Ping():
                self._pong(self._ask, message)
            case Goodbye():
                self.is_farewell = True
                self.end(f"it hung up: {message.meaning}")
            case _:
                await self._pass_on(message, size_bytes)

    def _pong(self, lane: Lane | None, ping: Ping) -> None:
        if lane is not None and not lane.put(Pong(ping.nonce)):
            self.end("queue full", goodbye=SLOW)

    def _hint(self) -> None:
        """Once for each connection, for whoever wonders why an expert is busy for ever."""
        is_late = trio.current_time() > self.began_at + GREETED_BY_S
        halt = self.channels.get(HALT)
        if halt is not None and not halt.was_up and is_late and not self._hinted:
            self._hinted = True
            log.info(
                "%s asks before it has greeted on %s: it is told to wait until it does",
                self.peer,
                halt.channel.protocol,
            )

    async def _pass_on(self, message: ExpertMessage, size_bytes: int) -> None:
        self._blocked += 1
        if self.work is not None:
            self.work.received(message, trio.current_time())
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
            self.end("queue full", goodbye=SLOW)

    async def is_alive(self, within_s: float) -> bool:
        """Whether a byte arrives within `within_s`, provoked by a ping. The end of the link is an
        answer, too: a peer that comes back is not to wait for its old connection."""
        if self._heard.is_set():  # Else somebody waits already, and for the same byte.
            self._heard = trio.Event()
        heard = self._heard
        self.ping()
        with trio.move_on_after(within_s):
            await heard.wait()
        return heard.is_set() and not self.is_over

    async def _watch(self) -> None:
        """Ping, and end the link when nothing comes back (fault 5). The first ping also decides
        whether the link gets ready."""
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
                self.end(f"did not answer within {self._timing.ready_within_s:g} s", goodbye=SLOW)
            if now >= next_ping:
                self.ping()
                next_ping = now + self._timing.ping_every_s
            wake_at = min(next_ping, self.heard_at + self._timing.dead_after_s)
            await trio.sleep_until(wake_at)
            late_s = trio.current_time() - wake_at
            if late_s > LATE_S:
                # We were stopped; what the peer sent meanwhile is still in the socket.
                self.heard_at += late_s


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
