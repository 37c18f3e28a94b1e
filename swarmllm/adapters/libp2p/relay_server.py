"""The relay server: lends circuits to peers that nobody can dial (circuit relay v2, the hop side).

Of py-libp2p 0.8.1 only the message classes are used. Its own server was read and not taken: it
reserves for whomever the request names and not for who asks; it keeps one circuit for each source,
so that a second one closes the first; its status messages at a limit go into the circuit itself and
break the ciphertext there; it looks at its time limit only when bytes come, so that an idle circuit
lives for ever; its hop stream answers any number of requests; and it has no bound for an address
block, no rate, and no bound on circuits in all. Those of its client are in `relay_client`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.exceptions import StreamFailure
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p import relay_messages as messages
from swarmllm.adapters.libp2p.host import Host, reset
from swarmllm.adapters.libp2p.lane import Bucket
from swarmllm.adapters.libp2p.links import Links, direct_link
from swarmllm.adapters.libp2p.relay_messages import STOP_PROTOCOL, Connect, Reserve
from swarmllm.adapters.libp2p.relay_stream import LINGER_S
from swarmllm.core.peers.eviction import block_of
from swarmllm.core.peers.relay_quota import Circuit, RelayLimits, RelayQuota, RelayStatus
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId

log = logging.getLogger("swarmllm.net")

REQUEST_WITHIN_S: Final = 5.0  # For one message of a peer, and for the target's answer.
READ_BYTES: Final = 65_536


class RelayServer:
    """`announced` are the addresses of this node; those that need a relay themselves not among
    them."""

    def __init__(
        self,
        host: Host,
        links: Links,
        announced: Callable[[], list[Multiaddr]],
        limits: RelayLimits,
    ) -> None:
        self._host, self._links, self._announced = host, links, announced
        self._quota = RelayQuota(limits)
        self._limits = limits
        self._rate = Bucket(limits.bytes_per_s, limits.burst_s, trio.current_time())
        self._carried_bytes = 0
        self._opened = 0

    @property
    def figures(self) -> dict[str, int]:
        """What this relay lends now, and has lent so far."""
        return {
            "reservations": self._quota.reservations,
            "circuits": self._quota.circuits,
            "circuits_opened": self._opened,
            "carried_bytes": self._carried_bytes,
            "requests_refused": self._quota.refused,
        }

    def lends_to(self, peer: PeerId) -> bool:
        """Whether this peer holds a reservation now."""
        return self._quota.holds(peer, trio.current_time())

    def lost(self, peer: PeerId) -> None:
        """No connection with this peer is left: its reservation is worth nothing any more."""
        self._quota.release(peer)

    async def answer(self, stream: Any) -> None:
        """Handler of hop streams: one request each."""
        muxed = stream.muxed_conn
        source = PeerId(muxed.peer_id.to_base58())
        remote = muxed.get_remote_address()
        try:
            with trio.fail_after(REQUEST_WITHIN_S):
                request = messages.hop_request(await messages.read(stream))
        except (RemoteError, trio.TooSlowError) as error:
            log.info("%s asks this relay for nothing that it understands: %s", source, error)
            await self._say(stream, messages.hop_status(RelayStatus.MALFORMED_MESSAGE))
            return
        if muxed.circuit is not None or remote is None:
            # A relay behind a relay would be a chain, which nobody can bound.
            await self._say(stream, messages.hop_status(RelayStatus.PERMISSION_DENIED))
            return
        block = block_of(str(remote[0]))
        match request:
            case Reserve():
                status = self._quota.reserve(source, block, trio.current_time())
                await self._say(stream, self._reserved(status))
            case Connect(target):
                circuit = Circuit(source, block, target)
                status = self._quota.open(circuit, trio.current_time())
                if status is not RelayStatus.OK:
                    await self._say(stream, messages.hop_status(status))
                    return
                try:
                    await self._connect(stream, circuit)
                finally:
                    self._quota.close(circuit)

    def _reserved(self, status: RelayStatus) -> bytes:
        if status is not RelayStatus.OK:
            return messages.hop_status(status)
        expire = int(time.time() + self._limits.reservation_s)
        return messages.reserved(expire, self._announced(), self._limits)

    async def _say(self, stream: Any, message: bytes) -> None:
        """The last thing on this stream. It is closed and not reset, so that it is read."""
        with trio.move_on_after(REQUEST_WITHIN_S):
            try:
                await messages.write(stream, message)
                await stream.close()
            except (RemoteError, BaseLibp2pError) as error:
                log.debug("a peer did not wait for this relay's answer: %s", error)

    async def _connect(self, source: Any, circuit: Circuit) -> None:
        onward = await self._onward(circuit)
        if onward is None:
            await self._say(source, messages.hop_status(RelayStatus.CONNECTION_FAILED))
            return
        try:
            with trio.fail_after(REQUEST_WITHIN_S):
                await messages.write(source, messages.hop_status(RelayStatus.OK, self._limits))
            self._opened += 1
            log.info("a circuit from %s to %s begins", circuit.source, circuit.target)
            why = await self._carry(source, onward)
            log.info("the circuit from %s to %s ended: %s", circuit.source, circuit.target, why)
        except (RemoteError, trio.TooSlowError) as error:
            log.debug("%s did not wait for its circuit: %s", circuit.source, error)
        finally:
            await reset(onward)

    async def _onward(self, circuit: Circuit) -> Any:
        """The stream to the target, which has agreed; None if there is none."""
        link = direct_link(self._links, circuit.target)
        if link is None:
            return None
        stream = None
        agreed = False
        try:
            with trio.fail_after(REQUEST_WITHIN_S):
                stream = await self._host.open_stream(link.conn, [STOP_PROTOCOL])
                await messages.write(stream, messages.stop(circuit.source, self._limits))
                status = messages.stop_answer(await messages.read(stream))
            agreed = status == RelayStatus.OK
            if not agreed:
                log.info("%s takes no circuit: %s", circuit.target, messages.meaning(status))
        except (StreamFailure, RemoteError, trio.TooSlowError) as error:
            log.info("no circuit to %s: %s", circuit.target, error)
        finally:
            if stream is not None and not agreed:
                await reset(stream)
        return stream if agreed else None

    async def _carry(self, source: Any, target: Any) -> str:
        """Bytes both ways until one end is over, or a limit is reached; then why."""
        now = trio.current_time()
        purse = _Purse(
            self._limits.circuit_bytes_max,
            Bucket(self._limits.circuit_bytes_per_s, self._limits.burst_s, now),
        )
        reasons: list[str] = []
        with trio.move_on_after(self._limits.circuit_s) as lifetime:
            async with trio.open_nursery() as nursery:

                async def one_way(here: Any, there: Any) -> None:
                    reasons.append(await self._pump(here, there, purse))
                    # What the other end says last, and its own end, still come.
                    nursery.cancel_scope.deadline = trio.current_time() + LINGER_S

                nursery.start_soon(one_way, source, target)
                nursery.start_soon(one_way, target, source)
        return "its time is over" if lifetime.cancelled_caught else reasons[0]

    async def _pump(self, here: Any, there: Any, purse: _Purse) -> str:
        limits = self._limits
        try:
            while True:
                with trio.move_on_after(limits.idle_s) as idle:
                    data = await here.read(READ_BYTES)
                if idle.cancelled_caught:
                    return f"nothing came for {limits.idle_s:g} s"
                if not data:
                    break
                purse.left_bytes -= len(data)
                if purse.left_bytes < 0:
                    return f"it carried more than {limits.circuit_bytes_max} bytes"
                now = trio.current_time()
                wait_s = max(purse.rate.take(len(data), now), self._rate.take(len(data), now))
                if wait_s:
                    await trio.sleep(wait_s)
                with trio.move_on_after(limits.stall_s) as stall:
                    await there.write(data)
                if stall.cancelled_caught:
                    return f"one end read nothing for {limits.stall_s:g} s"
                self._carried_bytes += len(data)
        except (BaseLibp2pError, OSError, trio.ClosedResourceError) as error:
            log.debug("one way of a circuit ended: %r", error)
        with trio.move_on_after(LINGER_S):
            try:
                await there.close()
            except (BaseLibp2pError, OSError, trio.ClosedResourceError) as error:
                log.debug("the other end was gone already: %r", error)
        return "one end closed it"


class _Purse:
    """What is left to one circuit, both ways together."""

    def __init__(self, left_bytes: int, rate: Bucket) -> None:
        self.left_bytes, self.rate = left_bytes, rate
