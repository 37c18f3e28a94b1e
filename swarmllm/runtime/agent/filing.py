"""Files what an agent wants: a signed proposal, a suggestion, a withdrawal or a revert, handed to
this node's own governance like any record.

Filing the same again is no harm: what waits already is found, so a node that crashed between
signing and writing down that it had signed proposes nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from swarmllm.core.agent.proposal_text import text_of
from swarmllm.core.agent.suggestion import Suggestion
from swarmllm.core.effects import RecordChecked
from swarmllm.core.governance import authoring
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.governance.view import state_of
from swarmllm.core.halt.charter import Rejected
from swarmllm.core.inputs import RecordOffered
from swarmllm.core.settings.holder import Settings
from swarmllm.errors import HaltedError, LocalError
from swarmllm.messages.declare import GOV
from swarmllm.messages.governance import (
    NO_EVIDENCE,
    GovernanceRecord,
    Revert,
    SetSetting,
    Suggest,
)
from swarmllm.runtime.ports import Keyring
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import key_id, sign_record

WAITING: Final = frozenset({"open", "passed", "canary", "enacted"})
CHECK: Final = 0  # Whoever offers by hand reads the answer at once, by whatever number.


class Filing:
    """`offer` takes a record into governance at once; `clock` and `unix_ms` tell the time."""

    def __init__(
        self,
        machine: GovernanceMachine,
        settings: Settings,
        own: Keyring,
        offer: Callable[[RecordOffered], RecordChecked | None],
        clock: Callable[[], float],
        unix_ms: Callable[[], int],
    ) -> None:
        self._machine, self._settings, self._own = machine, settings, own
        self._offer, self._clock, self._unix_ms = offer, clock, unix_ms

    def file(self, suggestion: Suggestion, report: bytes, *, is_suggestion: bool) -> bytes:
        """The id of the proposal: a new one, or ours of the same that waits already. UsageError or
        LocalError, in a sentence, if it does not count; HaltedError while nothing may be signed."""
        change = SetSetting(suggestion.setting.code, suggestion.value)
        action = Suggest(encode(change)) if is_suggestion else change
        why = text_of(suggestion, self._settings.get(suggestion.setting))
        return self._propose(action, report or NO_EVIDENCE, why)

    def take_back(self, proposal: bytes, why: str) -> bytes:
        """As `file`: a proposal to revert that one."""
        return self._propose(Revert(proposal), NO_EVIDENCE, why)

    def withdraw(self, proposal: bytes) -> None:
        """Nothing if it does not wait any more."""
        self._refuse_halted()
        if state_of(self._machine, proposal) != "open":
            return
        own = self._own.public_key
        made = authoring.withdrawal(self._machine, proposal, own, self._unix_ms())
        self._hand_in(made)

    def _propose(self, action: SetSetting | Suggest | Revert, evidence: bytes, why: str) -> bytes:
        self._refuse_halted()
        held = self._waiting(encode(action))
        if held is not None:
            return held
        drafted = authoring.draft(
            *(self._machine, action, self._own.public_key),
            now=self._clock(),
            unix_ms=self._unix_ms(),
            why=why,
            evidence=evidence,
        )
        self._hand_in(drafted)
        return sha256(encode(drafted)).digest()

    def _refuse_halted(self) -> None:
        if halted := self._machine.switch.halted:
            raise HaltedError(f"governance is suspended: {halted[0]}")

    def _waiting(self, action: bytes) -> bytes | None:
        author = key_id(self._own.public_key)
        for id, case in self._machine.registry.cases.items():
            mine = case.proposal.author == author and case.proposal.action == action
            if mine and state_of(self._machine, id) in WAITING:
                return id
        return None

    def _hand_in(self, record: GovernanceRecord) -> None:
        data = sign_record(record, [(self._own.public_key, self._own.sign)])
        checked = self._offer(RecordOffered(CHECK, data, None, GOV))
        if checked is not None and isinstance(checked.outcome, Rejected):
            raise LocalError(checked.outcome.reason)
