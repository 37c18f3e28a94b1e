"""Votes: who may, what counts, and what follows. Cites protocols/governance.md."""

from __future__ import annotations

import itertools
import random

import pytest

from swarmllm.core.governance.book import Taken
from swarmllm.core.halt.charter import Rejected
from swarmllm.core.settings.table import EXPERTS
from swarmllm.errors import UsageError
from swarmllm.messages import PeerId
from swarmllm.messages.governance import SetSetting
from tests.core.governance.support import (
    EXPERTS_CODE,
    HOUR,
    PLAIN,
    SET_EXPERTS,
    STRANGER,
    VOTERS,
    Node,
    Switch,
    charter,
    id_of,
    plain_proposal,
    plain_vote,
    plain_withdrawal,
)
from tests.core.halt.support import forged, founded, signed

P = PeerId("p")
OTHER = PeerId("other")


def passed(node: Node, value: int = 5) -> bytes:
    """A setting that has passed with two votes; its id."""
    record = node.propose(SetSetting(EXPERTS_CODE, value))
    id = id_of(record)
    node.offer(record)
    node.offer(node.vote(id, VOTERS[0]))
    node.offer(node.vote(id, VOTERS[1]))
    return id


def test_a_change_is_in_force_with_the_second_vote_and_not_before() -> None:
    node = Node()
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record)
    node.offer(node.vote(id, VOTERS[0]))
    node.wait(20 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    assert node.machine.progress.courses[id].waits == "1 of 2 votes"
    node.offer(node.vote(id, VOTERS[2]))
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == 5
    assert node.journal == [("answer.experts", "3", "5", "")]


def test_vote_by_stranger_counts_nothing() -> None:  # GOV-1, GOV-8
    node = Node()
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record, plain_vote(id, VOTERS[0]))
    for by in (STRANGER, node.person):
        outcome = node.offer(plain_vote(id, by), forwarder=P)
        assert isinstance(outcome, Rejected)
        assert "neither a voter nor an agent" in outcome.reason
        assert not node.checked[-1].passes
    node.offer(plain_vote(id, VOTERS[0]))  # And the same voter again is no second one.
    node.wait(30 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    with pytest.raises(UsageError, match="no voter"):
        node.vote(id, STRANGER)


def test_vote_replayed_to_another_proposal_swarm_or_charter_refused() -> None:  # GOV-8, GOV-9
    node = Node()
    one, two = node.propose(SET_EXPERTS), signed(plain_proposal(SetSetting(2, 1)), VOTERS[0])
    node.offer(one, two, plain_vote(id_of(one), VOTERS[0]), plain_vote(id_of(one), VOTERS[1]))
    assert node.machine.outcome is not None
    assert node.machine.outcome.standings[id_of(two)].yes == 0
    elsewhere = founded(charter(voters=VOTERS[:2]))
    vote = plain_vote(id_of(one), VOTERS[2], swarm=elsewhere.swarm)
    assert "for swarm" in node.offer(vote, forwarder=P).reason
    for version in (2, 9):
        late = plain_vote(id_of(one), VOTERS[2], charter_version=version)
        outcome = node.offer(late, forwarder=OTHER)
        assert isinstance(outcome, Rejected)
        assert outcome.ask
    assert [peer for peer, _ in node.penalised] == [P]
    other = Node(switch=Switch(elsewhere))
    assert isinstance(other.offer(one), Rejected)


def test_two_votes_void() -> None:  # GOV-10
    node = Node()
    id = passed(node)
    node.wait(HOUR)
    assert node.value(EXPERTS_CODE) == 5
    node.offer(plain_vote(id, VOTERS[1], yes=0))
    assert node.case(id).doubled == (VOTERS[1].id,)
    assert node.value(EXPERTS_CODE) == EXPERTS.default, "what his vote carried is taken back"
    assert node.journal[-1] == ("answer.experts", "5", "3", "it has lost its votes")
    node.offer(plain_vote(id, VOTERS[2]))  # Two others carry it after all.
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == 5


def test_a_vote_by_the_same_key_that_says_the_same_again_is_no_news() -> None:
    node = Node()
    id = passed(node)
    outcome = node.offer(plain_vote(id, VOTERS[0], issued_ms=77))
    assert outcome == Taken()
    assert node.case(id).doubled == ()


def test_passed_is_monotone_in_any_order() -> None:  # GOV-13
    writer = Node()
    id = passed(writer)
    records = [*writer.case(id).records, plain_vote(id, VOTERS[2], yes=0)]
    for order in itertools.permutations(records):
        node = Node()
        had_passed = False
        for data in (*order, *order):  # What came before its proposal comes again.
            node.offer(data)
            book, outcome = node.machine.registry.book, node.machine.outcome
            assert book is not None
            assert outcome is not None
            has_passed = id in book.cases and outcome.standings[id].passed
            assert has_passed >= had_passed
            had_passed = has_passed
        assert had_passed
        assert node.machine.replica.digest is not None


def test_two_proposals_one_base_converge() -> None:  # GOV-14
    writer = Node()
    records = []
    for number, value in enumerate((5, 6, 7)):
        made = plain_proposal(SetSetting(EXPERTS_CODE, value), VOTERS[number])
        records.append(signed(made, VOTERS[number]))
    votes = [plain_vote(id_of(one), by) for one in records for by in VOTERS[:2]]
    values = set()
    rng = random.Random(1)
    for _ in range(12):
        node = Node(str(rng.random()))
        for one in rng.sample(records, 3):
            node.offer(one)
            node.wait(rng.choice((0.0, 3 * HOUR)))
            for vote in rng.sample(votes, 6):
                node.offer(vote)
            node.wait(rng.choice((0.0, 3 * HOUR)))
        node.wait(3 * HOUR)
        values.add(node.value(EXPERTS_CODE))
    lowest = min(range(3), key=lambda at: id_of(records[at]))
    assert values == {5 + lowest}, "the lower id wins, also if it comes later"
    del writer


def test_what_has_a_greater_height_wins_and_who_is_late_should_not_vote() -> None:
    node = Node()
    first = passed(node, 5)
    node.wait(2 * HOUR)
    late = signed(plain_proposal(SetSetting(EXPERTS_CODE, 9), VOTERS[1], seq=8), VOTERS[1])
    node.offer(late)
    with pytest.raises(UsageError, match="has been changed since"):
        node.vote(id_of(late), VOTERS[0])
    second = passed(node, 7)
    node.wait(2 * HOUR)
    assert node.case(second).proposal.base == first
    assert node.case(second).proposal.height == 2
    node.offer(plain_vote(id_of(late), VOTERS[0]), plain_vote(id_of(late), VOTERS[1]))
    node.wait(30 * HOUR)
    assert node.value(EXPERTS_CODE) == 7


@pytest.mark.parametrize("by", [VOTERS[0], VOTERS[1]])
def test_an_author_withdraws_what_has_not_passed_and_nothing_else(by: object) -> None:  # GOV-11
    node = Node()
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record, plain_withdrawal(id, by))  # type: ignore[arg-type]
    assert node.machine.outcome is not None
    is_author = by is VOTERS[0]
    assert node.machine.outcome.standings[id].is_withdrawn == is_author
    node.offer(plain_vote(id, VOTERS[0]), plain_vote(id, VOTERS[1]))
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == 5
    node.offer(plain_withdrawal(id, VOTERS[0]), plain_withdrawal(id, VOTERS[1]))
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default, "a majority of voters withdraws anything"


