"""Stop, tell, remember: what the machine orders, and in which order; the owner's stop; boot. Cites
protocols/halt.md (HALT)."""

from __future__ import annotations

from dataclasses import replace

from swarmllm.core.effects import (
    Announce,
    EndStreams,
    Persist,
    Relay,
    RevertChanges,
    SendFrame,
    StartAgain,
    StopNow,
)
from swarmllm.core.events import HaltHeard, StateSaved
from swarmllm.core.halt.link import SYNC_ALONE_S, SYNC_QUIET_S
from swarmllm.core.halt.state_file import Boot, load
from swarmllm.messages import (
    Ack,
    Halt,
    Halted,
    PeerId,
    Records,
    Vectors,
)
from tests.core.halt.support import (
    OWNER,
    PRIVATE,
    STATE,
    SWARM,
    A,
    B,
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
    resume,
    running,
    saved,
    told,
)

# --- a halt: stop, tell, remember -----------------------------------------------------------------


def test_a_halt_is_stop_tell_remember_in_this_order() -> None:  # HALT-15
    machine = linked(running(), P, Q)
    data = halt(A, 4)
    effects = machine.received(P, frame(Records((data,))), 10.0)
    assert kinds(effects) == ["StopNow", "Relay", "EndStreams", "Persist", "Announce"]
    stop, relay, end, persist, announce = effects
    assert isinstance(stop, StopNow)
    assert stop.reasons == (f"halted by key {A.id[:4].hex()} (reason: drill)",)
    assert relay == Relay(data, (Q,))
    assert end == EndStreams(Halted(machine.digest))
    assert isinstance(persist, Persist)
    assert announce == Announce(HaltHeard(Halt(SWARM, A.id, 4, 1, 0), P))
    assert machine.halted
    assert machine.may_serve(10.0)
    after = machine.persisted(persist.number, True, 10.1)
    assert after == [RevertChanges(3), Announce(StateSaved()), SendFrame(P, Ack(machine.digest))]


def test_disk_full_still_stops() -> None:  # HALT-15, HALT-17
    machine = linked(running(), P)
    effects = machine.received(P, frame(Records((halt(A, 1),))), 10.0)
    assert kinds(effects)[:2] == ["StopNow", "Relay"]
    (persist,) = (e for e in effects if isinstance(e, Persist))
    assert machine.persisted(persist.number, False, 10.1) == []
    assert machine.halted
    assert machine.next_deadline(10.1) <= 11.1
    (again,) = (e for e in machine.timer(11.1) if isinstance(e, Persist))
    assert told(machine.persisted(again.number, True, 11.2), P) == [Ack(machine.digest)]


def test_a_resume_is_remembered_before_anything_starts() -> None:  # HALT-16
    machine = linked(running(), P, Q)
    put(machine, P, halt(A, 1))
    data = resume({A: 1})
    effects = machine.received(P, frame(Records((data,))), 11.0)
    assert kinds(effects) == ["Persist", "Announce"]
    assert machine.halted == ("the order to start again is not on disk yet",)
    (persist,) = (e for e in effects if isinstance(e, Persist))
    after = machine.persisted(persist.number, True, 11.1)
    assert after == [
        Relay(data, (Q,)),
        Announce(StateSaved()),
        SendFrame(P, Ack(machine.digest)),
        StartAgain(),
    ]
    assert machine.may_serve(11.1) == ""


def test_a_resume_that_cannot_be_written_starts_nothing() -> None:  # HALT-16
    machine = linked(running(), P)
    put(machine, P, halt(A, 1))
    effects = machine.received(P, frame(Records((resume({A: 1}),))), 11.0)
    (persist,) = (e for e in effects if isinstance(e, Persist))
    assert machine.persisted(persist.number, False, 11.1) == []
    assert machine.may_serve(11.1)
    effects = saved(machine, machine.timer(12.2), 12.2)
    assert [
        kind for kind in kinds(effects) if kind not in ("SendFrame", "PublishRecord", "Announce")
    ] == [
        "Persist",
        "Relay",
        "StartAgain",
    ]


# HALT-16
def test_a_resume_that_overtakes_its_halt_on_the_way_to_the_disk_waits_for_both() -> None:
    """Found by a random schedule: the disk still held the state from before the halt, which nothing
    halted."""
    machine = linked(running(), P)
    effects = machine.received(P, frame(Records((halt(A, 1),))), 10.0)
    (persist,) = (e for e in effects if isinstance(e, Persist))
    more = machine.received(P, frame(Records((resume({A: 1}),))), 10.0)
    assert "StartAgain" not in kinds([*more, *machine.timer(10.1)])
    assert machine.may_serve(10.1) == "what this node was told last is not on disk yet"
    (again,) = machine.persisted(persist.number, True, 10.2)
    assert isinstance(again, Persist)
    assert kinds(machine.persisted(again.number, True, 10.3))[-1] == "StartAgain"


