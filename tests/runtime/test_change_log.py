"""Laws of changed settings on disk: a halt takes the last changes back, each once, and a
damaged record sets nothing."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence

import pytest
import trio

from swarmllm.core.effects import (
    EndStreams,
    HaltEffect,
    Penalise,
    PublishRecord,
    RecordChecked,
    Relay,
    RevertChanges,
    SendFrame,
)
from swarmllm.core.inputs import RecordOffered
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import EXPERTS as K
from swarmllm.core.settings.table import EXTRA
from swarmllm.errors import LocalError
from swarmllm.runtime.booting import boot
from swarmllm.runtime.change_log import JOURNAL_KEY, VALUES_KEY, Changes
from swarmllm.runtime.halt_performer import HaltPerformer
from swarmllm.testing.memory_halts import MemoryHalts
from swarmllm.testing.memory_store import MemoryStore
from swarmllm.testing.operators import Founders
from tests.runtime.little_swarm import key

WE = Founders("changes")


def test_the_last_changes_are_taken_back_newest_first_and_only_once() -> None:
    settings = Settings()
    changes = Changes(MemoryStore(), settings)
    for new in (4, 5, 6):
        changes.apply(K, new, at_ms=1)
    changes.apply(EXTRA, 2, at_ms=2)
    assert [c.setting for c in changes.revert(3)] == [EXTRA, K, K]
    assert (settings.get(K), settings.get(EXTRA)) == (4, 1)
    assert changes.revert(3) == ()
    assert settings.get(K) == 4


def test_what_is_set_is_what_the_parts_read() -> None:
    settings = Settings()
    changes = Changes(MemoryStore(), settings)
    changes.apply(K, 5, at_ms=1)
    assert settings[K] == 5
    changes.revert(1)
    assert settings[K] == K.default


def test_both_survive_a_restart() -> None:
    store = MemoryStore()
    before = Changes(store, Settings())
    before.apply(K, 5, at_ms=1)
    before.apply(K, 7, at_ms=2)
    before.revert(1)
    settings = Settings()
    after = Changes(store, settings)
    assert settings.get(K) == 5
    assert [c.reverted for c in after.journal] == [False, True]
    assert after.revert(1) == ()


def test_a_value_out_of_bounds_changes_nothing() -> None:
    settings = Settings()
    changes = Changes(MemoryStore(), settings)
    with pytest.raises(LocalError, match=r"answer\.experts cannot be 99"):
        changes.apply(K, 99, at_ms=1)
    assert (settings.get(K), changes.journal) == (3, ())


@pytest.mark.parametrize("name", [JOURNAL_KEY, VALUES_KEY])
@pytest.mark.parametrize("data", [b"", b"junk", b"[[1, 99999]]", b'{"a": 1}', b"[[77, 1]]"])
def test_a_damaged_record_is_an_error_or_sets_nothing(name: str, data: bytes) -> None:
    store = MemoryStore()
    store.save(name, data)
    settings = Settings()
    with contextlib.suppress(LocalError):
        Changes(store, settings)
    assert settings.changed_from_default() == {}


def perform(orders: HaltPerformer, effects: Sequence[HaltEffect]) -> None:
    for effect in effects:
        if not isinstance(
            effect, RecordChecked | Penalise | SendFrame | Relay | PublishRecord | EndStreams
        ):
            orders.perform(effect)


def test_a_halt_reverts_as_many_as_the_charter_says() -> None:
    async def body() -> None:
        settings = Settings()
        changes = Changes(MemoryStore(), settings)
        for new in (4, 5, 6, 7, 8):
            changes.apply(K, new, at_ms=new)
        orders, _ = await boot(MemoryHalts(), key(1), WE.pin, random.Random(1), changes.revert)

        async def settle() -> None:
            while (event := await orders.save_next()) is not None:
                perform(orders, orders.machine.handle(event, trio.current_time()))

        # A pinned node waits for peers before it runs, and only a running node is halted by an
        # order: 5 s alone are enough.
        perform(orders, orders.machine.timer(trio.current_time() + 6))
        assert not orders.is_halted
        effects = orders.machine.handle(RecordOffered(1, WE.halt()), trio.current_time() + 6)
        # Only when the halt itself is on disk.
        assert not any(isinstance(effect, RevertChanges) for effect in effects)
        perform(orders, effects)
        assert settings.get(K) == 8
        await settle()
        assert settings.get(K) == 5

    trio.run(body)
