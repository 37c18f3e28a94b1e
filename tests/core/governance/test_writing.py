"""What takes effect is written down first: once, whatever breaks in between."""

from __future__ import annotations

import pytest

from swarmllm.core.effects import AppendToLedger, Commit, RecordKept
from swarmllm.core.governance.state_file import STATE_KEY, Damaged, Saved, load, pack, slot_key
from swarmllm.core.governance.view import view_of
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.settings.table import EXPERTS
from swarmllm.messages.governance import Revert
from tests.core.governance.support import (
    EXPERTS_CODE,
    HOUR,
    SET_EXPERTS,
    VOTERS,
    Node,
    id_of,
    plain_vote,
)
from tests.core.governance.test_votes import passed


def offered(node: Node) -> bytes:
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record, plain_vote(id, VOTERS[0]), plain_vote(id, VOTERS[1]))
    return id


@pytest.mark.parametrize("steps", range(12))
def test_enact_once_with_kill9_at_every_step(steps: int) -> None:  # GOV-21
    """After each number of writes the process dies; then it starts again with what it has, and
    peers tell it what it lacks."""
    node = Node()
    node.is_manual = True
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    records = [record, plain_vote(id, VOTERS[0]), plain_vote(id, VOTERS[1])]
    left = steps
    for data in records:
        node.offer(data)
        while left and node.waiting:
            node.confirm()
            left -= 1
    for _ in range(40):
        while left and node.waiting:
            node.confirm()
            left -= 1
        node.wait(600.0)
        if not left:
            break
    was_live = node.value(EXPERTS_CODE) == 5
    if was_live:
        kinds = [entry.kind for entry in node.ledger]
        assert LedgerKind.ENACTMENT in kinds, "it is in the ledger before it is in force,"
        assert load(node.disk.values.get)[0].in_force, "and on disk"
    node.boot()
    assert (node.value(EXPERTS_CODE) == 5) >= was_live, "what was in force is so again"
    node.is_manual = False
    node.perform([])
    node.wait(1.0)
    node.offer(*records)
    node.wait(30 * HOUR)
    assert node.value(EXPERTS_CODE) == 5
    assert node.journal == [("answer.experts", "3", "5", "")], "once"


def test_nothing_is_in_force_before_disk_and_ledger_have_it() -> None:
    node = Node()
    node.is_manual = True
    offered(node)
    node.wait(HOUR)
    seen: list[str] = []
    while node.waiting:
        assert node.value(EXPERTS_CODE) == EXPERTS.default, seen
        effect = node.waiting[0]
        seen.append(type(effect).__name__)
        node.confirm()
        node.wait(HOUR)
        if node.value(EXPERTS_CODE) == 5:
            break
    assert node.value(EXPERTS_CODE) == 5
    assert {Commit.__name__, AppendToLedger.__name__} <= set(seen)


@pytest.mark.parametrize("what", ["disk", "ledger"])
def test_a_full_disk_or_a_ledger_that_cannot_be_written_enacts_nothing(what: str) -> None:
    node = Node()
    if what == "disk":
        node.disk.is_full = True
    else:
        node.refuses_entries = True
    offered(node)
    node.wait(2 * HOUR)  # Longer than its canary; it is tried again each second.
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.disk.is_full = node.refuses_entries = False
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == 5, "and goes on once it can be written"
    kinds = [entry.kind for entry in node.ledger]
    assert kinds.count(LedgerKind.ENACTMENT) == 1


@pytest.mark.parametrize("key", [STATE_KEY, slot_key(0)])
@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_a_state_that_cannot_be_read_enacts_nothing_and_says_so(key: str, how: str) -> None:
    node = Node()
    passed(node)
    node.wait(2 * HOUR)
    data = node.disk.values[key]
    if how == "flip":
        node.disk.values[key] = data[:40] + bytes((data[40] ^ 1,)) + data[41:]
    elif how == "cut":
        node.disk.values[key] = data[:-1]
    else:
        del node.disk.values[key]
    kept = dict(node.disk.values)
    node.boot()
    if how == "gone" and key == STATE_KEY:
        assert node.machine.damage == "", "a node that never had any state is a new node"
        return
    assert "cannot be read" in node.machine.obstacle
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    record_like = plain_vote(bytes(32), VOTERS[0])
    node.offer(record_like)
    node.wait(30 * HOUR)
    assert node.disk.values == kept, "and overwrites nothing that could still be mended"


def test_what_is_packed_is_read_again_and_anything_else_is_not() -> None:
    node = Node()
    passed(node)
    node.wait(2 * HOUR)
    saved, cases = load(node.disk.values.get)
    assert pack(saved) == pack(load({STATE_KEY: pack(saved), **node.disk.values}.get)[0])
    assert len(cases) == 1
    assert load(lambda _: None) == (Saved(), {})
    with pytest.raises(Damaged, match="damaged"):
        load({STATE_KEY: b"swarmllm-gov-1\nrubbish"}.get)


def test_slots_of_closed_cases_are_used_again() -> None:
    node = Node()
    for _ in range(8):
        record = node.propose(SET_EXPERTS)
        node.offer(record)
        node.wait(15 * 24 * HOUR)
    slots = [key for key in node.disk.values if key.startswith("governance/case/")]
    assert slots == [slot_key(0)]


