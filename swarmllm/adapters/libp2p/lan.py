"""LAN discovery by multicast DNS (mDNS), one service type per swarm.

Directly on zeroconf: the library's own discovery announces whatever address its default route has
and writes into a shared address book from a foreign thread. Here the announced addresses are the
ones that we listen on, on the interfaces that have them, and what is found comes back through trio.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio
from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from swarmllm.adapters.libp2p.addresses import TcpAddress, all_ips, parse_addr
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId
from swarmllm.wire.identity import public_key_of

log = logging.getLogger("swarmllm.net")

ADDRS_MAX: Final = 8
# For the details of a service of which the name alone was heard; an announcement brings both.
ASK_MS: Final = 1_000
ASKS_MAX: Final = 2  # Such questions at once, each a packet to everybody on the network.
ASK_PAUSE_S: Final = 0.5  # Between two of them.
# Names that wait to be asked about. One more takes the place of any, so that a flood wins by
# nothing but luck.
UNASKED_MAX: Final = 64
CLOSE_WITHIN_S: Final = 0.8

Found = Callable[[PeerId, tuple[str, ...]], None]


class Lan:
    """`run` announces and listens until it is cancelled. `error` says why the LAN is not searched,
    if it is not."""

    def __init__(self, us: PeerId, swarm: str, found: Found) -> None:
        self._us, self._found = us, found
        self._tag = hashlib.sha256(b"swarmllm/lan/1\0" + swarm.encode()).hexdigest()
        # A service name has at most 15 characters; the rest of the tag is in the record, so that a
        # collision is noticed.
        self._type = f"_swarmllm-{self._tag[:6]}._udp.local."
        self._name = f"{us}.{self._type}"
        self.error = ""
        self._lock = threading.Lock()
        self._unasked: list[str] = []
        # Whom to ask about next: nothing that anybody has to be able to repeat.
        self._rng = random.Random()

    async def run(self, addrs: tuple[TcpAddress, ...]) -> None:
        """With `addrs` as what we announce: no multicast leaves on an interface that has none of
        them."""
        hosts, version = _interfaces(addrs)
        if not hosts:
            self.error = "no address of this machine to announce"
            return
        self._token = trio.lowlevel.current_trio_token()
        zeroconf: Zeroconf | None = None
        info: ServiceInfo | None = None
        browser: ServiceBrowser | None = None
        try:
            zeroconf = found = await trio.to_thread.run_sync(
                partial(Zeroconf, interfaces=hosts, ip_version=version)
            )
            info = service = self._service(addrs)
            await trio.to_thread.run_sync(lambda: found.register_service(service))
            browser = await trio.to_thread.run_sync(
                lambda: ServiceBrowser(found, self._type, self._listener())
            )
            log.info("searching the local network on %s as %s", ", ".join(hosts), self._type)
            async with trio.open_nursery() as nursery:
                for _ in range(ASKS_MAX):
                    nursery.start_soon(self._ask, zeroconf)
        # The guard's purpose: without multicast (or with zeroconf's dozen reasons) the node goes
        # on, and says so.
        except Exception as error:  # noqa: BLE001
            self.error = f"{error!r}"
            log.warning("the local network is not searched: %r", error)
        finally:
            if zeroconf is not None:
                await self._leave(zeroconf, info, browser)

    async def _leave(
        self, zeroconf: Zeroconf, info: ServiceInfo | None, browser: ServiceBrowser | None
    ) -> None:
        """Say goodbye; whatever is not done in time goes on in its thread, and ends by itself."""

        def close() -> None:
            if browser is not None:
                browser.cancel()
            if info is not None:
                zeroconf.unregister_service(info)
            zeroconf.close()

        run_abandonable: Any = trio.to_thread.run_sync
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_WITHIN_S, shield=True):
            await run_abandonable(close, abandon_on_cancel=True)

    def _service(self, addrs: tuple[TcpAddress, ...]) -> ServiceInfo:
        texts = [f"{addr}/p2p/{self._us}" for addr in addrs[:ADDRS_MAX]]
        properties = {"swarm": self._tag} | {
            f"dnsaddr{index or ''}": text for index, text in enumerate(texts)
        }
        packed = [
            ipaddress.ip_address(addr.host).packed
            for addr in addrs[:ADDRS_MAX]
            if addr.kind in ("ip4", "ip6")
        ]
        return ServiceInfo(
            self._type,
            self._name,
            port=addrs[0].port,
            properties=properties,
            server=f"{self._us}.local.",
            addresses=packed,
        )

    async def _ask(self, zeroconf: Zeroconf) -> None:
        """Ask about names that came alone, for ever: one at a time, in no order that whoever floods
        us could use."""
        run_abandonable: Any = trio.to_thread.run_sync
        while True:
            with self._lock:
                name = (
                    self._unasked.pop(self._rng.randrange(len(self._unasked)))
                    if self._unasked
                    else ""
                )
            if name:
                ask = partial(zeroconf.get_service_info, self._type, name, timeout=ASK_MS)
                info = await run_abandonable(ask, abandon_on_cancel=True)
                if info is not None:
                    self._tell(dict(info.properties))
            await trio.sleep(ASK_PAUSE_S)

    def _ask_later(self, name: str) -> None:
        with self._lock:
            if name in self._unasked:
                return
            if len(self._unasked) >= UNASKED_MAX:
                self._unasked.pop(self._rng.randrange(UNASKED_MAX))
            self._unasked.append(name)

    def _is_peer_name(self, name: str) -> bool:
        """Whether it could be another node's: a peer id before our type. Made-up names of any other
        form cost nothing."""
        try:
            public_key_of(PeerId(name.removesuffix(f".{self._type}")))
        except RemoteError:
            return False
        return name != self._name

    def _listener(self) -> ServiceListener:
        """Called in zeroconf's thread, one name after the other: nothing here may wait, or a flood
        of names would make all others wait."""
        lan = self

        class Listener(ServiceListener):
            def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
                if not lan._is_peer_name(name):
                    return
                info = ServiceInfo(type_, name)
                if info.load_from_cache(zc):
                    lan._heard(dict(info.properties))
                else:
                    lan._ask_later(name)

            def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
                self.add_service(zc, type_, name)

            def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
                """A goodbye here says nothing that the connection does not say sooner."""

        return Listener()

    def _heard(self, properties: dict[bytes, Any]) -> None:
        """In zeroconf's thread."""
        try:
            trio.from_thread.run_sync(self._tell, properties, trio_token=self._token)
        except trio.RunFinishedError:
            log.debug("found a peer too late")

    def _tell(self, properties: dict[bytes, Any]) -> None:
        found = read_service(properties, self._tag)
        if found is not None and found[0] != self._us:
            self._found(*found)


