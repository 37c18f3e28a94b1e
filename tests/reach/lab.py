"""A laboratory of network namespaces: an internet with two public hosts and one on IPv6 only, two
homes behind NATs of their own, and an office behind a symmetric one.

    relay 11.1.0.2, 2a0e:1::2 ─┐
    spare 11.2.0.2, 2a0e:2::2 ─┤            ┌─ 11.3.0.2 NAT 192.168.1.1 ── home-a 192.168.1.10
    six             2a0e:6::2 ─┤─ internet ─┼─ 11.4.0.2 NAT 192.168.1.1 ── home-b 192.168.1.10
                                            └─ 11.5.0.2 NAT 10.0.0.1    ── office 10.0.0.10

The homes' routers keep source ports where they can, as most do (their mapping does not depend on
the destination, their filter does); the office's chooses a random port for each connection. None
lets anybody in who was not asked. The addresses are ordinary ones of the internet, because the
rules of dialling treat those for documents as none; no namespace has a way out. The two homes use
one and the same private network, as homes do.

Needs root, `ip` and `nft`; `MISSING` says what is not there. Names are unique, so that several
laboratories live beside each other, and each takes itself down however its block ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from swarmllm.cli.processes import Fleet, NodeProcess, open_fleet

PORT: Final = 7339


@dataclass(frozen=True, slots=True)
class Place:
    """A host at network `number` of the internet, over IPv4, IPv6 or both; with `lan`, the private
    address of its router, it sits behind a NAT of the kind `masquerade`."""

    number: int
    ip4: bool = True
    ip6: bool = False
    lan: str = ""
    masquerade: str = ""

    @property
    def outside4(self) -> str:
        return f"11.{self.number}.0.2"

    @property
    def outside6(self) -> str:
        return f"2a0e:{self.number}::2"

    @property
    def inside(self) -> str:
        return f"{self.lan.rsplit('.', 1)[0]}.10"


PLACES: Final = {
    "relay": Place(1, ip6=True),
    "spare": Place(2, ip6=True),
    "home-a": Place(3, lan="192.168.1.1", masquerade="masquerade"),
    "home-b": Place(4, lan="192.168.1.1", masquerade="masquerade"),
    "office": Place(5, lan="10.0.0.1", masquerade="masquerade fully-random"),
    "six": Place(6, ip4=False, ip6=True),
}


def _missing() -> str:
    tools = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if tools:
        return f"no laboratory: {' and '.join(tools)} not installed"
    if os.geteuid() != 0:
        return "no laboratory: network namespaces need root"
    probe = f"slprobe{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", probe], check=False, capture_output=True)
    if made.returncode:
        return f"no laboratory: no network namespaces here ({made.stderr.decode()[:100].strip()})"
    subprocess.run(["ip", "netns", "del", probe], check=True, capture_output=True)
    return ""


MISSING: Final = _missing()


@dataclass(slots=True)
class Lab:
    """`hosts` of `PLACES` that were built."""

    prefix: str
    hosts: tuple[str, ...]
    fleet: Fleet | None = None
    nodes: dict[str, NodeProcess] = field(default_factory=dict)

    def space(self, host: str) -> str:
        """The name of its namespace."""
        return f"{self.prefix}-{host}"

    def run(self, host: str, *command: str, text: str = "") -> str:
        """A command on a host, or on its router (`nat-HOST`) or in `internet`; its output."""
        return _run("ip", "netns", "exec", self.space(host), *command, text=text)

    async def join(self, host: str, *arguments: str) -> NodeProcess:
        """Start `swarmllm join` on a host, with a data folder of its own; the same host again is
        the same node that comes back. Returns at once."""
        assert self.fleet is not None
        prefix = ("ip", "netns", "exec", self.space(host))
        told = ("--no-lan", "--port", str(PORT), "--threads", "1", "--context", "256", *arguments)
        node = await self.fleet.start(host, told, prefix=prefix)
        self.nodes[host] = node
        return node

    def addr(self, host: str, version: int = 4) -> str:
        """The multiaddr of a node that is ready, as the internet sees it."""
        place, peer = PLACES[host], self.nodes[host].peer
        assert peer, f"{host} is not ready"
        ip = f"/ip4/{place.outside4}" if version == 4 else f"/ip6/{place.outside6}"
        return f"{ip}/tcp/{PORT}/p2p/{peer}"

    def forward(self, host: str) -> None:
        """What its owner would do at the router: forward the port of swarmllm to it."""
        place = PLACES[host]
        self.run(
            f"nat-{host}",
            *("nft", "add", "rule", "ip", "nat", "in", "iifname", "wan", "tcp", "dport"),
            *(str(PORT), "dnat", "to", place.inside),
        )
        self.run(
            f"nat-{host}",
            *("nft", "insert", "rule", "ip", "guard", "pass", "ct", "status", "dnat", "accept"),
        )

    def cut(self, host: str, *, down: bool = True) -> None:
        """Pull (or plug in) the cable of a host."""
        _run("ip", "-n", self.space(host), "link", "set", "eth0", "down" if down else "up")
        if not down:
            self._routes(host)

    def renumber(self, host: str, last: int) -> None:
        """Give a host behind a NAT another private address, as a change of network does."""
        place = PLACES[host]
        self.cut(host)
        _run("ip", "-n", self.space(host), "addr", "flush", "dev", "eth0")
        net = place.lan.rsplit(".", 1)[0]
        _run("ip", "-n", self.space(host), "addr", "add", f"{net}.{last}/24", "dev", "eth0")
        self.cut(host, down=False)

    def build(self) -> None:
        self._space("internet")
        self._forwards("internet")
        for host in self.hosts:
            self._plug(host, PLACES[host])

    def _space(self, name: str) -> None:
        _run("ip", "netns", "add", self.space(name))
        self._ip(name, "link set lo up")
        # Nobody else can have our addresses here, and to look for them takes a second.
        self.run(name, "sysctl", "-q", "-w", "net.ipv6.conf.default.accept_dad=0")

    def _plug(self, host: str, place: Place) -> None:
        """A cable from the host, or from its router, to the internet."""
        edge = f"nat-{host}" if place.lan else host
        self._space(edge)
        device, far = "wan" if place.lan else "eth0", f"to{place.number}"
        self._ip(
            edge, f"link add {device} type veth peer name {far} netns {self.space('internet')}"
        )
        if place.ip4:
            self._ip("internet", f"addr add 11.{place.number}.0.1/24 dev {far}")
            self._ip(edge, f"addr add {place.outside4}/24 dev {device}")
        if place.ip6:
            self._ip("internet", f"addr add 2a0e:{place.number}::1/64 dev {far} nodad")
            self._ip(edge, f"addr add {place.outside6}/64 dev {device} nodad")
        self._ip("internet", f"link set {far} up")
        self._ip(edge, f"link set {device} up")
        self._routes(edge, place)
        if place.lan:
            self._shelter(host, place)

    def _shelter(self, host: str, place: Place) -> None:
        """The network behind a NAT, and its one host."""
        router = f"nat-{host}"
        self._space(host)
        self._ip(router, f"link add lan type veth peer name eth0 netns {self.space(host)}")
        self._ip(router, f"addr add {place.lan}/24 dev lan")
        self._ip(router, "link set lan up")
        self._ip(host, f"addr add {place.inside}/24 dev eth0")
        self._ip(host, "link set eth0 up")
        self._routes(host)
        self._forwards(router)
        self.run(router, "nft", "-f", "-", text=RULES.format(masquerade=place.masquerade))

    def _routes(self, host: str, place: Place | None = None) -> None:
        found = place or PLACES[host]
        if found.lan and place is None:
            self._ip(host, f"route replace default via {found.lan}")
            return
        if found.ip4:
            self._ip(host, f"route replace default via 11.{found.number}.0.1")
        if found.ip6:
            self._ip(host, f"-6 route replace default via 2a0e:{found.number}::1")

    def _forwards(self, space: str) -> None:
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            self.run(space, "sysctl", "-q", "-w", f"{name}=1")

    def _ip(self, space: str, words: str) -> None:
        _run("ip", "-n", self.space(space), *words.split())

    def destroy(self) -> None:
        """All its namespaces, with the cables in them."""
        for line in _run("ip", "netns", "list").splitlines():
            name = line.split()[0] if line.split() else ""
            if name.startswith(f"{self.prefix}-"):
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


RULES: Final = """
table ip nat {{
  chain in {{ type nat hook prerouting priority -100; }}
  chain out {{ type nat hook postrouting priority 100; oifname "wan" {masquerade}; }}
}}
table ip guard {{
  chain pass {{
    type filter hook forward priority 0; policy drop;
    iifname "lan" accept
    ct state established,related accept
  }}
}}
"""


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, check=False, input=text.encode(), capture_output=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.decode().strip()}")
    return done.stdout.decode()


@contextmanager
def built(*hosts: str) -> Iterator[Lab]:
    """The namespaces of these hosts (all, if none is named), without any node."""
    lab = Lab(f"sl{secrets.token_hex(3)}", hosts or tuple(PLACES))
    try:
        lab.build()
        yield lab
    finally:
        lab.destroy()


@asynccontextmanager
async def open_lab(folder: Path, *hosts: str) -> AsyncIterator[Lab]:
    """With a fleet for nodes; the processes end before their namespaces do."""
    with built(*hosts) as lab:
        async with open_fleet(folder) as fleet:
            lab.fleet = fleet
            yield lab
