"""Dial-back rule: whom this node dials back to tell it whether it can be reached, and where.

A dial-back is a connection to where somebody else says, so it must be of no use for knocking on
doors: it goes to the very host from which the asking connection came and nowhere else, to a port
that is none of system services, never to a private address, seldom, and few at once. What the
asking connection cost the asker is more than what a dial costs us.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from swarmllm.core.peers.dial_rule import Vantage, refusal
from swarmllm.core.peers.reachability import block_of

PORTS_MAX: Final = 2  # Of one request: the port listened on, and the one that the router forwards.
AT_ONCE_MAX: Final = 4
# Between two dial-backs to one host: honest nodes ask each peer once in some minutes.
HOST_GAP_S: Final = 20.0
# To all of a block together within a minute; households of one provider share it.
BLOCK_BURST: Final = 8.0
ALL_BURST: Final = 60.0
REFILL_S: Final = 60.0
HOSTS_MAX: Final = 1_024


class DialBacks:
    """Time is in seconds on any clock."""

    def __init__(self) -> None:
        self._at: OrderedDict[bytes, float] = OrderedDict()
        # What is left of a block's burst, and of the one for all (no block), and when.
        self._left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        self._open = 0

    def begin(
        self, seen: bytes, targets: list[tuple[bytes, int]], vantage: Vantage, now: float
    ) -> tuple[list[int], str]:
        """The ports to dial at `seen`, the packed address that the asking connection comes from;
        none, and why not. Each beginning has its `end`, unless there are none. `targets` are what
        the asker named: all that are elsewhere are left out."""
        ports = list(dict.fromkeys(port for packed, port in targets if packed == seen))[:PORTS_MAX]
        if not ports:
            return [], "no address that was named is where the request came from"
        # A private network is nobody's elsewhere: no word of it would tell anything.
        outside = Vantage(is_loopback=vantage.is_loopback)
        refusals = [refusal(seen, port, outside) for port in ports]
        good = [port for port, refused in zip(ports, refusals, strict=True) if not refused]
        if not good:
            return [], refusals[0]
        if self._open >= AT_ONCE_MAX or not self._take(seen, now, is_demo=vantage.is_loopback):
            return [], "asked too often"
        self._open += 1
        return good, ""

    def end(self) -> None:
        self._open -= 1

    def _take(self, seen: bytes, now: float, *, is_demo: bool) -> bool:
        if is_demo:
            return True  # All on one machine, whose own processes are the only ones dialled.
        if now < self._at.get(seen, -math.inf) + HOST_GAP_S:
            return False
        bursts = ((block_of(seen), BLOCK_BURST), (b"", ALL_BURST))
        if any(self._of(key, burst, now) < 1 for key, burst in bursts):
            return False
        for key, burst in bursts:
            self._left[key] = self._of(key, burst, now) - 1, now
            self._left.move_to_end(key)
        self._at[seen] = now
        self._at.move_to_end(seen)
        for kept in (self._at, self._left):
            while len(kept) > HOSTS_MAX:
                kept.popitem(last=False)
        return True

    def _of(self, key: bytes, burst: float, now: float) -> float:
        left, at = self._left.get(key, (burst, -math.inf))
        return min(burst, left + burst * max(0.0, now - at) / REFILL_S)
