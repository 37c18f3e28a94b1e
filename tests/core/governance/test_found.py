"""What governed worlds have found (`swarmllm.testing.world.governed`), each without the world."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from swarmllm.core.effects import Commit
from swarmllm.core.governance import book
from swarmllm.core.governance.book import OPEN_PER_AUTHOR_MAX
from swarmllm.core.governance.clocks import Stopwatch
from swarmllm.core.governance.mandate import DEFAULTS
from swarmllm.core.governance.state_file import slot_key
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.settings.table import EXPERTS
from swarmllm.messages import PeerId
from swarmllm.messages.governance import (
    NO_BASE,
    ClosePhase,
    Enacted,
    OpenPhase,
    Revert,
    SetSetting,
)
from swarmllm.wire.codec import decode
from tests.core.governance.support import (
    EXPERTS_CODE,
    HOUR,
    VOTERS,
    Disk,
    Node,
    Switch,
    charter,
    id_of,
    plain_proposal,
    plain_vote,
    plain_withdrawal,
)
from tests.core.halt.support import founded, signed

ALONE = replace(DEFAULTS, minor_threshold=1)


def proposal(seq: int, swarm: bytes = b"") -> bytes:
    more = {"swarm": swarm} if swarm else {}
    action = SetSetting(EXPERTS_CODE, 1 + seq % 9)
    return signed(plain_proposal(action, VOTERS[0], seq=seq, **more), VOTERS[0])


def test_a_voter_who_undoes_what_he_carried_fills_no_more_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seed 2: under a threshold of one vote a voter carries and undoes as many as he signs."""
    monkeypatch.setattr(book, "PASSED_MAX", 6)
    state = founded(charter(ALONE))
    node = Node(switch=Switch(state), terms=ALONE)
    for seq in range(1, 20):
        record = signed(
            plain_proposal(
                SetSetting(EXPERTS_CODE, 1 + seq % 9),
                VOTERS[0],
                seq=seq,
                swarm=state.swarm,
                ctl_digest=state.digest,
            ),
            VOTERS[0],
        )
        id = id_of(record)
        outcome = node.offer(record)
        for yes in (1, 0):
            node.offer(plain_vote(id, VOTERS[0], yes, swarm=state.swarm))
    assert len(node.machine.registry.cases) == 6
    assert "sign a new charter" in outcome.reason


