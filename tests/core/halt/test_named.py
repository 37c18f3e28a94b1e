"""Whoever joined by an invite works under the charter that it names, with peers of that swarm, or
not at all.

Cites protocols/invite.md (INV)."""

from __future__ import annotations

from dataclasses import replace

from swarmllm.core.halt.charter import NamedCharter, charter_hash, private_charter
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.halt.state import HaltState
from swarmllm.messages import NO_HALT_DIGEST
from tests.core.halt.support import (
    OWNER,
    ROOTS,
    STATE,
    STRANGER,
    SWARM,
    A,
    B,
    P,
    Person,
    Q,
    apply,
    founded,
    halt,
    keys,
    linked,
    new_machine,
    opened,
    put,
    rotation,
    running,
    saved,
    signed,
)

SECOND = signed(rotation(STATE, halt=keys((A, B))), *ROOTS)
OTHER = signed(rotation(STATE, halt=keys((A, STRANGER))), *ROOTS)
NAMED = NamedCharter(2, charter_hash(opened(SECOND)))


def joined(*charters: bytes) -> HaltMachine:
    """A node that knows the swarm's id, these charters and the invite, linked to a peer."""
    known = apply(HaltState(SWARM), *charters)
    machine = new_machine(replace(known, named=NAMED))
    saved(machine, machine.start(0.0), 0.0)
    saved(machine, machine.timer(10.0), 10.0)
    return linked(machine, P, state=known)


def test_no_token_is_made_before_the_charter_named_has_come() -> None:  # INV-5
    machine = joined(STATE.charters[0].data)
    assert machine.may_serve(10.0) == "the charter that the invite names has not come yet"
    put(machine, P, SECOND)
    assert machine.may_serve(10.1) == ""


def test_another_branch_than_the_named_one_does_not_count_and_blames_nobody() -> None:  # INV-5
    machine = joined(STATE.charters[0].data)
    told = put(machine, P, OTHER)
    assert machine.state.version == 1
    assert "Penalise" not in [type(one).__name__ for one in told]
    put(machine, P, SECOND)
    assert machine.state.charters[-1].data == SECOND


def test_a_halt_counts_all_the_same_while_the_charter_has_not_come() -> None:  # HALT-10
    machine = joined(STATE.charters[0].data)
    put(machine, P, halt(A, 1))
    assert machine.halted


def test_what_the_charter_chain_brings_later_is_not_held_up() -> None:
    machine = joined(STATE.charters[0].data, SECOND)
    third = signed(rotation(machine.state, resume=keys(ROOTS)), *ROOTS)
    put(machine, P, third)
    assert machine.state.version == 3
    assert machine.may_serve(10.1) == ""


def founded_by(person: Person) -> HaltState:
    """A swarm of one."""
    data = signed(private_charter(person.public_key), person)
    return apply(HaltState(charter_hash(opened(data))), data)


# INV-5
def test_swarms_of_one_work_together_and_an_invited_node_works_with_its_own_alone() -> None:
    """All of them have the digest of no record, so the digest alone tells none from another."""
    own, other = founded_by(OWNER), founded_by(STRANGER)
    assert own.digest == other.digest == NO_HALT_DIGEST
    loose = linked(running(own), P, state=other)
    assert loose.may_infer(P, 10.0) == ""
    strict = linked(running(replace(own, named=NamedCharter(1, own.swarm))), P, state=other)
    linked(strict, Q, state=own)
    assert strict.may_infer(P, 10.0) == "P is of another swarm than the invite names"
    assert strict.may_infer(Q, 10.0) == ""


def test_a_peer_that_has_not_greeted_is_not_known_to_be_of_the_swarm() -> None:  # INV-5
    own = founded()
    machine = running(replace(own, named=NamedCharter(1, own.swarm)))
    machine.opened(P, 10.0)
    assert machine.swarm_of(P) is None
    assert machine.may_infer(P, 10.0)
