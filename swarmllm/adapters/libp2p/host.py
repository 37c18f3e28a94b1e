"""libp2p's host with a guard round every stream, and with routes of our own.

Fault 1: an exception in any stream handler, ours or the library's, ends the whole host. Here it
resets that stream; if it was the peer's fault (a RemoteError), the peer also gets a strike. Fault
7: the library dials by itself, without a deadline, and blacklists whom it cannot reach; here every
new stream takes the one connection that we settled on, or asks our own dialer for it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from libp2p.host.basic_host import BasicHost, _IdentifyNotifee
from libp2p.host.exceptions import StreamFailure
from libp2p.identity.identify import identify
from libp2p.kad_dht.common import PROTOCOL_ID as IPFS_KAD
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p.agent import own_agent
from swarmllm.adapters.libp2p.options import NetworkOptions
from swarmllm.adapters.libp2p.switch import Switch
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId

log = logging.getLogger("swarmllm.net")

Route = Callable[[Any], Awaitable[Any]]
"""libp2p peer id -> the connection to use for it. Raises SwarmException when there is none and none
can be had."""


class Host(BasicHost):  # type: ignore[misc]
    """`announced` are the multiaddrs that identify, gossip and DHT tell others, without `/p2p/`."""

    def __init__(
        self,
        switch: Switch,
        options: NetworkOptions,
        announced: Callable[[], list[Multiaddr]],
        route: Route,
        penalise: Callable[[PeerId, str], None],
    ) -> None:
        # Fault of the DHT: `protocol_prefix` is ignored. The name is changed on its way in and out,
        # so that swarms stay apart from IPFS and from each other.
        self._aliases = {IPFS_KAD: f"/swarmllm/{options.swarm}/kad/2"}
        self._announced = announced
        self._route = route
        self._penalise = penalise
        self._limits, self._timing = options.limits, options.timing
        self._open: Counter[Any] = Counter()
        self._lasting: set[str] = set()
        super().__init__(switch, disable_identify_address_discovery=True)
        self.switch = switch
        # The library's own name and version otherwise; it offers no other way to say it.
        identify.AGENT_VERSION = own_agent()
        # Peers answer identify, but nobody needs to ask: records carry addresses, and its
        # background tasks are trio system tasks, in which an exception ends the process.
        for notifee in [one for one in switch.notifees if isinstance(one, _IdentifyNotifee)]:
            switch.remove_notifee(notifee)

    def get_addrs(self) -> list[Multiaddr]:
        suffix = Multiaddr(f"/p2p/{self.get_id()}")
        return [addr.encapsulate(suffix) for addr in self._announced()]

    def get_transport_addrs(self) -> list[Multiaddr]:
        return self._announced()

    def _schedule_identify(self, peer_id: Any, *, reason: str) -> None:
        """Never: see `__init__`."""

    def set_stream_handler(
        self, protocol_id: Any, stream_handler: Any, lasting: bool = False
    ) -> None:
        """`lasting` streams may stay open; all others end after `call_within_s`."""
        name = self._aliases.get(protocol_id, protocol_id)
        if lasting:
            self._lasting.add(name)
        super().set_stream_handler(name, stream_handler)

    async def new_stream(self, peer_id: Any, protocol_ids: Sequence[Any]) -> Any:
        return await self.open_stream(await self._route(peer_id), protocol_ids)

    async def connect(self, peer_info: Any) -> None:
        await self._route(peer_info.peer_id)

    async def open_stream(self, conn: Any, protocol_ids: Sequence[Any]) -> Any:
        """A stream on this very connection. StreamFailure when the peer will not have it in time.

        The slot is waited for here: at the 257th outbound stream the library waits for ever.
        """
        names = [self._aliases.get(name, name) for name in protocol_ids]
        with trio.move_on_after(self._timing.negotiate_within_s):
            stream = None
            chosen = None
            try:
                stream = await conn.new_stream()
                chosen = await self.multiselect_client.select_one_of(
                    names, MultiselectCommunicator(stream)
                )
            # The library raises a dozen types here, and all of them mean that there is no stream.
            except Exception as error:
                raise StreamFailure(
                    f"{conn.muxed_conn.peer_id} does not open {names[0]}: {error!r}"
                ) from error
            finally:
                if stream is not None and chosen is None:
                    await reset(stream)
            stream.set_protocol(chosen)
            return stream
        raise StreamFailure(
            f"{conn.muxed_conn.peer_id} did not open {names[0]} within"
            f" {self._timing.negotiate_within_s:g} s"
        )

    async def _swarm_stream_handler(self, stream: Any) -> None:
        """Every inbound stream, from negotiation to its end."""
        peer = PeerId(stream.muxed_conn.peer_id.to_base58())
        conn = stream.muxed_conn
        if self._open[conn] >= self._limits.streams_per_peer_max:
            log.info("%s has %d streams open already; reset one more", peer, self._open[conn])
            await reset(stream)
            return
        self._open[conn] += 1
        finished = False
        try:
            with trio.CancelScope(
                deadline=trio.current_time() + self._timing.call_within_s
            ) as scope:
                await self._answer(stream, scope)
                finished = True
        except RemoteError as error:
            self._penalise(peer, str(error))
        # The guard's purpose (fault 1).
        except Exception as error:  # noqa: BLE001
            log.debug("stream %s of %s failed: %r", stream.get_protocol(), peer, error)
        finally:
            self._open[conn] -= 1
            if not self._open[conn]:
                del self._open[conn]
            # A handler that returns does not close its stream.
            if not finished or not stream.is_closed:
                await reset(stream)
            else:
                await conn.forget(stream.muxed_stream)

    async def _answer(self, stream: Any, scope: trio.CancelScope) -> None:
        timeout_s = max(1, int(self._timing.negotiate_within_s))
        protocol, handler = await self.multiselect.negotiate(
            MultiselectCommunicator(stream), timeout_s
        )
        if handler is None:
            return
        stream.set_protocol(protocol)
        if protocol in self._lasting:
            scope.deadline = float("inf")
        await handler(stream)


async def reset(stream: Any) -> None:
    """Give a stream up. Bounded, and whole even when the caller is being cancelled: a half-sent
    reset would break the connection."""
    with trio.CancelScope(deadline=trio.current_time() + 1.0, shield=True):
        try:
            await stream.reset()
            # What both had closed already is not reset.
            await stream.muxed_conn.forget(stream.muxed_stream)
        # The guard's purpose: a stream that cannot even be reset belongs to a connection that is
        # closing.
        except Exception as error:  # noqa: BLE001
            log.debug("reset failed: %r", error)
