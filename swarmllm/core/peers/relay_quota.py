"""A relay's quota: who may hold a reservation, how many circuits run at once, and what one of them
may carry.

A relay lends what its owner pays for, so that every bound exists three times: in all, for an
address block, and for one peer. A crowd from one block then takes a part and never the whole.
libp2p's usual bounds (128 kB and 2 minutes a circuit) are for holes that are about to be punched;
here answers go over circuits, so that these are larger, and the rate is bounded instead.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from swarmllm.core.peers.eviction import Block
from swarmllm.messages import PeerId

# Peers and blocks whose requests are counted; the longest unheard is forgotten first.
ASKERS_MAX: Final = 1_024


class RelayStatus(IntEnum):
    """The status codes of libp2p's circuit relay v2, as they go over the wire."""

    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What one relay lends. A household is four reservations; 16 are an office."""

    reservations_max: int = 128  # Each is a connection that is there anyway.
    reservations_per_block_max: int = 16
    reservation_s: float = 3_600.0  # The specification's usual hour; clients refresh far earlier.
    circuits_max: int = 256
    circuits_per_source_max: int = 16  # A requester asks fewer experts than this at once.
    circuits_per_block_max: int = 32
    # Below the 32 streams that a peer takes from one connection.
    circuits_per_target_max: int = 24
    # Of those, what one block may take, or two identities would keep everybody else from a peer.
    circuits_per_target_and_block_max: int = 8
    # Two hours of an expert's rounds at 25 kB/s (ten tokens a second, 2.5 kB each) are 180 MB.
    circuit_s: float = 7_200.0
    circuit_bytes_max: int = 256 << 20
    # A prompt of 32,000 tokens (128 kB) goes through at once, then at this rate.
    circuit_bytes_per_s: float = 256 * 1024
    burst_s: float = 2.0
    bytes_per_s: float = 2 << 20  # Of all circuits: 16 Mbit/s, of what a fibre line sends.
    # Requests to reserve and to connect of one peer, of a block, and of all: a burst, and what
    # comes back each second.
    requests_burst: float = 32.0
    requests_per_s: float = 2.0
    block_requests_burst: float = 64.0
    block_requests_per_s: float = 4.0
    all_requests_burst: float = 256.0
    all_requests_per_s: float = 32.0
    idle_s: float = 60.0  # Both ends ping every few seconds; silence is the end of one of them.
    stall_s: float = 10.0  # One write; who does not read for so long loses the circuit.


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit that runs: from whom, at which address block, to whom."""

    source: PeerId
    block: Block
    target: PeerId


class RelayQuota:
    """`now` is in seconds on any clock that does not run backwards."""

    def __init__(self, limits: RelayLimits) -> None:
        self.limits = limits
        self._reserved: dict[PeerId, tuple[Block, float]] = {}  # Where it was, and until when.
        self._circuits: Counter[Circuit] = Counter()
        # What is left of whose requests, and when; the longest unheard first.
        self._asked: OrderedDict[PeerId | Block | None, tuple[float, float]] = OrderedDict()
        self.refused = 0

    @property
    def reservations(self) -> int:
        return len(self._reserved)

    @property
    def circuits(self) -> int:
        return self._circuits.total()

    def holds(self, peer: PeerId, now: float) -> bool:
        return peer in self._reserved and self._reserved[peer][1] > now

    def reserve(self, peer: PeerId, block: Block, now: float) -> RelayStatus:
        """OK if the peer holds a reservation for `reservation_s` from now on, new or renewed."""
        if not self._may_ask(peer, block, now):
            return self._refuse(RelayStatus.RESOURCE_LIMIT_EXCEEDED)
        self._reserved = {one: held for one, held in self._reserved.items() if held[1] > now}
        others = [held for one, (held, _) in self._reserved.items() if one != peer]
        beside = sum(one == block for one in others)
        if len(others) >= self.limits.reservations_max or (
            not block.is_local and beside >= self.limits.reservations_per_block_max
        ):
            return self._refuse(RelayStatus.RESERVATION_REFUSED)
        self._reserved[peer] = block, now + self.limits.reservation_s
        return RelayStatus.OK

    def release(self, peer: PeerId) -> None:
        """The peer is gone, and its reservation with it."""
        self._reserved.pop(peer, None)

    def open(self, circuit: Circuit, now: float) -> RelayStatus:
        """OK if this circuit may run; it counts then until `close`."""
        limits = self.limits
        if not self._may_ask(circuit.source, circuit.block, now):
            return self._refuse(RelayStatus.RESOURCE_LIMIT_EXCEEDED)
        if circuit.source == circuit.target:
            return self._refuse(RelayStatus.PERMISSION_DENIED)
        if not self.holds(circuit.target, now):
            return self._refuse(RelayStatus.NO_RESERVATION)
        of_source = self._count(lambda one: one.source == circuit.source)
        of_block = self._count(lambda one: one.block == circuit.block)
        to_target = self._count(lambda one: one.target == circuit.target)
        of_both = self._count(
            lambda one: (one.block, one.target) == (circuit.block, circuit.target)
        )
        is_crowded = (
            of_block >= limits.circuits_per_block_max
            or of_both >= limits.circuits_per_target_and_block_max
        )
        if (
            self.circuits >= limits.circuits_max
            or of_source >= limits.circuits_per_source_max
            or to_target >= limits.circuits_per_target_max
            or (is_crowded and not circuit.block.is_local)
        ):
            return self._refuse(RelayStatus.RESOURCE_LIMIT_EXCEEDED)
        self._circuits[circuit] += 1
        return RelayStatus.OK

    def close(self, circuit: Circuit) -> None:
        self._circuits[circuit] -= 1
        if self._circuits[circuit] <= 0:
            del self._circuits[circuit]

    def _count(self, matching: Callable[[Circuit], bool]) -> int:
        return sum(count for one, count in self._circuits.items() if matching(one))

    def _refuse(self, status: RelayStatus) -> RelayStatus:
        self.refused += 1
        return status

    def _may_ask(self, peer: PeerId, block: Block, now: float) -> bool:
        """Whether one more request is within bounds; it counts then."""
        limits = self.limits
        buckets: list[tuple[PeerId | Block | None, float, float]] = [
            (peer, limits.requests_burst, limits.requests_per_s),
            (None, limits.all_requests_burst, limits.all_requests_per_s),
        ]
        if not block.is_local:
            of_block = limits.block_requests_burst, limits.block_requests_per_s
            buckets.append((block, *of_block))
        left: dict[PeerId | Block | None, float] = {}
        for key, burst, per_s in buckets:
            had, at = self._asked.get(key, (burst, -math.inf))
            left[key] = min(burst, had + per_s * max(0.0, now - at)) if at > -math.inf else burst
        if min(left.values()) < 1:
            return False
        for key, have in left.items():
            self._asked[key] = have - 1, now
            self._asked.move_to_end(key)
        while len(self._asked) > ASKERS_MAX:
            self._asked.popitem(last=False)
        return True
