"""Governance as a part of the node: what comes in for `GovernanceMachine`, and what the other parts
have to know of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from swarmllm.core.effects import NodeEffect
from swarmllm.core.facts import (
    Fact,
    HaltStateChanged,
    RecordsHeard,
    SettingChanged,
    TokenMeasured,
    TokensAllowed,
    TokensForbidden,
)
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.governance.view import GovernanceView, view_of
from swarmllm.core.inputs import (
    ChannelClosed,
    ChannelOpened,
    Committed,
    FrameReceived,
    Input,
    Recorded,
    RecordOffered,
    TimerFired,
)
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.part import Part, Told
from swarmllm.core.settings.table import BY_CODE
from swarmllm.messages.declare import GOV

WAITED_FOR: Final = frozenset(
    {LedgerKind.ENACTMENT, LedgerKind.REVERT, LedgerKind.PHASE, LedgerKind.NOT_CARRIED_OUT}
)
"""The kinds of entries that governance waits for."""


class GovernancePart(Part):
    channel = GOV
    inputs = (
        *(Committed, Recorded, RecordsHeard, TokenMeasured),
        *(HaltStateChanged, TokensForbidden, TokensAllowed),
    )

    def __init__(self, machine: GovernanceMachine) -> None:
        self.machine = machine
        self._deadline = -math.inf  # At once: it has not started yet.
        self._started = False

    def handle(self, event: Input | Fact, now: float) -> Told:
        effects = self._handled(event, now)
        self._deadline = self.machine.next_deadline()
        changed = self.machine.changes.changed()
        facts = [SettingChanged(BY_CODE[setting], old, new) for setting, old, new in changed]
        return [*facts, *effects]

    def next_deadline(self) -> float:
        return self._deadline

    def view(self, now: float) -> GovernanceView:
        """What `proposals`, `phase` and `tiers` show."""
        return view_of(self.machine, now)

    def _handled(self, event: Input | Fact, now: float) -> Sequence[NodeEffect]:
        machine = self.machine
        if not self._started:
            self._started = True
            return [*machine.start(now), *self._handled(event, now)]
        match event:
            case ChannelOpened(peer=peer):
                return machine.replica.opened(peer, now)
            case ChannelClosed(peer=peer):
                machine.replica.closed(peer)
            case FrameReceived(peer=peer, frame=frame):
                return machine.received(peer, frame, now)
            case RecordOffered():
                return machine.offered(event, now)
            case Committed(number=number, ok=ok, fault=fault):
                return machine.confirmed(number, ok, now, fault)
            case Recorded(kind=kind, number=number, ok=ok):
                return machine.confirmed(number, ok, now) if kind in WAITED_FOR else []
            case RecordsHeard(heard=heard):
                for peer, _, is_usable in heard:
                    if is_usable:
                        machine.census.hear(peer, now)
            case TokenMeasured(cost_s=cost_s):
                machine.progress.measured(cost_s)
            case HaltStateChanged() | TokensForbidden() | TokensAllowed():
                machine.is_due = True  # Not now: nothing stands between a halt and the flag.
            case TimerFired():
                return machine.timer(now)
            case _:
                raise AssertionError(event)
        return []
