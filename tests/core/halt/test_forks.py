"""Who is blamed where a root quorum signed two charters of one number: nobody on either side."""

from __future__ import annotations

from swarmllm.messages import Records
from tests.core.halt.support import (
    ROOTS,
    STATE,
    STRANGER,
    A,
    B,
    P,
    apply,
    frame,
    halt,
    keys,
    kinds,
    linked,
    offered,
    resume,
    rotation,
    running,
    signed,
)


# HALT-10
def test_a_peer_under_a_forked_charter_is_not_blamed_for_passing_on_what_it_holds() -> None:
    """A root quorum that signed two charters has split the swarm; those on either side have done
    nothing wrong."""
    ours = apply(STATE, signed(rotation(STATE, halt=keys((A, B))), *ROOTS))
    theirs = apply(STATE, signed(rotation(STATE, halt=keys((A, STRANGER))), *ROOTS))
    order, late = halt(STRANGER, 1), resume({A: 1}, STRANGER, version=2)
    assert apply(theirs, order).standing
    for knows_fork in (True, False):
        machine = linked(running(ours), P, state=ours)
        if knows_fork:
            machine.received(P, frame(theirs.vectors), 10.0)
        brought = (
            machine.received(P, frame(Records((order,))), 11.0),
            offered(machine, late, 11.0, P)[1],
        )
        assert ["Penalise" in kinds(effects) for effects in brought] == [not knows_fork] * 2
        assert not machine.halted
