"""Control links: how two nodes come to agree, what a hostile peer gets, and the signs of life.
Cites protocols/halt.md (HALT)."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.effects import Announce, Penalise, PublishRecord, Relay, SendFrame
from swarmllm.core.events import AckHeard, RecordRefused
from swarmllm.core.halt.link import (
    ASK_EVERY_MAX_S,
    FRAMES_BURST_S,
    FRAMES_PER_S,
    NODE_FRAMES_PER_S,
    Link,
    Outbox,
    frames_of,
    may_be_urgent,
)
from swarmllm.core.halt.machine import ENTROPY_S, HaltMachine
from swarmllm.core.halt.state import Applied
from swarmllm.messages import (
    HALT_FRAME_MAX,
    NO_HALT_DIGEST,
    Ack,
    Halt,
    HaltDigest,
    HaltFrame,
    Ping,
    Records,
    Vectors,
)
from swarmllm.wire.codec import encode
from tests.core.halt.support import (
    FIRST,
    HALTERS,
    OWNER,
    RESUMERS,
    ROOTS,
    STATE,
    STRANGER,
    SWARM,
    A,
    B,
    P,
    Q,
    apply,
    boot_of,
    digest_of,
    forged,
    founded,
    frame,
    fresh_boot,
    halt,
    keys,
    kinds,
    linked,
    live,
    new_machine,
    offered,
    put,
    resume,
    rotation,
    running,
    saved,
    signed,
    told,
)


def settle(first: HaltMachine, second: HaltMachine, now: float = 20.0) -> int:
    """Carry frames between two machines until both are silent; returns how many there were."""
    waiting = [(0, e) for e in saved(first, first.opened(Q, now), now)] + [
        (1, e) for e in saved(second, second.opened(P, now), now)
    ]
    frames = 0
    for side, effect in waiting:  # Grows while it runs.
        if isinstance(effect, SendFrame):
            assert isinstance(effect.message, HaltFrame)
            frames += 1
            assert frames < 40, "they do not stop talking"
            machine, sender = (second, P) if side == 0 else (first, Q)
            waiting += [
                (1 - side, e)
                for e in saved(machine, machine.received(sender, frame(effect.message), now), now)
            ]
    return frames


# --- links: digests, vectors, records -------------------------------------------------------------


def test_equal_digests_are_silence() -> None:  # HALT-20
    first, second = running(), running()
    assert settle(first, second) == 2
    assert first.may_infer(Q, 20.0) == second.may_infer(P, 20.0) == ""


def test_heal_after_partition() -> None:  # HALT-20
    second_charter = signed(rotation(STATE), *ROOTS)
    rotated = apply(STATE, second_charter, halt(B, 7), resume({B: 7}, version=2))
    first, second = new_machine(apply(STATE, halt(A, 3))), running(rotated)
    saved(first, first.start(0.0), 0.0)
    settle(first, second)
    assert first.digest == second.digest
    assert first.state.highs == second.state.highs == {A.id: 3, B.id: 7}
    assert first.halted
    assert second.halted
    assert (first.acknowledged, second.acknowledged) == (frozenset({Q}), frozenset({P}))


def test_what_an_answer_leaves_out_is_asked_for_again_less_and_less_often() -> None:  # HALT-20
    machine = linked(running(), P, state=apply(STATE, halt(A, 1)))
    asked, now = [10.0], 10.0
    while len(asked) < 7:
        now = machine.next_deadline(now)
        if any(isinstance(message, Vectors) for message in told(machine.timer(now), P)):
            asked.append(now)
    pauses = [b - a for a, b in pairwise(asked)]
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert max(pauses) <= ASK_EVERY_MAX_S


def test_somebody_is_asked_every_ten_seconds_although_nothing_is_wrong() -> None:  # HALT-20
    machine = linked(running(), P, Q)
    seen = []
    now = 10.0
    while now < 200.0:
        now = machine.next_deadline(now)
        seen += [e.peer for e in machine.timer(now) if isinstance(e, SendFrame)]
    assert set(seen) == {P, Q}
    assert 190 / ENTROPY_S[1] - 1 <= len(seen) <= 190 / ENTROPY_S[0] + 1


def test_peers_of_another_swarm_exchange_nothing_and_get_no_token() -> None:  # HALT-18
    other = founded(replace(FIRST, issued_ms=5))
    machine = linked(running(), P, state=other)
    assert "other halt records" in machine.may_infer(P, 10.0)
    assert machine.received(P, frame(other.vectors), 10.0) == []
    assert machine.next_deadline(10.0) > 10.0
    put(machine, P, halt(A, 1, other.swarm))
    assert not machine.halted


def test_two_swarms_of_one_without_orders_may_work_together() -> None:  # HALT-4
    machine = running(fresh_boot(), own=OWNER)
    machine.opened(P, 10.0)
    assert machine.received(P, frame(HaltDigest(bytes(32), 1, NO_HALT_DIGEST)), 10.0) == []
    assert machine.may_infer(P, 10.0) == ""
    saved(machine, offered(machine, halt(OWNER, 1, machine.state.swarm), 11.0)[1], 11.0)
    saved(
        machine,
        offered(machine, resume({OWNER: 1}, OWNER, swarm=machine.state.swarm), 12.0)[1],
        12.0,
    )
    assert machine.may_serve(12.0) == ""
    assert machine.may_infer(P, 12.0)


def test_a_digest_in_a_message_that_differs_is_settled_before_any_token() -> None:  # HALT-18
    machine = linked(running(), P)
    assert machine.may_infer(P, 10.0) == ""
    other = apply(STATE, halt(A, 1)).digest
    assert [type(m) for m in told(machine.settle(P, other, 10.0, is_fresh=False), P)] == [Vectors]
    assert machine.may_infer(P, 10.0) == "", "a capacity record may be old"
    machine.settle(P, other, 10.0)
    assert machine.may_infer(P, 10.0)
    machine.received(P, frame(Ack(STATE.digest)), 10.1)
    assert machine.may_infer(P, 10.1) == ""
    machine.closed(P, 10.1)
    assert "no halt stream" in machine.may_infer(P, 10.1)
    assert machine.settle(P, other, 10.2) == []


def test_vectors_are_always_answered() -> None:  # HALT-20
    machine = linked(running(apply(STATE, resume({A: 3}))), P)
    assert told(machine.received(P, frame(machine.state.vectors), 10.0), P) == [Ack(machine.digest)]
    assert told(machine.received(P, frame(STATE.vectors), 10.0), P) == [
        Records((machine.state.resumes[0].data,))
    ]


def test_the_publisher_hears_who_has_it_on_disk() -> None:  # HALT-17
    machine = linked(running(), P, Q)
    checked, effects = offered(machine, halt(A, 1), 10.0)
    assert isinstance(checked.outcome, Applied)
    assert Relay(halt(A, 1), (P, Q)) in effects
    saved(machine, effects, 10.0)
    assert machine.acknowledged == frozenset()
    assert machine.received(P, frame(Ack(machine.digest)), 10.1) == [Announce(AckHeard(P))]
    assert machine.acknowledged == {P}
    assert machine.received(Q, frame(Ack(STATE.digest)), 11.2) != [Announce(AckHeard(Q))]


def test_gossip_passes_on_what_is_new_and_nothing_else() -> None:  # HALT-21
    machine = linked(running(), P)
    checked, effects = offered(machine, halt(A, 1), 10.0, P)
    assert checked.passes
    assert Relay(halt(A, 1), ()) in effects
    saved(machine, effects, 10.0)
    again, nothing = offered(machine, halt(A, 1), 10.0, P)
    assert (again.passes, nothing) == (False, [])
    assert not offered(machine, forged(Halt(SWARM, A.id, 2, 1, 0), A), 10.0, P)[0].passes
    checked, effects = offered(machine, resume({A: 1}), 10.0, P)
    assert not checked.passes, "remembered first: the relay publishes it"
    assert [e for e in saved(machine, effects, 10.0) if isinstance(e, Relay)] == [
        Relay(resume({A: 1}), ())
    ]


def test_a_charter_is_told_before_the_orders_that_need_it() -> None:  # HALT-19
    new = apply(STATE, signed(rotation(STATE, halt=keys((*HALTERS, STRANGER))), *ROOTS))
    machine = linked(running(), P, Q)
    effects = put(machine, P, new.charters[1].data, halt(STRANGER, 1))
    relays = [e.record for e in effects if isinstance(e, Relay)]
    assert relays == [new.charters[1].data, halt(STRANGER, 1)]


# --- hostile peers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x91",
        frame(Ack(bytes(8)))[:-1],
        encode(Ping(1)),
        bytes(HALT_FRAME_MAX + 1),
        halt(A, 1),
    ],
    ids=["nothing", "half", "cut short", "of the expert protocol", "too long", "a bare record"],
)
def test_rubbish_is_a_strike_and_changes_nothing(data: bytes) -> None:  # HALT-10
    machine = linked(running(), P)
    before = machine.state
    assert kinds(machine.received(P, data, 11.0)) == ["Penalise"]
    assert machine.state is before


def test_a_stream_begins_with_the_digest() -> None:  # HALT-19
    machine = running()
    machine.opened(P, 10.0)
    assert kinds(machine.received(P, frame(Records((halt(A, 1),))), 10.0)) == ["Penalise"]
    assert not machine.halted
    assert machine.received(Q, digest_of(STATE), 10.0) == []


def test_a_forged_order_is_counted_and_the_rest_of_its_frame_is_not_looked_at() -> None:  # HALT-10
    machine = linked(running(), P)
    bad = forged(Halt(SWARM, A.id, 9, 1, 0), A)
    effects = machine.received(P, frame(Records((bad, bad, halt(A, 1)))), 11.0)
    assert kinds(effects) == ["Announce", "Penalise", "SendFrame"]
    announce, penalise = effects[:2]
    assert isinstance(announce, Announce)
    assert isinstance(announce.event, RecordRefused)
    assert isinstance(penalise, Penalise)
    assert (
        (announce.event.peer, announce.event.reason)
        == (penalise.peer, penalise.reason)
        == (P, penalise.reason)
    )
    assert not machine.halted


def test_a_flood_is_cut_off_but_the_first_halt_of_a_key_passes() -> None:  # HALT-23
    machine = linked(running(), P)
    noise = frame(Records((resume({A: 1}, RESUMERS[0]),)))
    judged = sum(bool(machine.received(P, noise, 10.0)) for _ in range(500))
    assert judged <= FRAMES_PER_S * FRAMES_BURST_S
    assert machine.received(P, noise, 10.0) == []
    effects = machine.received(P, frame(Records((resume({A: 1}, RESUMERS[0]), halt(A, 1)))), 10.0)
    assert kinds(effects)[0] == "StopNow"
    assert machine.received(P, frame(Records((halt(A, 2),))), 10.0) == [], (
        "a key that halts us already is not urgent"
    )
    effects = machine.received(P, frame(Records((halt(B, 1),))), 10.0)
    assert "Relay" in kinds(effects)
    # Others are heard as before, and the budget comes back.
    linked(machine, Q, state=machine.state)
    assert "Relay" in kinds(machine.received(Q, frame(Records((halt(A, 3),))), 10.0))
    assert machine.received(P, noise, 10.0 + 1.5 / FRAMES_PER_S)


@given(st.integers(1, 256), st.integers(1, 10))
# HALT-23
def test_many_peers_together_get_no_more_than_the_node_can_afford(peers: int, seconds: int) -> None:
    links = [Link(spent_at=0.0) for _ in range(peers)]
    taken = [0] * peers
    for step in range(seconds * 16):
        for number, link in enumerate(links):
            taken[number] += link.spend(step / 16, peers)
    assert sum(taken) <= peers * FRAMES_PER_S * FRAMES_BURST_S + seconds * NODE_FRAMES_PER_S
    assert max(taken) - min(taken) <= 1, "equal shares"
    assert min(taken) >= min(
        16 * seconds, min(FRAMES_PER_S, NODE_FRAMES_PER_S / peers) * seconds - 1
    )


def test_what_exceeds_the_budget_is_not_even_decoded_unless_it_may_hold_a_halt() -> None:  # HALT-23
    machine = linked(running(), P)
    question = frame(apply(STATE, halt(A, 1)).vectors)
    for _ in range(20):
        machine.received(P, question, 10.0)
    assert may_be_urgent(frame(Records((halt(A, 1),))))
    for other in (question, digest_of(STATE), frame(Ack(STATE.digest)), b"junk", b""):
        assert not may_be_urgent(other)
        assert machine.received(P, other, 10.0) == []


def test_blacklisting_the_operator_does_not_help() -> None:  # HALT-12
    """Whoever brings it: an order counts by its signature alone, from a peer with strikes, from
    gossip, from a file."""
    for bring in ("stream", "gossip", "file"):
        machine = linked(running(), P)
        for _ in range(3):
            machine.received(P, b"junk", 10.0)
        if bring == "stream":
            effects = machine.received(P, frame(Records((halt(A, 1),))), 10.0)
        else:
            _, effects = offered(machine, halt(A, 1), 10.0, P if bring == "gossip" else None)
        assert kinds(effects)[0] == "StopNow"


def test_a_strange_role_is_asked_about_before_it_is_blamed() -> None:  # HALT-10
    machine = linked(running(), P)
    assert "Penalise" in kinds(machine.received(P, frame(Records((halt(STRANGER, 1),))), 10.0))
    ahead = running()
    ahead.opened(P, 10.0)
    ahead.received(P, frame(HaltDigest(SWARM, 2, bytes(8))), 10.0)
    assert "Penalise" not in kinds(ahead.received(P, frame(Records((halt(STRANGER, 1),))), 10.0))


# --- beacons --------------------------------------------------------------------------------------

GUARDED = founded(replace(FIRST, beacon_ttl_s=30))


def test_a_node_that_hears_no_beacon_stops_even_without_contact() -> None:  # HALT-25
    machine = linked(new_machine(GUARDED), P, state=GUARDED, now=0.0)
    saved(machine, machine.start(0.0), 0.0)
    assert "no beacon" in machine.may_serve(10.0)
    sign = live(1, swarm=GUARDED.swarm)
    effects = machine.received(P, frame(Records((sign,))), 10.0)
    assert Relay(sign, (), is_live=True) in effects
    assert PublishRecord(sign) in effects  # Nobody acknowledges it.
    assert "StartAgain" in kinds(effects)
    assert machine.next_deadline(10.0) <= 40.0
    assert "StopNow" not in kinds(machine.timer(39.9))
    assert kinds(machine.timer(40.0))[:2] == ["StopNow", "EndStreams"]
    assert not machine.halted, "no order halts it; it only may not serve"
    put(machine, P, sign, now=41.0)
    assert machine.may_serve(41.0), "a replay is no sign of life"
    assert "StartAgain" in kinds(put(machine, P, live(2, swarm=GUARDED.swarm), now=42.0))


# HALT-25
def test_saved_up_signs_of_life_are_void_by_the_clock_and_a_slow_clock_is_no_excuse_to_stop() -> (
    None
):
    for unix_ms, counts in ((0, True), (1_000_000, False)):
        machine = new_machine(GUARDED, unix_ms=unix_ms)
        saved(machine, machine.start(0.0), 0.0)
        linked(machine, P, state=GUARDED)
        effects = put(machine, P, live(1, swarm=GUARDED.swarm, issued_ms=20_000))
        assert ("StartAgain" in kinds(effects)) == counts


@pytest.mark.parametrize(
    "sign",
    [
        live(1),
        live(1, swarm=GUARDED.swarm, version=2),
        live(1, swarm=GUARDED.swarm)[:-2] + b"\xff\0",
    ],
)
def test_signs_of_life_of_others_or_forged_do_not_count(sign: bytes) -> None:  # HALT-25
    machine = new_machine(GUARDED)
    saved(machine, machine.start(0.0), 0.0)
    linked(machine, P, state=GUARDED)
    put(machine, P, sign)
    assert machine.may_serve(10.0)


def test_where_beacons_are_off_they_mean_nothing() -> None:
    machine = linked(running(), P)
    assert put(machine, P, live(1)) == [SendFrame(P, Ack(machine.digest))]
    assert machine.may_serve(1e6) == ""


# --- queues and frames ----------------------------------------------------------------------------


def test_a_full_outbox_drops_signs_of_life_and_nothing_else() -> None:  # HALT-24
    box = Outbox(frames_max=3)
    assert [box.push(b"live 1", True), box.push(b"halt", False), box.push(b"live 2", True)] == [
        True
    ] * 3
    assert box.push(b"digest", False)
    assert box.push(b"live 3", True)
    assert [box.pop() for _ in range(4)] == [b"halt", b"digest", b"live 3", None]
    for name in (b"1", b"2", b"3"):
        assert box.push(name, False)
    assert box.push(b"live", True)
    assert not box.push(b"4", False)
    assert len(box) == 3


def test_records_are_packed_into_frames_in_order() -> None:  # HALT-19
    records = [bytes((i,)) * size for i, size in enumerate([4_096] * 5 + [100] * 40)]
    frames = frames_of(records)
    assert [data for one in frames for data in one.records] == records
    assert all(len(frame(one)) <= HALT_FRAME_MAX for one in frames)
    assert [len(one.records) for one in frames] == [3, 16, 16, 10]
    assert frames_of([]) == []


def test_a_machine_that_was_not_started_wants_no_timer() -> None:
    assert new_machine().next_deadline(0.0) == math.inf
    assert boot_of(STATE).generation == 1
