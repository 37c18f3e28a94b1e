"""Governance on paper: the records of a file, judged here as on every node, so that a key's owner
can look at proposals and sign on a machine that runs no node.

The code is the node's own. What it cannot know is what nodes have waited out: whatever has passed
counts as if it were in force, which lowers no tier (a node that has not released the bounds yet has
the higher one). And it has seen no experts, so no phase is opened from here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from swarmllm.adapters.governance_file import GovernanceFile, read_governance
from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.operator_keys import verify
from swarmllm.adapters.terms_file import read_terms_file, terms_path
from swarmllm.cli.operators.halt_source import state_in
from swarmllm.core.effects import AppendToLedger, Commit, NodeEffect
from swarmllm.core.governance.canaries import Identity
from swarmllm.core.governance.changes import Changes
from swarmllm.core.governance.machine import GovernanceMachine, Options
from swarmllm.core.governance.phases import Knowledge
from swarmllm.core.governance.steering import SettingsSteering
from swarmllm.core.governance.tiers import read_action
from swarmllm.core.halt.state import HaltState
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import BY_CODE
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages import PeerId
from swarmllm.messages.governance import PHASE_MAX, OpenPhase
from swarmllm.runtime.handing_in import HandingIn
from swarmllm.runtime.service.governance import GovernanceService
from swarmllm.runtime.service.record import Record

PLENTY: Final = 2**31
NOW: Final = 0.0


class Paper:
    """What a file says; `name` is that of the file. LocalError if a record in it does not count."""

    def __init__(self, file: GovernanceFile, name: str) -> None:
        self.file, self.name = file, name
        self.state = state_in(file.halts, name)
        self._machine = _Machine(self.state)
        self._perform(self._machine.start(NOW))
        for records in ((file.terms,) if file.terms else (), *file.cases):
            if records:
                self._take(records)
        self._perform(self._machine.settle(NOW))
        self._service = GovernanceService(
            _NoDriver(),  # type: ignore[arg-type]  # Which is only asked to take records.
            HandingIn(),
            self._machine,
            ephemeral_key(),
            tuple,
            lambda: time.time_ns() // 1_000_000,
            lambda: NOW,
        )

    def ask(self, op: str, /, **values: object) -> Record:
        """One of the questions that a node answers. UsageError for what should not be signed."""
        if op == "propose" and isinstance(_action(values), OpenPhase):
            raise UsageError(
                "a phase is opened from a running node, which has seen the experts that it needs;"
                " propose it there"
            )
        return trio.run(self._ask, op, values)

    async def _ask(self, op: str, values: dict[str, object]) -> Record:
        (record,) = [record async for record in self._service.call(op, values)]
        return record

    def _take(self, records: Sequence[bytes]) -> None:
        taken = self._machine.registry.accept(records)
        if taken.rejected:
            raise LocalError(
                f"{self.name} has a record that does not count: {taken.rejected[0].reason}"
            )
        if self._machine.registry.has_new_terms:
            self._perform(self._machine.settle(NOW))

    def _perform(self, effects: Sequence[NodeEffect]) -> None:
        """There is no disk and no ledger: both confirm at once."""
        for effect in effects:
            if isinstance(effect, Commit) or (isinstance(effect, AppendToLedger) and effect.number):
                self._perform(self._machine.confirmed(effect.number, True, NOW))


def paper_of(path: Path) -> Paper:
    """What a file says: one that `swarmllm proposals export` wrote, or a charter with its terms
    beside it. LocalError, naming the file and what is wrong."""
    file = read_governance(path)
    beside = terms_path(path)
    if not file.terms and not file.cases and beside.exists():
        file = GovernanceFile(file.halts, read_terms_file(beside), file.cases)
    return Paper(file, str(path))


class _Switch:
    def __init__(self, state: HaltState) -> None:
        self.state = state

    @property
    def halted(self) -> tuple[str, ...]:
        return self.state.reasons


class _Machine(GovernanceMachine):
    def __init__(self, state: HaltState) -> None:
        own = ephemeral_key()
        super().__init__(
            _Switch(state),
            Identity(PeerId("paper"), own.public_key, own.sign),
            BY_CODE,
            Changes(SettingsSteering(Settings()), BY_CODE),
            verify,
            random.Random(0),
            lambda _: None,
            Options(canary=False, waits_for_ledger=False, review_pace=float(PLENTY)),
        )

    def knowledge(self, now: float) -> Knowledge:
        """An open phase that has passed was opened where its experts were known."""
        return Knowledge(PLENTY, (float(PLENTY),) * PHASE_MAX, PLENTY)


class _NoDriver:
    def act(self, _: object) -> None:
        """Nobody takes records here."""


def _action(values: dict[str, object]) -> object:
    return read_action(bytes.fromhex(str(values.get("action", ""))))
