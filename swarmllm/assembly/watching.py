"""What watches a node at work: the observer that counts, and traces where they are wanted."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import trio

from swarmllm.adapters.traces import exporter_to, tracing
from swarmllm.core.metrics.observer import Observer
from swarmllm.messages import PeerId
from swarmllm.runtime.driver import Watch
from swarmllm.runtime.loop_lag import measure_lag


@dataclass(frozen=True, slots=True)
class Watching:
    observer: Observer
    watch: Watch
    """For the driver."""


async def watching(
    stack: AsyncExitStack, nursery: trio.Nursery, endpoint: str, peer: PeerId
) -> Watching:
    """`endpoint`: where traces go; empty: nowhere."""
    observer = Observer()
    nursery.start_soon(measure_lag, observer.lagged)
    if not endpoint:
        return Watching(observer, observer.observe)
    exporter = exporter_to(endpoint)
    traces = await stack.enter_async_context(tracing(exporter, peer, time.time_ns))

    def both(event: object, now: float) -> None:
        observer.observe(event, now)
        traces.observe(event, now)

    return Watching(observer, both)
