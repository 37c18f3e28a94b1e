"""One shuffling machine on a bench."""

from __future__ import annotations

import random
from collections.abc import Sequence

from swarmllm.core.capacity.exchange import SHUFFLE_RECORDS, CapacityExchange, Sealing, Taken
from swarmllm.core.capacity.table import CapacityTable
from swarmllm.core.effects import Send
from swarmllm.messages import CapacityRecord, PeerId, Shuffle, Shuffled
from swarmllm.testing.sealing import MemoSealing
from tests.core.capacity.support import record

SWARM = bytes(8)
A, B, OWN, Z = (PeerId(name) for name in ("a", "b", "own", "z"))
"""Of these, own greets z alone: the side with the smaller id begins."""


class Bench:
    """One machine whose seals are counted."""

    def __init__(
        self, own: PeerId = OWN, seals: MemoSealing | None = None, *, offers: bool = True
    ) -> None:
        self.seals = seals or MemoSealing()
        self.table = CapacityTable()
        self.checks: list[bytes] = []
        self.seq = 0
        self.offers = offers
        plain = self.seals.of(own)

        def unseal(data: bytes) -> tuple[PeerId, CapacityRecord]:
            self.checks.append(data)
            return plain.unseal(data)

        self.machine = CapacityExchange(
            own, random.Random(1), self.table, Sealing(plain.seal, unseal), self.own_record
        )

    def own_record(self) -> CapacityRecord | None:
        self.seq += 1
        return record(1, self.seq) if self.offers else None

    def meet(self, peer: PeerId, now: float = 0.0) -> list[Send]:
        self.table.peer_connected(peer)
        return self.machine.connected(peer, now)

    def strangers(self, count: int, start: int = 0) -> tuple[bytes, ...]:
        return tuple(
            self.seals.of(PeerId(f"stranger {i:05}")).seal(record())
            for i in range(start, start + count)
        )

    def tell(
        self, peer: PeerId, records: Sequence[bytes], now: float, want: int = SHUFFLE_RECORDS
    ) -> Taken:
        return self.machine.asked(
            peer, Shuffle(SWARM, (0,) * len(records), tuple(records), want), now
        )

    def answer(self, peer: PeerId, records: Sequence[bytes], now: float) -> Taken:
        return self.machine.answered(peer, Shuffled((0,) * len(records), tuple(records)), now)

    def run(self, until: float, start: float = 0.0) -> list[tuple[float, Send]]:
        """All that the timer sends, and when."""
        sent = []
        while (now := max(start, self.machine.next_deadline())) <= until:
            sent += [(now, send) for send in self.machine.timer(now)]
        return sent
