"""What the kill switch leaves in the ledger: every halt, resume and charter as it was signed, when
this node stopped and started again, and what its owner ordered.

The switch never waits for the ledger. What a node held when it was killed, or could not write down
for want of space, is entered at its next start: `entries_of` lists what its state proves. Signs of
life are no entries: they decide nothing, and there is one every few seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmllm.core.effects import Announce, HaltEffect, StartAgain, StopNow
from swarmllm.core.events import CharterHeard, HaltHeard, ResumeHeard
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.halt.state import HaltState
from swarmllm.core.inputs import OwnerStarts, OwnerStops
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.messages import HaltedHere, OwnerCommand, ResumedHere
from swarmllm.messages.ledger import REASON_MAX, REASONS_MAX
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import SignedRecord


def entries_of(state: HaltState) -> list[LedgerEntry]:
    """One entry for each record held, charters first."""
    return [
        *(LedgerEntry(LedgerKind.CHARTER, one.data) for one in state.charters),
        *(LedgerEntry(LedgerKind.HALT, one.data) for one in state.halts),
        *(LedgerEntry(LedgerKind.RESUME, one.data) for one in state.resumes),
    ]


class HaltEntries:
    """The entries for what `machine` does, in order."""

    def __init__(self, machine: HaltMachine) -> None:
        self._machine = machine
        # As it was at the start: an entry about that was made when it happened.
        self._is_halted = bool(machine.halted)

    def of(self, effects: Sequence[HaltEffect]) -> list[LedgerEntry]:
        """For the effects of one input."""
        found = [
            entry
            for effect in effects
            if isinstance(effect, Announce)
            for entry in self._heard(effect.event)
        ]
        turned = any(isinstance(effect, Announce | StopNow | StartAgain) for effect in effects)
        return [*found, *(self._turned() if turned else [])]

    def ordered(self, event: OwnerStops | OwnerStarts) -> list[LedgerEntry]:
        name = "stop" if isinstance(event, OwnerStops) else "start"
        return [LedgerEntry(LedgerKind.COMMAND, encode(OwnerCommand(name)))]

    def _heard(self, event: object) -> list[LedgerEntry]:
        state = self._machine.state
        match event:
            case HaltHeard(order=order):
                return _entry(LedgerKind.HALT, [h for h in state.halts if h.record == order])
            case ResumeHeard(order=resume):
                return _entry(LedgerKind.RESUME, [r for r in state.resumes if r.record == resume])
            case CharterHeard(version=version):
                return _entry(LedgerKind.CHARTER, state.charters[version - 1 : version])
            case _:
                return []

    def _turned(self) -> list[LedgerEntry]:
        """By order or by its owner. That a node is silent while it asks its peers is no entry."""
        reasons = self._machine.halted
        if bool(reasons) == self._is_halted:
            return []
        self._is_halted = bool(reasons)
        if not reasons:
            lifted = min(255, len(self._machine.state.lifts))
            return [LedgerEntry(LedgerKind.RESUMED, encode(ResumedHere(lifted)))]
        shown = tuple(reason[:REASON_MAX] for reason in reasons[:REASONS_MAX])
        return [LedgerEntry(LedgerKind.HALTED, encode(HaltedHere(shown)))]


def _entry(kind: LedgerKind, records: Sequence[SignedRecord]) -> list[LedgerEntry]:
    return [LedgerEntry(kind, one.data) for one in records]
