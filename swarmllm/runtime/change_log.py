"""The changed settings on disk: what they are now, and the journal by which a halt takes the last
changes back.

Both are kept in the store. A change is written down before it is made, and taken back before that
is written down, so a crash between the two repeats a step and loses none (`core.agent.change_log`).
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from swarmllm.core.agent import change_log
from swarmllm.core.agent.change_log import Journal, unpack
from swarmllm.core.settings.holder import Change, Settings
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import BY_CODE
from swarmllm.errors import LocalError
from swarmllm.runtime.ports import Store

log = logging.getLogger("swarmllm.changes")

JOURNAL_KEY: Final = "agent/journal"
VALUES_KEY: Final = "agent/values"


class Changes:
    """`settings` are brought to what the store has. LocalError from the constructor if that or the
    journal is damaged: an agent that does not know what it did must not go on."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        saved = store.load(JOURNAL_KEY)
        self._journal = Journal() if saved is None else unpack(saved)
        for setting, value in _values_of(store.load(VALUES_KEY)).items():
            settings.set(setting, value)

    @property
    def journal(self) -> tuple[change_log.Change, ...]:
        return self._journal.changes

    def apply(self, setting: Setting[Any], new: int, at_ms: int) -> change_log.Change:
        """Set it. LocalError for a value beyond its limits, or a full disk."""
        change = self._journal.record(setting, self._settings.get(setting), new, at_ms)
        self._store.save(JOURNAL_KEY, self._journal.pack())
        self._settings.set(setting, new, Change("the agent", at_ms))
        self._store.save(VALUES_KEY, self._packed())
        return change

    def revert(self, count: int) -> tuple[change_log.Change, ...]:
        """Take back those of the last `count` changes that still stand. What the disk does not take
        is still so in memory."""
        taken = self._journal.revert_last(count)
        for change in taken:
            self._settings.set(change.setting, change.old, Change("a halt", change.at_ms))
            log.warning(
                "a halt took back change %d: %s is %d again",
                change.number,
                change.setting.key,
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
        values = self._settings.changed_from_default()
        return json.dumps(sorted((s.code, value) for s, value in values.items())).encode()


def _values_of(data: bytes | None) -> dict[Setting[Any], int]:
    """LocalError for anything that `_packed` did not write: a value beyond the limits must not
    become a setting."""
    if data is None:
        return {}
    try:
        found = {BY_CODE[code]: value for code, value in json.loads(data)}
        if not all(type(value) is int and s.fits(value) for s, value in found.items()):
            raise ValueError
    except (ValueError, TypeError, KeyError) as fault:
        raise LocalError(
            "the changed settings in the store are damaged; remove the data folder's store.sqlite"
        ) from fault
    return found
