"""Finding each other on the local network without being told: multicast DNS, one service type per swarm.

Directly on zeroconf: the library's own discovery announces whatever address its default route has and writes into a shared address
book from a foreign thread. Here the announced addresses are the ones that we listen on, on the interfaces that have them, and what is
found comes back through trio.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
from collections.abc import Callable
from typing import Any, Final

import trio
from zeroconf import ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from swarmllm.adapters.libp2p.addresses import TcpAddress, parse_addr
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId

log = logging.getLogger("swarmllm.net")

ADDRS_MAX: Final = 8
ASK_MS: Final = 3_000  # For the details of a service whose name was heard.
CLOSE_WITHIN_S: Final = 0.8

Found = Callable[[PeerId, tuple[str, ...]], None]


class Lan:
    """`run` announces and listens until it is cancelled. `error` says why the LAN is not searched, if it is not."""

    def __init__(self, us: PeerId, swarm: str, found: Found) -> None:
        self._us, self._found = us, found
        self._tag = hashlib.sha256(b"swarmllm/lan/1\0" + swarm.encode()).hexdigest()
        # A service name has at most 15 characters; the rest of the tag is in the record, so that a collision is noticed.
        self._type = f"_swarmllm-{self._tag[:6]}._udp.local."
        self._name = f"{us}.{self._type}"
        self.error = ""

    async def run(self, addrs: tuple[TcpAddress, ...]) -> None:
        """With `addrs` as what we announce: no multicast leaves on an interface that has none of them."""
        hosts = [addr.host for addr in addrs if addr.kind == "ip4"]
        if not hosts:
            self.error = "no IPv4 address to announce"
            return
        self._token = trio.lowlevel.current_trio_token()
        zeroconf: Zeroconf | None = None
        info: ServiceInfo | None = None
        browser: ServiceBrowser | None = None
        try:
            zeroconf = found = await trio.to_thread.run_sync(lambda: Zeroconf(interfaces=hosts))
            info = service = self._service(addrs)
            await trio.to_thread.run_sync(lambda: found.register_service(service))
            browser = await trio.to_thread.run_sync(lambda: ServiceBrowser(found, self._type, self._listener()))
            log.info("searching the local network on %s as %s", ", ".join(hosts), self._type)
            await trio.sleep_forever()
        # The guard's purpose: without multicast (or with zeroconf's dozen reasons) the node goes on, and says so.
        except Exception as error:  # noqa: BLE001
            self.error = f"{error!r}"
            log.warning("the local network is not searched: %r", error)
        finally:
            if zeroconf is not None:
                await self._leave(zeroconf, info, browser)

    async def _leave(self, zeroconf: Zeroconf, info: ServiceInfo | None, browser: ServiceBrowser | None) -> None:
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
        properties = {"swarm": self._tag} | {f"dnsaddr{index or ''}": text for index, text in enumerate(texts)}
        packed = [ipaddress.ip_address(addr.host).packed for addr in addrs[:ADDRS_MAX] if addr.kind in ("ip4", "ip6")]
        return ServiceInfo(
            self._type, self._name, port=addrs[0].port, properties=properties, server=f"{self._us}.local.", addresses=packed
        )

    def _listener(self) -> ServiceListener:
        """Called in zeroconf's thread."""
        lan = self

        class Listener(ServiceListener):
            def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
                if name == lan._name:
                    return
                info = zc.get_service_info(type_, name, timeout=ASK_MS)
                if info is not None:
                    lan._heard(dict(info.properties))

            def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
                self.add_service(zc, type_, name)

            def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
                """A goodbye here says nothing that the connection does not say sooner."""

        return Listener()

    def _heard(self, properties: dict[bytes, Any]) -> None:
        found = read_service(properties, self._tag)
        if found is None or found[0] == self._us:
            return
        try:
            trio.from_thread.run_sync(self._found, *found, trio_token=self._token)
        except trio.RunFinishedError:
            log.debug("found %s too late", found[0])


def read_service(properties: dict[bytes, Any], tag: str) -> tuple[PeerId, tuple[str, ...]] | None:
    """The peer and its addresses, from a record that anybody on the network may have written; None for one that is not ours."""
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
