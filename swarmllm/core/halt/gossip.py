"""Delayed gossip of halt records, for peers that the halt streams have not reached.

Gossip goes over the same connections, so whoever has acknowledged on the stream gains nothing by
it, while each copy costs every node 2.5 to 3 ms of processor time, at once in the very moment in
which everybody is to be told. So it waits for as long as acknowledgements take. Whoever hears the
record by gossip passes it on by gossip at once: the pause is made once on a way, not at every hop.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from swarmllm.core.effects import PublishRecord

# There and back between continents, and a disk; a third of what a halt may take.
GOSSIP_AFTER_S: Final = 0.3
# As many as wait to be published; the oldest goes, and is found by those who ask (HALT-20).
GOSSIP_MAX: Final = 32


class DelayedGossip:
    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque(maxlen=GOSSIP_MAX)
        self.due_at = math.inf

    def add(self, record: bytes, now: float) -> None:
        self._waiting.append(record)
        self.due_at = min(self.due_at, now + GOSSIP_AFTER_S)

    def due(self, all_have_it: bool, now: float) -> list[PublishRecord]:
        """What is to be published now."""
        if now < self.due_at:
            return []
        found = [] if all_have_it else [PublishRecord(record) for record in self._waiting]
        self._waiting.clear()
        self.due_at = math.inf
        return found
