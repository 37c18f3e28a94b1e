"""The relay client: reservations of a node that nobody can dial, and circuits to peers of that kind
(circuit relay v2, the stop side and the asking half of hop).

Own code on the library's message classes, as in `relay_server`, because py-libp2p's client accepts
circuits from anybody, names itself as the relay in their addresses, waits for handshakes without a
deadline, and chooses relays by a score of its own from whoever is connected.

What a relay says of itself is not believed: we announce the address at which we dialled it, or, if
it dialled us, only one with the host that we see. So no relay makes us send others to a third
party's door. What a relay can do is to drop what it carries: then the connection on it dies as any
other does, and the next address is tried.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import trio
from libp2p.host.exceptions import StreamFailure
from libp2p.network.exceptions import SwarmException
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p import relay_messages as messages
from swarmllm.adapters.libp2p.addresses import CircuitAddress, TcpAddress
from swarmllm.adapters.libp2p.host import Host, reset
from swarmllm.adapters.libp2p.link import Link
from swarmllm.adapters.libp2p.links import Links, libp2p_id
from swarmllm.adapters.libp2p.options import NetworkTiming
from swarmllm.adapters.libp2p.relay_messages import HOP_PROTOCOL, STOP_PROTOCOL, Reserved
from swarmllm.adapters.libp2p.relay_stream import CircuitStream
from swarmllm.adapters.libp2p.switch import Switch
from swarmllm.core.peers.dial_rule import Vantage, refusal
from swarmllm.core.peers.eviction import Block, block_of
from swarmllm.core.peers.relay_quota import RelayStatus
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId

log = logging.getLogger("swarmllm.net")

RELAYS_MAX: Final = 3  # One may die and one may lie; each costs others an address to try.
# A relay that has lost our reservation, or never meant it, is found out by then.
REFRESH_S: Final = 120.0
REFRESH_MIN_S: Final = 5.0
RETRY_S: Final = 300.0  # Until a peer that refused, or is no relay, is asked again.
ANSWER_WITHIN_S: Final = 10.0  # A relay asks the other end before it answers.
# That others opened to us through one relay, at once; a few kB each. All of ours may have as many,
# for one that is hostile must not take the places of the others.
CIRCUITS_MAX: Final = 24
HALF_OPEN_MAX: Final = 8  # Of those, the ones that still shake hands.


class CircuitFailed(SwarmException):  # type: ignore[misc]
    """There is no circuit; the text says why, and which relay it was."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A reservation that holds as far as we know. `refresh_at` and `until` are on trio's clock."""

    link: Link
    addr: TcpAddress
    block: Block
    refresh_at: float
    until: float


