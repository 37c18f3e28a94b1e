"""What waits while a node that woke asks for orders is bounded, on every channel."""

from __future__ import annotations

import pytest

from swarmllm.core.effects import Hangup
from swarmllm.core.halt.held import HELD_BYTES_MAX, HELD_MAX, TOO_MUCH, HeldInputs
from swarmllm.core.inputs import FrameReceived, Input, Received, TimerFired
from swarmllm.messages import LEDGER, Close, PeerId

P = PeerId("peer")


@pytest.mark.parametrize(
    ("event", "fit"),
    [
        (FrameReceived(P, bytes(4_096), LEDGER), HELD_BYTES_MAX // 4_096),
        (FrameReceived(P, b"", LEDGER), HELD_MAX),
        (Received(P, Close(1), 65_536), HELD_BYTES_MAX // 65_536),
        (Received(P, Close(1), 5), HELD_MAX),
    ],
)
def test_whoever_fills_the_memory_is_hung_up(event: Input, fit: int) -> None:
    held, fit = HeldInputs(), min(fit, HELD_MAX)
    assert [held.hold(event) for _ in range(fit)] == [[]] * fit
    assert held.hold(event) == [Hangup(P, TOO_MUCH)]
    assert len(held) == fit
    assert held.next(TimerFired()) == event
    assert held.hold(event) == []
