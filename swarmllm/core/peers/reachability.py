"""Reachability: whether peers elsewhere can connect to this node, judged from what several of them
tried and saw.

A peer tries by dialling this node back (protocols/reach.md). That it says "reached" is worth
nothing: what counts is that this node's own socket accepted a connection from that peer's host
meanwhile, and that cannot be made up. That it says "not reached" can be a lie, so one peer alone
never takes away what two have shown. Peers count by the block of their addresses, one vote for
each, because one party has many addresses in one block.

It takes two proofs of one address to become public there, and the loss of both to be so no more: a
single peer that fails now and then changes nothing. Each address counts for itself, because where
we are seen is a peer's word: one that names somebody else's address, and then connects to ours,
would have us tell the swarm to knock there. Time is in seconds on any clock.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, TypeVar

from swarmllm.messages import PeerId

BLOCKS_MAX: Final = 32  # Votes that are kept, for each family; far more than are ever asked.
# A vote counts for so long: three rounds of asking, so that one lost round changes nothing.
VOTE_S: Final = 1_800.0
PROOFS_MIN: Final = 2  # From different blocks. One peer never decides.

_Any = TypeVar("_Any")


class Reach(Enum):
    """How a node is reached over one family of addresses."""

    UNKNOWN = "unknown"
    PUBLIC = "public"
    MAPPED = "mapped"  # Public because the router forwards a port.
    NAT = "nat"  # Nobody gets in; a relay is the way, or hole punching.


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port that the router forwards: `by` which protocol, to what it is `outside`, until when."""

    by: str
    outside: str
    until: float


@dataclass(frozen=True, slots=True)
class Reachability:
    """What is known now. `addrs` are the outside addresses that were proved, as multiaddrs without
    a peer; `relays` at which this node has a place; `port` that it listens on. `tried` and `proofs`
    count blocks of addresses. `is_inside`: all its own IPv4 addresses are private."""

    ip4: Reach = Reach.UNKNOWN
    ip6: Reach = Reach.UNKNOWN
    addrs: tuple[str, ...] = ()
    mapping: PortMapping | None = None
    relays: int = 0
    port: int = 0
    tried: int = 0
    proofs: int = 0
    is_inside: bool = False
    has_ip4: bool = True
    peers: int = 0
    note: str = ""
    """What else there is to say: why no port is mapped."""

    @property
    def kind(self) -> Reach:
        """Over IPv4, which everybody has; over IPv6 where that says more."""
        if self.ip4 in (Reach.UNKNOWN, Reach.NAT) and self.ip6 is Reach.PUBLIC and not self.has_ip4:
            return Reach.PUBLIC
        return self.ip4 if self.has_ip4 else self.ip6

    @property
    def needs_relay(self) -> bool:
        """Whether some peers can reach this node through a relay only: those on IPv4."""
        if not self.has_ip4:
            return True
        return self.ip4 is Reach.NAT

    @property
    def is_settled(self) -> bool:
        """Whether it is known if a relay is needed."""
        return not self.has_ip4 or self.ip4 is not Reach.UNKNOWN

    def sentence(self, now: float) -> str:
        """For a person, in one line: how this node is reached, and what would improve it."""
        match self.kind:
            case Reach.PUBLIC:
                text = f"public: peers elsewhere reached it at {', '.join(self.addrs[:2])}"
                return text + ("; over IPv6 only" if not self.has_ip4 else "") + self._through()
            case Reach.MAPPED if self.mapping is not None:
                left = _span(self.mapping.until - now)
                return (
                    f"mapped by the router ({self.mapping.by}), renewed before {left} are over:"
                    f" peers elsewhere reached it at {self.mapping.outside}"
                )
            case Reach.NAT:
                return f"behind a NAT{self._through() or ', reached by nobody'}; {self._remedy()}"
            case _:
                return f"unknown: {self._unknown()}"

    def _through(self) -> str:
        if not self.relays:
            return ""
        return f", reached through {self.relays} relay{'s' if self.relays > 1 else ''}"

    def _remedy(self) -> str:
        reason = f" ({self.note})" if self.note else ""
        return f"forward TCP port {self.port} to this machine at the router to improve it{reason}"

    def _unknown(self) -> str:
        if not self.tried:
            return "no peer elsewhere has tried yet" if self.peers else "no peer is connected yet"
        if self.proofs:
            return "one peer elsewhere reached it; another has to confirm that"
        return "one peer elsewhere did not reach it; another has to confirm that"


@dataclass(frozen=True, slots=True)
class _Vote:
    by: PeerId
    addr: str  # Where it was proved; empty: not reached.
    at: float


@dataclass(frozen=True, slots=True)
class _Sight:
    by: PeerId
    host: str
    at: float


