"""Persistence of the halt state: what is durable, what is being written, when to retry, and what
waits for it."""

from __future__ import annotations

import math
from typing import Final

from swarmllm.core.effects import Persist, RevertChanges
from swarmllm.core.halt.state import HaltState
from swarmllm.core.halt.state_file import Boot, pack_state
from swarmllm.messages import PeerId

# Between two attempts at a state that could not be written: a full disk may be cleared any time.
RETRY_EVERY_S: Final = 1.0


class HaltPersistence:
    """`durable` is what a restart would begin with: None before the first state of a new folder is
    on disk.

    States that come while one is being written are not queued: the newest contains the others.
    """

    def __init__(self, boot: Boot) -> None:
        self.durable: HaltState | None = None if boot.is_new else boot.state
        self._number = boot.generation
        self._outstanding: tuple[int, HaltState] | None = None
        self._again = False
        self.retry_at = math.inf
        self._revert = 0  # Changes to take back once the halt is on disk.
        # Resumes and who brought them: only the resume quorum adds to it.
        self._relays: list[tuple[bytes, PeerId | None]] = []

    @property
    def again(self) -> bool:
        """Whether a newer state waits to be written."""
        return self._again

    @property
    def is_behind(self) -> bool:
        """Whether something is still to be written: now, next, or again after a failure."""
        return self._outstanding is not None or self._again or self.retry_at < math.inf

    def save(self, state: HaltState) -> list[Persist]:
        """The order to write it now, or none while another is being written."""
        if self._outstanding is not None:
            self._again = True
            return []
        self._number += 1
        self._outstanding = (self._number, state)
        self._again = False
        self.retry_at = math.inf
        return [Persist(self._number, pack_state(state, self._number))]

    def done(self, number: int, ok: bool, now: float) -> bool:
        """Whether something new is on disk. What could not be written is due again at
        `retry_at`."""
        if self._outstanding is None or self._outstanding[0] != number:
            return False
        saved, self._outstanding = self._outstanding[1], None
        if not ok:
            self.retry_at = now + RETRY_EVERY_S
            return False
        self.durable = saved
        return True

    def owe_revert(self, state: HaltState) -> None:
        """This state is about to be written; if it halts, the agent's last changes are to be taken
        back then."""
        if state.charter is not None and state.standing:
            self._revert = state.charter.revert_changes

    def owed_revert(self) -> list[RevertChanges]:
        """What is to be taken back now that the halt is on disk; once."""
        found = [RevertChanges(self._revert)] if self._revert else []
        self._revert = 0
        return found

    def relay_after(self, record: bytes, skip: PeerId | None) -> None:
        """Relay this resume, but not to `skip`, once it is on disk."""
        self._relays.append((record, skip))

    def owed_relays(self) -> list[tuple[bytes, PeerId | None]]:
        """The resumes that waited for the disk; once."""
        found, self._relays = self._relays, []
        return found
