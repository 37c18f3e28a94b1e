"""The canary: some try a change before all others, and take it back themselves if it is worse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.governance.canary import SAMPLES_MIN, is_canary, is_worse, samples_of
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.settings.table import EXPERTS
from swarmllm.messages import PeerId
from swarmllm.messages.governance import CanaryReport, SetBounds
from swarmllm.wire.signed import open_signed
from tests.core.governance.support import (
    AGENTS,
    EXPERTS_CODE,
    HOUR,
    SET_EXPERTS,
    TERMS,
    VOTERS,
    Node,
    Switch,
    charter,
    id_of,
    plain_vote,
)
from tests.core.halt.support import Person, founded, signed

STATE = founded(charter(TERMS))


def node_of(name: str, person: Person | None = None, **more: Any) -> Node:
    return Node(name, switch=Switch(STATE), person=person, terms=TERMS, **more)


def carried(*nodes: Node) -> bytes:
    """A change that has passed on all of them; its id."""
    record = nodes[0].propose(SET_EXPERTS)
    id = id_of(record)
    for node in nodes:
        node.offer(record, *(plain_vote(id, by, swarm=STATE.swarm) for by in VOTERS[:2]))
    return id


def report(id: bytes, by: Person, worse: int) -> bytes:
    made = CanaryReport(STATE.swarm, 1, id, by.id, worse, 40, 40, 1, 1, 0)
    return signed(made, by)


def feed(node: Node, cost_s: float, count: int = 60) -> None:
    for number in range(count):
        node.machine.progress.measured(cost_s * (1 + 0.1 * (number % 5)))


def first_agent(id: bytes, nodes: list[Node]) -> tuple[Node, Node]:
    """The agent's node whose turn it is, and the other."""
    turns = [node.machine._canaries.after(id) for node in nodes]
    assert None not in turns
    return (nodes[0], nodes[1]) if turns[0] == 0.0 else (nodes[1], nodes[0])


@pytest.mark.parametrize("worse", [False, True])
def test_an_agents_node_tries_reports_and_the_others_follow_it(worse: bool) -> None:
    agents = [node_of(f"agent {at}", AGENTS[at]) for at in range(2)]
    other = node_of("other", canary=False)
    for node in agents:
        feed(node, 0.05)
    id = carried(*agents, other)
    trying, waiting = first_agent(id, agents)
    assert trying.value(EXPERTS_CODE) == 5, "at once"
    feed(trying, 0.5 if worse else 0.04)
    for node in (waiting, other):
        node.wait(0.9 * HOUR)
        assert node.value(EXPERTS_CODE) == EXPERTS.default
    trying.wait(1.1 * HOUR)
    assert trying.value(EXPERTS_CODE) == (EXPERTS.default if worse else 5)
    published = trying.published[-1]
    for node in (waiting, other):
        node.offer(published, forwarder=trying.peer)
        node.wait(HOUR)
        assert node.value(EXPERTS_CODE) == (EXPERTS.default if worse else 5)
    kinds = [entry.kind for entry in trying.ledger]
    assert kinds.count(LedgerKind.CANARY) == 2, "it began, and it ended"
    if worse:
        assert "found it worse" in other.machine.progress.courses[id].waits
        assert trying.journal[-1][:3] == ("answer.experts", "5", "3")


def test_if_the_first_agent_is_silent_the_next_one_has_its_turn() -> None:
    agents = [node_of(f"agent {at}", AGENTS[at]) for at in range(2)]
    id = carried(*agents)
    _, second = first_agent(id, agents)
    second.wait(HOUR)
    assert second.value(EXPERTS_CODE) == EXPERTS.default
    second.wait(0.5 * HOUR)
    assert second.value(EXPERTS_CODE) == 5, "it is a canary now"
    second.wait(HOUR)
    assert [kind for kind, *_ in second.case(id).says if kind is CanaryReport]


def test_without_any_report_nothing_is_promoted_where_there_are_agents() -> None:
    other = node_of("other", canary=False)
    id = carried(other)
    other.wait(9 * 24 * HOUR)
    assert other.value(EXPERTS_CODE) == EXPERTS.default
    assert other.machine.progress.courses[id].waits == "no canary has reported yet"


def test_what_becomes_a_major_change_while_it_waits_for_a_canary_is_reviewed() -> None:  # GOV-19
    """Seed 92: it had its votes as a minor one, then bounds moved, and it was in force 14 s before
    its review had ended."""
    other = node_of("other", canary=False)
    narrower = other.propose(SetBounds(EXPERTS_CODE, 1, 4))
    votes = [plain_vote(id_of(narrower), by, swarm=STATE.swarm) for by in VOTERS]
    other.offer(narrower, *votes)
    other.wait(HOUR)
    id = carried(other)
    other.wait(23.5 * HOUR)
    assert other.settings.bounds(EXPERTS).high == 4
    other.offer(report(id, AGENTS[0], 0))
    other.wait(60.0)
    assert other.value(EXPERTS_CODE) == EXPERTS.default
    assert "open to review" in other.machine.progress.courses[id].waits
    other.wait(HOUR)
    assert other.value(EXPERTS_CODE) == 5


@pytest.mark.parametrize("by", [VOTERS[0], Person("stranger")])
def test_only_agents_report(by: Person) -> None:
    other = node_of("other", canary=False)
    id = carried(other)
    other.offer(report(id, by, 0))
    other.wait(2 * HOUR)
    assert other.value(EXPERTS_CODE) == EXPERTS.default


