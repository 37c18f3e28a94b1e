"""Governance beside the kill switch: never above it."""

from __future__ import annotations

import pytest

from swarmllm.core.governance.admission import GOVERNING
from swarmllm.core.governance.authoring import ballot
from swarmllm.core.governance.tiers import ACTIONS
from swarmllm.core.halt.state import Applied, validate
from swarmllm.core.settings.table import EXPERTS, EXTRA, SETTINGS
from swarmllm.errors import UsageError
from swarmllm.messages import Resume
from swarmllm.messages.governance import SetSetting
from swarmllm.wire.codec import encode
from swarmllm.wire.marks import marks_of
from swarmllm.wire.signed import HALTING
from tests.core.governance.support import (
    DAY,
    EXPERTS_CODE,
    EXTRA_CODE,
    HOUR,
    PLAIN,
    SET_EXPERTS,
    VOTERS,
    Node,
    id_of,
    plain_proposal,
    plain_vote,
)
from tests.core.governance.test_votes import passed
from tests.core.halt.support import HALTERS, signed, verify


def changed(node: Node, values: tuple[int, ...]) -> list[bytes]:
    """One change after the other, all in force; their ids."""
    found = []
    for value in values:
        found.append(passed(node, value))
        node.wait(2 * HOUR)
    return found


def test_halted_enacts_nothing() -> None:  # GOV-20
    node = Node()
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record, plain_vote(id, VOTERS[0]))
    node.switch.halt()
    node.offer(plain_vote(id, VOTERS[1]))
    node.wait(3 * DAY)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    assert node.machine.phase == 0
    with pytest.raises(UsageError, match="suspended: halted by key"):
        node.propose(SetSetting(EXTRA_CODE, 2))
    with pytest.raises(UsageError, match="suspended"):
        ballot(node.machine, id, VOTERS[2].public_key, True, 0)


def test_a_halt_between_the_disk_and_the_change_holds_the_change_back() -> None:
    node = Node()
    node.is_manual = True
    passed(node)
    node.wait(0.0)
    node.switch.halt()
    while node.waiting:
        node.confirm()
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.wait(3 * HOUR)
    while node.waiting:
        node.confirm()
    assert node.value(EXPERTS_CODE) == EXPERTS.default


def major(node: Node) -> bytes:
    """What the whole electorate has voted for: no halt takes it back, so it has to wait."""
    record = node.propose(SetSetting(EXTRA_CODE, 2), tier=4)
    id = id_of(record)
    node.offer(record, *(plain_vote(id, by) for by in VOTERS))
    return id


def test_a_review_that_ends_while_the_node_is_halted_enacts_nothing_before_it_is_resumed() -> None:
    node = Node()
    major(node)
    node.wait(HOUR)
    node.switch.halt()
    node.wait(3 * DAY)
    assert node.value(EXTRA_CODE) == EXTRA.default
    node.boot()
    node.wait(DAY)
    assert node.value(EXTRA_CODE) == EXTRA.default
    node.switch.resume()
    node.wait(2 * HOUR)
    assert node.value(EXTRA_CODE) == 2


def test_a_change_that_is_on_disk_when_the_halt_comes_waits_for_the_resume() -> None:
    node = Node()
    major(node)
    node.wait(DAY - 1)
    node.is_manual = True
    node.wait(2.0)  # It is a canary now, and nothing is written yet.
    node.switch.halt()
    node.look()
    for _ in range(20):
        if node.waiting:
            node.confirm()
    assert node.value(EXTRA_CODE) == EXTRA.default
    node.is_manual = False
    node.switch.resume()
    node.wait(2 * HOUR)
    assert node.value(EXTRA_CODE) == 2


def test_vote_to_lift_a_halt_refused() -> None:
    """No action names a halt, no record of governance is one that the kill switch reads, and what
    it reads is no action."""
    assert not {*GOVERNING} & {*HALTING}
    assert not {*ACTIONS} & {*HALTING}
    node = Node()
    node.switch.halt()
    lift = Resume(PLAIN.swarm, 1, marks_of({HALTERS[0].id: 1}), 0)
    record = signed(plain_proposal(encode(lift), tier=4), VOTERS[0])
    id = id_of(record)
    votes = [plain_vote(id, by) for by in VOTERS]
    node.offer(record, *votes)
    node.wait(3 * DAY)
    assert node.switch.halted
    for data in (record, *votes, signed(lift, *VOTERS)):
        assert not isinstance(validate(node.switch.state, data, verify), Applied)
    assert all("halt" not in key and "resume" not in key for key in SETTINGS)


