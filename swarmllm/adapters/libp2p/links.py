"""The connection manager chooses which connection to a peer counts, refuses peers, and reports
connects and losses.

Two peers that dial each other at once end up with two connections. One of them, the one with the
smaller id, decides: it settles on the first connection it sees and closes any other, unless the
first turns out to be dead, or goes through a relay and the other does not (`moving`). The other one
opens its stream on every connection and takes the one on which it gets an answer. So both use the
same one, nobody flaps, and a peer that lost its side of a connection without our noticing can come
back at once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio
from libp2p.peer.id import ID

from swarmllm.adapters.libp2p.admission import Standing, Worth
from swarmllm.adapters.libp2p.channel_lane import ChannelLane
from swarmllm.adapters.libp2p.host import Host
from swarmllm.adapters.libp2p.inbox import Inbox
from swarmllm.adapters.libp2p.lane import Commons
from swarmllm.adapters.libp2p.link import EXPERT_PROTOCOL, GOODBYE_S, Link, LinkEvents
from swarmllm.adapters.libp2p.moving import Moves, moves_to
from swarmllm.adapters.libp2p.options import NetworkOptions
from swarmllm.core.inputs import (
    AskingEnded,
    PeerConnected,
    PeerLost,
    PeerMoved,
    PingMeasured,
    Received,
)
from swarmllm.core.peers.strikes import Strikes
from swarmllm.errors import RemoteError
from swarmllm.messages import ExpertMessage, Halted, PeerId
from swarmllm.messages.goodbye import DOUBLE, LEAVING, REFUSED, Goodbye
from swarmllm.wire.framing import frame
from swarmllm.wire.identity import public_key_of

log = logging.getLogger("swarmllm.net")

# Refused peers that are being told so; more at once are cut off in silence.
TURNED_AWAY_MAX: Final = 4
TURN_AWAY_S: Final = 1.0
KINDS: Final = ("dialled", "accepted", "guest")


class Links:
    """All links. `on_ready` and `on_lost` are for gossip and the DHT, which follow the peers that
    we settled on."""

    def __init__(
        self,
        options: NetworkOptions,
        inbox: Inbox,
        nursery: trio.Nursery,
        us: PeerId,
        on_ready: Callable[[Link], None],
        on_lost: Callable[[Link], None],
    ) -> None:
        self._options, self._inbox, self._nursery, self._us = options, inbox, nursery, us
        self._on_ready, self._on_lost = on_ready, on_lost
        self._settled: dict[PeerId, Link] = {}
        self._by_conn: dict[Any, Link] = {}  # Bounded by the connections that there are.
        self._worth: dict[Any, Worth] = {}
        self._strikes = Strikes(options.limits.strikes_max, options.timing.refuse_for_s)
        self._commons = Commons(options.limits)
        self._turned_away: set[Any] = set()  # Connections; at most TURNED_AWAY_MAX.
        self._changed = trio.Event()
        self.moves = Moves(us, nursery, self._ready, on_lost)
        self._closing = False
        self.kinds: dict[str, int] = {}
        """How many connections there are of each kind."""
        self.on_gone: Callable[[PeerId], None] = lambda _: None
        """Told when no connection with a peer is left, of whatever kind."""
        self.host: Host
        """Set before anything runs; the host needs these links, too."""

    def of(self, peer: PeerId) -> Link | None:
        """The link to use, or None while there is none that has answered."""
        link = self._settled.get(peer)
        return link if link is not None and link.ready.is_set() and not link.is_over else None

    def is_coming(self, peer: PeerId) -> bool:
        """Whether there is a connection that may still get ready. Who speaks other protocols only
        is not waited for."""
        return any(
            link.peer == peer and not link.is_over and not link.is_guest
            for link in self._by_conn.values()
        )

    def refuses(self, peer: PeerId) -> bool:
        return self._strikes.refuses(peer, trio.current_time())

    @property
    def ready_peers(self) -> list[PeerId]:
        return sorted(peer for peer in self._settled if self.of(peer) is not None)

    async def wait_change(self) -> None:
        """Until a link gets ready or ends."""
        await self._changed.wait()

    def follow(self, conn: Any) -> Link | None:
        """The link of a connection, which begins to live with the first mention of it. None if its
        peer is refused."""
        if conn in self._by_conn:
            return self._by_conn[conn]
        if conn.is_closed:
            return None
        peer = PeerId(conn.muxed_conn.peer_id.to_base58())
        if peer == self._us:
            log.warning(
                "another node has our identity %s; give one of them a data folder of its own", peer
            )
            conn.muxed_conn.abort()
            return None
        if self.refuses(peer) and not self._closing:
            self._turn_away(conn, peer)
            return None
        if self._closing or not _has_readable_key(peer):
            log.info(
                "refused a connection with %s: %s",
                peer,
                "we are closing" if self._closing else "its id holds no Ed25519 key",
            )
            conn.muxed_conn.abort()
            return None
        events = LinkEvents(
            self._ready,
            self._pong,
            self._message,
            self._broken,
            self._guest,
            self._asking_ended,
            self._over,
        )
        link = Link(
            *(conn, peer, self.host, self._options.limits, self._options.timing, self._commons),
            events,
            is_relayed=bool(conn.muxed_conn.is_relayed),
        )
        for channel in self._options.channels:
            link.channels[channel.name] = ChannelLane(
                peer,
                self._us < peer,
                channel,
                self._options.limits,
                self._options.timing,
                broken=lambda reason: self._broken(link, reason),
                stuck=link.end,
                takes_over=partial(self.moves.take_over, link, channel.name),
            )
        self._by_conn[conn] = link
        self._worth[conn] = Worth()
        self._count()
        self._nursery.start_soon(self._run, link)
        return link

    def lost(self, conn: Any) -> None:
        """The switch says that a connection is gone."""
        if conn in self._by_conn:
            self._by_conn[conn].end("connection closed")

    async def answer(self, stream: Any) -> None:
        """Handler of the streams that peers open to ask us."""
        link = self.follow(stream.swarm_conn)
        if link is None:
            return
        with trio.move_on_after(self._options.timing.ready_within_s):
            await link.settled.wait()
        if link.settled.is_set() and not link.is_over:
            await link.answer(stream)

    async def answer_channel(self, name: str, stream: Any) -> None:
        """Handler of the streams of a channel that peers open."""
        link = self.follow(stream.swarm_conn)
        if link is not None:
            await link.answer_channel(name, stream)

    def send_frame(self, channel: str, peer: PeerId, frame: bytes, droppable: bool) -> None:
        link = self.of(peer)
        if link is not None and channel in link.channels:
            self.moves.lane(link, channel).send(frame, droppable)

    def end_streams(self, message: Halted) -> None:
        for link in self._by_conn.values():
            link.end_streams(message)

    def send(self, peer: PeerId, message: ExpertMessage) -> None:
        link = self.of(peer)
        if link is None:
            self._inbox.put(PeerLost(peer, "not connected"))
        else:
            if (worth := self._worth.get(link.conn)) is not None:
                worth.sent(message)
            self.moves.way(message, link).send(message)

    def hang_up(self, peer: PeerId, reason: str, goodbye: int) -> None:
        for link in open_links(self):
            if link.peer == peer:  # Another one of it would else take this one's place.
                link.end(reason, goodbye=goodbye)

    def standings(self) -> dict[Any, Standing]:
        """By muxed connection: what it has been good for, for when there is no room for all."""
        return {
            conn.muxed_conn: Standing(
                self._worth[conn].answered,
                any(lane.is_up for lane in link.channels.values()),
                self._worth[conn].ping_s,
            )
            for conn, link in self._by_conn.items()
            if link.ready.is_set()
        }

    def make_room(self, muxed_conn: Any, reason: str) -> None:
        """End this connection at once."""
        for conn, link in list(self._by_conn.items()):
            if conn.muxed_conn is muxed_conn:
                link.end(reason, abort=True)
        muxed_conn.abort()

    def penalise(self, peer: PeerId, reason: str) -> None:
        count = self._strikes.add(peer, trio.current_time())
        log.warning(
            "strike %d of %d against %s: %s", count, self._strikes.strikes_max, peer, reason
        )
        if count < self._strikes.strikes_max:
            return
        refused = f"refused for {self._strikes.refuse_for_s:.0f} s: {reason}"
        log.warning("%s is %s", peer, refused)
        for link in list(self._by_conn.values()):
            if link.peer == peer:
                link.end(refused, goodbye=REFUSED)

    def _turn_away(self, conn: Any, peer: PeerId) -> None:
        """A refused peer is told so, or nobody there could tell a refusal from a crash. Only a few
        at once: it costs a stream."""
        if conn in self._turned_away:
            return
        left_s = self._strikes.knocks(peer, trio.current_time())
        if left_s is not None:
            log.info("%s dialled again and is still refused, for %.0f s", peer, left_s)
        if len(self._turned_away) >= TURNED_AWAY_MAX:
            conn.muxed_conn.abort()
            return
        self._turned_away.add(conn)
        self._nursery.start_soon(self._say_refused, conn)

    async def _say_refused(self, conn: Any) -> None:
        try:
            with trio.move_on_after(TURN_AWAY_S):
                stream = await self.host.open_stream(conn, [EXPERT_PROTOCOL])
                await stream.write(frame(Goodbye(REFUSED)))
                with trio.move_on_after(GOODBYE_S):
                    await conn.muxed_conn.event_closed.wait()
        # The guard's purpose (fault 1): it is gone, or will not have the stream; both end in the
        # same way.
        except Exception as error:  # noqa: BLE001
            log.debug("a refused peer was not told so: %r", error)
        finally:
            self._turned_away.discard(conn)
            with trio.CancelScope(
                deadline=trio.current_time() + self._options.timing.close_within_s, shield=True
            ):
                await conn.close()
            conn.muxed_conn.abort()

    async def close(self) -> None:
        """Say goodbye to everybody, within `close_within_s`, and tell the consumer nothing any
        more."""
        self._closing = True
        with trio.move_on_after(self._options.timing.close_within_s):
            for link in list(self._by_conn.values()):
                link.end("closing", goodbye=LEAVING)
            while self._by_conn:
                await self._changed.wait()

    async def _run(self, link: Link) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._settle, link)
                await link.run()
                nursery.cancel_scope.cancel()
        finally:
            self._by_conn.pop(link.conn, None)
            self._worth.pop(link.conn, None)
            self._count()
            self._announce_change()

    async def _settle(self, link: Link) -> None:
        """The smaller id decides; see the module's docstring."""
        if self._us > link.peer:
            link.settled.set()
            return
        while True:
            current = self._settled.get(link.peer)
            if current is None or current.is_over:
                self._settled[link.peer] = link
                link.settled.set()
                return
            if moves_to(current, link):
                link.settled.set()  # Once it is ready, it takes the other's place.
                return
            if await current.is_alive(self._options.timing.probe_within_s):
                link.end("another connection to this peer is in use", goodbye=DOUBLE)
                return
            current.end("replaced by a new connection", abort=True)

    def _ready(self, link: Link) -> None:
        current = self._settled.get(link.peer)
        is_move = current is not None and moves_to(current, link) and current.ready.is_set()
        if current is not None and is_move:
            self.moves.begin(current, link)
        elif current is not None and moves_to(link, current):
            link.end("a direct connection to this peer is in use", goodbye=DOUBLE)
            return
        elif current is not None and current is not link:
            # Only where the peer decides: it has answered here, so this is the one that it uses.
            current.end("replaced by a new connection", goodbye=DOUBLE)
        self._settled[link.peer] = link
        self._count()
        if is_move and not self._closing:
            self._inbox.put(PeerMoved(link.peer, _host_of(link)))
        elif not self._closing:
            self._inbox.put(PeerConnected(link.peer, _host_of(link), link.is_relayed))
            self._on_ready(link)
        self._announce_change()

    def _over(self, link: Link) -> None:
        """The link is no longer the one to use; if it ever was, the consumer learns so."""
        self._announce_change()
        log.info(
            "connection with %s ended after %.1f s: %s",
            _described(link),
            trio.current_time() - link.began_at,
            link.reason,
        )
        if all(other.peer != link.peer for other in open_links(self)):
            self.on_gone(link.peer)
        if self._settled.get(link.peer) is not link:
            return
        del self._settled[link.peer]
        if link.ready.is_set():
            if not self.moves.decides(link):
                self._on_lost(link)
            if not self._closing:
                self._inbox.put(PeerLost(link.peer, link.reason or "connection closed"))

    def _pong(self, link: Link, rtt_s: float) -> None:
        if (worth := self._worth.get(link.conn)) is not None:
            worth.ping_s = min(worth.ping_s, rtt_s)
        if self._settled.get(link.peer) is link and not self._inbox.full:
            self._inbox.put(PingMeasured(link.peer, rtt_s))

    async def _message(self, link: Link, message: ExpertMessage, size_bytes: int) -> None:
        if (worth := self._worth.get(link.conn)) is not None:
            worth.received(message)
        await self._inbox.room()
        current = self._settled.get(link.peer)
        if current is link or (current is not None and self.moves.is_left(link)):
            self._inbox.put(Received(link.peer, message, size_bytes))

    def _guest(self, link: Link) -> bool:
        """Guests count for nothing else: no place is kept for them, and none is taken by them."""
        others = sum(other.is_guest for other in self._by_conn.values() if other is not link)
        if not link.is_guest and others >= self._options.limits.guests_max:
            log.info("%s is one guest too many: %d are here already", link.peer, others)
            return False
        if self._settled.get(link.peer) is link:
            del self._settled[link.peer]
        link.is_guest = True
        self._count()
        return True

    def _asking_ended(self, link: Link) -> None:
        if self._settled.get(link.peer) is link and link.ready.is_set() and not self._closing:
            self._inbox.put(AskingEnded(link.peer))

    def _count(self) -> None:
        self._commons.peers = sum(not link.is_guest for link in self._by_conn.values())
        kinds = Counter(map(_kind, self._by_conn.values()))
        self.kinds = {kind: kinds[kind] for kind in KINDS}

    def _broken(self, link: Link, reason: str) -> None:
        self.penalise(link.peer, reason)

    def _announce_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def open_links(links: Links) -> list[Link]:
    """Those that are not over, ready or not."""
    return [link for link in links._by_conn.values() if not link.is_over]


def direct_link(links: Links, peer: PeerId) -> Link | None:
    """One that leads to this peer without a relay: the one in use, or that of a guest."""
    found = [link for link in open_links(links) if link.peer == peer and not link.is_relayed]
    return next((link for link in found if link is links.of(peer)), next(iter(found), None))


def _kind(link: Link) -> str:
    return "guest" if link.is_guest else "dialled" if link.we_dialled else "accepted"


def _described(link: Link) -> str:
    """For the log: who it was, as far as it said, and who dialled whom."""
    agent = f", agent {link.agent}" if link.agent else ""
    return f"{link.peer} ({'we' if link.we_dialled else 'it'} dialled{agent})"


def libp2p_id(peer: PeerId) -> Any:
    """libp2p's own form of a peer id. RemoteError for what is not one."""
    public_key_of(peer)
    return ID.from_base58(peer)


def _has_readable_key(peer: PeerId) -> bool:
    """Only Ed25519 ids carry the key that signed records are checked with."""
    try:
        public_key_of(peer)
    except RemoteError:
        return False
    return True


def _host_of(link: Link) -> str:
    """The address at the other end; empty once there is none any more."""
    remote = link.conn.muxed_conn.get_remote_address()
    return "" if remote is None else str(remote[0])