def test_a_vote_before_its_proposal_is_asked_about_and_costs_nobody_a_strike() -> None:
    node = Node()
    record = node.propose(SET_EXPERTS)
    outcome = node.offer(plain_vote(id_of(record), VOTERS[0]), forwarder=P)
    assert isinstance(outcome, Rejected)
    assert outcome.ask
    assert node.penalised == []


@pytest.mark.parametrize("spoil", range(7))
def test_whatever_is_malformed_forged_or_oversized_is_refused_and_counted(spoil: int) -> None:
    node = Node()
    record = node.propose(SET_EXPERTS)
    node.offer(record)
    id = id_of(record)
    before = dict(node.case(id).says)
    vote = plain_vote(id, VOTERS[0])
    two = signed(plain_proposal(SET_EXPERTS), VOTERS[0], VOTERS[1])
    bad = (
        b"",
        vote[:-1],
        vote + b"\0",
        b"\x93" + bytes(9_000),
        forged(plain_proposal(SET_EXPERTS, seq=2), VOTERS[0]),
        two,
        signed(plain_proposal(SET_EXPERTS, VOTERS[1]), VOTERS[0]),
    )[spoil]
    outcome = node.offer(bad, forwarder=P)
    assert isinstance(outcome, Rejected)
    assert outcome.penalise
    assert node.penalised == [(P, outcome.reason)]
    assert node.case(id).says == before
    assert PLAIN.swarm == node.switch.state.swarm
