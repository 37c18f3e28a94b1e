"""Throw-away operators, for a swarm that exists only to be shown or measured: one may halt it, two
together start it again.

Their keys are made at random, live in memory, and are gone with the program; nothing that they sign
means anything to another swarm.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.record_files import render, sheet_of
from swarmllm.core.halt.charter import charter_hash
from swarmllm.core.halt.state import HaltState, next_halt
from swarmllm.messages import Charter, Halt, Resume
from swarmllm.wire.marks import marks_of
from swarmllm.wire.signed import key_id, open_record, sign_record

DRILL_REASON = 1


@dataclass
class Ring:
    """The keys, and the orders that they sign. `resumers` are also the root, so that the charter is
    good."""

    halter: KeyFile = field(default_factory=ephemeral_key)
    resumers: tuple[KeyFile, KeyFile] = field(
        default_factory=lambda: (ephemeral_key(), ephemeral_key())
    )
    _given_ms: int = 0

    @cached_property
    def state(self) -> HaltState:
        """Of a swarm that was never halted."""
        charter = open_record(self.charter())
        return HaltState(charter_hash(charter), (charter,))

    @cached_property
    def _signed_charter(self) -> bytes:
        quorum = tuple(sorted(key.public_key for key in self.resumers))
        one = (self.halter.public_key,)
        charter = Charter(1, bytes(32), quorum, one, quorum, (), (), 2, 2, 3, 0, (), _now_ms(), 0)
        return sign_record(charter, [(key.public_key, key.sign) for key in self.resumers])

    def charter(self) -> bytes:
        """The signed record that founds the swarm; always the same one."""
        return self._signed_charter

    def write(self, file: Path) -> Path:
        """The charter as a file for `join --charter`."""
        file.write_text(render([sheet_of(self.charter())]), encoding="ascii")
        return file

    def halt(self, state: HaltState | None = None) -> tuple[Halt, bytes]:
        """An order that nobody has given before, and the record of it."""
        self._given_ms = max(_now_ms(), self._given_ms + 1)
        order = next_halt(
            self.state if state is None else state,
            self.halter.public_key,
            DRILL_REASON,
            self._given_ms,
        )
        return order, sign_record(order, [(self.halter.public_key, self.halter.sign)])

    def forged_halt(self) -> bytes:
        """A new order in the name of the right key, signed by another one."""
        order, _ = self.halt()
        return sign_record(order, [(self.halter.public_key, ephemeral_key().sign)])

    def resume(self, order: Halt, signers: int = 2) -> bytes:
        """The lift of one order and all before it, signed by so many of the two."""
        lifts = marks_of({key_id(self.halter.public_key): order.seq})
        keys = self.resumers[:signers]
        return sign_record(
            Resume(order.swarm, 1, lifts, _now_ms()), [(key.public_key, key.sign) for key in keys]
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
