"""Measures how long the event loop is held: how late a timer fires that was set a moment ago."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

EVERY_S: Final = 0.1


async def measure_lag(told: Callable[[float], None]) -> None:
    """For ever; `told` is given seconds."""
    while True:
        due_at = trio.current_time() + EVERY_S
        await trio.sleep_until(due_at)
        told(trio.current_time() - due_at)
