"""One batch for the model, and how it may end early: what the policy (`batcher`) and llama.cpp (`llama_api`) have in common."""

from __future__ import annotations

from dataclasses import dataclass, field


class Stopped(Exception):
    """The abort callback ended the batch; nothing of it is in the cache."""


@dataclass(slots=True)
class Rows:
    """Row by row: token, position, sequence ("slot"), and whether its logits are wanted. Every slot has equally many rows."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    outputs: list[bool] = field(default_factory=list)

    def add(self, token: int, position: int, slot: int, output: bool) -> None:
        self.tokens.append(token)
        self.positions.append(position)
        self.slots.append(slot)
        self.outputs.append(output)
