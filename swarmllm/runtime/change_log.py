"""The settings that the agent owns: what they are now, and the journal by which a halt takes the
last changes back.

Both are kept in the store. A change is written down before it is made, and taken back before that
is written down, so a crash between the two repeats a step and loses none (`core.agent.change_log`).
"""

from __future__ import annotations

import json
import logging
from typing import Final

from swarmllm.core.agent.change_log import Change, Journal, Setting, unpack
from swarmllm.errors import LocalError
from swarmllm.runtime.ports import Store

log = logging.getLogger("swarmllm.changes")

JOURNAL_KEY: Final = "agent/journal"
VALUES_KEY: Final = "agent/values"


class Changes:
    """LocalError from the constructor if the journal is damaged: an agent that does not know what
    it did must not go on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        saved = store.load(JOURNAL_KEY)
        self._journal = Journal() if saved is None else unpack(saved)
        self._values = _values_of(store.load(VALUES_KEY))

    @property
    def journal(self) -> tuple[Change, ...]:
        return self._journal.changes

    def value(self, setting: Setting) -> int | None:
        """What the agent has set; None while it has not touched this setting, or a halt took it
        back to that."""
        return self._values.get(setting.code)

    def apply(self, setting: Setting, default: int, new: int, at_ms: int) -> Change:
        """Set it; `default` is its value where the agent had none. LocalError for a value out of
        bounds or a full disk."""
        old = self._values.get(setting.code, default)
        change = self._journal.record(setting, old, new, at_ms)
        self._store.save(JOURNAL_KEY, self._journal.pack())
        self._values[setting.code] = new
        self._store.save(VALUES_KEY, self._packed())
        return change

    def revert(self, count: int) -> tuple[Change, ...]:
        """Take back those of the last `count` changes that still stand. What the disk does not take
        is still so in memory."""
        taken = self._journal.revert_last(count)
        for change in taken:
            self._values[change.setting.code] = change.old
            log.warning(
                "a halt took back change %d: %s is %d again",
                change.number,
                change.setting.name,
                change.old,
            )
        if taken:
            try:
                self._store.save(VALUES_KEY, self._packed())
                self._store.save(JOURNAL_KEY, self._journal.pack())
            except LocalError as fault:
                log.error("what a halt took back is not on disk: %s", fault)
        return tuple(taken)

    def _packed(self) -> bytes:
        return json.dumps(sorted(self._values.items())).encode()


def _values_of(data: bytes | None) -> dict[int, int]:
    """LocalError for anything that `_packed` did not write: a value out of bounds must not become a
    setting."""
    if data is None:
        return {}
    bounds = {setting.code: setting.bounds for setting in Setting}
    try:
        found = {
            code: value
            for code, value in json.loads(data)
            if bounds[code].low <= value <= bounds[code].high
        }
    except (ValueError, TypeError, KeyError) as fault:
        raise LocalError(
            "the agent's settings in the store are damaged; remove the data folder's store.sqlite"
        ) from fault
    return found
