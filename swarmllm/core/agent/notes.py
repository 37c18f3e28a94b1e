"""What an agent's cycles did: for the ledger, and the last of it for people."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from swarmllm.core.agent.cycle import Note
from swarmllm.core.effects import AppendToLedger
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.messages.ledger import REASON_MAX, AgentStep
from swarmllm.wire.codec import encode

NOTES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class StepNote:
    """A step of a cycle, for the console: at `at_ms` (Unix time)."""

    at_ms: int
    domain: str
    cycle: int
    step: str
    text: str


class Notes:
    """The last `NOTES_MAX`, the newest at the end."""

    def __init__(self) -> None:
        self._notes: deque[StepNote] = deque(maxlen=NOTES_MAX)

    @property
    def all(self) -> tuple[StepNote, ...]:
        return tuple(self._notes)

    def enter(self, note: Note, domain: str, at_ms: int) -> AppendToLedger:
        """Keep it, and write it into the ledger."""
        step, text = str(note.step), note.text[:REASON_MAX]
        self._notes.append(StepNote(at_ms, domain, note.cycle, step, text))
        entry = AgentStep(domain, note.cycle, step, text)
        return AppendToLedger(LedgerEntry(LedgerKind.AGENT_STEP, encode(entry)))
