"""What anybody can make a node keep is bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swarmllm.core.governance.book import CLOSED_MAX, OPEN_MAX, OPEN_PER_AUTHOR_MAX
from swarmllm.errors import UsageError
from swarmllm.messages import PeerId
from swarmllm.messages.governance import GROUP_RECORDS_MAX, CanaryReport, SetSetting
from tests.core.governance.support import (
    DAY,
    EXPERTS_CODE,
    SET_EXPERTS,
    TERMS,
    VOTERS,
    Node,
    Switch,
    charter,
    id_of,
    plain_proposal,
    plain_vote,
    plain_withdrawal,
)
from tests.core.governance.test_votes import passed
from tests.core.halt.support import Person, founded, keys, signed

P = PeerId("p")


def filed(seq: int, by: Person = VOTERS[0]) -> bytes:
    return signed(plain_proposal(SetSetting(EXPERTS_CODE, 1 + seq % 16), by, seq=seq), by)


@pytest.mark.slow
def test_ten_thousand_proposals_by_one_author_fill_four_places() -> None:  # GOV-12
    node = Node()
    for seq in range(1, 10_001):
        node.machine.registry.accept([filed(seq)])
    node.look()
    assert len(node.machine.registry.cases) == OPEN_PER_AUTHOR_MAX
    outcome = node.offer(filed(77_777), forwarder=P)
    assert "has 4 open proposals already; withdraw one" in outcome.reason
    assert node.penalised == [], "who passes it on may have other four"
    assert len(node.waiting) == 0
    with pytest.raises(UsageError, match="4 open proposals"):
        node.propose(SET_EXPERTS)
    others = filed(1, VOTERS[1])
    node.offer(others)
    assert id_of(others) in node.machine.registry.cases, "and nobody else's"


def test_all_authors_together_stay_far_below_what_a_node_keeps() -> None:
    assert 2 * 16 * OPEN_PER_AUTHOR_MAX < OPEN_MAX


def test_withdrawn_proposals_are_kept_for_a_while_and_not_for_ever() -> None:
    node = Node()
    for seq in range(1, 60):
        record = filed(seq)
        node.offer(record, plain_withdrawal(id_of(record), VOTERS[0]))
    assert len(node.machine.registry.cases) <= OPEN_PER_AUTHOR_MAX
    assert len(node.machine.changes.journal.entries) == 0
    node.wait(15 * DAY)
    assert node.machine.registry.cases == {}


def test_names_of_closed_cases_are_bounded() -> None:
    node = Node()
    book = node.machine.registry.book
    assert book is not None
    for number in range(CLOSED_MAX + 9):
        record = filed(number + 1)
        book.take([record], node.machine.outcome_with)
        book.close(id_of(record))
    assert len(book._closed) == CLOSED_MAX


def test_a_case_with_everything_that_can_be_signed_to_it_fits_a_frame_and_a_slot() -> None:
    people = tuple(Person(f"voter {number}") for number in range(16))
    agents = tuple(Person(f"agent {number}") for number in range(16))
    terms = replace(TERMS, agent=keys(agents))
    state = founded(charter(terms, people))
    node = Node(switch=Switch(state), terms=terms)
    record = node.propose(SET_EXPERTS, people[0], why="w" * 512)
    id = id_of(record)
    node.offer(record)
    for by in people:
        for yes in (0, 1):
            node.offer(plain_vote(id, by, yes, swarm=state.swarm))
        node.offer(plain_withdrawal(id, by, state.swarm))
    for by in agents:
        for worse in (0, 1):
            big = 2**32 - 1
            made = CanaryReport(state.swarm, 1, id, by.id, worse, big, big, big, big, 2**62)
            node.offer(signed(made, by))
    records = node.case(id).records
    assert len(records) == 1 + 3 * 16 + 2 * 16 <= GROUP_RECORDS_MAX
    assert sum(len(one) + 3 for one in records) < 40_000
    again = Node("again", switch=Switch(state), terms=terms)
    again.machine.registry.accept(records)
    assert again.case(id).digest == node.case(id).digest
    node.boot()
    assert node.case(id).digest == again.case(id).digest


def test_what_has_passed_keeps_its_place_beside_a_flood() -> None:
    node = Node()
    id = passed(node)
    for seq in range(2, 12):
        node.offer(filed(seq + 100, VOTERS[2]))
    assert id in node.machine.registry.cases
    assert len(node.machine.registry.cases) == 1 + OPEN_PER_AUTHOR_MAX
