"""A part of the node: one state machine that `core.node.Node` composes with the others through one
small protocol.

Every capability is a part: it names the inputs that it wants and the channel that is its own, and
the node brings it those, asks it for its next deadline, and performs what it returns. Parts do not
call each other: what one of them finds out and others act upon is a fact (`core.facts`), which they
name like an input.

The kill switch comes first in all of this: while it holds inputs back no part hears anything, and
what a part wants to send that makes tokens is dropped once the switch has said stop (`core.shell`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from swarmllm.core.effects import NodeEffect, RecordChecked
from swarmllm.core.facts import Fact
from swarmllm.core.inputs import (
    ChannelClosed,
    ChannelOpened,
    FrameReceived,
    Input,
    Received,
    RecordOffered,
)

Told = Sequence[NodeEffect | Fact]
"""What a part brings about, in order."""


class Part(Protocol):
    """`channel` is the name of the channel whose streams and records are this part's (empty: none):
    they come to no other part. `inputs` are the types of everything else that it wants to hear of:
    inputs, facts, and messages of the expert protocol, which come within their `Received`.
    """

    @property
    def channel(self) -> str:
        return ""

    @property
    def inputs(self) -> tuple[type[Any], ...]:
        return ()

    def handle(self, event: Input | Fact, now: float) -> Told:
        """What this input brings about, in order. `TimerFired` comes to every part whose deadline
        has come, whether it names it or not."""

    def next_deadline(self) -> float:
        """When a `TimerFired` is wanted, in seconds on the clock of `now`; infinity if never. Only
        what the part handles changes it: the node asks after each time."""
        return math.inf

    def view(self, now: float) -> object:
        """What `status` shows of it: a frozen value; None: nothing."""
        return None


class Screen(Part, Protocol):
    """A part that stands before the others: what comes from peers passes it first."""

    def screened(self, event: Input, now: float) -> Input | RecordChecked | None:
        """What the others hear of this input: itself, another one, or nothing; or the answer to a
        record that is not looked at."""

    def released(self) -> Sequence[Input]:
        """What was kept from the others and is not any more; each only once."""


def key_of(event: Input | Fact) -> object:
    """By what the parts that want this input are found: the channel that it came on, the type of
    the message that was received, or its own type."""
    if isinstance(event, Received):
        return type(event.message)
    if isinstance(event, (ChannelOpened, ChannelClosed, FrameReceived, RecordOffered)):
        return event.channel
    return type(event)


def hearers(parts: Sequence[Part]) -> dict[object, tuple[int, ...]]:
    """Which of the parts want an input, in their order, by its `key_of`."""
    found: dict[object, tuple[int, ...]] = {}
    for place, part in enumerate(parts):
        for key in (*part.inputs, *([part.channel] if part.channel else [])):
            found[key] = (*found.get(key, ()), place)
    return found
