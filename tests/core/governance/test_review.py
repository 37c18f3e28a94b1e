"""The review of a deploy-major, on the node's own clock and no other; and expiry on the same."""

from __future__ import annotations

from typing import Any

import pytest

from swarmllm.core.governance.clocks import Stopwatch, Uptime
from swarmllm.core.settings.table import EXPERTS
from swarmllm.messages.governance import SetSetting
from tests.core.governance.support import (
    DAY,
    EXPERTS_CODE,
    HOUR,
    SET_EXPERTS,
    VOTERS,
    Disk,
    Node,
    Switch,
    id_of,
    plain_proposal,
    plain_vote,
    plain_withdrawal,
)
from tests.core.halt.support import signed

HIGH = EXPERTS.bounds.high + 1


def reviewed(node: Node, **more: Any) -> bytes:
    """A deploy-major with all votes at once; its id."""
    record = signed(plain_proposal(SetSetting(EXPERTS_CODE, HIGH), tier=4, **more), VOTERS[0])
    id = id_of(record)
    node.offer(record, *(plain_vote(id, by) for by in VOTERS))
    return id


def test_all_votes_at_once_do_not_shorten_the_review() -> None:  # GOV-19
    node = Node()
    id = reviewed(node)
    node.wait(DAY - 1)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    assert node.machine.progress.courses[id].waits.startswith("open to review")
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == HIGH


@pytest.mark.parametrize("issued_ms", [0, 2**63 - 1])
def test_a_date_in_the_record_shortens_nothing(issued_ms: int) -> None:
    node = Node()
    reviewed(node, issued_ms=issued_ms)
    node.wait(DAY - 1)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == HIGH


@pytest.mark.parametrize("same_boot", [True, False])
def test_review_survives_restart_and_clock_jumps(same_boot: bool) -> None:  # GOV-19
    """What was waited counts on; time away counts only where the machine's own clock, which nobody
    can set, tells of it."""
    boot = Uptime(b"boot 1", 1_000.0)
    node = Node(uptime=boot)
    reviewed(node)
    node.wait(20 * HOUR)
    down_s = 3 * HOUR
    # The node starts again; its `now` begins anew, and the wall clock jumps, which nobody asks.
    before, node.now = node.now, 0.0
    after = Uptime(b"boot 1" if same_boot else b"boot 2", 1_000.0 + before + down_s)
    node.boot(after)
    left_s = 4 * HOUR - (down_s if same_boot else 0.0) + HOUR  # And the canary's hour.
    node.wait(left_s - 0.2 * HOUR - HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.wait(1.2 * HOUR + 0.3 * HOUR)  # What a crash loses of the clock only prolongs.
    assert node.value(EXPERTS_CODE) == HIGH


def test_a_clock_of_unknown_origin_counts_nothing_while_it_was_away() -> None:
    assert Uptime().since(b"", 0.0, 1e9) == 0.0
    assert Uptime(b"boot", 5.0).since(b"other", 0.0, 1e9) == 0.0
    assert Uptime(b"boot", 5.0).since(b"boot", 100.0, 0.0) == 0.0, "it cannot run backwards"
    assert Uptime(b"boot", 5.0).since(b"boot", 3.0, 10.0) == 12.0


def test_a_stopwatch_never_falls_behind_what_it_counted() -> None:
    watch = Stopwatch(7.0)
    assert watch.read(100.0) == 7.0
    watch.start(100.0)
    watch.start(200.0)
    assert watch.read(150.0) == 57.0
    assert watch.read(50.0) == 7.0


def test_the_review_begins_when_the_proposal_is_on_disk() -> None:
    node = Node(disk=Disk(is_full=True))
    id = reviewed(node)
    node.wait(30 * HOUR)  # A review takes 24.
    assert node.machine.progress.courses[id].seen.read(node.now) == 0.0
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.disk.is_full = False
    node.wait(23 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.wait(3 * HOUR)
    assert node.value(EXPERTS_CODE) == HIGH


def test_what_nobody_voted_for_expires_after_two_weeks_here_and_is_not_taken_again() -> (
    None
):  # GOV-12
    node = Node()
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record)
    node.wait(13.9 * DAY)
    assert id in node.machine.registry.cases
    node.wait(0.2 * DAY)
    assert id not in node.machine.registry.cases
    assert "closed here" in node.offer(record).reason
    assert not node.machine.registry.wants(id[:8])
    node.boot()
    assert id not in node.machine.registry.cases, "nor is it there after a restart"


def test_what_others_have_passed_comes_in_although_it_expired_here() -> None:  # GOV-12
    """Else a node that saw a proposal early would never have what others enacted."""
    node, other = Node("early"), Node("late", switch=Switch())
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record)
    node.wait(15 * DAY)
    other.offer(record, plain_vote(id, VOTERS[0]), plain_vote(id, VOTERS[1]))
    taken = node.machine.registry.accept(other.case(id).records)
    assert [one.case for one in taken.news] == [id] * 3
    node.look()
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == 5


@pytest.mark.parametrize("how", ["withdrawn", "voted twice"])
def test_a_node_does_not_look_for_ever_at_a_case_that_is_kept_beyond_its_time(how: str) -> None:
    """One that has lost its votes is not dropped after two weeks, and is no reason to wake up."""
    node = Node()
    record = node.propose(SET_EXPERTS)
    id = id_of(record)
    node.offer(record, plain_vote(id, VOTERS[0]), plain_vote(id, VOTERS[1]))
    if how == "withdrawn":
        node.offer(*(plain_withdrawal(id, by) for by in VOTERS[:2]))
    else:
        node.offer(plain_vote(id, VOTERS[1], yes=0))
    node.now += 15 * DAY
    node.perform(node.machine.timer(node.now))
    assert node.case(id)
    assert node.machine.next_deadline() > node.now
