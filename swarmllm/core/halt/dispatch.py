"""What concerns the kill switch, told to it: one input, one call."""

from __future__ import annotations

from typing import assert_never

from swarmllm.core.effects import ControlEffect
from swarmllm.core.halt.machine import Control
from swarmllm.core.inputs import (
    ControlClosed,
    ControlInput,
    ControlOpened,
    ControlReceived,
    OwnerStarts,
    OwnerStops,
    Persisted,
    Woke,
)


def told(control: Control, event: ControlInput, now: float) -> list[ControlEffect]:
    """What the kill switch makes of it."""
    match event:
        case ControlOpened(peer=peer):
            return control.opened(peer, now)
        case ControlClosed(peer=peer):
            return control.closed(peer, now)
        case ControlReceived(peer=peer, frame=frame):
            return control.received(peer, frame, now)
        case Persisted(number=number, ok=ok):
            return control.persisted(number, ok, now)
        case OwnerStops():
            return control.stop_here(now)
        case OwnerStarts():
            return control.start_here(now)
        case Woke():
            return control.woke(now)
        case _:
            assert_never(event)
