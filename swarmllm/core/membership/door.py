"""The door of a closed swarm: of a peer that has shown no good pass no part but the kill switch
hears, and this one.

Who belongs to the swarm is a peer and no connection: a pass once seen counts until it runs out,
over reconnections. What comes from a peer that has shown none is not kept, but for the news that it
is there; if it shows none in time, it is sent away with a goodbye that says why, and without a
strike, since it may not have known.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.effects import Hangup, RecordChecked
from swarmllm.core.halt.charter import Rejected
from swarmllm.core.inputs import (
    AskingEnded,
    ChannelClosed,
    ChannelOpened,
    DialFailed,
    FrameReceived,
    Input,
    PeerConnected,
    PeerLost,
    PeerMoved,
    PingMeasured,
    Received,
    RecordOffered,
)
from swarmllm.messages import PeerId
from swarmllm.messages.declare import HALT, MEMBER
from swarmllm.messages.goodbye import MEMBERS
from swarmllm.messages.membership import Pass

# For a pass to come: the charter, which tells whose signature counts, may have to come before it.
SHOW_WITHIN_S: Final = 5.0
MEMBERS_MAX: Final = 4_096  # Whose passes are remembered; the longest unseen goes first.
NO_PASS: Final = "it shows no membership of this closed swarm"
RUN_OUT: Final = "its membership has run out"


@dataclass(slots=True)
class _Outside:
    """A peer that has shown no good pass: what the other parts would hear of it, by channel (the
    connection's own news under the empty name), and how long it has to show one."""

    news: dict[str, Input] = field(default_factory=dict)
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class Member:
    """Until when a peer is let in, and by what pass."""

    until: float
    shown: Pass | None


class Door:
    """Times are on the clock of `now`."""

    def __init__(self) -> None:
        self._members: OrderedDict[PeerId, Member] = OrderedDict()
        self._faults: dict[PeerId, str] = {}  # Of those inside whose pass counts no more.
        self._inside: set[PeerId] = set()  # Connected, and the other parts know it.
        self._leaving: set[PeerId] = set()  # Inside, and told to go.
        self._outside: dict[PeerId, _Outside] = {}  # Bounded by the connections.
        self._released: list[Input] = []

    def screened(self, event: Input, now: float) -> Input | RecordChecked | None:
        """See `core.part.Screen`, as for `released`."""
        match event:
            case RecordOffered(check=check, forwarder=peer, channel=channel):
                if channel == HALT or peer is None or self.is_member(peer, now):
                    return event
                return RecordChecked(check, Rejected(NO_PASS, penalise=False), passes=False)
            case ChannelOpened() | ChannelClosed() | FrameReceived():
                return event if event.channel in {HALT, MEMBER} else self._of_channel(event)
            case PeerConnected(peer=peer):
                return self._connected(event, now)
            case PeerLost(peer=peer, reason=reason):
                self._outside.pop(peer, None)
                self._leaving.discard(peer)
                self._faults.pop(peer, None)
                if peer in self._inside:
                    self._inside.discard(peer)
                    return event
                return DialFailed(peer, reason)  # Whoever dialled it would wait for ever.
            case PeerMoved(peer=peer, host=host) if peer in self._outside:
                self._outside[peer].news[""] = PeerConnected(peer, host)
                return None
            case Received(peer=peer) | PingMeasured(peer=peer) | AskingEnded(peer=peer):
                return event if self._is_heard(peer) else None
            case _:
                return event

    def released(self) -> Sequence[Input]:
        found, self._released = self._released, []
        return found

    def is_member(self, peer: PeerId, now: float) -> bool:
        """Whether the peer has shown a pass that is good now."""
        return self._until(peer) > now

    def members(self, now: float) -> int:
        """How many have."""
        return sum(one.until > now for one in self._members.values())

    def shown(self) -> list[tuple[PeerId, Pass]]:
        """The passes by which peers are let in now, inside or not."""
        return [(peer, one.shown) for peer, one in self._members.items() if one.shown is not None]

    def let_in(self, peer: PeerId, until: float, shown: Pass | None = None) -> None:
        """The peer has shown a pass that is good until then."""
        self._members[peer] = Member(until, shown)
        self._members.move_to_end(peer)
        while len(self._members) > MEMBERS_MAX:
            self._members.popitem(last=False)
        outside = self._outside.get(peer)
        if outside is not None and "" in outside.news:
            del self._outside[peer]
            self._inside.add(peer)
            self._released += outside.news.values()

    def shut_out(self, peer: PeerId, fault: str) -> None:
        """What the peer has shown does not count any more."""
        self._members.pop(peer, None)
        if peer in self._inside:
            self._faults[peer] = fault

    def due(self, now: float) -> list[Hangup]:
        """Whom to send away now; call it at `next_deadline`."""
        effects = []
        for peer, outside in sorted(self._outside.items()):
            if outside.until <= now:
                outside.until = math.inf
                effects.append(Hangup(peer, NO_PASS, MEMBERS))
        for peer in sorted(self._inside - self._leaving):
            if not self.is_member(peer, now):
                self._leaving.add(peer)
                effects.append(Hangup(peer, self._faults.pop(peer, RUN_OUT), MEMBERS))
        return effects

    def next_deadline(self) -> float:
        """When somebody's time is over."""
        waits = (one.until for one in self._outside.values())
        ends = (self._until(peer) for peer in self._inside - self._leaving)
        return min((*waits, *ends), default=math.inf)

    def _until(self, peer: PeerId) -> float:
        found = self._members.get(peer)
        return -math.inf if found is None else found.until

    def _is_heard(self, peer: PeerId) -> bool:
        return peer in self._inside and peer not in self._leaving

    def _connected(self, event: PeerConnected, now: float) -> Input | None:
        if self.is_member(event.peer, now):
            outside = self._outside.pop(event.peer, _Outside())
            self._inside.add(event.peer)
            self._released += outside.news.values()  # Channels may be up before the connection is.
            return event
        outside = self._outside.setdefault(event.peer, _Outside())
        # First of all: the others hear of a peer before they hear of its channels.
        outside.news = {"": event, **outside.news}
        outside.until = now + SHOW_WITHIN_S
        return None

    def _of_channel(self, event: ChannelOpened | ChannelClosed | FrameReceived) -> Input | None:
        if event.peer in self._inside:
            return event if self._is_heard(event.peer) else None
        if isinstance(event, ChannelOpened):
            self._outside.setdefault(event.peer, _Outside()).news[event.channel] = event
        elif isinstance(event, ChannelClosed) and event.peer in self._outside:
            self._outside[event.peer].news.pop(event.channel, None)
        return None
