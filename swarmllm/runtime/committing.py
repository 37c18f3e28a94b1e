"""Commits: several values made durable beside the loop, for a part that waits for them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from swarmllm.core.effects import Commit
from swarmllm.core.inputs import Committed
from swarmllm.errors import LocalError
from swarmllm.runtime.ports import Store

log = logging.getLogger("swarmllm.store")


async def commit(
    effect: Commit, store: Store, answer: Callable[[Committed], Awaitable[None]]
) -> None:
    """In a thread, each value after the other. What has begun ends, also while the node is being
    closed."""
    why = ""
    try:
        with trio.CancelScope(shield=True):
            for key, value in effect.values:
                await trio.to_thread.run_sync(store.save, key, value)
    except LocalError as fault:
        why = str(fault)
        log.error("could not write down what the swarm has decided: %s", fault)
    await answer(Committed(effect.number, not why, why))
