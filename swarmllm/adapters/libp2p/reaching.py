"""How this node is reached: asks its peers to dial it back, round by round, and keeps the verdict
(`core.peers.reachability`).

A round asks a few peers elsewhere, those from which a word is missing or oldest; the first one runs
as soon as there is somebody to ask. Peers on the machine or on its own networks are not asked: what
they reach says nothing of others.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Final

import trio

from swarmllm.adapters.libp2p.addresses import TcpAddress
from swarmllm.adapters.libp2p.agent import observed_by
from swarmllm.adapters.libp2p.autonat import ask, remote_of
from swarmllm.adapters.libp2p.links import Links
from swarmllm.core.peers.dial_rule import PORT_MIN, Vantage, is_private, refusal
from swarmllm.core.peers.reachability import PortMapping, Reachability, Verdicts, block_of
from swarmllm.messages import PeerId

log = logging.getLogger("swarmllm.net")

# A third of how long a vote counts, so that one round that goes wrong changes nothing.
ROUND_S: Final = 600.0
# After a peer has come while little is known: for the others of the same moment.
SOON_S: Final = 0.5
PEERS_MAX: Final = 4  # Asked in a round.
CAME_MAX: Final = 256  # Hosts whose connections were accepted lately.


class Reaching:
    """`addrs` are what this machine's own interfaces offer; `changed` hears of each new verdict.

    `came` is to be told of every connection that our own sockets accept: it proves what peers
    claim.
    """

    def __init__(
        self,
        host: Any,
        links: Links,
        addrs: Callable[[], Sequence[TcpAddress]],
        changed: Callable[[Reachability], None],
    ) -> None:
        self._host, self._links, self._addrs, self._changed = host, links, addrs, changed
        port = next((addr.port for addr in addrs()), 0)
        self.port = port
        self._verdicts = Verdicts(port)
        self._came: OrderedDict[str, float] = OrderedDict()
        self._asked_at: dict[PeerId, float] = {}
        self._wake = trio.Event()
        self._told = self._verdicts.now(trio.current_time())
        self.relays: Callable[[], int] = lambda: 0
        """At how many relays this node has a place."""

    @property
    def now(self) -> Reachability:
        self._verdicts.connected(len(self._links.ready_peers))
        self._verdicts.relayed(self.relays())
        return self._verdicts.now(trio.current_time())

    @property
    def outside(self) -> tuple[TcpAddress, ...]:
        """The addresses at which peers elsewhere have got in."""
        found = [text.split("/") for text in self.now.addrs]
        return tuple(TcpAddress(kind, host, int(port), None) for _, kind, host, _, port in found)

    def came(self, host: str) -> None:
        """A connection was accepted from there."""
        self._came[host] = trio.current_time()
        self._came.move_to_end(host)
        while len(self._came) > CAME_MAX:
            self._came.popitem(last=False)

    def met(self) -> None:
        """Somebody new can be asked; nobody is, beyond the regular rounds, once enough have."""
        if self._verdicts.now(trio.current_time()).tried < PEERS_MAX:
            self._wake.set()

    def mapped(self, mapping: PortMapping | None, note: str) -> None:
        """What came of the port mapping; peers are asked whether they get in there."""
        self._verdicts.mapped(mapping, note, trio.current_time())
        if mapping is not None:
            self._asked_at.clear()
            self._wake.set()
        self._tell()

    def moved(self) -> None:
        """The addresses of this machine are others."""
        self._verdicts.moved(trio.current_time())
        self._asked_at.clear()
        self._wake.set()
        self._tell()

    async def run(self) -> None:
        while True:
            self._stands()
            await self._round()
            self._tell()
            with trio.move_on_after(ROUND_S):
                await self._wake.wait()
                await trio.sleep(SOON_S)
            self._wake = trio.Event()

    def _stands(self) -> None:
        """What this machine's own interfaces say."""
        packed = [addr.packed for addr in self._addrs() if not addr.is_loopback and addr.packed]
        ip4 = [one for one in packed if len(one) == 4]
        inside = all(map(is_private, ip4))
        has_ip4 = bool(ip4) or not packed
        now = trio.current_time()
        self._verdicts.stands(is_inside=bool(ip4) and inside, has_ip4=has_ip4, now=now)

    async def _round(self) -> None:
        """Those that were not asked for longest, one from each block before a second from any."""
        now = trio.current_time()
        peers = self._links.ready_peers
        self._asked_at = {peer: at for peer, at in self._asked_at.items() if peer in peers}
        chosen: dict[bytes, tuple[PeerId, Any, str]] = {}
        for peer in sorted(peers, key=lambda one: (self._asked_at.get(one, 0.0), one)):
            link = self._links.of(peer)
            remote = None if link is None else remote_of(link.conn.muxed_conn)
            if link is None or remote is None or not is_elsewhere(remote[0]):
                continue
            if now < self._asked_at.get(peer, -ROUND_S) + ROUND_S / 2:
                continue
            chosen.setdefault(block_of(ip_address(remote[0]).packed), (peer, link.conn, remote[0]))
        async with trio.open_nursery() as nursery:
            for block, (peer, conn, host) in list(chosen.items())[:PEERS_MAX]:
                self._asked_at[peer] = now
                nursery.start_soon(self._ask, peer, conn, block, host)

    async def _ask(self, peer: PeerId, conn: Any, block: bytes, host: str) -> None:
        """One peer's word. Whatever goes wrong is no vote."""
        try:
            seen = await observed_by(self._host, conn)
            if not seen:
                return
            family = "ip6" if ":" in seen else "ip4"
            if not self._could_be_ours(family, seen):
                log.info("%s says that it sees us at %s, which is not ours", peer, seen)
                return
            self._verdicts.saw(family, peer, block, seen, trio.current_time())
            targets = self._targets(family, seen)
            if not targets:
                return
            began = trio.current_time()
            answer = await ask(self._host, conn, targets)
        # The guard's purpose (fault 1): a peer that does not know how to, or answers nonsense.
        except Exception as error:  # noqa: BLE001
            log.debug("%s does not dial back: %r", peer, error)
            return
        if answer.reached is None:
            return
        proved = answer.reached and self._came.get(host, -1.0) >= began
        log.info(
            "%s dialled back to %s: %s",
            peer,
            answer.addr or targets[0],
            "reached" if proved else "claimed, but nothing came" if answer.reached else "no way in",
        )
        self._verdicts.tried(
            family,
            peer,
            block,
            at=str(answer.addr or targets[0]),
            claimed=answer.reached,
            proved=proved,
            now=trio.current_time(),
        )

    def _could_be_ours(self, family: str, seen: str) -> bool:
        """Where this machine has global addresses itself, no other one is its own."""
        own = {addr.host for addr in self._addrs() if addr.kind == family and not addr.is_loopback}
        return seen in own or not any(map(is_elsewhere, own))

    def _targets(self, family: str, seen: str) -> list[TcpAddress]:
        """Where we might be reached: as they see us, at the port that we listen on and the one that
        the router forwards."""
        ports = [addr.port for addr in self._addrs() if addr.kind == family][:1]
        mapping = self.now.mapping
        if mapping is not None and mapping.outside.startswith(f"/{family}/"):
            ports.insert(0, int(mapping.outside.rsplit("/", maxsplit=1)[1]))
        return [TcpAddress(family, seen, port, None) for port in dict.fromkeys(ports)]

    def _tell(self) -> None:
        now = self.now
        before, self._told = self._told, now
        if (now.ip4, now.ip6, now.addrs, now.mapping) != (
            before.ip4,
            before.ip6,
            before.addrs,
            before.mapping,
        ):
            log.info("reachability: %s", now.sentence(trio.current_time()))
            self._changed(now)


def is_elsewhere(host: str) -> bool:
    """Whether what a peer there reaches says something of peers elsewhere."""
    return not refusal(ip_address(host).packed, PORT_MIN, Vantage())
