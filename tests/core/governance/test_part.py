"""Governance as a part of the node: what it hears, what it tells the others, and what it lets pass
before itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from swarmllm.core.effects import AppendToLedger, Commit
from swarmllm.core.facts import (
    Heard,
    RecordsHeard,
    SettingChanged,
    TokenMeasured,
    TokensAllowed,
    TokensForbidden,
)
from swarmllm.core.governance.part import GovernancePart
from swarmllm.core.inputs import Committed, Recorded, RecordOffered, TimerFired
from swarmllm.core.settings.table import EXPERTS
from swarmllm.messages import PeerId
from tests.core.governance.support import (
    EXPERTS_CODE,
    SET_EXPERTS,
    VOTERS,
    Node,
    id_of,
    plain_proposal,
    plain_vote,
)
from tests.core.halt.support import signed


class Shell:
    """The part of a node whose writes all succeed, and the facts that it told."""

    def __init__(self) -> None:
        self.node = Node()
        self.part = GovernancePart(self.node.machine)
        self.facts: list[Any] = []

    def give(self, event: Any, now: float) -> None:
        self.perform(self.part.handle(event, now), now)

    def perform(self, told: Sequence[Any], now: float) -> None:
        for one in told:
            match one:
                case Commit(number=number):
                    self.give(Committed(number, ok=True), now)
                case AppendToLedger(entry=entry, number=number) if number:
                    self.give(Recorded(entry.kind, number, ok=True), now)
                case SettingChanged():
                    self.facts.append(one)
                case _:
                    pass


def enacted() -> Shell:
    shell = Shell()
    record = signed(plain_proposal(SET_EXPERTS), VOTERS[0])
    votes = [plain_vote(id_of(record), by) for by in VOTERS[:2]]
    shell.give(TimerFired(), 1.0)
    for check, data in enumerate((record, *votes)):
        shell.give(RecordOffered(check, data, None, "gov"), 2.0)
    return shell


def test_others_are_told_what_was_set() -> None:
    shell = enacted()
    assert shell.facts == [SettingChanged(EXPERTS, EXPERTS.default, 5)]
    assert shell.node.value(EXPERTS_CODE) == 5
    view = shell.part.view(3.0)
    assert [(one.state, len(one.yes), one.needs) for one in view.proposals] == [("canary", 2, 2)]
    assert view.obstacle == ""
    assert view.charter_version == 1


def test_nothing_of_governance_stands_between_a_halt_and_the_flag() -> None:
    """What a halt takes back is looked for when the halt has been performed."""
    shell = enacted()
    shell.node.switch.halt()
    assert shell.part.handle(TokensForbidden(("halted",), by_order=True), 5.0) == []
    assert shell.node.value(EXPERTS_CODE) == 5
    assert shell.part.next_deadline() == -math.inf
    shell.give(TimerFired(), 5.0)
    assert shell.node.value(EXPERTS_CODE) == EXPERTS.default
    assert shell.facts[-1] == SettingChanged(EXPERTS, 5, EXPERTS.default)
    assert shell.part.next_deadline() > 5.0
    shell.node.switch.resume()
    assert shell.part.handle(TokensAllowed(), 6.0) == []
    shell.give(TimerFired(), 6.0)
    assert shell.part.view(7.0).obstacle == ""


def test_it_hears_of_experts_and_of_what_tokens_cost() -> None:
    shell = Shell()
    usable: Any = Heard(PeerId("one"), None, True)  # type: ignore[arg-type]
    other: Any = Heard(PeerId("two"), None, False)  # type: ignore[arg-type]
    shell.give(RecordsHeard((usable, other)), 1.0)
    shell.give(TokenMeasured(0.05), 1.0)
    assert shell.part.view(2.0).known.experts == 1
    assert shell.node.machine.progress._costs_s == [0.05]
