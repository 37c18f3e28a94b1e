"""What concerns the kill switch and comes to the node from outside: its streams, its disk and its owner."""

from __future__ import annotations

from dataclasses import dataclass

from swarmllm.messages import PeerId


@dataclass(frozen=True, slots=True)
class ControlOpened:
    """A control stream to the peer is up, both ways, in place of any before."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class ControlClosed:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class ControlReceived:
    """One frame of /swarmllm/ctl/1, without its length."""

    peer: PeerId
    frame: bytes


@dataclass(frozen=True, slots=True)
class Persisted:
    """The `Persist` of this number is on disk in both copies (`ok`), or could not be written."""

    number: int
    ok: bool


@dataclass(frozen=True, slots=True)
class OwnerStops:
    """The owner's own stop, of this node alone: no key, no network."""


@dataclass(frozen=True, slots=True)
class OwnerStarts:
    """The owner takes the own stop back, and answers for a lost record of halts."""


@dataclass(frozen=True, slots=True)
class Woke:
    """This process did not run for a while: stopped, starved, or its machine was asleep. Orders may have passed it by."""


ControlInput = ControlOpened | ControlClosed | ControlReceived | Persisted | OwnerStops | OwnerStarts | Woke
