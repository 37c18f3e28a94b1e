"""What can be voted on, and what of it can be carried out: the model that new nodes are offered is
put into force; whatever has no executor is not drafted, and where it passes the ledger says so."""

from __future__ import annotations

import pytest

from swarmllm.core.governance.changes import model_of
from swarmllm.core.governance.state_file import Damaged, pack, read_state
from swarmllm.core.governance.tiers import NO_FEATURES
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.errors import UsageError
from swarmllm.messages.governance import (
    NotCarriedOut,
    Revert,
    SetDefaultModel,
    SetFeature,
    SetSetting,
    Suggest,
)
from swarmllm.wire.codec import decode, encode
from tests.core.governance.support import (
    DAY,
    EXPERTS_CODE,
    HOUR,
    VOTERS,
    Disk,
    Node,
    id_of,
    plain_proposal,
    plain_vote,
)
from tests.core.halt.support import signed

MODEL = SetDefaultModel("hf:owner/model/file.gguf", b"\5" * 32)
OTHER = SetDefaultModel("smollm2", b"\6" * 32)


def passed(node: Node, action: SetDefaultModel | Revert) -> bytes:
    """The id of a proposal that all voters are for, and whose review is over."""
    record = node.propose(action)
    node.offer(record)
    for voter in VOTERS:
        node.offer(node.vote(id_of(record), voter))
    node.wait(25 * HOUR)
    return id_of(record)


def told(node: Node) -> list[NotCarriedOut]:
    return [
        decode(entry.payload, (NotCarriedOut,))
        for entry in node.ledger
        if entry.kind is LedgerKind.NOT_CARRIED_OUT
    ]


# --- the default model ----------------------------------------------------------------------------


def test_a_default_model_is_in_force_after_its_review_and_not_before() -> None:
    node = Node()
    record = node.propose(MODEL)
    node.offer(record, *(plain_vote(id_of(record), by) for by in VOTERS))
    node.wait(23 * HOUR)
    assert model_of(node.machine.changes.model) is None
    node.wait(2 * HOUR)
    assert model_of(node.machine.changes.model) == MODEL
    shown = "hf:owner/model/file.gguf (0505050505050505)"
    assert node.journal == [("default model", "", shown, "")]
    assert LedgerKind.ENACTMENT in [entry.kind for entry in node.ledger]
    assert told(node) == []


def test_it_survives_a_restart_is_followed_by_the_next_and_can_be_reverted() -> None:
    disk = Disk()
    node = Node(disk=disk)
    first = passed(node, MODEL)
    second = passed(node, OTHER)
    node.boot()
    assert model_of(node.machine.changes.model) == OTHER
    passed(node, Revert(second))
    assert model_of(node.machine.changes.model) == MODEL, "what was there before is there again"
    assert node.machine.changes.model == (first, tuple(encode(MODEL)))
    saved = read_state(disk.values["governance/state"])
    assert read_state(pack(saved)) == saved
    with pytest.raises(Damaged):
        read_state(pack(saved)[:-1])


def test_halted_a_default_model_waits_for_the_resume() -> None:
    node = Node()
    record = node.propose(MODEL)
    node.offer(record, *(plain_vote(id_of(record), by) for by in VOTERS))
    node.switch.halt()
    node.wait(3 * DAY)
    assert node.machine.changes.model is None
    node.switch.resume()
    node.wait(DAY)
    assert model_of(node.machine.changes.model) == MODEL


# --- what has no executor -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (SetFeature("agent", 1), "no feature that votes could switch on or off"),
        (SetDefaultModel("/etc/passwd", bytes(32)), "not one that every machine finds"),
        (SetSetting(65_000, 5), "no setting 65000"),
        (SetSetting(EXPERTS_CODE, 2**40), "answer.experts can only be from 1 to 64"),
    ],
)
def test_what_could_not_be_carried_out_is_not_drafted(
    action: SetFeature | SetDefaultModel | SetSetting, sentence: str
) -> None:
    node = Node()
    with pytest.raises(UsageError, match=f"^nothing would come of it: .*{sentence}"):
        node.propose(action)
    node.propose(Suggest(encode(action)))  # People may read it all the same.


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x91\x7f", "this version does not know the action"),
        (encode(SetFeature("agent", 1)), NO_FEATURES),
    ],
)
def test_where_it_passes_all_the_same_the_ledger_says_once_that_nothing_comes_of_it(
    raw: bytes, why: str
) -> None:
    disk = Disk()
    node = Node(disk=disk)
    record = signed(plain_proposal(raw), VOTERS[0])
    id = id_of(record)
    node.offer(record, plain_vote(id, VOTERS[0]))
    assert told(node) == [], "it has not passed"
    node.offer(plain_vote(id, VOTERS[1]))
    assert told(node) == [NotCarriedOut(id, why)]
    assert node.machine.progress.courses[id].waits == f"nothing comes of it: {why}"
    node.boot()
    node.wait(3 * DAY)
    assert told(node) == [NotCarriedOut(id, why)], "once, also after a restart"
    assert node.journal == []
