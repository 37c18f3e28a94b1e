"""Connection admission: limits on half-open handshakes and on open connections, each counted while
it lives.

Two budgets, because a stranger costs us nothing to make half of a connection and something to make
a whole one: those that shake hands give way by age and address block, those that are up by use and
address block (`core.peers.eviction`). A third of the connections is for peers that we chose, and
what the owner named comes in whoever is there. To whom we have lent a reservation stays as well:
others reach it through this connection alone.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import trio
from libp2p.network.exceptions import SwarmException

from swarmllm.adapters.libp2p.options import NetworkLimits
from swarmllm.core.peers.eviction import Block, Guest, block_of, evicted, hurried
from swarmllm.messages import ExpertMessage, PeerId, Score, Scores

log = logging.getLogger("swarmllm.net")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a connection has been good for; see `core.peers.eviction.Guest`."""

    answered: int = 0
    is_same_swarm: bool = False
    ping_s: float = float("inf")


@dataclass(slots=True)
class Worth:
    """What a peer has done for us: rounds of ours that it answered, never more than we asked for.
    `ping_s` is its shortest."""

    asked: int = 0
    answered: int = 0
    ping_s: float = float("inf")

    def sent(self, message: ExpertMessage) -> None:
        self.asked += isinstance(message, Score)

    def received(self, message: ExpertMessage) -> None:
        if isinstance(message, Scores):
            self.answered = min(self.asked, self.answered + 1)


class Full(SwarmException):  # type: ignore[misc]
    """No room for this connection."""


@dataclass(slots=True)
class Entrant:
    """An accepted socket. `scope` is the task that shakes hands with it."""

    key: int
    host: str
    block: Block
    scope: trio.CancelScope


@dataclass(slots=True)
class _Seat:
    key: int
    peer: PeerId
    block: Block
    since: float
    is_ours: bool  # We chose this peer.
    is_owners: bool  # The owner named it.


class Admission:
    """`standings` tells what connections are good for, `hang_up` ends one to make room; both are
    set by whoever owns the connections. `is_lent`: whether a peer holds a reservation here; set by
    the relay, which lends no more than `lent_max`.

    Connections are whatever the caller's muxed connections are; here they are only keys.
    """

    def __init__(self, limits: NetworkLimits, owners: frozenset[PeerId]) -> None:
        self._limits, self._owners = limits, owners
        self._keys = itertools.count(1)
        self._from: Counter[str] = Counter()
        self._blocks: Counter[Block] = Counter()
        self._entrants: dict[int, Entrant] = {}  # In order of age.
        self._seats: dict[Any, _Seat] = {}
        self._wanted: Counter[PeerId] = Counter()
        self.standings: Callable[[], Mapping[Any, Standing]] = dict
        self.hang_up: Callable[[Any, str], None] = lambda conn, _: conn.abort()
        self.is_lent: Callable[[PeerId], bool] = lambda _: False
        self.given_way = 0

    @property
    def half_open(self) -> int:
        return len(self._entrants)

    @property
    def theirs_max(self) -> int:
        """A third of all connections stays for peers that we choose."""
        return max(1, self._limits.connections_max * 2 // 3)

    @property
    def lent_max(self) -> int:
        """A quarter of what is for others stays for those that hold no reservation."""
        return self.theirs_max - self.theirs_max // 4

    @property
    def ours(self) -> int:
        return sum(seat.is_ours for seat in self._seats.values())

    @property
    def theirs(self) -> int:
        return len(self._seats) - self.ours

    # --- sockets ----------------------------------------------------------------------------------

    def enter(self, host: str) -> Entrant | None:
        """One more socket from `host`, or None; it counts until `leave`, and as half open until
        `upgraded`."""
        block = block_of(host)
        limits = self._limits
        of_host, of_block = limits.per_address_max, limits.per_block_max
        if block.is_local:
            of_host = of_block = limits.per_loopback_max
        if self._from[host] >= of_host or self._blocks[block] >= of_block:
            return None
        waiting = {key: entrant.block for key, entrant in self._entrants.items()}
        late = hurried(waiting, block, limits.half_open_max, max(1, limits.half_open_max // 4))
        if late is not None:
            log.info(
                "gave up a handshake with %s: too many at once from there",
                self._entrants[late].host,
            )
            self._entrants.pop(late).scope.cancel()
        entrant = Entrant(next(self._keys), host, block, trio.CancelScope())
        self._from[host] += 1
        self._blocks[block] += 1
        self._entrants[entrant.key] = entrant
        return entrant

    def upgraded(self, entrant: Entrant) -> None:
        self._entrants.pop(entrant.key, None)

    def leave(self, entrant: Entrant) -> None:
        self.upgraded(entrant)
        self._from[entrant.host] -= 1
        self._blocks[entrant.block] -= 1
        self._from, self._blocks = +self._from, +self._blocks  # Without those that are at zero.

    # --- connections ------------------------------------------------------------------------------

    def seat(self, conn: Any, peer: PeerId, host: str, *, inbound: bool) -> None:
        """Room for a connection that has shaken hands, made if need be. Full if there is none; else
        `free` it in the end.

        It is ours if we want this peer, whoever dialled. What the DHT dials is not: strangers tell
        it whom to ask.
        """
        is_owners = peer in self._owners
        is_ours = is_owners or self._wanted[peer] > 0
        seat = _Seat(
            next(self._keys), peer, block_of(host), trio.current_time(), is_ours, is_owners
        )
        if len(self._seats) >= self._limits.connections_max or (
            not is_ours and self.theirs >= self.theirs_max
        ):
            victim = self._victim(seat)
            if victim is None:
                raise Full(
                    f"no room for a connection {'from' if inbound else 'to'} {host}:"
                    f" {len(self._seats)} are up"
                )
            self.given_way += 1
            gone = self._seats.pop(victim)
            log.info("hung up on %s to make room for %s", gone.peer, peer)
            self.hang_up(victim, f"made room for {peer}")
        self._seats[conn] = seat

    @contextmanager
    def wanting(self, peer: PeerId) -> Iterator[None]:
        """While this lasts, a connection with this peer is ours."""
        self._wanted[peer] += 1
        try:
            yield
        finally:
            self._wanted[peer] -= 1
            if not self._wanted[peer]:
                del self._wanted[peer]

    def keep(self, conn: Any) -> None:
        """This connection is ours from now on."""
        if (seat := self._seats.get(conn)) is not None:
            self._seats[conn] = replace(seat, is_ours=True)

    def free(self, conn: Any) -> None:
        self._seats.pop(conn, None)

    def _victim(self, seat: _Seat) -> Any | None:
        """Whom others chose gives way first; to the owner's wish also whom we did, or have lent a
        reservation. Never whom the owner named."""
        key = evicted(self._guests(ours=False), None if seat.is_ours else seat.block)
        if key is None and seat.is_owners:
            key = evicted(self._guests(ours=True), None)
        return next((conn for conn, one in self._seats.items() if one.key == key), None)

    def _guests(self, *, ours: bool) -> list[Guest]:
        guests = []
        standings = self.standings()
        for conn, seat in self._seats.items():
            is_kept = seat.is_ours or self.is_lent(seat.peer)
            if is_kept is ours and not seat.is_owners:
                worth = standings.get(conn, Standing())
                guests.append(
                    Guest(
                        seat.key,
                        seat.block,
                        seat.since,
                        worth.answered,
                        worth.is_same_swarm,
                        worth.ping_s,
                    )
                )
        return guests