def test_a_report_that_comes_late_takes_the_change_back() -> None:  # GOV-17
    other = node_of("other", canary=False)
    id = carried(other)
    other.offer(report(id, AGENTS[0], 0))
    assert other.value(EXPERTS_CODE) == 5
    other.offer(report(id, AGENTS[1], 1))
    assert other.value(EXPERTS_CODE) == EXPERTS.default, "one of two says worse: it fails closed"


@pytest.mark.parametrize("other_says", [None, 0])
def test_an_agent_that_says_both_says_worse_in_whatever_order_it_is_heard(
    other_says: int | None,
) -> None:  # GOV-10
    """Were it to say nothing, whoever has released the change by the first report would have it in
    force, and whoever heard the second one first would wait for ever."""
    both = [(0, 1), (1, 0)]
    nodes = [node_of(f"other {at}", canary=False) for at in range(len(both))]
    id = carried(*nodes)
    for node, said in zip(nodes, both, strict=True):
        for worse in said:
            node.offer(report(id, AGENTS[0], worse))
            node.wait(HOUR)
        if other_says is not None:
            node.offer(report(id, AGENTS[1], other_says))
        node.wait(HOUR)
    assert [node.value(EXPERTS_CODE) for node in nodes] == [EXPERTS.default] * 2


def test_a_canary_that_found_it_worse_gives_way_to_an_agents_report() -> None:  # GOV-22
    """It measures itself alone and has no say for others; were it to keep the change out for good,
    the swarm would differ for good."""
    node = node_of("canary")
    feed(node, 0.05)
    id = carried(node)
    assert node.value(EXPERTS_CODE) == 5, "it knows no peer, so it is a canary"
    feed(node, 0.5)
    node.wait(1.1 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    assert node.machine.progress.courses[id].trial == "worse"
    node.offer(report(id, AGENTS[0], 0))
    node.wait(60.0)
    assert node.value(EXPERTS_CODE) == 5
    node.boot()
    node.wait(60.0)
    assert node.value(EXPERTS_CODE) == 5
    node.offer(report(id, AGENTS[1], 1))
    assert node.value(EXPERTS_CODE) == EXPERTS.default


def test_a_canary_that_restarts_compares_with_what_tokens_cost_before_it_began() -> None:
    """Under the change nobody can measure that again; without it the canary would promote on
    nothing."""
    node = node_of("agent 0", AGENTS[0])
    feed(node, 0.05)
    id = carried(node)
    turn_s = node.machine._canaries.after(id)
    assert turn_s is not None
    node.wait(turn_s + 60.0)
    assert node.machine.progress.courses[id].trial == "running"
    feed(node, 0.5, 20)
    node.boot()
    node.wait(60.0)
    assert node.value(EXPERTS_CODE) == 5, "it goes on"
    feed(node, 0.5)
    node.wait(1.1 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    found = open_signed(node.published[-1], (CanaryReport,)).record
    assert (found.worse, found.samples_before, found.samples_during) == (1, 60, 60)


def test_an_owner_may_refuse_and_then_waits_like_the_others() -> None:
    node = Node("alone", canary=False)
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record, plain_vote(id, VOTERS[0]), plain_vote(id, VOTERS[1]))
    node.wait(HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.wait(0.3 * HOUR)
    assert node.value(EXPERTS_CODE) == 5


def test_without_a_chartered_share_there_is_no_canary() -> None:
    terms = replace(TERMS, canary_permille=0)
    state = founded(charter(terms))
    node = Node("n", switch=Switch(state), terms=terms, canary=False)
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record, *(plain_vote(id, by, swarm=state.swarm) for by in VOTERS[:2]))
    assert node.value(EXPERTS_CODE) == 5


def test_one_in_a_hundred_is_a_canary_and_at_least_one() -> None:  # GOV-22
    peers = [PeerId(f"peer {number}") for number in range(3_000)]
    shares, alone = [], []
    for change in range(8):
        id = bytes((change,)) * 32
        known, rest = peers[:1_000], peers[1_000:]
        shares.append(sum(is_canary(id, peer, known, 10) for peer in rest) / len(rest))
        few = peers[:5]
        alone.append(sum(is_canary(id, peer, few, 10) for peer in few))
    assert all(0.004 < share < 0.017 for share in shares)
    assert alone == [1] * 8


@given(st.floats(1e-3, 1.0), st.floats(0.0, 0.3), st.integers(SAMPLES_MIN, 200))
def test_noise_alone_is_never_worse(mean: float, spread: float, count: int) -> None:
    costs = [mean * (1 + spread * (number % 7 - 3)) for number in range(count)]
    assert not is_worse(samples_of(costs), samples_of(reversed(costs)))
    faster = [0.5 * cost for cost in costs]
    assert not is_worse(samples_of(costs), samples_of(faster))


def test_what_is_beyond_noise_is_worse_and_what_is_too_little_is_not() -> None:
    before = samples_of([0.05, 0.055, 0.06] * 20)
    assert is_worse(before, samples_of([0.1, 0.11, 0.12] * 20))
    assert not is_worse(before, samples_of([0.1] * (SAMPLES_MIN - 1)))
    assert before.mean == pytest.approx(0.055)
    assert samples_of([]).error_squared == float("inf")