def _interfaces(addrs: tuple[TcpAddress, ...]) -> tuple[list[str], IPVersion]:
    """The addresses of this machine among them, and the families that they are of. An outside
    address of a router is told to the LAN, and is no interface."""
    own = all_ips()
    hosts = [addr.host for addr in addrs if addr.kind in ("ip4", "ip6") and addr.host in own]
    kinds = {addr.kind for addr in addrs if addr.host in hosts}
    if kinds == {"ip6"}:
        return hosts, IPVersion.V6Only
    return hosts, IPVersion.All if "ip6" in kinds else IPVersion.V4Only


def read_service(properties: dict[bytes, Any], tag: str) -> tuple[PeerId, tuple[str, ...]] | None:
    """The peer and its addresses, from a record that anybody on the network may have written; None
    for one that is not ours."""
    if properties.get(b"swarm") != tag.encode():
        return None
    peer: PeerId | None = None
    addrs: list[str] = []
    for key, value in list(properties.items())[: 2 * ADDRS_MAX]:
        if not key.startswith(b"dnsaddr") or not isinstance(value, bytes):
            continue
        try:
            addr = parse_addr(value.decode())
        except (RemoteError, UnicodeDecodeError) as error:
            log.debug("LAN record left out: %s", error)
            continue
        if addr.peer is None or peer not in (None, addr.peer):
            return None
        peer = addr.peer
        addrs.append(str(addr))
    return (peer, tuple(addrs[:ADDRS_MAX])) if peer is not None else None
