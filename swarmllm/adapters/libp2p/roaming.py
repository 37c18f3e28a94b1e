"""Roaming: notices within a second that this machine has slept or is on another network, drops what
cannot work any more, and has everybody dialled again at once.

The kernel says so where it can (a netlink socket on Linux); elsewhere the interfaces are looked at
every two seconds. A connection whose own address is gone never comes back, and nothing on it says
so: it ends here. The others are asked for a sign of life, and end without one; until then they and
the answers on them go on.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any, Final

import trio

from swarmllm.adapters.libp2p.addresses import all_ips, stand
from swarmllm.adapters.libp2p.links import Links, open_links
from swarmllm.runtime.suspend_detector import sleepless_clock

log = logging.getLogger("swarmllm.net")

LOOK_EVERY_S: Final = 2.0  # A look at the interfaces takes 0.2 ms.
# Messages of one change come together: addresses, routes, links.
TOGETHER_S: Final = 0.1
# A tick that is so late says that the machine, or this process, was not there meanwhile.
ABSENT_S: Final = 3.0
# Between two alarms, whatever interfaces do: each costs a ping on every connection.
ALARM_GAP_S: Final = 2.0
_ROUTE: Final = 0  # NETLINK_ROUTE
# RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE (linux/rtnetlink.h)
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
# From the Noise session down to trio's stream, as in `muxer`.
_LAYERS: Final = ("conn", "read_writer", "read_write_closer", "stream", "stream")


class Bell:
    """Wakes the one task that waits, once for any number of rings."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self, *_: object) -> None:
        self._rung.set()

    async def wait(self) -> None:
        await self._rung.wait()
        self._rung = trio.Event()


class InterfaceWatch:
    """`change` returns when this machine stands elsewhere, or was away."""

    def __init__(self, clock: Callable[[], float] = sleepless_clock) -> None:
        self._clock = clock
        self._netlink = _netlink()
        self._seen = stand()

    async def change(self) -> str:
        """What happened, for the log."""
        while True:
            before = self._clock()
            heard = False
            with trio.move_on_after(LOOK_EVERY_S):
                heard = await self._hear()
            if self._clock() - before > LOOK_EVERY_S + ABSENT_S:
                return "this machine was asleep, or this process was stopped"
            if heard:
                await self._drain()
            now = stand()
            if now != self._seen:
                self._seen = now
                return "the addresses or routes of this machine have changed"

    async def _hear(self) -> bool:
        if self._netlink is None:
            await trio.sleep_forever()
        try:
            await self._netlink.recv(65_536)
        except OSError as error:  # More at once than the kernel keeps for us: a change, too.
            log.debug("netlink: %r", error)
        return True

    async def _drain(self) -> None:
        """The other messages of the same change."""
        with trio.move_on_after(TOGETHER_S):
            while True:
                await self._hear()

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()


def _netlink() -> Any:
    """None where there is no such thing, or it is forbidden."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    try:
        sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE)
    except OSError as error:
        log.info("interfaces are looked at every %g s: %r", LOOK_EVERY_S, error)
        return None
    try:
        sock.bind((0, _GROUPS))
    except OSError as error:
        sock.close()
        log.info("interfaces are looked at every %g s: %r", LOOK_EVERY_S, error)
        return None
    return trio.socket.from_stdlib_socket(sock)


async def roam(
    links: Links, probe_within_s: float, changed: Callable[[], None], hurry: Callable[[], None]
) -> None:
    """For ever. `changed`: the interfaces may be others; `hurry`: whoever is wanted is to be
    dialled now."""
    watch = InterfaceWatch()
    try:
        async with trio.open_nursery() as nursery:
            while True:
                why = await watch.change()
                log.info("%s; connections are tried", why)
                changed()
                gone = drop_stranded(links)
                hurry()
                nursery.start_soon(_probe, links, probe_within_s, hurry)
                log.debug("%d connections from addresses that are gone", gone)
                await trio.sleep(ALARM_GAP_S)
    finally:
        watch.close()


def drop_stranded(links: Links) -> int:
    """End the links whose own address this machine has no more; their number."""
    own = all_ips()
    gone = 0
    for link in open_links(links):
        host = local_host(link.conn.muxed_conn)
        if host and host not in own:
            link.end(f"this machine has the address {host} no more", abort=True)
            gone += 1
    return gone


async def _probe(links: Links, within_s: float, hurry: Callable[[], None]) -> None:
    ended: list[object] = []

    async def try_one(link: Any) -> None:
        if not await link.is_alive(within_s) and not link.is_over:
            link.end("silent since the network changed", abort=True)
            ended.append(link)

    async with trio.open_nursery() as nursery:
        for link in open_links(links):
            if link.ready.is_set():
                nursery.start_soon(try_one, link)
    if ended:
        hurry()


def local_host(muxed_conn: Any) -> str:
    """The address of our own end; empty for a connection through a relay, or one that is gone."""
    layer: Any = muxed_conn.secured_conn
    for name in _LAYERS:
        layer = getattr(layer, name, None)
    if not isinstance(layer, trio.SocketStream):
        return ""
    try:
        return str(layer.socket.getsockname()[0]).split("%", maxsplit=1)[0]
    except OSError:
        return ""
