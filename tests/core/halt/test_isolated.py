"""Whoever loses all links at once may have lost an order with them: it makes no token alone until
it has asked, or waited for long enough. Cites protocols/halt.md (HALT-35)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.halt.link import SYNC_ALONE_S, SYNC_QUIET_S
from swarmllm.core.halt.links import ISOLATED_BURST, ISOLATED_EVERY_S
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.messages import HaltDigest, PeerId
from swarmllm.testing.world import VOCABULARY, Answer, Host, LinkModel, Spec, World
from tests.core.halt.support import (
    OWNER,
    STATE,
    A,
    P,
    Q,
    apply,
    frame,
    fresh_boot,
    halt,
    linked,
    new_machine,
    running,
    saved,
)

R, OTHER = PeerId("R"), PeerId("of another swarm")
STRANGERS = tuple(PeerId(f"stranger {i}") for i in range(3))
OTHER_STATE = apply(STATE, halt(A, 1))


def test_a_node_that_loses_all_of_several_links_is_isolated_for_five_seconds() -> None:
    machine = linked(running(), P, Q)
    machine.closed(P, 20.0)
    assert not machine.is_isolated(20.0)
    machine.closed(Q, 20.5)
    assert machine.is_isolated(20.5)
    assert machine.may_serve(20.5) == "", "nothing ends: answers wait"
    assert machine.is_isolated(20.5 + SYNC_ALONE_S - 0.1)
    assert not machine.is_isolated(20.5 + SYNC_ALONE_S)


def test_the_only_peer_may_leave_and_so_may_strangers() -> None:
    machine = linked(running(), P)
    for stranger in (OTHER, R):
        machine.opened(stranger, 10.0)
        machine.received(stranger, frame(HaltDigest(bytes(32), 1, bytes(8))), 10.0)
    machine.closed(P, 20.0)
    machine.closed(OTHER, 20.0)
    machine.closed(R, 20.0)
    assert not machine.is_isolated(20.0)


def test_it_ends_with_three_peers_that_agree_or_after_a_second_with_all_there_are() -> None:
    machine = linked(running(), P, Q, R)
    for peer in (P, Q, R):
        machine.closed(peer, 20.0)
    linked(machine, P, Q, now=20.2)
    assert machine.is_isolated(20.2)
    assert not machine.is_isolated(20.0 + SYNC_QUIET_S)
    for peer in (P, Q):
        machine.closed(peer, 30.0)
    linked(machine, P, Q, R, now=30.2)
    assert not machine.is_isolated(30.2)


def test_a_swarm_of_one_is_never_isolated() -> None:
    assert not running(fresh_boot(), own=OWNER).is_isolated(10.0)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from((P, Q, R))), max_size=40))
def test_it_lasts_no_longer_than_the_wait_at_the_start_and_begins_with_nothing_but_a_loss(
    steps: list[tuple[bool, PeerId]],
) -> None:
    machine, now, lost_at = linked(running(), P, Q, R), 10.0, -100.0
    links = {P, Q, R}
    for is_open, peer in steps:
        now += 0.3
        if is_open:
            linked(machine, peer, now=now)
            links.add(peer)
        else:
            machine.closed(peer, now)
            lost_at = lost_at if not links or links - {peer} else now
            links.discard(peer)
        if now >= lost_at + SYNC_ALONE_S:
            assert not machine.is_isolated(now)
        assert not machine.is_isolated(max(now, lost_at + SYNC_ALONE_S))


def flap(
    machine: HaltMachine, now: float, peers: tuple[PeerId, ...] = (OTHER, R), stay_s: float = 4.0
) -> float:
    """Peers that say that they are of our swarm come, and are gone again when this returns, at the
    time that it gives."""
    linked(machine, *peers, now=now)
    for peer in peers:
        machine.closed(peer, now + stay_s)
    return now + stay_s


def test_strangers_that_come_and_go_every_four_seconds_hold_up_nobody() -> None:
    machine, now, isolated_s = running(), 10.0, 0
    for _ in range(900):
        now = flap(machine, now)
        isolated_s += 4 * machine.is_isolated(now)
    assert isolated_s == 0


@pytest.mark.parametrize("stay_s", [8.0, 9.0, 20.0, 60.0])
def test_those_that_stay_for_a_while_first_hold_it_up_for_a_small_part_of_the_time(
    stay_s: float,
) -> None:
    machine, now, waits = running(), 10.0, 0
    while now < 3600.0:
        now = flap(machine, now, stay_s=stay_s)
        waits += machine.is_isolated(now)
        assert not machine.is_isolated(now + SYNC_ALONE_S)
    assert 1 <= waits <= ISOLATED_BURST + 3600 / ISOLATED_EVERY_S


def test_who_comes_and_goes_while_it_waits_does_not_make_it_wait_longer() -> None:
    machine = linked(running(), P, Q)
    machine.closed(P, 20.0)
    machine.closed(Q, 20.0)
    for now in (21.0, 22.5, 24.0):
        linked(machine, P, Q, now=now, state=OTHER_STATE)
        machine.closed(P, now + 0.5)
        machine.closed(Q, now + 0.5)
        assert machine.is_isolated(now + 0.5)
    assert not machine.is_isolated(20.0 + SYNC_ALONE_S)


def test_strangers_that_repeat_our_digest_do_not_end_it() -> None:
    machine = linked(running(), P, Q)
    machine.closed(P, 20.0)
    machine.closed(Q, 20.0)
    linked(machine, *STRANGERS, now=20.1)
    assert machine.is_isolated(20.2)
    assert machine.is_isolated(20.0 + SYNC_QUIET_S + 0.1)
    linked(machine, P, now=21.2)
    assert not machine.is_isolated(21.2), "who was here before and agrees ends it"


def test_a_peer_that_once_stayed_counts_again_as_soon_as_it_is_back() -> None:
    """Or whoever resets all connections every other second would have to do it twice only."""
    machine = linked(running(), P, Q)
    for now in (20.0, 22.0, 24.0):
        for peer in (P, Q):
            machine.closed(peer, now)
        assert machine.is_isolated(now)
        linked(machine, P, Q, now=now + 0.2)
        assert not machine.is_isolated(now + SYNC_QUIET_S)


# HALT-33
def test_strangers_that_repeat_our_digest_end_the_wait_at_the_start_no_sooner_than_a_second() -> (
    None
):
    machine = new_machine()
    saved(machine, machine.start(0.0), 0.0)
    linked(machine, *STRANGERS, now=0.1)
    assert machine.may_serve(0.2)
    assert machine.may_serve(SYNC_QUIET_S - 0.1)
    saved(machine, machine.timer(SYNC_QUIET_S), SYNC_QUIET_S)
    assert machine.may_serve(SYNC_QUIET_S) == ""


# --- a whole node ---------------------------------------------------------------------------------


def writing(others: int) -> tuple[World, Host, Answer]:
    """A node with an expert of its own in the middle of a long answer, and others that help it."""
    world = World(1, link=LinkModel(0.02, sigma=0.0))
    for number in range(others):
        world.add(Spec(model=number))
    asker = world.add(Spec(model=7))
    world.run_for(20.0)
    order = GenerateRequest(
        tuple(range(1, 9)), k=3, max_tokens=3_000, vocab_size=VOCABULARY, sampling=Sampling()
    )
    answer = world.ask(asker, order)
    world.run_for(60.0, lambda: len(answer.tokens) >= 20)
    assert len(asker.connections) == others
    return world, asker, answer


def reset_all(world: World, host: Host) -> float:
    for connection in list(host.connections.values()):
        world.network.end(connection, host, "reset", "reset")
    return world.now


def gap_after(answer: Answer, moment: float) -> float:
    """The longest pause between tokens that begins after it, or reaches over it."""
    return max(after - before for before, after in pairwise(answer.times) if after > moment)


def test_cut_off_from_many_it_pauses_and_goes_on_alone_after_five_seconds() -> None:
    world, asker, answer = writing(5)
    lost_at = reset_all(world, asker)
    world.partition([[asker], [host for host in world.hosts if host is not asker]])
    world.run_for(4.5)
    assert [at for at in answer.times if at > lost_at + 0.1] == []
    world.run_for(1.5)
    assert answer.times[-1] > lost_at + SYNC_ALONE_S
    assert not answer.ends


def test_after_a_mere_reset_it_goes_on_with_the_others_and_no_order_is_missed() -> None:
    world, asker, answer = writing(5)
    lost_at = reset_all(world, asker)
    world.run_for(6.0)
    assert answer.times[-1] > world.now - 0.5
    assert gap_after(answer, lost_at) < SYNC_ALONE_S
    assert len(answer.chosen[-1].experts) == 3


@pytest.mark.parametrize("waits_s", [0.0, 0.05, 0.3])
def test_an_order_that_comes_while_all_connections_are_reset_leaves_no_token_behind(
    waits_s: float,
) -> None:
    """Slow lines with resets in `swarmllm bench halt`: 2 to 3 s until a node was connected again,
    and tokens all the while."""
    world, asker, answer = writing(5)
    lost_at = reset_all(world, asker)
    world.run_for(waits_s)
    order = world.founders.halt(1)
    world.publish(world.hosts[0], order)
    world.run_for(10.0)
    assert asker.is_halted
    assert answer.end is not None
    assert answer.end.reason == "halted"
    assert answer.times[-1] <= lost_at + 0.1


def test_with_one_peer_that_leaves_it_goes_on_at_once() -> None:
    world, asker, answer = writing(1)
    lost_at = reset_all(world, asker)
    world.partition([[asker], [world.hosts[0]]])
    world.run_for(3.0)
    assert gap_after(answer, lost_at) < 1.0
    assert answer.times[-1] > world.now - 0.5
