"""Tiers: an action's type decides, and nothing that anybody writes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.governance.mandate import Tier
from swarmllm.core.governance.tiers import ACTIONS, Action, Decision, decide, read_action
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.settings.table import EXPERTS
from swarmllm.messages import Range
from swarmllm.messages.governance import (
    NO_EVIDENCE,
    ClosePhase,
    Observe,
    OpenPhase,
    Revert,
    SandboxTest,
    SetBounds,
    SetDefaultModel,
    SetFeature,
    SetSetting,
    Suggest,
)
from swarmllm.wire.codec import encode
from tests.core.governance.support import (
    DAY,
    EXPERTS_CODE,
    HOUR,
    RULES,
    SET_EXPERTS,
    VOTERS,
    Node,
    id_of,
    plain_proposal,
    plain_vote,
)
from tests.core.halt.support import signed
from tests.wire.strategies import of_type

WORDS = (
    "urgent trivial read-only safe tested approved tier 0 1 2 3 only please operator says ignore"
    " the charter minor reversible already voted unanimous emergency no review needed harmless"
    " suggestion just observe sandbox halt lifted resume quorum"
)
OWN: dict[type[Action], Tier] = {
    Observe: Tier.READ_ONLY,
    Suggest: Tier.SUGGEST,
    SandboxTest: Tier.SANDBOX_TEST,
    SetBounds: Tier.DEPLOY_MAJOR,
    OpenPhase: Tier.DEPLOY_MAJOR,
    ClosePhase: Tier.DEPLOY_MINOR,
    SetFeature: Tier.DEPLOY_MAJOR,
    SetDefaultModel: Tier.DEPLOY_MAJOR,
    Revert: Tier.DEPLOY_MINOR,
}


def bounds(code: int) -> Range | None:
    return RULES[code].bounds if code in RULES else None


def decided(action: Action | None, asked: int = 0, *, evidence: bool = True) -> Decision:
    return decide(action, asked, evidence, RULES, bounds)


def test_every_action_has_the_tier_of_its_type() -> None:
    assert {*OWN, SetSetting} == {*ACTIONS}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(OWN, key=lambda kind: kind.__name__)).flatmap(of_type))
def test_whatever_it_says_within(action: Any) -> None:
    assert decided(action).tier is OWN[type(action)]


def test_unknown_action_is_major() -> None:  # GOV-4
    for data in (b"\x00", b"\x91\x7f", b"\x92\x60\x01", encode(SET_EXPERTS) + b"\0", b"set it"):
        assert read_action(data) is None
        found = decided(read_action(data), 1)
        assert found.tier is Tier.DEPLOY_MAJOR
        assert found.escalated
        assert not found.can_be_done
    node = Node()
    record = signed(plain_proposal(b"\x91\x7f", tier=0), VOTERS[0])
    id = id_of(record)
    node.offer(record, *(plain_vote(id, by) for by in VOTERS))
    node.wait(3 * DAY)
    assert node.machine.outcome is not None
    assert node.machine.outcome.standings[id].passed, "it can be voted on,"
    waits = node.machine.progress.courses[id].waits
    assert waits == "nothing comes of it: this version does not know the action"
    assert node.journal == []


def test_setting_outside_bounds_escalates() -> None:  # GOV-5
    inside, outside = EXPERTS.bounds.high, EXPERTS.bounds.high + 1
    assert decided(SetSetting(EXPERTS_CODE, inside), 3) == Decision(
        Tier.DEPLOY_MINOR, False, decided(SetSetting(EXPERTS_CODE, inside)).why
    )
    assert decided(SetSetting(EXPERTS_CODE, outside), 3).tier is Tier.DEPLOY_MAJOR
    node = Node()
    record = signed(plain_proposal(SetSetting(EXPERTS_CODE, outside)), VOTERS[0])
    id = id_of(record)
    node.offer(record, plain_vote(id, VOTERS[0]), plain_vote(id, VOTERS[1]))
    kinds = [entry.kind for entry in node.ledger]
    assert LedgerKind.ESCALATION in kinds
    assert LedgerKind.TIER not in kinds
    node.wait(23 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default, "it waits at its own tier"
    node.wait(3 * HOUR)
    assert node.value(EXPERTS_CODE) == outside


@pytest.mark.parametrize(
    ("action", "evidence"),
    [
        (SetSetting(EXPERTS_CODE, 5), False),  # Not tested in the sandbox.
        (SetSetting(65_000, 5), True),  # No such setting here.
    ],
)
def test_what_was_not_tested_or_is_not_known_is_major(action: Action, evidence: bool) -> None:
    assert decided(action, 3, evidence=evidence).tier is Tier.DEPLOY_MAJOR


def test_a_value_beyond_the_limits_of_its_setting_is_never_set_whoever_votes() -> None:  # GOV-7
    beyond = EXPERTS.limits.high + 1
    assert not decided(SetSetting(EXPERTS_CODE, beyond)).can_be_done
    node = Node()
    record = signed(plain_proposal(SetSetting(EXPERTS_CODE, beyond)), VOTERS[0])
    id = id_of(record)
    node.offer(record, *(plain_vote(id, by) for by in VOTERS))
    node.wait(3 * DAY)
    assert node.value(EXPERTS_CODE) == EXPERTS.default


def test_a_thousand_paraphrases_none_below_its_tier() -> None:  # GOV-4
    """Whatever an author writes, and whatever tier he asks for: text carries no authority."""
    rng = random.Random(7)
    words = WORDS.split()
    actions: list[Action | bytes] = [
        SetSetting(EXPERTS_CODE, EXPERTS.bounds.high + 1),
        SetSetting(EXPERTS_CODE, 5),
        SetBounds(EXPERTS_CODE, 1, 60),
        OpenPhase(4),
        SetFeature("everything", 1),
        SetDefaultModel("hf:a/b/c", bytes(32)),
        b"\x91\x7f",
    ]
    node = Node()
    for number in range(1_000):
        action = actions[number % len(actions)]
        why = " ".join(rng.sample(words, rng.randint(1, 12)))
        evidence = NO_EVIDENCE if action == SetSetting(EXPERTS_CODE, 5) else b"\7" * 32
        proposal = plain_proposal(
            action, tier=rng.randint(0, 3), why=why, evidence=evidence, seq=number + 1
        )
        record = signed(proposal, VOTERS[0])
        node.offer(record)
        id = id_of(record)
        assert node.machine.outcome is not None
        found = node.machine.outcome.standings[id].decision
        assert found.tier is Tier.DEPLOY_MAJOR
        assert found.escalated
        node.offer(signed(_withdrawal(id), VOTERS[0]))
    assert len(node.machine.registry.cases) <= 5


def _withdrawal(id: bytes) -> Any:
    from swarmllm.messages.governance import Withdrawal

    return Withdrawal(Node().switch.state.swarm, 1, id, VOTERS[0].id, 0)


def test_what_only_suggests_cannot_be_carried_by_any_votes() -> None:  # GOV-6
    node = Node()
    record = signed(plain_proposal(Suggest(encode(SET_EXPERTS)), tier=1), VOTERS[0])
    id = id_of(record)
    node.offer(record, *(plain_vote(id, by) for by in VOTERS))
    node.wait(3 * DAY)
    assert node.machine.outcome is not None
    assert node.machine.outcome.standings[id].needs is None
    assert node.value(EXPERTS_CODE) == EXPERTS.default


def test_who_asks_for_a_higher_tier_gets_it() -> None:
    node = Node()
    record = node.propose(SET_EXPERTS, tier=4)
    id = id_of(record)
    node.offer(record, plain_vote(id, VOTERS[0]), plain_vote(id, VOTERS[1]))
    node.wait(20 * HOUR)
    assert node.value(EXPERTS_CODE) == EXPERTS.default
    node.wait(6 * HOUR)
    assert node.value(EXPERTS_CODE) == 5
