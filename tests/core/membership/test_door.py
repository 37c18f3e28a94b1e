"""Behind the door nobody hears of a peer that has shown no pass, and everything, in order, of one
that has."""

from __future__ import annotations

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
    TimerFired,
)
from swarmllm.core.membership.door import MEMBERS_MAX, SHOW_WITHIN_S, Door
from swarmllm.messages import Close, PeerId
from swarmllm.messages.declare import GOV, HALT, MEMBER

P = PeerId("P")
UP = PeerConnected(P, "192.0.2.7")
MOVED = PeerMoved(P, "192.0.2.7")
GOV_UP = ChannelOpened(P, GOV)
TALK: tuple[Input, ...] = (
    Received(P, Close(1), 1),
    PingMeasured(P, 0.1),
    AskingEnded(P),
    FrameReceived(P, b"", GOV),
)


def heard(door: Door, *events: Input, now: float = 0.0) -> list[Input]:
    """What the parts behind the door hear of these inputs."""
    found: list[Input] = []
    for event in events:
        passed = door.screened(event, now)
        found += [] if passed is None else [passed]  # type: ignore[list-item]
        found += door.released()
    return found


def test_of_a_stranger_only_the_kill_switch_and_the_passes_hear() -> None:  # MEM-4
    door = Door()
    assert heard(door, UP, GOV_UP, *TALK) == []
    for channel in (HALT, MEMBER):
        events = (ChannelOpened(P, channel), FrameReceived(P, b"x", channel))
        assert heard(door, *events) == [*events]
    assert heard(door, TimerFired()) == [TimerFired()]


def test_who_is_let_in_is_heard_from_the_beginning_and_in_order() -> None:
    door = Door()
    assert heard(door, GOV_UP, UP) == []  # Channels are quicker than the news of a connection.
    door.let_in(P, 100.0)
    assert list(door.released()) == [UP, GOV_UP]
    assert heard(door, *TALK) == [*TALK]


def test_who_is_let_in_is_where_it_has_moved_to_meanwhile() -> None:
    door = Door()
    assert heard(door, PeerConnected(P, "198.51.100.1", is_relayed=True), MOVED) == []
    door.let_in(P, 100.0)
    assert list(door.released()) == [UP]
    assert heard(door, MOVED) == [MOVED]


def test_a_channel_that_closed_meanwhile_is_not_told() -> None:
    door = Door()
    heard(door, UP, GOV_UP, ChannelClosed(P, GOV))
    door.let_in(P, 100.0)
    assert list(door.released()) == [UP]


def test_a_pass_counts_over_connections() -> None:
    door = Door()
    heard(door, UP)
    door.let_in(P, 100.0)
    door.released()
    lost = PeerLost(P, "gone")
    assert heard(door, lost, GOV_UP, UP, *TALK) == [lost, UP, GOV_UP, *TALK]


def test_who_was_never_let_in_is_a_dial_that_failed() -> None:
    door = Door()
    assert heard(door, UP, PeerLost(P, "gone")) == [DialFailed(P, "gone")]
    assert door.next_deadline() == float("inf")


def test_a_pass_before_the_news_of_the_connection_lets_in_when_that_comes() -> None:
    door = Door()
    door.let_in(P, 100.0)
    assert list(door.released()) == []
    assert heard(door, UP) == [UP]


def test_strangers_have_some_seconds_and_members_until_their_passes_end() -> None:  # MEM-3
    door = Door()
    heard(door, UP, now=1.0)
    assert door.next_deadline() == 1.0 + SHOW_WITHIN_S
    assert door.due(5.9) == []
    assert [one.peer for one in door.due(6.0)] == [P]
    assert door.due(7.0) == []  # It is told once.
    door.let_in(P, 20.0)
    assert list(door.released()) == [UP]
    assert door.next_deadline() == 20.0
    assert [one.peer for one in door.due(20.0)] == [P]
    assert heard(door, *TALK, now=20.0) == []
    lost = PeerLost(P, "gone")
    assert heard(door, lost, now=21.0) == [lost]  # The others knew it.


def test_whose_passes_are_remembered_is_bounded() -> None:
    door = Door()
    for number in range(MEMBERS_MAX + 1):
        door.let_in(PeerId(f"p{number}"), 100.0)
    assert door.members(0.0) == MEMBERS_MAX
    assert not door.is_member(PeerId("p0"), 0.0)
