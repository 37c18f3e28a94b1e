"""A process that did not run for a while missed what was said meanwhile: it asks before it goes on.
Cites protocols/halt.md (HALT-34)."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.effects import Dial, LookUp, SendFrame, StopNow
from swarmllm.core.halt.link import SYNC_ALONE_S, SYNC_QUIET_S
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.inputs import AddressesFound, FrameReceived, PeerConnected, TimerFired, Woke
from swarmllm.core.node import Node, NodeConfig
from swarmllm.messages import Ack, HaltDigest, PeerId, Records, Vectors
from swarmllm.testing.sealing import MemoSealing
from tests.core.halt.support import (
    OWNER,
    STATE,
    A,
    P,
    Q,
    apply,
    digest_of,
    frame,
    fresh_boot,
    halt,
    kinds,
    linked,
    new_machine,
    put,
    running,
    saved,
    told,
)

R, OTHER = PeerId("R"), PeerId("of another swarm")


def asleep(*peers: PeerId) -> HaltMachine:
    """A machine with links to peers that agree with it, which wakes at 100."""
    machine = linked(running(), *peers)
    assert not machine.holds(10.0)
    machine.opened(OTHER, 10.0)
    machine.received(OTHER, frame(HaltDigest(bytes(32), 1, bytes(8))), 10.0)
    effects = machine.woke(100.0)
    assert effects == [SendFrame(peer, machine.state.vectors) for peer in peers]
    return machine


def agree(machine: HaltMachine, peer: PeerId, now: float) -> None:
    machine.received(peer, frame(Ack(machine.digest)), now)


def test_who_wakes_holds_everything_until_three_peers_agree_with_it() -> None:
    machine = asleep(P, Q, R)
    for at, peer in enumerate((P, Q, R)):
        assert machine.holds(100.0 + at / 10)
        agree(machine, peer, 100.0 + at / 10)
    assert not machine.holds(100.3)
    assert machine.may_infer(P, 100.3) == ""


def test_what_a_peer_said_before_the_sleep_counts_no_more() -> None:
    machine = asleep(P, Q, R)
    assert "other halt records" in machine.may_infer(P, 100.0)
    agree(machine, P, 100.1)
    assert machine.may_infer(P, 100.1) == ""


def test_an_order_that_was_slept_through_comes_with_the_first_answer() -> None:
    machine = asleep(P, Q, R)
    effects = put(machine, P, halt(A, 1), now=100.1)
    assert any(isinstance(effect, StopNow) for effect in effects)
    assert machine.halted
    assert not machine.holds(100.1)  # Whatever waited is to be told that we are halted.


def test_with_fewer_peers_a_second_is_enough_and_without_any_five() -> None:
    machine = asleep(P)
    agree(machine, P, 100.1)
    assert machine.holds(100.2)
    assert machine.next_deadline(100.2) <= 100.0 + SYNC_QUIET_S
    assert not machine.holds(100.0 + SYNC_QUIET_S)
    machine = asleep(P, Q)
    machine.closed(P, 100.0)
    machine.closed(Q, 100.0)
    machine.closed(OTHER, 100.0)
    assert machine.holds(100.0 + SYNC_ALONE_S - 0.1)
    assert not machine.holds(100.0 + SYNC_ALONE_S)


def test_who_does_not_answer_is_asked_again_after_a_second() -> None:
    machine = asleep(P, Q)
    agree(machine, P, 100.1)
    assert not any(isinstance(message, Vectors) for message in told(machine.timer(100.9), Q))
    again = machine.timer(101.0)
    assert told(again, Q) == [machine.state.vectors]
    assert told(again, P) == []


def test_a_second_sleep_begins_anew() -> None:
    machine = asleep(P, Q, R)
    for peer in (P, Q, R):
        agree(machine, peer, 100.1)
    machine.woke(200.0)
    assert machine.holds(200.0)


def test_a_swarm_of_one_need_not_ask() -> None:
    machine = running(fresh_boot(), own=OWNER)
    assert machine.woke(100.0) == []
    assert not machine.holds(100.0)


def test_waking_ends_no_answer() -> None:
    machine = linked(running(), P, Q)
    assert kinds(machine.woke(100.0)) == ["SendFrame", "SendFrame"]
    assert machine.may_serve(100.0) == ""


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["woke", "ack", "differ", "close", "open", "halt"]),
            st.sampled_from((P, Q, R)),
        ),
        max_size=30,
    )
)
def test_it_never_holds_for_longer_than_at_the_start(steps: list[tuple[str, PeerId]]) -> None:
    machine, now, woken_at = linked(running(), P, Q, R), 10.0, -100.0
    for what, peer in steps:
        now += 0.05
        match what:
            case "woke":
                machine.woke(now)
                woken_at = now
            case "ack":
                agree(machine, peer, now)
            case "differ":
                machine.received(peer, frame(Ack(b"differs.")), now)
            case "close":
                machine.closed(peer, now)
            case "open":
                linked(machine, peer, now=now)
            case _:
                put(machine, peer, halt(A, 1), now=now)
        assert not machine.holds(max(now, woken_at + SYNC_ALONE_S))
        assert not (machine.halted and machine.holds(now))


def test_a_node_that_holds_does_nothing_but_what_the_kill_switch_asks() -> None:
    machine = new_machine(STATE)
    saved(machine, machine.start(0.0), 0.0)
    saved(machine, machine.timer(10.0), 10.0)
    node = Node(
        NodeConfig(bytes(32)),
        PeerId("us"),
        1,
        random.Random(1),
        MemoSealing().of(PeerId("us")),
        machine,
    )
    linked(machine, P, Q, R)
    node.handle(AddressesFound(P, ("/ip4/192.0.2.1/tcp/1",), "lan"), 11.0)
    node.handle(PeerConnected(P), 11.0)
    assert kinds(node.handle(Woke(), 100.0)) == ["SendFrame", "SendFrame", "SendFrame"]
    assert node.handle(AddressesFound(Q, ("/ip4/192.0.2.2/tcp/1",), "lan"), 100.0) == []
    assert not any(isinstance(effect, LookUp) for effect in node.handle(TimerFired(), 100.0))
    for peer in (P, Q):
        assert node.handle(FrameReceived(peer, digest_of(STATE)), 100.1) == []
    node.handle(FrameReceived(R, digest_of(STATE)), 100.1)
    assert node.next_deadline() < 100.1, "what has waited is due at once"
    effects = node.handle(TimerFired(), 100.1)
    assert [effect.peer for effect in effects if isinstance(effect, Dial)] == [Q]
    assert any(isinstance(effect, LookUp) for effect in node.handle(TimerFired(), 100.1))


def test_the_question_brings_the_record_itself() -> None:
    knows = linked(new_machine(apply(STATE, halt(A, 1))), P)
    machine = linked(running(), Q)
    (question,) = told(machine.woke(100.0), Q)
    (answer,) = told(knows.received(P, frame(question), 100.0), P)
    assert answer == Records((halt(A, 1),))
    assert "StopNow" in kinds(machine.received(Q, frame(answer), 100.0))
