"""How an engine is to run; the same values on both sides of the pipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swarmllm.core.serving.places import IDLE_S
from swarmllm.core.serving.planning import BATCH_MAX
from swarmllm.errors import UsageError
from swarmllm.messages import CONTEXT_MAX

SESSIONS_LIMIT = 256  # llama.cpp's LLAMA_MAX_SEQ.
BATCH_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """`context_max` is tokens per session (at most what the model was trained for); `threads` 0
    means one per core that this process may use; `gpu_layers` -1 means all where llama.cpp can.
    `batch_max` is tokens per step.

    `sessions_max` sessions are kept in the cache if memory allows, otherwise as many as fit; with
    `sessions_exact` fewer are an error. An idle session may be evicted for a new one after
    `idle_s`. `reproducible` gives bit-identical answers however a context was computed (see
    `llama_api` for what it costs, and how near they are without it). `gpu_percent` is the
    share of the GPU's memory that the model's layers may take, `duty` the share of the time in
    which it computes for others. `owner` is the peer id of this node: its sessions have half of the
    engine whatever others ask (`core.serving.shares`)."""

    context_max: int = 2048
    sessions_max: int = 16
    sessions_exact: bool = False
    threads: int = 0
    duty: float = 1.0
    gpu_layers: int = -1
    gpu_percent: int = 100
    batch_max: int = BATCH_MAX
    idle_s: float = IDLE_S
    reproducible: bool = False
    cache_dir: str | None = None
    name: str | None = None
    domains: tuple[str, ...] = ()
    owner: str = ""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("context_max", 1, CONTEXT_MAX),
            ("sessions_max", 1, SESSIONS_LIMIT),
            ("threads", 0, 1024),
            ("gpu_layers", -1, 10_000),
            ("gpu_percent", 1, 100),
            ("batch_max", 16, BATCH_LIMIT),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} {value} is out of range: choose {low} to {high}")
        if not 0 < self.duty <= 1:
            raise UsageError(f"duty {self.duty} is out of range: choose more than 0, at most 1")
        if not 0 <= self.idle_s <= 3600:
            raise UsageError(f"idle_s {self.idle_s} is out of range: choose 0 to 3600 seconds")

    def packed(self) -> dict[str, Any]:
        """As msgpack can carry it."""
        return asdict(self)

    @classmethod
    def unpacked(cls, fields: dict[str, Any]) -> EngineOptions:
        return cls(**{**fields, "domains": tuple(fields["domains"])})

    @property
    def cache_folder(self) -> Path | None:
        return Path(self.cache_dir) if self.cache_dir is not None else None
