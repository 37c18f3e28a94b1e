"""The node's own expert as its owner steers it: another model, offered to others or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from swarmllm.errors import SwarmError


@dataclass(slots=True)
class ModelChange:
    """Another model on its way: `what` is done just now, and how much of it in bytes where that is
    known. Once it `is_over`: `fault`, or the `digest` of what is loaded."""

    what: str
    done: int = 0
    size: int = 0
    is_over: bool = False
    fault: SwarmError | None = None
    digest: bytes = b""


class OwnExpert(Protocol):
    @property
    def reference(self) -> str:
        """The model as the settings or the owner named it."""

    def change(self, model: str) -> ModelChange:
        """Begin to load another one; it goes on if nobody looks. UsageError for what names none,
        LocalError if that cannot begin."""

    async def offer(self, *, is_offered: bool) -> None:
        """Keep, also for the next start, whether others may ask it."""
