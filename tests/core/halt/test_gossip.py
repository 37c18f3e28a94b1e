"""By gossip goes what the halt streams may not have brought to everybody. Cites
protocols/halt.md (HALT-15, HALT-21)."""

from __future__ import annotations

from swarmllm.core.effects import PublishRecord, Relay
from swarmllm.core.halt.gossip import GOSSIP_AFTER_S, GOSSIP_MAX, DelayedGossip
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.messages import Ack, Records
from tests.core.halt.support import (
    A,
    B,
    P,
    Q,
    frame,
    halt,
    linked,
    offered,
    put,
    resume,
    running,
    saved,
)

DUE = 10.0 + GOSSIP_AFTER_S


def published(machine: HaltMachine, connected: int = 2, now: float = DUE) -> list[bytes]:
    return [
        effect.record
        for effect in machine.timer(now, connected)
        if isinstance(effect, PublishRecord)
    ]


def halted() -> HaltMachine:
    """Two peers, an order by our own operator, on our disk."""
    machine = linked(running(), P, Q)
    effects = offered(machine, halt(A, 1), 10.0)[1]
    assert Relay(halt(A, 1), (P, Q)) in effects
    assert not any(isinstance(effect, PublishRecord) for effect in saved(machine, effects, 10.0))
    return machine


def test_who_has_not_acknowledged_hears_it_by_gossip_too() -> None:
    machine = halted()
    machine.received(P, frame(Ack(machine.digest)), 10.1)
    assert machine.next_deadline(10.1) <= DUE
    assert published(machine, now=DUE - 0.01) == []
    assert published(machine) == [halt(A, 1)]
    assert published(machine, now=DUE + 5.0) == []  # Once.


def test_gossip_is_spared_if_everybody_has_it_on_disk() -> None:
    machine = halted()
    for peer in (P, Q):
        machine.received(peer, frame(Ack(machine.digest)), 10.1)
    assert published(machine) == []
    assert machine.next_deadline(DUE) > DUE


def test_a_peer_without_a_control_stream_hears_it_by_gossip() -> None:
    machine = halted()
    for peer in (P, Q):
        machine.received(peer, frame(Ack(machine.digest)), 10.1)
    assert published(machine, connected=3) == [halt(A, 1)]


def test_what_came_by_gossip_has_been_passed_on_by_it() -> None:
    machine = linked(running(), P, Q)
    saved(machine, offered(machine, halt(A, 1), 10.0, P)[1], 10.0)
    assert published(machine) == []


def test_a_resume_is_not_gossiped_before_it_is_on_disk() -> None:
    machine = halted()
    machine.timer(DUE, 2)
    effects = machine.received(P, frame(Records((resume({A: 1}),))), 20.0)
    assert published(machine, now=25.0) == []
    saved(machine, effects, 26.0)
    assert published(machine, now=26.0 + GOSSIP_AFTER_S) == [resume({A: 1})]


def test_all_that_came_within_the_pause_goes_together_and_the_first_sets_the_time() -> None:
    machine = halted()
    put(machine, P, halt(B, 1), now=10.2)
    assert published(machine) == [halt(A, 1), halt(B, 1)]


def test_no_more_wait_than_can_be_published() -> None:
    waiting = DelayedGossip()
    for number in range(GOSSIP_MAX + 5):
        waiting.add(bytes([number]), 0.0)
    assert [one.record for one in waiting.due(False, 1.0)] == [
        bytes([number]) for number in range(5, GOSSIP_MAX + 5)
    ]
