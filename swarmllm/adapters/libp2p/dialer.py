"""The dialer connects to peers: several addresses at once, one deadline over all, and an error that
says why not.

Fault 7: the library dials one address per transport, has no deadline, and then refuses to try that
peer for a minute. Success here is a peer that answered on its expert stream, because a connection
to a frozen process succeeds, too.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final

import trio
from libp2p.network.exceptions import SwarmException
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p.addresses import (
    CircuitAddress,
    TcpAddress,
    bootstrap_of,
    is_circuit,
    parse_addr,
    parse_circuit,
)
from swarmllm.adapters.libp2p.backoff import Backoff
from swarmllm.adapters.libp2p.link import Link
from swarmllm.adapters.libp2p.links import Links, libp2p_id
from swarmllm.adapters.libp2p.options import BootstrapStatus, NetworkOptions
from swarmllm.adapters.libp2p.resolve import by_number
from swarmllm.adapters.libp2p.switch import Switch
from swarmllm.core.peers.dial_rule import Knocks, Vantage, refusal
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId

log = logging.getLogger("swarmllm.net")

# Between addresses of one peer: a LAN answers sooner, a distant one costs one more attempt.
STAGGER_S: Final = 0.15
# Relays come a little later than what is reached directly: a detour costs every round trip.
DETOUR_S: Final = 0.25
CIRCUITS_PER_DIAL_MAX: Final = 3  # As many relays as a peer has.
ADDRESS_TTL_S: Final = 3_600

Through = Callable[[Link, PeerId], Awaitable[None]]
"""Connects to a peer through the relay at the other end of a link; an exception says why not."""


class Unreachable(Exception):
    """The peer could not be reached; the text says why."""


class For(Enum):
    """On whose behalf a peer is dialled."""

    NODE = "node"
    OWNER = "owner"
    ROUTE = "route"  # The DHT's, at addresses that strangers gave.
    RELAY = "relay"  # A relay, on the way to somebody else.


class Dialer:
    """One dial per peer at a time; who asks again meanwhile waits for the same outcome. `vantage`
    says where this node stands, for what strangers tell; the bootstrap addresses are the owner's
    own word and always dialled."""

    def __init__(
        self,
        switch: Switch,
        links: Links,
        options: NetworkOptions,
        us: PeerId,
        vantage: Callable[[], Vantage],
    ) -> None:
        self._switch, self._links, self._options, self._us, self._vantage = (
            switch,
            links,
            options,
            us,
            vantage,
        )
        self._owners = frozenset(bootstrap_of(text)[0] for text in options.bootstrap)
        self._invited = frozenset(bootstrap_of(text)[0] for text in options.invited)
        self._knocks = Knocks()
        # What the DHT asks for, at addresses that strangers gave, must not keep our own choice
        # waiting, nor both the owner's.
        self._slots = {
            For.NODE: trio.CapacityLimiter(options.limits.dials_max),
            For.ROUTE: trio.CapacityLimiter(max(1, options.limits.dials_max // 2)),
            For.OWNER: trio.CapacityLimiter(max(1, len(options.bootstrap))),
            # Of its own, or dials that wait for their relays would hold all that these need.
            For.RELAY: trio.CapacityLimiter(options.limits.dials_max),
        }
        self.through: Through | None = None
        """Set before anything is dialled, by whoever can."""
        self._dialling: dict[PeerId, trio.Event] = {}
        # The last outcome for those who waited; bounded by `_dialling`.
        self._failures: dict[PeerId, str] = {}

    async def reach(self, peer: PeerId, addrs: tuple[str, ...], whom: For = For.NODE) -> None:
        """Return when the peer is connected and answers. Unreachable otherwise, within
        `dial_within_s`. Whom we chose, we keep."""
        if whom is For.ROUTE:
            await self._reached(peer, addrs, whom)
            return
        with self._switch.admission.wanting(peer):
            await self._reached(peer, addrs, whom)
        if (link := self._links.of(peer)) is not None:
            self._switch.admission.keep(link.conn.muxed_conn)

    async def _reached(self, peer: PeerId, addrs: tuple[str, ...], whom: For) -> None:
        if peer == self._us:
            raise Unreachable("that is ourselves")
        if self._links.refuses(peer):
            raise Unreachable("refused for breaking the protocol")
        if self._links.of(peer) is not None:
            return
        if peer in self._dialling:
            await self._dialling[peer].wait()
            if self._links.of(peer) is None:
                raise Unreachable(self._failures.get(peer, "another attempt failed"))
            return
        done = self._dialling[peer] = trio.Event()
        try:
            await self._reach(peer, addrs, whom)
            self._failures.pop(peer, None)
        except Unreachable as error:
            self._failures = {peer: str(error)} | {
                key: text for key, text in self._failures.items() if key in self._dialling
            }
            raise
        finally:
            del self._dialling[peer]
            done.set()

    async def _reach(self, peer: PeerId, addrs: tuple[str, ...], whom: For) -> None:
        (targets, why), circuits = self._targets(peer, addrs), self._circuits(peer, addrs)
        if not targets and not circuits:
            raise Unreachable(why)
        errors: dict[str, str] = {}
        within_s = self._options.timing.dial_within_s
        with trio.move_on_after(within_s):
            async with self._slots[whom]:
                unknown: dict[str, str] = {}
                targets = await self._numbered(peer, targets, unknown)
                if not targets and not circuits:
                    raise Unreachable(
                        "; ".join(f"{addr}: {text}" for addr, text in unknown.items())
                    )
                while self._links.is_coming(peer):
                    if self._links.of(peer) is not None:
                        return
                    await self._links.wait_change()
                await self._race(peer, targets, circuits, errors)
                if len(errors) == len(targets) + len(circuits):
                    raise Unreachable("; ".join(f"{addr}: {text}" for addr, text in errors.items()))
                while self._links.of(peer) is None:
                    if self._links.refuses(peer):
                        raise Unreachable("refused for breaking the protocol")
                    if not self._switch.get_connections(libp2p_id(peer)):
                        raise Unreachable("closed the connection")
                    await self._links.wait_change()
                return
        raise Unreachable(f"no answer within {within_s:g} s")

    def _targets(self, peer: PeerId, addrs: tuple[str, ...]) -> tuple[list[TcpAddress], str]:
        """The addresses worth dialling, and why the last of the others is not. What peers tell is
        not to be trusted: malformed ones are left out and those that no stranger may send us to
        (`core.peers.dial_rule`), the rest is bounded."""
        targets: list[TcpAddress] = []
        why, vantage = "no usable address", self._vantage()
        for text in addrs[: 4 * self._options.limits.addrs_per_dial_max]:
            if is_circuit(text):
                continue
            try:
                addr = parse_addr(text)
            except RemoteError as error:
                log.debug("address of %s left out: %s", peer, error)
                continue
            is_nowhere = addr.is_wildcard or not (addr.port or addr.kind == "dnsaddr")
            if addr.peer not in (None, peer) or is_nowhere:
                continue
            if not self._is_owners(peer, addr):
                refused = (
                    refusal(addr.packed, addr.port, vantage)
                    if addr.packed
                    else "a name that a stranger told"
                )
                if refused:
                    why = f"{addr} is not dialled: {refused}"
                    continue
            targets.append(TcpAddress(addr.kind, addr.host, addr.port, None))
        return list(dict.fromkeys(targets))[: self._options.limits.addrs_per_dial_max], why

    async def _numbered(
        self, peer: PeerId, targets: list[TcpAddress], unknown: dict[str, str]
    ) -> list[TcpAddress]:
        """With each name replaced by what it stands for, as far as that may be dialled: whoever
        gave the owner a name says what it stands for, too, and may change it."""
        found: list[TcpAddress] = []
        for addr in targets:
            is_judged = TcpAddress(addr.kind, addr.host, addr.port, peer) in self._invited
            for one in await by_number([addr], unknown, peer):
                wrong = refusal(one.packed, one.port, self._vantage()) if is_judged else ""
                if wrong:
                    unknown[str(addr)] = f"{one} is not dialled: {wrong}"
                else:
                    found.append(one)
        return list(dict.fromkeys(found))

    def _circuits(self, peer: PeerId, addrs: tuple[str, ...]) -> list[CircuitAddress]:
        """The ways through relays that are worth trying, one for each relay; where the relay itself
        is said to be is judged when it is dialled."""
        found: dict[PeerId, CircuitAddress] = {}
        for text in addrs[: 4 * self._options.limits.addrs_per_dial_max]:
            if not is_circuit(text):
                continue
            try:
                addr = parse_circuit(text)
            except RemoteError as error:
                log.debug("address of %s left out: %s", peer, error)
                continue
            relay = addr.relay.peer
            if addr.peer in (None, peer) and relay is not None and relay not in (peer, self._us):
                found.setdefault(relay, CircuitAddress(addr.relay, None))
        return list(found.values())[:CIRCUITS_PER_DIAL_MAX] if self.through is not None else []

    def _is_owners(self, peer: PeerId, addr: TcpAddress) -> bool:
        return TcpAddress(addr.kind, addr.host, addr.port, peer) in self._owners

    async def _race(
        self,
        peer: PeerId,
        targets: list[TcpAddress],
        circuits: list[CircuitAddress],
        errors: dict[str, str],
    ) -> None:
        """Dial all, each a little later than the one before, relays last; the first to connect ends
        the others. `errors` gets the failures."""
        identity = libp2p_id(peer)
        async with trio.open_nursery() as nursery:
            for addr in targets:
                failed = trio.Event()
                if not self._is_owners(peer, addr) and not self._knocks.take(
                    addr.packed, addr.port, trio.current_time()
                ):
                    errors[str(addr)] = "dialled too often within the last minute"
                    continue
                nursery.start_soon(
                    self._attempt, identity, addr, errors, failed, nursery.cancel_scope
                )
                with trio.move_on_after(STAGGER_S):
                    await failed.wait()
            if circuits and len(errors) < len(targets):
                await trio.sleep(DETOUR_S)
            for circuit in circuits:
                nursery.start_soon(self._detour, peer, circuit, errors, nursery.cancel_scope)

    async def _detour(
        self,
        peer: PeerId,
        circuit: CircuitAddress,
        errors: dict[str, str],
        race: trio.CancelScope,
    ) -> None:
        """Through one relay, which is dialled like any other stranger first."""
        relay = circuit.relay.peer
        assert relay is not None
        assert self.through is not None
        try:
            await self.reach(relay, (str(circuit.relay),), For.RELAY)
            link = self._links.of(relay)
            if link is None:
                raise Unreachable("it is gone")
            await self.through(link, peer)
        except (Unreachable, SwarmException, RemoteError) as error:
            errors[str(circuit)] = str(error)
            return
        race.cancel()

    async def _attempt(
        self,
        identity: Any,
        addr: TcpAddress,
        errors: dict[str, str],
        failed: trio.Event,
        race: trio.CancelScope,
    ) -> None:
        target = Multiaddr(str(addr))
        try:
            await self._switch.dial_addr(target, identity)
        # The guard's purpose (fault 1): a dial fails in many ways, all of which mean the same.
        except Exception as error:  # noqa: BLE001
            errors[str(addr)] = _root(error)
            failed.set()
            return
        if addr.packed:
            self._knocks.give_back(
                addr.packed, addr.port, trio.current_time()
            )  # The handshake has proved that the peer is there.
        self._switch.peerstore.add_addrs(identity, [target], ADDRESS_TTL_S)
        race.cancel()

    async def route(self, identity: Any) -> Any:
        """For the library: the connection to a peer, dialled at its last known addresses if need
        be. SwarmException if there is none."""
        peer = PeerId(identity.to_base58())
        link = self._links.of(peer)
        if link is None:
            try:
                known = tuple(str(addr) for addr in self._switch.peerstore.addrs(identity))
            # The library's peerstore raises for a peer that it does not know.
            except Exception as error:
                raise SwarmException(f"no address of {peer}") from error
            try:
                await self.reach(peer, known, For.ROUTE)
            except (Unreachable, RemoteError) as error:
                raise SwarmException(f"{peer}: {error}") from error
            link = self._links.of(peer)
        if link is None:
            raise SwarmException(f"{peer} is gone")
        return link.conn


class Bootstrap:
    """Keeps one configured peer connected, for ever and quietly: the library gives a bootstrap peer
    up after three failures."""

    def __init__(
        self,
        text: str,
        dialer: Dialer,
        links: Links,
        options: NetworkOptions,
        found: Callable[[PeerId, tuple[str, ...]], None],
    ) -> None:
        self._addr, self._peer = text, bootstrap_of(text)[1]
        self._dialer, self._links, self._timing, self._found = dialer, links, options.timing, found
        # Jitter only: so that a restarted bootstrap peer is not dialled by everybody at once.
        self._rng = random.Random()
        self._hurry = trio.Event()
        self._attempts = 0
        self._error = ""

    @property
    def status(self) -> BootstrapStatus:
        connected = self._links.of(self._peer) is not None
        return BootstrapStatus(
            self._addr, self._peer, connected, self._attempts, "" if connected else self._error
        )

    def hurry(self) -> None:
        """Try again now: the network is another."""
        self._hurry.set()

    async def run(self) -> None:
        self._found(self._peer, (self._addr,))
        backoff = Backoff(self._timing.bootstrap_min_s, self._timing.bootstrap_max_s)
        while True:
            self._attempts += 1
            try:
                await self._dialer.reach(self._peer, (self._addr,), For.OWNER)
            except Unreachable as error:
                self._error = str(error)
                log.info("bootstrap peer %s: %s", self._addr, error)
            since = trio.current_time()
            while self._links.of(self._peer) is not None:
                await self._links.wait_change()
            held_s = trio.current_time() - since
            with trio.move_on_after(backoff.pause_s(held_s) * self._rng.uniform(0.5, 1.0)):
                await self._hurry.wait()
            self._hurry = trio.Event()


def _root(error: BaseException) -> str:
    """What really happened, from the innermost exception that has something to say."""
    text = ""
    seen: BaseException | None = error
    while seen is not None:
        group = seen.exceptions if isinstance(seen, BaseExceptionGroup) else ()
        text = getattr(seen, "strerror", None) or str(seen) or text
        seen = group[0] if group else (seen.__cause__ or seen.__context__)
    return text
