"""What the driver drives: `core.node.Node`, or a double of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from swarmllm.core.halt.state import Outcome
from swarmllm.core.inputs import Input
from swarmllm.core.node import NodeEffect
from swarmllm.messages import PeerId


class Machine(Protocol):
    """What the driver needs of `core.node.Node`."""

    def handle(self, event: Input, now: float) -> Sequence[NodeEffect]: ...

    def next_deadline(self) -> float: ...

    def holds(self, now: float) -> bool:
        """Whether only what concerns the kill switch may be handled now; everything else has to wait outside."""

    def hear_control(self, forwarder: PeerId, record: bytes, now: float) -> tuple[bool, Sequence[NodeEffect]]: ...

    def import_control(self, record: bytes, now: float) -> tuple[Outcome | None, Sequence[NodeEffect]]: ...
