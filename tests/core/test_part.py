"""A part of the node hears what it asks for, after the kill switch, and nothing while that holds
everything back."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any, get_args

from swarmllm.core.effects import Hangup, NodeEffect, PublishRecord, RecordChecked
from swarmllm.core.facts import Fact, PeerGone
from swarmllm.core.inputs import (
    ChannelClosed,
    ChannelOpened,
    FrameReceived,
    Input,
    OwnerStops,
    PartInput,
    PeerConnected,
    PeerLost,
    Received,
    RecordOffered,
    TimerFired,
    Woke,
)
from swarmllm.core.node import Node, NodeConfig
from swarmllm.core.part import Part
from swarmllm.messages import HALT, ExpertMessage, PeerId
from swarmllm.testing.sealing import MemoSealing, MemoSessions
from tests.core.halt.support import P, Q, linked, running

OWN = PeerId("own")


@dataclass
class Notebook:
    """Writes down what it hears, and publishes each frame that it gets."""

    channel: str = "votes"
    inputs: tuple[type[Input], ...] = (PeerConnected, PeerLost)
    deadline: float = math.inf
    heard: list[Input | Fact] = field(default_factory=list)

    def handle(self, event: Input | Fact, now: float) -> list[NodeEffect]:
        self.heard.append(event)
        return (
            [PublishRecord(event.frame, self.channel)] if isinstance(event, FrameReceived) else []
        )

    def next_deadline(self) -> float:
        return self.deadline

    def view(self, now: float) -> int:
        return len(self.heard)


def node_with(*parts: Part, audits: bool = False) -> tuple[Node, object]:
    new_machine = linked(running(), P, Q)
    trust = MemoSessions().trust(OWN, random.Random(2), 0.0) if audits else None
    given = NodeConfig(bytes(32)), OWN, 1, random.Random(1), MemoSealing().of(OWN)
    return Node(*given, new_machine, parts, trust=trust), new_machine


def test_a_part_hears_what_it_names_and_what_comes_on_its_channel() -> None:
    votes, ledger = Notebook(), Notebook("ledger", ())
    node, _ = node_with(votes, ledger)
    frame, other, record = (
        FrameReceived(P, b"1", "votes"),
        FrameReceived(P, b"2", "ledger"),
        RecordOffered(1, b"3", P, "votes"),
    )
    for event in (PeerConnected(P), ChannelOpened(P, "votes"), frame, other, record, OwnerStops()):
        node.handle(event, 20.0)
    assert votes.heard == [PeerConnected(P), ChannelOpened(P, "votes"), frame, record]
    assert ledger.heard == [other]
    assert node.view(20.0).parts == (4, 1)


def test_what_a_part_orders_is_performed_and_a_frame_of_its_channel_is_no_order_to_halt() -> None:
    votes = Notebook()
    node, _ = node_with(votes)
    assert node.handle(FrameReceived(P, b"whatever", "votes"), 20.0) == [
        PublishRecord(b"whatever", "votes")
    ]
    assert node.view(20.0).halted == ()


def test_a_part_is_woken_at_its_deadline_and_not_before() -> None:
    votes = Notebook(inputs=(), deadline=30.0)
    node, _ = node_with(votes)
    assert node.next_deadline() <= 30.0
    node.handle(TimerFired(), 29.0)
    assert votes.heard == []
    node.handle(TimerFired(), 30.0)
    assert votes.heard == [TimerFired()]


def test_a_part_hears_nothing_while_the_kill_switch_asks_and_everything_afterwards_in_order() -> (
    None
):
    votes = Notebook(deadline=0.0)
    node, _ = node_with(votes)
    node.handle(Woke(), 100.0)
    frame = FrameReceived(P, b"1", "votes")
    for event in (PeerConnected(P), frame, TimerFired()):
        node.handle(event, 100.1)
    assert votes.heard == []
    for _ in range(3):
        node.handle(TimerFired(), 200.0)  # Nobody answered: the wait is over.
    assert votes.heard == [PeerConnected(P), frame, TimerFired()]


def test_a_record_is_answered_at_once_whatever_still_waits_after_the_kill_switch_has_asked() -> (
    None
):
    """Whoever offers it, a gossip validator or a person, takes the answer from this very call."""
    votes = Notebook(deadline=0.0)
    node, _ = node_with(votes)
    node.handle(Woke(), 100.0)
    frame, offer = FrameReceived(P, b"1", "votes"), RecordOffered(7, b"record", P, "votes")
    node.handle(frame, 100.1)
    assert node.handle(offer, 100.2) == [], "not while it asks"
    node.handle(offer, 200.0)
    assert votes.heard == [offer]
    for _ in range(2):
        node.handle(TimerFired(), 200.0)
    assert votes.heard == [offer, frame, TimerFired()]


def test_every_message_and_every_input_is_wanted_by_a_part_of_the_node() -> None:
    node, _ = node_with(audits=True)
    wanted = set(node._hearers)
    assert {*get_args(ExpertMessage)} <= wanted
    brought = {*get_args(Input)} - {*get_args(PartInput), Received, TimerFired}
    of_channels = {ChannelOpened, ChannelClosed, FrameReceived, RecordOffered}
    assert HALT in wanted
    assert brought - of_channels <= wanted


@dataclass
class Teller:
    """Finds out that a peer is gone, in its own words."""

    channel: str = ""
    inputs: tuple[type[Any], ...] = (PeerConnected,)

    def handle(self, event: Input | Fact, now: float) -> list[NodeEffect | Fact]:
        assert isinstance(event, PeerConnected)
        before = Hangup(event.peer, "before")
        return [before, PeerGone(event.peer, "told"), Hangup(event.peer, "after")]

    def next_deadline(self) -> float:
        return math.inf

    def view(self, now: float) -> None:
        return None


@dataclass
class Hearer(Teller):
    inputs: tuple[type[Any], ...] = (PeerGone,)

    def handle(self, event: Input | Fact, now: float) -> list[NodeEffect | Fact]:
        assert isinstance(event, PeerGone)
        return [Hangup(event.peer, event.reason)]


def test_what_follows_from_a_fact_stands_where_the_part_told_it() -> None:
    node, _ = node_with(Teller(), Hearer())
    found = [e.reason for e in node.handle(PeerConnected(Q), 20.0) if isinstance(e, Hangup)]
    assert found == ["before", "told", "after"]


@dataclass
class Bouncer(Notebook):
    """Lets nothing of a peer through until it has had a frame of its own channel from it."""

    channel: str = "passes"
    inputs: tuple[type[Input], ...] = ()
    kept: list[Input] = field(default_factory=list)
    known: set[PeerId] = field(default_factory=set)

    def screened(self, event: Input, now: float) -> Input | RecordChecked | None:
        match event:
            case RecordOffered(check=check):
                return RecordChecked(check, None, passes=False)
            case PeerConnected(peer=peer) if peer not in self.known:
                self.kept.append(event)
                self.deadline = now + 5.0
                return None
            case FrameReceived(peer=peer, channel=self.channel):
                self.known.add(peer)
                return event
            case _:
                return event

    def released(self) -> list[Input]:
        found = [one for one in self.kept if isinstance(one, PeerConnected)]
        found = [one for one in found if one.peer in self.known]
        self.kept = [one for one in self.kept if one not in found]
        return [*found]


def test_a_screen_stands_before_the_other_parts_and_is_woken_for_what_it_keeps() -> None:
    votes, screen = Notebook(), Bouncer()
    given = NodeConfig(bytes(32)), OWN, 1, random.Random(1), MemoSealing().of(OWN)
    node = Node(*given, linked(running(), P, Q), (votes, screen), screen=screen)
    assert node.handle(RecordOffered(3, b"r", P, "votes"), 100.0) == [
        RecordChecked(3, None, passes=False)
    ]
    assert node.handle(PeerConnected(P), 100.0) == []
    assert votes.heard == []
    assert node.next_deadline() <= 105.0
    node.handle(FrameReceived(P, b"pass", "passes"), 101.0)
    assert votes.heard == [PeerConnected(P)]
    assert screen.heard == [FrameReceived(P, b"pass", "passes")]
