"""A Ledger in memory, with a disk that can be full."""

from __future__ import annotations

from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.merkle import Frontier, consistency_proof, leaf_hash, root_of
from swarmllm.errors import LocalError
from swarmllm.messages import PeerId
from swarmllm.runtime.ports import LedgerWrites


class MemoryLedger:
    """`runtime.ports.Ledger`. `is_full` makes `write` fail; `leaves` is what was written."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.is_full = False
        self.writes = 0
        self.cosignatures: dict[tuple[int, PeerId], bytes] = {}
        self._frontier = Frontier()
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._notes: dict[int, bytes] = {}
        self._heads: dict[PeerId, bytes] = {}
        self._alarms: dict[PeerId, bytes] = {}

    @property
    def size(self) -> int:
        return len(self.leaves)

    @property
    def root(self) -> bytes:
        return self._frontier.root

    def write(self, writes: LedgerWrites) -> None:
        if self.is_full:
            raise LocalError("cannot write the ledger in memory: it was told to be full")
        for leaf in writes.leaves:
            read_leaf(leaf)
            self.leaves.append(bytes(leaf))
            for level, index, hashed in self._frontier.append(leaf_hash(leaf)):
                self._nodes[level, index] = hashed
        self._notes |= dict(writes.checkpoints)
        self.cosignatures |= {(size, peer): line for size, peer, line in writes.cosignatures}
        self._alarms |= dict(writes.alarms)
        self._heads |= dict(writes.heads)
        self._heads = {peer: note for peer, note in self._heads.items() if note}
        self.writes += 1

    def holds(self, payload: bytes) -> bool:
        return any(read_leaf(leaf).payload == payload for leaf in self.leaves)

    def prove(self, old: int, new: int) -> tuple[bytes, ...] | None:
        if not 0 < old <= new <= self.size:
            return None
        return tuple(consistency_proof(old, new, self._read))

    def root_at(self, size: int) -> bytes | None:
        return None if size > self.size else root_of(size, self._read)

    @property
    def note(self) -> bytes:
        return self._notes[max(self._notes)] if self._notes else b""

    def heads(self) -> dict[PeerId, bytes]:
        return dict(self._heads)

    def alarms(self) -> dict[PeerId, bytes]:
        return dict(self._alarms)

    def as_it_was(self, size: int) -> MemoryLedger:
        """A copy that was made when it had so many entries."""
        copy = MemoryLedger()
        copy.write(
            LedgerWrites(
                leaves=tuple(self.leaves[:size]),
                checkpoints=tuple(one for one in self._notes.items() if one[0] <= size),
            )
        )
        return copy

    def close(self) -> None:
        """Nothing to close: it stays as a disk does."""

    def _read(self, level: int, index: int) -> bytes:
        return self._nodes[level, index]