def test_what_was_withdrawn_after_it_had_passed_does_not_come_back() -> None:
    """Seed 14: it made room for others, and a peer that had not heard of the withdrawal gave it
    back without."""
    node, late = Node(), Node("late")
    ids = []
    for seq in range(1, 8):
        record = proposal(seq)
        ids.append(id_of(record))
        votes = [plain_vote(ids[-1], by) for by in VOTERS[:2]]
        for one in (node, late):
            one.offer(record, *votes)
        node.offer(*(plain_withdrawal(ids[-1], by) for by in VOTERS[:2]))
    for id in ids:
        node.machine.registry.take(late.case(id).records, PeerId("late"))
    node.look()
    node.wait(20 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default


def test_a_case_that_is_closed_while_it_is_written_leaves_no_course_behind() -> None:
    """Seed 4: eight courses of six cases."""
    node = Node()
    for seq in range(1, 5):
        record = proposal(seq)
        node.offer(record, plain_withdrawal(id_of(record), VOTERS[0]))
    node.is_manual = True
    for seq in range(5, 8):
        record = proposal(seq)
        node.offer(record, plain_withdrawal(id_of(record), VOTERS[0]))
    while node.waiting:
        node.confirm()
    assert len(node.machine.registry.cases) == OPEN_PER_AUTHOR_MAX
    assert node.machine.progress.courses.keys() == node.machine.registry.cases.keys()


def test_a_write_that_is_torn_where_a_closed_case_made_room_damages_nothing() -> None:
    """A process that was killed between two values of one write: the place of a case that was
    closed had a new one already, and the state still named the old one."""
    node = Node()
    for seq in range(1, 5):
        record = proposal(seq)
        node.offer(record, plain_withdrawal(id_of(record), VOTERS[0]))
    node.is_manual = True
    for seq in range(5, 11):  # More come than one write takes: the next has them together.
        record = proposal(seq)
        node.offer(record, plain_withdrawal(id_of(record), VOTERS[0]))
    torn = 0
    while node.waiting:
        write = node.waiting[0]
        assert isinstance(write, Commit)
        for done in range(len(write.values)):
            other = Node(disk=Disk({**node.disk.values, **dict(write.values[:done])}))
            assert other.machine.obstacle == ""
            torn += 1
        node.confirm()
    assert torn > len(node.machine.registry.cases)


def test_a_case_that_contradicts_the_state_suspends_governance_and_stops_no_node() -> None:
    node = Node()
    node.offer(proposal(1))
    other = Node("other")
    other.offer(proposal(2))
    node.disk.values[slot_key(0)] = other.disk.values[slot_key(0)]
    node.boot()
    assert "contradict its charter" in node.machine.obstacle
    node.offer(proposal(3))
    node.wait(1_000.0)
    assert "contradict its charter" in node.machine.obstacle


def test_a_stopwatch_has_counted_when_it_says_that_it_will() -> None:
    """Seed 14: a review that had a moment left at the very time at which it was to end, and a node
    that looked at it again and again."""
    rng = random.Random(1)
    for _ in range(1_000):
        since, counted, wanted = rng.uniform(0, 9e3), rng.uniform(0, 3_600), 3_600.0
        watch = Stopwatch(counted, since)
        assert watch.has_counted(wanted, watch.ends_at(wanted))
        assert not watch.has_counted(wanted, math.nextafter(watch.ends_at(wanted), 0))


def test_a_review_ends_where_its_deadline_is() -> None:
    """With numbers that round badly."""
    for start in range(40):
        node = Node(now=start * 1234.5678 + 0.1)
        record = node.propose(OpenPhase(1))
        node.offer(record)
        for voter in VOTERS:
            node.offer(node.vote(id_of(record), voter))
        node.now += 0.3
        looks = 0
        while (at := node.machine.next_deadline()) < math.inf and looks < 500:
            node.now, looks = max(node.now, at), looks + 1
            node.perform(node.machine.timer(node.now))
            if node.now > start * 1234.5678 + 25 * HOUR:
                break
        assert looks < 500


def test_a_damaged_node_waits_for_no_time_that_has_passed() -> None:
    node = Node()
    node.offer(proposal(1))
    node.machine.damage = "something"
    node.wait(10 * HOUR)
    assert node.machine.next_deadline() > node.now


def overtaken(node: Node) -> list[bytes]:
    """Four changes of one setting, to 5, 6, 7 and 8, of which the last one alone was ever in force
    on this node, which confirms by hand: they were released together. Their ids."""
    node.is_manual = True
    ids = []
    for height in range(1, 5):
        record = signed(
            plain_proposal(
                SetSetting(EXPERTS_CODE, 4 + height),
                VOTERS[0],
                seq=height,
                height=height,
                base=NO_BASE if height == 1 else b"\1" * 32,
            ),
            VOTERS[0],
        )
        ids.append(id_of(record))
        node.offer(record, *(plain_vote(ids[-1], by) for by in VOTERS[:2]))
    for _ in range(3):  # What has been released meanwhile is written together.
        node.wait(2 * HOUR)
        write(node)
    assert node.value(EXPERTS_CODE) == 8
    return ids


def write(node: Node) -> None:
    while node.waiting:
        node.confirm()


def enacted(node: Node) -> list[bytes]:
    """The proposals that the ledger has as put into force."""
    kinds = (LedgerKind.ENACTMENT, LedgerKind.PHASE)
    return [decode(one.payload, (Enacted,)).proposal for one in node.ledger if one.kind in kinds]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_halted_node_goes_back_to_nothing_that_was_never_in_force_on_it(restarts: bool) -> None:
    node = Node()
    overtaken(node)
    node.switch.halt()
    node.look()
    assert node.value(EXPERTS_CODE) == EXPERTS.default, "the first one was overtaken on the way"
    if restarts:
        write(node)
        node.boot()
        assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.switch.resume()
    node.is_manual = False
    node.look()
    write(node)
    node.wait(2 * HOUR)
    assert node.value(EXPERTS_CODE) == 5


def test_what_was_overtaken_before_it_was_in_force_is_written_before_it_is() -> None:  # GOV-21
    """Seed 1, by the law that what comes into force is on disk and in the ledger: the change that
    overtook it was taken back, and this one was in force at once, and in no ledger."""
    node = Node()
    ids = overtaken(node)
    record = node.propose(Revert(ids[-1]))
    node.offer(record, *(plain_vote(id_of(record), by) for by in VOTERS[:2]))
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    before = enacted(node)
    write(node)
    assert node.value(EXPERTS_CODE) == 7
    assert enacted(node) == [*before, ids[-2]]
    default = str(EXPERTS.default)
    assert node.journal[-2:] == [
        ("answer.experts", "8", default, "a revert took it back"),
        ("answer.experts", default, "7", ""),
    ]


def test_a_phase_that_opens_below_a_later_case_is_written_before_it_is_open() -> None:  # GOV-21
    """Seeds 7 and 11: a phase was closed, and the opening voted on before had its review behind it
    only then. The phase was open at once, and the ledger had that as a taking back."""
    node = Node()
    opening = node.propose(OpenPhase(1))
    node.offer(opening, *(plain_vote(id_of(opening), by) for by in VOTERS))
    closing = node.propose(ClosePhase(3))
    node.offer(closing, *(plain_vote(id_of(closing), by) for by in VOTERS))
    node.wait(1.0)
    assert (node.machine.phase, node.journal[-1]) == (0, ("phase", "0", "0", ""))
    node.is_manual = True
    node.wait(25 * HOUR)
    assert node.machine.phase == 0
    write(node)
    assert (node.machine.phase, node.journal[-1]) == (1, ("phase", "0", "1", ""))
    assert enacted(node)[-1] == id_of(closing)


@pytest.mark.parametrize("lived", [False, True])
def test_a_halted_node_that_restarts_puts_nothing_into_force_that_was_only_written(
    lived: bool,
) -> None:  # GOV-20, GOV-21
    """Seed 33: the disk had been full until the halt came, and took what was decided before only
    then."""
    node = Node()
    record = node.propose(SetSetting(EXPERTS_CODE, 5), tier=4)  # No halt takes a major one back.
    node.offer(record, *(plain_vote(id_of(record), by) for by in VOTERS))
    node.disk.is_full = not lived
    node.wait(27 * HOUR)
    node.switch.halt()
    node.look()
    node.disk.is_full = False
    node.wait(HOUR)
    assert node.value(EXPERTS_CODE) == (5 if lived else EXPERTS.default)
    node.boot()
    node.wait(HOUR)
    assert node.value(EXPERTS_CODE) == (5 if lived else EXPERTS.default)
    node.switch.resume()
    node.wait(HOUR)
    assert node.value(EXPERTS_CODE) == 5
