"""What anybody can make a node keep is bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swarmllm.core.governance import book as books
from swarmllm.core.governance.book import (
    CLOSED_MAX,
    OPEN_MAX,
    OPEN_PER_AUTHOR_MAX,
    PASSED_MAX,
    UNATTENDED_MAX,
)
from swarmllm.errors import UsageError
from swarmllm.messages import PeerId
from swarmllm.messages.governance import (
    GROUP_RECORDS_MAX,
    GROUPS_MAX,
    CanaryReport,
    ClosePhase,
    SetSetting,
)
from tests.core.governance.support import (
    AGENTS,
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


def test_all_that_a_book_can_hold_fits_a_summary() -> None:
    keys_max = 2 * 16
    open_and_withdrawn = 2 * keys_max * OPEN_PER_AUTHOR_MAX
    assert PASSED_MAX + UNATTENDED_MAX + open_and_withdrawn + 1 <= GROUPS_MAX


def test_what_an_agent_passes_without_votes_is_bounded_and_takes_nobody_elses_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # GOV-12
    """Seed 38: an agent that needs no votes filed as many as it liked, and when its phase was
    closed they were open proposals, 84 of them, and nobody else could have filed any."""
    monkeypatch.setattr(books, "UNATTENDED_MAX", 12)
    monkeypatch.setattr(books, "OPEN_MAX", 8)
    terms = replace(TERMS, phase=4, unattended=1)
    state = founded(charter(terms))
    node = Node(switch=Switch(state), terms=terms)
    more = {"swarm": state.swarm, "ctl_digest": state.digest}
    for seq in range(1, 20):
        made = plain_proposal(SetSetting(EXPERTS_CODE, seq % 7 + 1), AGENTS[0], seq=seq, **more)
        outcome = node.offer(signed(made, AGENTS[0]))
    assert len(node.machine.registry.cases) == 12
    assert "12 changes have passed without votes" in outcome.reason
    record = node.propose(ClosePhase(0))
    id = id_of(record)
    node.offer(record, *(plain_vote(id, by, swarm=state.swarm) for by in VOTERS[:2]))
    assert node.machine.phase == 0
    record = node.propose(SetSetting(EXPERTS_CODE, 3))
    node.offer(record)
    assert id_of(record) in node.machine.registry.cases


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