def test_a_new_node_serves_only_when_it_could_remember_a_halt() -> None:  # HALT-16
    machine = new_machine(fresh_boot(), own=OWNER)
    (persist,) = (e for e in machine.start(0.0) if isinstance(e, Persist))
    assert machine.persisted(persist.number, False, 0.1) == []
    assert machine.may_serve(0.5)
    assert "StartAgain" in kinds(saved(machine, machine.timer(1.2), 1.2))


def test_a_halt_that_comes_while_a_resume_is_being_written_wins() -> None:  # HALT-12, HALT-16
    machine = linked(running(), P)
    put(machine, P, halt(A, 1))
    effects = machine.received(P, frame(Records((resume({A: 1}),))), 11.0)
    (persist,) = (e for e in effects if isinstance(e, Persist))
    machine.received(P, frame(Records((halt(A, 2),))), 11.0)
    after = machine.persisted(persist.number, True, 11.1)
    assert kinds(after) == ["Persist"]
    assert machine.halted
    assert "StartAgain" not in kinds(saved(machine, after, 11.2))


def test_a_halt_known_already_is_told_to_nobody_and_costs_no_write() -> None:  # HALT-10
    machine = linked(running(), P, Q)
    data = halt(A, 1)
    put(machine, P, data)
    assert machine.received(Q, frame(Records((data,))), 10.0) == [SendFrame(Q, Ack(machine.digest))]


def test_only_one_write_is_under_way_and_the_newest_state_follows() -> None:  # HALT-17
    machine = linked(running(), P)
    first = machine.received(P, frame(Records((halt(A, 1),))), 10.0)
    second = machine.received(P, frame(Records((halt(B, 1), halt(A, 2)))), 10.0)
    assert [kinds(first).count("Persist"), kinds(second).count("Persist")] == [1, 0]
    (persist,) = (e for e in first if isinstance(e, Persist))
    (again,) = machine.persisted(persist.number, True, 10.1)
    assert isinstance(again, Persist)
    found = load(again.data, None, None, PRIVATE, SWARM)
    assert found.state == machine.state
    assert kinds(machine.persisted(again.number, True, 10.2)) == [
        "RevertChanges",
        "Announce",
        "SendFrame",
    ]
    assert machine.persisted(again.number, True, 10.2) == []


def test_a_second_halt_takes_nothing_more_back() -> None:  # HALT-28
    machine = linked(running(), P)
    assert "RevertChanges" in kinds(put(machine, P, halt(A, 1)))
    assert "RevertChanges" not in kinds(put(machine, P, halt(B, 1)))


# --- the owner's own stop -------------------------------------------------------------------------


def test_the_owner_stops_this_node_without_key_or_network() -> None:  # HALT-27
    machine = running()
    before = machine.digest
    assert kinds(saved(machine, machine.stop_here(11.0), 11.0)) == [
        "StopNow",
        "EndStreams",
        "Persist",
        "Announce",
    ]
    assert machine.halted == ("stopped by the owner of this node",)
    assert machine.digest == before
    assert machine.stop_here(11.0) == []
    assert kinds(saved(machine, machine.start_here(12.0), 12.0)) == [
        "Persist",
        "Announce",
        "StartAgain",
    ]
    assert machine.start_here(12.0) == []


def test_the_owner_cannot_lift_an_order_of_the_swarm() -> None:  # HALT-12, HALT-27
    machine = linked(running(), P)
    put(machine, P, halt(A, 1))
    saved(machine, machine.stop_here(11.0), 11.0)
    assert "StartAgain" not in kinds(saved(machine, machine.start_here(12.0), 12.0))
    assert machine.halted


# --- boot -----------------------------------------------------------------------------------------


def test_nothing_runs_before_the_state_says_so() -> None:  # HALT-33
    halted = apply(STATE, halt(A, 1))
    machine = new_machine(halted)
    effects = saved(machine, machine.start(0.0), 0.0)
    assert kinds(effects) == ["StopNow", "Persist", "RevertChanges", "Announce"]
    assert "StartAgain" not in kinds(saved(machine, machine.timer(100.0), 100.0))


def test_a_lost_state_halts_until_the_owner_answers_for_it() -> None:  # HALT-32
    machine = new_machine(Boot(replace(STATE, lost=True), 0))
    saved(machine, machine.start(0.0), 0.0)
    assert saved(machine, machine.timer(100.0), 100.0) == []
    assert kinds(saved(machine, machine.start_here(101.0), 101.0)) == [
        "Persist",
        "Announce",
        "StartAgain",
    ]


