"""`adapters.halt_folder.HaltFolder` in memory, with a disk that can be full, slow or lose files."""

from __future__ import annotations

import threading

from swarmllm.core.halt.state_file import FIRST_COPY, GENESIS, SECOND_COPY
from swarmllm.errors import LocalError


class MemoryHalts:
    """`files` is the disk, by name. `full` refuses writes; `pause`, when set, holds each one up
    until it is released."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.full = False
        self.saves = 0
        self.pause: threading.Event | None = None

    def load(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        first, second, genesis = (
            self.files.get(name) for name in (FIRST_COPY, SECOND_COPY, GENESIS)
        )
        return first, second, genesis

    def save(self, data: bytes, genesis: bytes) -> None:
        if self.pause is not None:
            self.pause.wait()
        if self.full:
            raise LocalError("cannot write the record of halts to memory (it is full)")
        self.files |= {FIRST_COPY: data, SECOND_COPY: data}
        self.files.setdefault(GENESIS, genesis)
        self.saves += 1
