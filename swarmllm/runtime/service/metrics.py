"""The node's figures as one record: what `/metrics` shows in Prometheus' format, and bug reports
hold."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import trio

from swarmllm.core.metrics.observer import Sample
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.runtime.service.record import Record


async def answer(node: LocalNode | None) -> AsyncGenerator[Record]:
    """`samples` are rows of a name, the values of its labels in the order of the table, its value
    and, of a histogram, the counts of its buckets; the value is then the sum."""
    await trio.lowlevel.checkpoint()
    if node is None:
        yield record_of("metrics", state="starting", samples=[])
    else:
        yield record_of("metrics", state="running", samples=list(map(_row, node.metrics())))


def _row(sample: Sample) -> list[object]:
    return [sample.metric.name, list(sample.labels), sample.value, list(sample.counts)]