class Verdicts:
    """Collects what peers tried and saw. `is_inside`: all IPv4 addresses of this machine are
    private, so that it is behind a NAT for sure if a peer elsewhere is connected."""

    def __init__(self, port: int = 0) -> None:
        self._votes: dict[str, OrderedDict[bytes, _Vote]] = {}
        self._sights: dict[str, OrderedDict[bytes, _Sight]] = {}
        self._known = Reachability(port=port)

    def tried(
        self,
        family: str,
        by: PeerId,
        block: bytes,
        *,
        at: str,
        claimed: bool,
        proved: bool,
        now: float,
    ) -> None:
        """A peer has dialled back. `claimed`: it says that it reached us, at the multiaddr `at`;
        `proved`: our socket accepted a connection from its host meanwhile. A claim without proof is
        a lie or a mistake, and no vote."""
        if claimed and not proved:
            return
        votes = self._votes.setdefault(family, OrderedDict())
        _keep(votes, block, _Vote(by, at if proved else "", now))
        self._settle(now)

    def saw(self, family: str, by: PeerId, block: bytes, host: str, now: float) -> None:
        """A peer tells from which address it sees our connection come."""
        _keep(self._sights.setdefault(family, OrderedDict()), block, _Sight(by, host, now))

    def outside(self, family: str, now: float) -> str:
        """Our address as others see it: what more than half of the blocks say, two at least; empty
        if there is no such."""
        seen = [one.host for one in self._sights.get(family, {}).values() if now < one.at + VOTE_S]
        best = Counter(seen).most_common(1)
        if not best or best[0][1] < PROOFS_MIN or 2 * best[0][1] <= len(seen):
            return ""
        return best[0][0]

    def stands(self, *, is_inside: bool, has_ip4: bool, now: float) -> None:
        """Where this machine is, by its own interfaces."""
        self._known = replace(self._known, is_inside=is_inside, has_ip4=has_ip4)
        self._settle(now)

    def moved(self, now: float) -> None:
        """The addresses of this machine are others: nothing that was found out holds any more."""
        self._votes.clear()
        self._sights.clear()
        self._known = replace(
            self._known, ip4=Reach.UNKNOWN, ip6=Reach.UNKNOWN, addrs=(), mapping=None, note=""
        )
        self._settle(now)

    def mapped(self, mapping: PortMapping | None, note: str, now: float) -> None:
        """The router forwards a port, or does not any more, and `note` says why not. It counts once
        peers have come in there."""
        self._known = replace(self._known, mapping=mapping, note=note)
        self._settle(now)

    def relayed(self, relays: int) -> None:
        self._known = replace(self._known, relays=relays)

    def connected(self, peers: int) -> None:
        self._known = replace(self._known, peers=peers)

    def now(self, now: float) -> Reachability:
        self._settle(now)
        return self._known

    def _settle(self, now: float) -> None:
        known = self._known
        live = {
            family: [vote for vote in votes.values() if now < vote.at + VOTE_S]
            for family, votes in self._votes.items()
        }
        open4, open6 = (_open(live.get(one, []), known.addrs) for one in ("ip4", "ip6"))
        ip4 = self._verdict(known.ip4, live.get("ip4", []), open4, is_inside=known.is_inside)
        ip6 = self._verdict(known.ip6, live.get("ip6", []), open6, is_inside=False)
        open_ = open4 + open6
        mapping = known.mapping if known.mapping and now < known.mapping.until else None
        if ip4 is Reach.PUBLIC and mapping is not None and mapping.outside in open_:
            ip4 = Reach.MAPPED
        self._known = replace(
            known,
            ip4=ip4,
            ip6=ip6,
            mapping=mapping,
            addrs=tuple(sorted(open_, key=lambda addr: (addr.startswith("/ip6/"), addr))),
            tried=sum(map(len, live.values())),
            proofs=sum(bool(vote.addr) for votes in live.values() for vote in votes),
        )

    @staticmethod
    def _verdict(before: Reach, votes: list[_Vote], open_: list[str], *, is_inside: bool) -> Reach:
        """From the votes that still count, and where it is open by them. Behind a NAT is who was
        reached by none of two, or of one if its own addresses say so, too."""
        if open_:
            return Reach.PUBLIC
        if any(vote.addr for vote in votes):
            return Reach.NAT if before is Reach.NAT else Reach.UNKNOWN
        if len(votes) >= (1 if is_inside else PROOFS_MIN):
            return Reach.NAT
        return Reach.NAT if votes and before is Reach.NAT else Reach.UNKNOWN


def _open(votes: list[_Vote], before: tuple[str, ...]) -> list[str]:
    """The addresses at which two came in, and those from before at which one still does."""
    proofs = Counter(vote.addr for vote in votes if vote.addr)
    return [addr for addr, count in proofs.items() if count >= PROOFS_MIN or addr in before]


def _keep(kept: OrderedDict[bytes, _Any], block: bytes, one: _Any) -> None:
    """The newest of each block; the block that was heard from longest ago gives way."""
    kept[block] = one
    kept.move_to_end(block)
    while len(kept) > BLOCKS_MAX:
        kept.popitem(last=False)


def block_of(packed: bytes) -> bytes:
    """The block of addresses that one party has as a rule: IPv4 /16, IPv6 /32. Coarser than what
    admission counts by: a lie about many peers' verdicts has to cost many networks."""
    return packed[:2] if len(packed) == 4 else packed[:4]


def _span(left_s: float) -> str:
    """Minutes or hours, for a person."""
    minutes = max(1, round(left_s / 60))
    return f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"