class RelayClient:
    """`vantage` says where this node stands, `changed` is called whenever `addrs` are others."""

    def __init__(
        self,
        parts: tuple[Host, Switch, Links],
        timing: NetworkTiming,
        nursery: trio.Nursery,
        vantage: Callable[[], Vantage],
        changed: Callable[[], None],
    ) -> None:
        self._host, self._switch, self._links = parts
        self._timing, self._nursery = timing, nursery
        self._vantage, self._changed = vantage, changed
        self._held: dict[PeerId, _Held] = {}
        # When to ask again those that will not have us; bounded by the peers that are connected.
        self._again_at: dict[PeerId, float] = {}
        self._is_needed = False
        self._news = trio.Event()
        self._accepted: Counter[PeerId] = Counter()  # By relay, as in `_half_open`.
        self._half_open: Counter[PeerId] = Counter()
        # Whom to ask is not for whoever chooses its peer id to decide.
        self._rng = random.Random()
        self.last_error = ""
        """Why the last relay that was asked did not serve; empty after one that does."""
        self._host.set_stream_handler(STOP_PROTOCOL, self.answer, lasting=True)

    @property
    def addrs(self) -> tuple[CircuitAddress, ...]:
        """Where others reach us now, through relays."""
        return tuple(CircuitAddress(held.addr, None) for held in self._held.values())

    @property
    def relays(self) -> tuple[PeerId, ...]:
        return tuple(self._held)

    @property
    def circuits(self) -> int:
        """How many of our connections go through relays."""
        return sum(conn.muxed_conn.circuit is not None for conn in self._switch.get_connections())

    def need(self, is_needed: bool) -> None:
        """Whether this node is to be reached through relays from now on."""
        if is_needed != self._is_needed:
            self._is_needed = is_needed
            self._news.set()

    # --- reservations -----------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            self._news = trio.Event()
            self._forget_lost()
            if (link := self._next()) is not None:
                await self._reserve(link)
                continue
            async with trio.open_nursery() as nursery:
                for wait in (self._news.wait, self._links.wait_change, self._sleep):
                    nursery.start_soon(_then_cancel, wait, nursery.cancel_scope)

    async def _sleep(self) -> None:
        times = [held.refresh_at for held in self._held.values()] + list(self._again_at.values())
        await trio.sleep_until(min(times, default=float("inf")))

    def _forget_lost(self) -> None:
        """A reservation ends with the connection to its relay, or when nobody wants it any more."""
        kept = {
            relay: held
            for relay, held in self._held.items()
            if self._is_needed
            and not held.link.is_over
            and self._links.of(relay) is held.link
            and held.until > trio.current_time()
        }
        lost = self._held.keys() - kept.keys()
        if lost:
            self._held = kept
            log.info("no reservation any more at %s", ", ".join(sorted(lost)))
            self._changed()
        ready = set(self._links.ready_peers)
        self._again_at = {peer: at for peer, at in self._again_at.items() if peer in ready}

    def _next(self) -> Link | None:
        """Whom to ask now: a relay whose reservation is to be renewed, or else one more peer, drawn
        from those of address blocks where we have none before the others."""
        now = trio.current_time()
        if not self._is_needed:
            return None
        due = [held.link for held in self._held.values() if held.refresh_at <= now]
        if due:
            return due[0]
        if len(self._held) >= RELAYS_MAX:
            return None
        blocks = {held.block for held in self._held.values()}
        found = [
            (_block(link) in blocks, self._rng.random(), link)
            for peer in self._links.ready_peers
            if peer not in self._held
            and self._again_at.get(peer, 0.0) <= now
            and (link := self._links.of(peer)) is not None
            and link.conn.muxed_conn.circuit is None
            and not link.is_guest
        ]
        return min(found, key=lambda one: one[:2])[2] if found else None

    async def _reserve(self, link: Link) -> None:
        """Ask this peer for a reservation, and keep what it gives."""
        relay = link.peer
        before = self._held.get(relay)
        try:
            with trio.fail_after(ANSWER_WITHIN_S):
                answer = await self._ask(link, messages.reserve())
            if answer.status != RelayStatus.OK:
                raise CircuitFailed(messages.meaning(answer.status))
            addr = self._address_of(link, answer)
        except (CircuitFailed, StreamFailure, RemoteError, trio.TooSlowError) as error:
            self.last_error = f"{relay} is no relay for us: {str(error) or 'no answer in time'}"
            log.debug("%s", self.last_error)
            self._again_at[relay] = trio.current_time() + RETRY_S
            if before is not None:
                del self._held[relay]
                log.info("%s", self.last_error)
                self._changed()
            return
        self.last_error = ""
        now = trio.current_time()
        left_s = max(2 * REFRESH_MIN_S, answer.expire - time.time())
        self._held[relay] = _Held(
            link, addr, _block(link), now + min(REFRESH_S, left_s / 2), now + left_s
        )
        self._again_at.pop(relay, None)
        # Whoever dialled, we want this connection now: it gives way to nobody.
        self._switch.admission.keep(link.conn.muxed_conn)
        if before is None or before.addr != addr:
            log.info("reachable through the relay %s at %s", relay, addr)
            self._changed()

    async def _ask(self, link: Link, request: bytes) -> Reserved:
        stream = await self._host.open_stream(link.conn, [HOP_PROTOCOL])
        try:
            await messages.write(stream, request)
            return messages.hop_answer(await messages.read(stream))
        finally:
            await reset(stream)

    def _address_of(self, link: Link, answer: Reserved) -> TcpAddress:
        """Where others find this relay. CircuitFailed if there is nothing to believe."""
        host, port = link.conn.muxed_conn.get_remote_address() or ("", 0)
        kind = "ip6" if ":" in host else "ip4"
        if link.we_dialled:
            return TcpAddress(kind, host, port, link.peer)
        for addr in answer.addrs:
            if addr.host == host and addr.peer in (None, link.peer):
                wrong = refusal(addr.packed, addr.port, self._vantage())
                if not wrong:
                    return TcpAddress(addr.kind, addr.host, addr.port, link.peer)
        raise CircuitFailed(f"it names no address at {host}, where it is seen")

    # --- circuits ---------------------------------------------------------------------------------

    async def connect(self, link: Link, peer: PeerId) -> None:
        """A connection to `peer` through the relay at the other end of `link`, up and ours.
        CircuitFailed otherwise, within a few seconds."""
        relay = link.peer
        muxed = link.conn.muxed_conn
        if muxed.circuit is not None:
            raise CircuitFailed(f"the relay {relay} is behind a relay itself")
        stream = None
        carried = None
        try:
            with trio.fail_after(ANSWER_WITHIN_S):
                stream = await self._host.open_stream(link.conn, [HOP_PROTOCOL])
                await messages.write(stream, messages.connect(peer))
                answer = messages.hop_answer(await messages.read(stream))
                if answer.status != RelayStatus.OK:
                    raise CircuitFailed(messages.meaning(answer.status))
            remote = muxed.get_remote_address()
            if remote is None:
                raise CircuitFailed("it is gone")
            carried = CircuitStream(stream, relay, remote)
            self._nursery.start_soon(carried.hold, reset)
            with trio.fail_after(self._timing.handshake_within_s):
                await self._switch.upgrade_outbound_raw_conn(
                    carried.connection(initiator=True), libp2p_id(peer)
                )
        except BaseException as error:
            if carried is not None:
                carried.abort()
            elif stream is not None:
                await reset(stream)
            if isinstance(error, Exception):
                why = "no answer in time" if isinstance(error, trio.TooSlowError) else error
                raise CircuitFailed(f"the relay {relay}: {why}") from error
            raise

    async def answer(self, stream: Any) -> None:
        """Handler of stop streams: a relay has somebody for us."""
        muxed = stream.muxed_conn
        relay = PeerId(muxed.peer_id.to_base58())
        try:
            with trio.fail_after(self._timing.negotiate_within_s):
                caller = messages.stop_request(await messages.read(stream))
                status = self._verdict(relay)
                await messages.write(stream, messages.stop_status(status))
        except (RemoteError, trio.TooSlowError) as error:
            log.info("the relay %s has nobody for us: %s", relay, str(error) or "nothing in time")
            return
        remote = muxed.get_remote_address()
        if status is not RelayStatus.OK or remote is None:
            log.info("no circuit from %s through %s: %s", caller, relay, messages.meaning(status))
            return
        carried = CircuitStream(stream, relay, remote)
        self._accepted[relay] += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._shake_hands, carried, caller)
                await carried.hold(reset)
                nursery.cancel_scope.cancel()
        finally:
            self._accepted[relay] -= 1
            self._accepted = +self._accepted  # Without those that are at zero.

    def _verdict(self, relay: PeerId) -> RelayStatus:
        """Circuits come only from where we have asked for them."""
        if relay not in self._held:
            return RelayStatus.PERMISSION_DENIED
        if self._accepted[relay] >= CIRCUITS_MAX or self._half_open[relay] >= HALF_OPEN_MAX:
            return RelayStatus.RESOURCE_LIMIT_EXCEEDED
        return RelayStatus.OK

    async def _shake_hands(self, carried: CircuitStream, caller: PeerId) -> None:
        relay = carried.relay
        self._half_open[relay] += 1
        muxed = None
        try:
            with trio.move_on_after(self._timing.handshake_within_s):
                muxed = await self._switch.upgrade_inbound_raw_conn(
                    carried.connection(initiator=False), Multiaddr("/ip4/0.0.0.0/tcp/0")
                )
        # The guard's purpose (fault 1): whatever a stranger's handshake provokes ends that
        # handshake.
        except Exception as error:  # noqa: BLE001
            log.debug("%s, through %s, did not shake hands: %r", caller, carried.relay, error)
        finally:
            self._half_open[relay] -= 1
            self._half_open = +self._half_open
            if muxed is None:
                carried.abort()
        if muxed is not None and muxed.peer_id.to_base58() != caller:
            # Who it is, is proven; that the relay said something else is its lie.
            log.info(
                "the relay %s called %s by the name of %s", carried.relay, muxed.peer_id, caller
            )


def _block(link: Link) -> Block:
    remote = link.conn.muxed_conn.get_remote_address()
    return block_of(str(remote[0])) if remote else Block("", "")


async def _then_cancel(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()
