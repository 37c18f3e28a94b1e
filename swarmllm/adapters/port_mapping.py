"""Port mapping: asks the router to forward this node's port, by PCP, NAT-PMP or UPnP, whichever it
speaks, renews that, and takes it back at the end.

What the router says counts as a stranger's word: peers elsewhere have to come in there before
anybody is told the address (`core.peers.reachability`). UPnP runs in a process that is killed when
its time is over; the other two are one datagram each way.
"""

from __future__ import annotations

import json
import logging
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import trio

from swarmllm.core.peers.dial_rule import PORT_MIN, Vantage, refusal
from swarmllm.core.peers.reachability import PortMapping
from swarmllm.errors import RemoteError
from swarmllm.wire.pcp import (
    ANSWER_MAX,
    NONCE_BYTES,
    ROUTER_PORT,
    Mapped,
    NotSpoken,
    pcp_map_request,
    pmp_address_request,
    pmp_map_request,
    read_pcp_map,
    read_pmp_address,
    read_pmp_map,
)

log = logging.getLogger("swarmllm.net")

LEASE_S: Final = 7_200  # What RFC 6886 recommends.
# A router that gives less is asked all the more often, but not all the time; one that says more
# is asked as if it had not.
LEASE_MIN_S: Final = 120
RETRY_S: Final = 900.0  # Until a router that forwards nothing is asked again.
RESENDS_S: Final = (0.25, 0.5, 1.0)  # As the RFCs have it, cut off: home routers answer in 10 ms.
UPNP_WITHIN_S: Final = 11.0
UPNP_BYTES_MAX: Final = 2_048
ROUTES: Final = Path("/proc/net/route")


@dataclass(frozen=True, slots=True)
class _Granted:
    by: str
    mapped: Mapped
    gateway: str
    own: str
    nonce: bytes = b""


Tell = Callable[[PortMapping | None, str], None]


class PortMapper:
    """`tell` hears of the mapping, or that there is none and why. `own` gives the private address
    that is to be reached, empty while there is none; `gateway` and `router_port` say whom to
    ask."""

    def __init__(
        self,
        port: int,
        own: Callable[[], str],
        tell: Tell,
        gateway: Callable[[], str] | None = None,
        router_port: int = ROUTER_PORT,
        upnp_url: str = "",
    ) -> None:
        self._port, self._own, self._tell = port, own, tell
        self._gateway = gateway or default_gateway
        self._router_port = router_port
        self._where = (upnp_url,) if upnp_url else ()
        self._granted: _Granted | None = None
        self._wake = trio.Event()

    def hurry(self) -> None:
        """The network is another: what was forwarded is worth nothing."""
        self._granted = None
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake = trio.Event()
            pause_s = await self._once()
            with trio.move_on_after(pause_s):
                await self._wake.wait()

    async def _once(self) -> float:
        """Ask for it, or for it to go on; how long to wait then."""
        own = self._own()
        if not own:
            self._tell(None, "")
            return RETRY_S
        faults: list[str] = []
        for way in (self._pcp, self._pmp, self._upnp):
            try:
                granted = await way(own)
                lease_s = self._checked(granted.mapped)
            except RemoteError as error:
                faults.append(str(error))
                continue
            self._granted = granted
            kind = "ip6" if ":" in granted.mapped.host else "ip4"
            outside = f"/{kind}/{granted.mapped.host}/tcp/{granted.mapped.port}"
            self._tell(PortMapping(granted.by, outside, trio.current_time() + lease_s), "")
            log.info("the router forwards %s here, by %s, for %d s", outside, granted.by, lease_s)
            return lease_s / 2
        self._granted = None
        log.info("no port is forwarded by the router: %s", "; ".join(faults))
        self._tell(None, faults[-1] if faults else "")
        return RETRY_S

    @staticmethod
    def _checked(mapped: Mapped) -> int:
        """For how long it is good. RemoteError if it leads nowhere from elsewhere."""
        try:
            packed = ip_address(mapped.host).packed
        except ValueError as error:
            raise RemoteError("the router names no address of its own") from error
        if refusal(packed, PORT_MIN, Vantage()):
            raise RemoteError(
                f"the router's own address is {mapped.host}: it is behind another NAT"
            )
        if not PORT_MIN <= mapped.port <= 65_535 or mapped.lifetime_s <= 0:
            raise RemoteError(
                f"the router forwards port {mapped.port} for {mapped.lifetime_s} s, which is no use"
            )
        return max(LEASE_MIN_S, min(LEASE_S, mapped.lifetime_s))

    # --- the three ways ---------------------------------------------------------------------------

    async def _pcp(self, own: str) -> _Granted:
        gateway, nonce = await self._router(), self._nonce() or secrets.token_bytes(NONCE_BYTES)
        async with _Question(gateway, self._router_port) as question:
            request = pcp_map_request(question.own, nonce, self._port, self._wanted(), LEASE_S)
            data = await question.ask(request)
        mapped = read_pcp_map(data, nonce, self._port)
        return _Granted("PCP", mapped, gateway, own, nonce)

    async def _pmp(self, own: str) -> _Granted:
        gateway = await self._router()
        async with _Question(gateway, self._router_port) as question:
            host = read_pmp_address(await question.ask(pmp_address_request()))
            request = pmp_map_request(self._port, self._wanted(), LEASE_S)
            mapped = read_pmp_map(await question.ask(request), self._port)
        return _Granted("NAT-PMP", replace(mapped, host=host), gateway, own)

    async def _upnp(self, own: str) -> _Granted:
        told = await _run_upnp("map", str(self._port), str(LEASE_S), own, *self._where)
        if "error" in told:
            raise RemoteError(f"UPnP: {str(told['error'])[:100]}")
        port = told.get("port")
        if not isinstance(port, int):
            raise RemoteError("UPnP: no port was named")
        mapped = Mapped(str(told.get("host", ""))[:64], port, LEASE_S)
        return _Granted("UPnP", mapped, "", own)

    async def _router(self) -> str:
        gateway = await trio.to_thread.run_sync(self._gateway)
        if not gateway:
            raise RemoteError("no router is known: this machine has no default route")
        return gateway

    def _nonce(self) -> bytes:
        return b"" if self._granted is None else self._granted.nonce

    def _wanted(self) -> int:
        """The same port again, for whoever was told of it."""
        return self._port if self._granted is None else self._granted.mapped.port

    def withdraw(self) -> None:
        """Forward it no more, without waiting for anybody: what is lost on the way ends with its
        lease."""
        granted, self._granted = self._granted, None
        match granted:
            case None:
                pass
            case _Granted(by="UPnP"):
                _start_upnp("unmap", str(granted.mapped.port), granted.own, *self._where)
            case _Granted(by="PCP"):
                request = pcp_map_request(granted.own, granted.nonce, self._port, 0, 0)
                _send(granted.gateway, self._router_port, request)
            case _:
                _send(granted.gateway, self._router_port, pmp_map_request(self._port, 0, 0))


