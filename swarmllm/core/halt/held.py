"""Inputs that wait while the kill switch asks whether it has missed an order (HALT-34)."""

from __future__ import annotations

from collections import deque

from swarmllm.core.effects import Hangup
from swarmllm.core.inputs import (
    AddressesFound,
    EngineLoadChanged,
    FrameReceived,
    Input,
    PingMeasured,
    Received,
    RecordOffered,
    TimerFired,
)

# 5 s of what all peers together may send,
HELD_MAX = 4_096
HELD_BYTES_MAX = 16 << 20  # in bytes.
TOO_MUCH = "sent more than this node keeps while it asks for orders that it may have missed"


class HeldInputs(deque[Input]):
    """In the order in which they came. A wait takes 5 s at most."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0

    def hold(self, event: Input) -> list[Hangup]:
        """Keep it for later. A peer that fills our memory meanwhile is hung up, and hints that come
        again by themselves are let go."""
        if isinstance(event, RecordOffered):
            return []  # Gossip wants to know at once whether to pass it on, and brings it again.
        is_full = len(self) >= HELD_MAX or self._bytes + _size(event) > HELD_BYTES_MAX
        match event:
            case Received(peer=peer) | FrameReceived(peer=peer) if is_full:
                return [Hangup(peer, TOO_MUCH)]
            case AddressesFound() | PingMeasured() | EngineLoadChanged() if is_full:
                return []
            # One per connection, dial, answer or round: each of these is bounded elsewhere.
            case _:
                self._put(event)
                return []

    def next(self, event: Input) -> Input:
        """What has waited longest, once nothing has to any more; `event` takes its place behind the
        others. One at a time, so that the effects of each are performed before the next is looked
        at."""
        if not isinstance(event, TimerFired):
            self._put(event)
        first = self.popleft()
        self._bytes -= _size(first)
        return first

    def _put(self, event: Input) -> None:
        self.append(event)
        self._bytes += _size(event)


def _size(event: Input) -> int:
    match event:
        case Received(size_bytes=size):
            return size
        case FrameReceived(frame=frame):
            return len(frame)
        case _:
            return 0
