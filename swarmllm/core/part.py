"""A part of the node: one state machine that `core.node.Node` composes with the others through one
small protocol.

A new capability is a part: it names the inputs that it wants and the channel that is its own, and
the node brings it those, asks it for its next deadline, and performs what it returns. The kill
switch comes first in all of this: while it holds inputs back no part hears anything, and what a
part wants to send that makes tokens is dropped once the switch has said stop (`core.shell`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from swarmllm.core.effects import NodeEffect
from swarmllm.core.inputs import ChannelClosed, ChannelOpened, FrameReceived, Input, RecordOffered


class Part(Protocol):
    """`channel` is the name of the channel whose streams and records are this part's (empty: none),
    `inputs` the types of everything else that it wants to hear of. Inputs of its channel come to no
    other part."""

    @property
    def channel(self) -> str: ...

    @property
    def inputs(self) -> tuple[type[Input], ...]: ...

    def handle(self, event: Input, now: float) -> Sequence[NodeEffect]:
        """What this input brings about, in order. `TimerFired` comes to every part whose deadline
        has come, whether it names it or not."""

    def next_deadline(self) -> float:
        """When a `TimerFired` is wanted, in seconds on the clock of `now`; infinity if never."""

    def view(self, now: float) -> object:
        """What `status` shows of it: a frozen value."""


def channel_of(event: Input) -> str:
    """The channel that an input came on; empty if on none."""
    return (
        event.channel
        if isinstance(event, ChannelOpened | ChannelClosed | FrameReceived | RecordOffered)
        else ""
    )