class _Question:
    """A datagram to the router and its answer; from anybody else none is heard."""

    def __init__(self, gateway: str, port: int) -> None:
        self._at = gateway, port
        family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
        self._sock = trio.socket.socket(family, socket.SOCK_DGRAM)

    async def __aenter__(self) -> _Question:
        try:
            await self._sock.connect(self._at)
        except OSError as error:
            self._sock.close()
            raise RemoteError(f"the router cannot be asked: {error.strerror}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sock.close()

    @property
    def own(self) -> str:
        return str(self._sock.getsockname()[0])

    async def ask(self, request: bytes) -> bytes:
        for patience_s in RESENDS_S:
            try:
                await self._sock.send(request)
                with trio.move_on_after(patience_s):
                    return await self._sock.recv(ANSWER_MAX + 1)
            except OSError as error:
                raise NotSpoken(f"the router cannot be asked: {error.strerror}") from error
        raise NotSpoken("the router does not answer")


def _send(gateway: str, port: int, request: bytes) -> None:
    family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            sock.sendto(request, (gateway, port))
        except OSError as error:
            log.info("the router was not told that its mapping is not wanted any more: %r", error)


def _command(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-P", "-m", "swarmllm.adapters.upnp", *words]


def _start_upnp(*words: str) -> None:
    """Not waited for; its own alarm ends it."""
    subprocess.Popen(
        _command(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


async def _run_upnp(*words: str) -> dict[str, object]:
    """What the process says; RemoteError if that is nothing. It never outlives its deadline."""
    process = await trio.lowlevel.open_process(
        _command(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    data = b""
    try:
        with trio.move_on_after(UPNP_WITHIN_S):
            while len(data) <= UPNP_BYTES_MAX and (
                chunk := await process.stdout.receive_some(UPNP_BYTES_MAX)
            ):
                data += chunk
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdout.aclose()
    try:
        told = json.loads(data[:UPNP_BYTES_MAX])
    except ValueError as error:
        raise RemoteError("UPnP: no answer in time") from error
    if not isinstance(told, dict):
        raise RemoteError("UPnP: no answer in time")
    return told


def default_gateway(routes: Path = ROUTES) -> str:
    """The IPv4 address of the router on the default route; empty if there is none, or if the system
    does not tell."""
    try:
        lines = routes.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return _asked_gateway()
    best: tuple[int, str] | None = None
    for line in lines:
        fields = line.split()
        # Destination, gateway, flags, metric; RTF_UP and RTF_GATEWAY are 1 and 2.
        if len(fields) < 8 or fields[1] != "00000000" or int(fields[3], 16) & 3 != 3:
            continue
        host = str(ip_address(bytes.fromhex(fields[2])[::-1]))
        if best is None or int(fields[6]) < best[0]:
            best = int(fields[6]), host
    return "" if best is None else best[1]


def _asked_gateway() -> str:
    """As macOS and the BSDs tell it."""
    try:
        done = subprocess.run(
            ["route", "-n", "get", "default"], capture_output=True, timeout=2, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    for line in done.stdout.decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "gateway":
            try:
                return str(ip_address(value.strip()))
            except ValueError:
                return ""
    return ""
