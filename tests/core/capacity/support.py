"""Capacity records and how they come into a table, for its tests."""

from __future__ import annotations

import dataclasses

from swarmllm.core.capacity.table import CapacityTable, Outcome
from swarmllm.messages import CapacityRecord, PeerId

A, B, C, FRIEND, OTHER = (PeerId(name) for name in ("A", "B", "C", "friend", "other"))


def record(boot: int = 1, seq: int = 0, **changes: object) -> CapacityRecord:
    plain = CapacityRecord(
        boot=boot,
        seq=seq,
        model="prose",
        model_digest=bytes(32),
        vocab_fingerprint=bytes(32),
        n_params=6_000_000,
        context_max=2_048,
        rate=1_600,
        queue_depth=0,
        sessions_free=3,
        sessions_max=4,
        domains=("prose",),
        addrs=("/ip4/192.0.2.7/tcp/4001",),
        ctl_digest=bytes(8),
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def sealed(peer: PeerId, boot: int = 1, seq: int = 0) -> bytes:
    return f"{peer} {boot} {seq}".encode()


def hear(
    table: CapacityTable,
    peer: PeerId,
    version: tuple[int, int] = (1, 0),
    now: float = 0.0,
    age_s: float = 0.0,
    by: PeerId = FRIEND,
) -> Outcome:
    return table.hear(peer, record(*version), sealed(peer, *version), age_s, by, now)
