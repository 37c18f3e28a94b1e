"""Lending as a node lives it: a look at the machine four times a second, and an input for the node
when the owner's rules say something else than before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from swarmllm.core.inputs import Input, LendingChanged
from swarmllm.core.serving.lending import Lending, MachineUse

Look = Callable[[], MachineUse]
"""A look at the machine; it may block for some milliseconds."""

TROUBLE_WAIT_S: Final = 5.0  # A system that says nothing now may do so later.


async def lend(
    lending: Lending,
    look: Look,
    feed: Callable[[Input], Awaitable[None]],
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """For ever, where anything could ever change. Started once the first look is dealt with, before
    anybody is served. A machine that cannot be looked at is one that is not lent."""
    is_first = True
    while True:
        try:
            sample = await trio.to_thread.run_sync(look)
        except OSError as error:
            await feed(LendingChanged(f"this machine cannot be looked at: {error}"))
            lending.forget()
            pause_s = TROUBLE_WAIT_S
        else:
            if is_first and not lending.rules.concern(sample):
                task_status.started()
                return
            if lending.looked(sample, trio.current_time()):
                await feed(LendingChanged(lending.reason))
            pause_s = lending.rules.look_every_s
        if is_first:
            is_first = False
            task_status.started()
        await trio.sleep(pause_s)