def test_halt_reverts_the_last_three() -> None:  # HALT-28, GOV-15
    node = Node()
    ids = changed(node, (4, 5, 6, 7, 8))
    assert node.value(EXPERTS_CODE) == 8
    node.switch.halt()
    node.look()
    assert node.value(EXPERTS_CODE) == 5, "three of five are taken back, and no more"
    assert node.journal[-1] == ("answer.experts", "8", "5", "a halt took it back")
    assert [node.machine.outcome.standings[id].void != "" for id in ids] == [  # type: ignore[union-attr]
        False, False, True, True, True,
    ]  # fmt: skip
    node.switch.resume()
    node.wait(30 * DAY)
    assert node.value(EXPERTS_CODE) == 5, "for good"
    node.boot()
    node.wait(DAY)
    assert node.value(EXPERTS_CODE) == 5


def test_a_second_halt_digs_no_further_and_takes_back_what_came_since() -> None:  # HALT-28
    node = Node()
    changed(node, (4, 5, 6, 7, 8))
    node.switch.halt(1)
    node.look()
    node.switch.halt(2, HALTERS[1])
    node.look()
    assert node.value(EXPERTS_CODE) == 5
    node.switch.resume(1)
    node.switch.resume(2, HALTERS[1])
    node.look()
    changed(node, (9,))
    assert node.value(EXPERTS_CODE) == 9
    node.switch.halt(3)
    node.look()
    assert node.value(EXPERTS_CODE) == 5, "one change since, and none of the former come back"


def test_a_halt_leaves_what_the_whole_electorate_decided() -> None:
    node = Node()
    record = node.propose(SetSetting(EXTRA_CODE, 2), tier=4)
    id = id_of(record)
    node.offer(record, *(plain_vote(id, by) for by in VOTERS))
    node.wait(2 * DAY)
    changed(node, (5,))
    node.switch.halt()
    node.look()
    assert (node.value(EXPERTS_CODE), node.value(EXTRA_CODE)) == (EXPERTS.default, 2)
    assert EXTRA.default != 2


def test_what_was_proposed_before_a_halt_should_not_be_signed_after_it() -> None:
    node = Node()
    record = node.propose(SET_EXPERTS)
    node.offer(record)
    node.switch.halt()
    node.look()
    node.switch.resume()
    node.look()
    with pytest.raises(UsageError, match="before a halt"):
        node.vote(id_of(record), VOTERS[0])


@pytest.mark.parametrize("votes_come_first", [False, True])
def test_what_is_carried_late_takes_one_of_the_three_places_on_every_node(
    votes_come_first: bool,
) -> None:  # GOV-15
    """When a vote came is known to nobody for sure, so it decides nothing: here a change that was
    open when the halt came gets its votes before, or after it."""
    node = Node()
    ids = changed(node, (4, 5, 6))
    record = node.propose(SetSetting(EXTRA_CODE, 2))
    late = id_of(record)
    votes = [plain_vote(late, by) for by in VOTERS[:2]]
    node.offer(record, *(votes if votes_come_first else ()))
    node.switch.halt()
    node.look()
    node.offer(*votes)
    node.wait(DAY)
    values = node.value(EXPERTS_CODE), node.value(EXTRA_CODE)
    assert values == (EXPERTS.default if not votes_come_first else 4, EXTRA.default)
    node.switch.resume()
    node.wait(DAY)
    assert (node.value(EXPERTS_CODE), node.value(EXTRA_CODE)) == (4, EXTRA.default)
    outcome = node.machine.outcome
    assert outcome is not None
    assert [bool(outcome.standings[id].void) for id in (*ids, late)] == [False, True, True, True]


def test_taking_back_does_not_wait_for_the_disk_or_the_ledger() -> None:
    node = Node()
    changed(node, (5,))
    node.disk.is_full = node.refuses_entries = True
    node.switch.halt()
    node.look()
    assert node.value(EXPERTS_CODE) == EXPERTS.default