@pytest.mark.parametrize("restarts", [False, True])
def test_what_is_overtaken_and_then_reverted_goes_at_once_whatever_the_disk_does(
    restarts: bool,
) -> None:  # GOV-21
    """It is overtaken by a change that cannot be written down, so it stays; once it is void it
    does not."""
    node = Node()
    first = passed(node, 4)
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == 4
    node.disk.is_full = node.refuses_entries = True
    second = passed(node, 6)
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == 4, "nothing new is in force before it is on disk"
    records = [one for id in (first, second) for one in node.case(id).records]
    revert = node.propose(Revert(first))
    node.offer(revert, *(plain_vote(id_of(revert), by) for by in VOTERS[:2]))
    node.wait(60.0)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    if restarts:
        node.boot()
        node.offer(*records, revert, *(plain_vote(id_of(revert), by) for by in VOTERS[:2]))
        node.wait(2 * HOUR)
        assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.disk.is_full = node.refuses_entries = False
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == 6


@pytest.mark.parametrize("what", ["disk", "ledger"])
def test_what_cannot_be_written_is_said_to_wait_for_that_and_not_to_be_overtaken(what: str) -> None:
    node = Node()
    node.disk.is_full, node.refuses_entries = what == "disk", what == "ledger"
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record, plain_vote(id, VOTERS[0]), plain_vote(id, VOTERS[1]))
    node.wait(2 * HOUR)  # Its canary's time, too.
    (one,) = view_of(node.machine, node.now).proposals
    assert (one.id, one.state) == (id, "passed")
    assert one.waits == "this node could not write it to its disk and its ledger yet"
    node.disk.is_full = node.refuses_entries = False
    node.wait(HOUR)
    (one,) = view_of(node.machine, node.now).proposals
    assert (one.state, one.waits) == ("enacted", "")


# --- who hands something in hears when it is on disk ----------------------------------------------


def on_disk(node: Node) -> list[bytes]:
    return [record for records in load(node.disk.values.get)[1].values() for record in records]


def test_whoever_hands_a_record_in_hears_when_it_is_on_disk() -> None:
    node = Node()
    while node.waiting:
        node.confirm()
    node.is_manual = True
    record = node.propose(SET_EXPERTS)
    node.offer(record)
    assert node.kept == []
    while not node.kept:
        node.confirm()
    assert node.kept == [RecordKept(1)]
    assert record in on_disk(node)
    node.offer(record)
    assert node.kept[1:] == [RecordKept(2)], "known, and there already"


def test_what_comes_during_a_write_is_answered_by_the_next_one_and_what_is_in_it_by_it() -> None:
    node = Node()
    node.is_manual = True
    record = node.propose(SET_EXPERTS)
    vote = plain_vote(id_of(record), VOTERS[0])
    node.offer(record)
    node.offer(vote, record)
    assert node.kept == []
    node.confirm()
    assert {one.check for one in node.kept} == {1}
    assert vote not in on_disk(node)
    while node.waiting:
        node.confirm()
    assert {one.check for one in node.kept} == {1, 2, 3}
    assert vote in on_disk(node)


def test_what_is_refused_or_came_by_gossip_is_not_answered() -> None:
    node = Node()
    node.offer(plain_vote(bytes(32), VOTERS[0]))
    node.offer(node.propose(SET_EXPERTS), forwarder=node.peer)
    assert node.kept == []


@pytest.mark.parametrize("what", ["disk", "ledger"])
def test_nobody_waits_for_a_disk_or_a_ledger_that_cannot_be_written(what: str) -> None:
    node = Node()
    if what == "ledger":  # Something has passed that the ledger does not take.
        node.refuses_entries = True
        offered(node)
        node.wait(2 * HOUR)
        del node.kept[:]
        first = len(node.checked) + 1
    else:
        node.disk.is_full, first = True, 1
    record = node.propose(SET_EXPERTS, by=VOTERS[1])
    node.offer(record, plain_vote(id_of(record), VOTERS[0]))
    node.wait(5.0)
    assert [one.check for one in node.kept] == [first, first + 1]
    reason = "the disk is full" if what == "disk" else "its ledger cannot be written"
    assert all(reason in one.fault for one in node.kept)
    node.disk.is_full = node.refuses_entries = False
    node.wait(5.0)
    node.offer(record)
    assert node.kept[-1] == RecordKept(first + 2)
    assert record in on_disk(node)


@pytest.mark.parametrize("steps", range(8))
def test_killed_at_every_step_what_was_said_to_be_kept_is_there(steps: int) -> None:
    node = Node()
    node.is_manual = True
    record = node.propose(SET_EXPERTS)
    given = [record, *(plain_vote(id_of(record), by) for by in VOTERS[:2])]
    left = steps
    for data in given:
        node.offer(data)
        if left and node.waiting:
            node.confirm()
            left -= 1
    while left and node.waiting:
        node.confirm()
        left -= 1
    told = [given[one.check - 1] for one in node.kept]
    node.boot()
    held = [record for case in node.machine.registry.cases.values() for record in case.records]
    assert set(told) <= set(held)
    assert len(told) == 3 or steps < 7, "and each is told in the end"
