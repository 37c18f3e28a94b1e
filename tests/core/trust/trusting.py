"""A double of an expert pool's memory: whoever is asked about is known, unless it was told
otherwise, and nothing is left to spend on hidden tokens."""

from __future__ import annotations

from collections.abc import Iterable

from swarmllm.core.peers.eviction import Block
from swarmllm.core.trust.evidence import ALLOWANCE_MAX, Allowance
from swarmllm.core.trust.track_record import NOTHING, TrackRecord, TrackRecords
from swarmllm.messages import PeerId


class Remembering(TrackRecords):
    """`others` is the record of whoever has none."""

    def __init__(self, others: TrackRecord) -> None:
        super().__init__()
        self._others = others

    def of(self, peer: PeerId, digest: bytes) -> TrackRecord:
        found = super().of(peer, digest)
        return self._others if found == NOTHING else found


class Trusting:
    def __init__(self) -> None:
        self.allowance = Allowance()
        self.allowance.spend(round(ALLOWANCE_MAX))
        self.track_records: TrackRecords = Remembering(TrackRecord(hidden=1000))
        self.hosts: dict[PeerId, Block] = {}
        self.relays: dict[PeerId, Block] = {}  # Of those that are behind one.

    def all_new(self) -> None:
        """From now on nobody is known that has no record."""
        self.track_records = TrackRecords()

    def blocks(
        self, peers: Iterable[PeerId], *, relayed: bool = False
    ) -> list[tuple[PeerId, Block]]:
        hosts = self.relays if relayed else self.hosts
        return [(peer, hosts[peer]) for peer in sorted(peers) if peer in hosts]
