"""The address book is saved from time to time, while there are connections, and when the node
stops."""

from __future__ import annotations

import math
import random

from swarmllm.core.effects import Save
from swarmllm.core.facts import Fact
from swarmllm.core.inputs import Input, NodeStops, PeerConnected
from swarmllm.core.part import Part, Told
from swarmllm.core.peers.dialling import Dialling

SAVED_PEERS = "peers"  # The key of it in the store.


class AddressSaving(Part):
    """Every `every_s` seconds, spread by +-20 %, if anything has changed."""

    inputs = (PeerConnected, NodeStops)

    def __init__(self, dialling: Dialling, rng: random.Random, every_s: float) -> None:
        self._dialling, self._rng, self._every_s = dialling, rng, every_s
        self._save_at = math.inf
        self._saved = b""

    def handle(self, event: Input | Fact, now: float) -> Told:
        if isinstance(event, PeerConnected):
            self._save_at = min(self._save_at, self._next(now))
            return ()
        if isinstance(event, NodeStops) and self._save_at == math.inf:
            return ()  # Nobody was met since; what is known may be less than what is saved.
        self._save_at = self._next(now) if self._dialling.connected else math.inf
        value = self._dialling.save()
        if value == self._saved:
            return ()
        self._saved = value
        return [Save(SAVED_PEERS, value)]

    def next_deadline(self) -> float:
        return self._save_at

    def _next(self, now: float) -> float:
        return now + self._every_s * self._rng.uniform(0.8, 1.2)