def test_a_node_asks_its_peers_before_it_serves() -> None:  # HALT-33
    machine = new_machine()
    saved(machine, machine.start(0.0), 0.0)
    assert machine.may_serve(0.5) == "asking peers for halts that were issued meanwhile"
    linked(machine, P, now=0.5)
    assert machine.may_serve(0.9)
    assert machine.next_deadline(0.9) == 1.0
    assert kinds(machine.timer(1.0)) == ["StartAgain"]
    assert machine.may_infer(P, 1.0) == ""


def test_the_last_peer_to_disagree_leaves_and_it_starts_at_once() -> None:  # HALT-33
    """Seed 1092 of `sims/swarm.py`: it let its requests pass from that moment on, but started only
    at its next look at the clock, and its own engine, still stopped, refused them."""
    machine = new_machine()
    saved(machine, machine.start(0.0), 0.0)
    linked(machine, P, now=0.5)
    machine.opened(Q, 0.6)
    assert machine.timer(2.0) == []
    assert machine.may_serve(2.0)
    assert kinds(machine.closed(Q, 2.0)) == ["StartAgain"]
    assert machine.may_serve(2.0) == ""


def test_the_digest_in_a_message_may_be_the_agreement_that_was_waited_for() -> None:  # HALT-33
    """Seed 1063: the same, where an Open brought the digest; no token may be made before the start
    has been ordered."""
    machine = new_machine()
    saved(machine, machine.start(0.0), 0.0)
    third = PeerId("R")
    machine = linked(
        linked(machine, P, Q, now=0.5),
        third,
        state=apply(STATE, halt(A, 1), resume({A: 1})),
        now=0.5,
    )
    assert machine.may_infer(P, 0.6)
    assert kinds(machine.settle(third, STATE.digest, 1.2)) == ["StartAgain"]
    assert machine.may_infer(P, 1.2) == ""


def test_a_node_alone_waits_and_then_serves() -> None:  # HALT-33
    machine = new_machine()
    saved(machine, machine.start(0.0), 0.0)
    assert machine.may_serve(SYNC_ALONE_S - 0.01)
    assert kinds(machine.timer(SYNC_ALONE_S)) == ["StartAgain"]


# HALT-33
def test_three_peers_in_agreement_are_enough_after_a_second_whatever_others_say() -> None:
    machine = new_machine()
    saved(machine, machine.start(0.0), 0.0)
    linked(machine, PeerId("R"), state=apply(STATE, halt(A, 1), resume({A: 1})), now=0.1)
    linked(machine, P, Q, PeerId("S"), now=0.1)
    assert "StartAgain" not in kinds(machine.timer(SYNC_QUIET_S - 0.1))
    assert kinds(machine.timer(SYNC_QUIET_S)) == ["StartAgain"]


def test_late_joiner_halts_before_first_request() -> None:  # HALT-18, HALT-33
    machine = new_machine()
    saved(machine, machine.start(0.0), 0.0)
    machine.opened(P, 0.1)
    effects = machine.received(P, digest_of(apply(STATE, halt(A, 1))), 0.2)
    assert [type(message) for message in told(effects, P)] == [Vectors]
    for now in (0.2, 1.2, 4.9):
        assert machine.may_serve(now)
        assert "StartAgain" not in kinds(machine.timer(now))
    put(machine, P, halt(A, 1), now=4.9)
    assert machine.halted
    assert "StartAgain" not in kinds(machine.timer(60.0))


def test_a_swarm_of_one_serves_at_once() -> None:  # HALT-4, HALT-33
    machine = new_machine(fresh_boot(), own=OWNER)
    assert kinds(saved(machine, machine.start(0.0), 0.0)) == ["Persist", "Announce", "StartAgain"]
    guest = new_machine(fresh_boot())
    saved(guest, guest.start(0.0), 0.0)
    assert guest.may_serve(0.0), (
        "the same charter, but somebody else's key: halts may have been missed"
    )


def test_a_node_that_knows_only_the_swarm_waits_for_the_charter() -> None:  # HALT-33
    machine = new_machine(fresh_boot(SWARM))
    saved(machine, machine.start(0.0), 0.0)
    assert "has not come yet" in machine.may_serve(60.0)
    linked(machine, P, now=60.0)
    effects = put(machine, P, STATE.charters[0].data, now=60.0)
    assert "StartAgain" in kinds(effects)
    assert machine.may_infer(P, 60.0) == ""
