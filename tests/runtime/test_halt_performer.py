"""What the log says when the flag comes down: only what was stopped starts again."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from swarmllm.core.effects import StartAgain, StopNow
from swarmllm.runtime.halt_performer import HaltPerformer
from swarmllm.testing.memory_halts import MemoryHalts
from tests.core.halt.support import OWNER, fresh_boot, new_machine


@pytest.mark.parametrize("was_stopped", [False, True])
def test_a_new_node_starts_without_a_warning_and_a_stopped_one_starts_again_with_one(
    was_stopped: bool, caplog: Any
) -> None:
    caplog.set_level(logging.INFO, "swarmllm.halt")
    orders = HaltPerformer(new_machine(fresh_boot(), own=OWNER), MemoryHalts())
    if was_stopped:
        orders.perform(StopNow(("the owner stopped it",)))
    caplog.clear()
    orders.perform(StartAgain())
    [line] = caplog.records
    assert line.levelno == (logging.WARNING if was_stopped else logging.INFO)
    assert ("again" in line.getMessage()) == was_stopped
