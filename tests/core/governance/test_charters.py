"""The mandate follows from the charter: who votes, what is needed, what a rotation leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from swarmllm.core.governance.mandate import (
    DEFAULTS,
    Tier,
    mandate_of,
    naming,
    pack_bounds,
    pack_values,
)
from swarmllm.core.halt.charter import private_charter, successor
from swarmllm.core.halt.state import HaltState
from swarmllm.core.settings.table import EXPERTS, EXTRA
from swarmllm.messages import Range
from swarmllm.messages.governance import GovernanceTerms, SetSetting
from swarmllm.wire.codec import encode
from tests.core.governance.support import (
    AGENTS,
    EXPERTS_CODE,
    EXTRA_CODE,
    HOUR,
    PLAIN,
    SET_EXPERTS,
    TERMS,
    VOTERS,
    WITH_AGENTS,
    Node,
    Switch,
    charter,
    id_of,
    plain_vote,
)
from tests.core.governance.test_votes import passed
from tests.core.halt.support import HALTERS, ROOTS, Person, apply, founded, keys, signed


def rotated(state: HaltState, **changes: Any) -> HaltState:
    """Under the next charter, with these changes."""
    head = state.charters[-1]
    assert state.charter is not None
    made = successor(head, state.lifts, replace(state.charter, **changes))
    return apply(state, signed(made, *ROOTS))


def test_charter_rotation_voids_open_proposals() -> None:  # GOV-9
    node = Node()
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record, plain_vote(id, VOTERS[0]))
    before = node.machine.replica.digest
    node.switch.state = rotated(node.switch.state, issued_ms=1)
    node.offer(plain_vote(id, VOTERS[1]), record, plain_vote(id, VOTERS[2]))
    node.wait(30 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    assert node.machine.registry.cases == {}
    assert node.machine.replica.digest != before
    assert node.penalised == [], "nobody is blamed for what he could not know"


@pytest.mark.parametrize("carried", [True, False])
def test_a_rotation_takes_over_what_its_terms_say_and_forgets_the_rest(carried: bool) -> None:
    """As lifts start from lift_base: a rotation that forgets goes back to what was there before."""
    node = Node()
    passed(node, 5)
    node.wait(2 * HOUR)
    terms = replace(DEFAULTS, values=pack_values({EXPERTS_CODE: 5}))
    ext = naming(terms) if carried else b""
    node.switch.state = rotated(node.switch.state, ext=ext)
    node.look()
    if carried:
        assert "have not come yet" in node.machine.obstacle
        assert node.value(EXPERTS_CODE) == EXPERTS.default, "and until they come, nothing is"
        node.offer(encode(terms))
    assert node.machine.obstacle == ""
    assert node.value(EXPERTS_CODE) == (5 if carried else EXPERTS.default)
    node.boot()
    assert node.value(EXPERTS_CODE) == (5 if carried else EXPERTS.default)


@pytest.mark.parametrize("restarts", [False, True])
def test_what_an_earlier_charter_starts_with_goes_with_it(restarts: bool) -> None:
    """Values, bounds and phase that no vote set, but the terms of the charter before."""
    bounds = {EXTRA_CODE: Range(0, 1)}
    terms = replace(
        DEFAULTS, phase=1, values=pack_values({EXPERTS_CODE: 5}), bounds=pack_bounds(bounds)
    )
    node = Node(switch=Switch(founded(charter(terms))), terms=terms)
    assert (node.value(EXPERTS_CODE), node.machine.phase) == (5, 1)
    assert node.settings.bounds(EXTRA) == Range(0, 1)
    node.switch.state = rotated(node.switch.state, ext=b"")
    node.look()
    if restarts:
        node.boot()
    assert (node.value(EXPERTS_CODE), node.machine.phase) == (EXPERTS.default, 0)
    assert node.settings.bounds(EXTRA) == EXTRA.bounds


def test_terms_that_the_charter_does_not_name_are_not_taken() -> None:  # GOV-2
    node = Node(switch=Switch(WITH_AGENTS))
    for terms in (replace(TERMS, minor_threshold=1), DEFAULTS):
        node.offer(encode(terms))
        assert "have not come yet" in node.machine.obstacle
    node.offer(encode(TERMS))
    assert node.machine.obstacle == ""
    node.offer(encode(replace(TERMS, minor_threshold=1)))
    assert node.machine.mandate is not None
    assert node.machine.mandate.terms == TERMS


def test_terms_travel_like_any_group_of_records() -> None:
    has, lacks = (
        Node("a", switch=Switch(WITH_AGENTS), terms=TERMS),
        Node("b", switch=Switch(WITH_AGENTS)),
    )
    groups = has.machine.registry.groups()
    assert len(groups) == 1
    (name,) = groups
    assert lacks.machine.registry.wants(name)
    lacks.machine.registry.take(has.machine.registry.records_of(name), has.peer)
    lacks.look()
    assert lacks.machine.obstacle == ""
    assert lacks.machine.replica.digest == has.machine.replica.digest


@pytest.mark.parametrize("state", [founded(charter(voters=())), HaltState(bytes(32))])
def test_without_voters_or_a_charter_nothing_is_enacted(state: HaltState) -> None:
    node = Node(switch=Switch(state))
    assert node.machine.obstacle
    outcome = node.offer(plain_vote(bytes(32), VOTERS[0]))
    assert outcome.reason
    assert not outcome.penalise
    node.wait(30 * HOUR)
    assert node.journal == []


def test_a_voter_whose_key_was_taken_out_as_a_halt_key_has_no_vote_and_still_counts() -> (
    None
):  # GOV-1
    both = HALTERS[0]
    state = founded(charter(voters=(*VOTERS[:2], both)))
    gone = rotated(state, halt=keys(HALTERS[1:]))
    mandate = mandate_of(gone.swarm, gone.charters, None)
    assert not isinstance(mandate, str)
    assert both.id not in mandate.voters
    assert mandate.electorate == 3
    assert mandate.majority == 2
    node = Node(switch=Switch(gone))
    vote = plain_vote(bytes(32), both, swarm=gone.swarm, charter_version=2)
    assert "neither a voter nor an agent" in node.offer(vote).reason


def test_a_swarm_of_one_needs_no_ceremony() -> None:  # GOV-3
    """Its owner holds every role: one signature, no review, no canary."""
    owner = Person("owner")
    state = founded_alone(owner)
    node = Node("owner", switch=Switch(state), person=owner)
    record = node.propose(SetSetting(EXPERTS_CODE, EXPERTS.bounds.high + 1), owner)
    id = id_of(record)
    node.offer(record)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.offer(node.vote(id, owner))
    assert node.value(EXPERTS_CODE) == EXPERTS.bounds.high + 1


def founded_alone(owner: Person) -> HaltState:
    from hashlib import sha256

    from swarmllm.wire.signed import open_record

    opened = open_record(signed(private_charter(owner.public_key), owner))
    return apply(HaltState(sha256(opened.payload).digest()), opened.data)


@pytest.mark.parametrize(
    ("voters", "minor", "major"), [(1, 1, 1), (2, 2, 2), (3, 2, 2), (5, 2, 3), (16, 2, 9)]
)
def test_how_many_votes_carry_what_by_default(voters: int, minor: int, major: int) -> None:
    people = tuple(Person(f"v{i}") for i in range(voters))
    state = founded(charter(voters=people))
    mandate = mandate_of(state.swarm, state.charters, None)
    assert not isinstance(mandate, str)
    assert mandate.needs(Tier.DEPLOY_MINOR) == minor
    assert mandate.needs(Tier.DEPLOY_MAJOR) == major
    assert mandate.needs(Tier.SANDBOX_TEST) is None


def test_a_threshold_beyond_the_electorate_cannot_be_reached() -> None:
    terms = replace(DEFAULTS, minor_threshold=9)
    node = Node(switch=Switch(founded(charter(terms))), terms=terms)
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    swarm = node.switch.state.swarm
    node.offer(record, *(plain_vote(id, by, swarm=swarm) for by in VOTERS))
    node.wait(30 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default


def with_terms(**changes: Any) -> tuple[Node, GovernanceTerms]:
    terms = replace(TERMS, **changes)
    return Node(switch=Switch(founded(charter(terms))), terms=terms), terms


def test_bounds_of_the_charter_decide_what_is_minor() -> None:
    wide = pack_bounds({EXPERTS_CODE: Range(1, 60), EXTRA_CODE: Range(1, 1)})
    node, _ = with_terms(bounds=wide)
    assert node.machine.outcome is not None
    bounds = node.machine.outcome.bounds_of(node.machine.rules)
    assert (bounds(EXPERTS_CODE), bounds(EXTRA_CODE)) == (Range(1, 60), Range(1, 1))
    assert bounds(99_999) is None
    assert node.settings.bounds(EXPERTS) == Range(1, 60)


def test_agents_and_voters_have_their_roles() -> None:
    node, _ = with_terms()
    mandate = node.machine.mandate
    assert mandate is not None
    assert {*mandate.agents} == {agent.id for agent in AGENTS}
    assert PLAIN.swarm != node.switch.state.swarm
    vote = plain_vote(bytes(32), AGENTS[0], swarm=node.switch.state.swarm)
    assert "no part in signing" in node.offer(vote).reason
