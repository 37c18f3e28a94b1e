"""The figures of a moment: what a node's view shows, and what was counted outside its core, as
samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from swarmllm.core.ledger.part import LedgerView
from swarmllm.core.metrics import table
from swarmllm.core.metrics.observer import Sample
from swarmllm.core.metrics.table import Metric
from swarmllm.core.peers.view import NodeView


@dataclass(frozen=True, slots=True)
class Counted:
    """By the driver and the network; see `runtime.ports.Traffic`."""

    uptime_s: float
    saves_failed: int
    crowding: Mapping[str, int]
    connections: Mapping[str, int]
    gossip_sent_bytes: int
    gossip_received_bytes: int
    relay: Mapping[str, int]
    punching: Mapping[str, int]


def state_samples(view: NodeView, counted: Counted) -> list[Sample]:
    usable = sum(one.connected or one.local for one in view.experts)
    found = [
        _one(table.EXPERTS, len(view.experts), "known"),
        _one(table.EXPERTS, usable, "usable"),
        _one(table.RECORDS, view.records_dropped, "dropped"),
        _one(table.RECORDS, view.records_refused, "refused"),
        _one(table.OPEN, view.answers_open),
        _one(table.SERVED_OPEN, view.rounds_served_open),
        _one(table.HALTED, bool(view.halted)),
        _one(table.SAVES, counted.saves_failed),
        _one(table.UPTIME, counted.uptime_s),
        _one(table.GOSSIP, counted.gossip_sent_bytes, "records", "sent"),
        _one(table.GOSSIP, counted.gossip_received_bytes, "records", "received"),
        *(_one(table.CROWDING, value, bound) for bound, value in counted.crowding.items()),
        *(_relay(kind, value) for kind, value in counted.relay.items()),
        *(_one(table.PUNCHING, value, outcome) for outcome, value in counted.punching.items()),
        *(_one(table.CONNECTIONS, value, kind) for kind, value in counted.connections.items()),
    ]
    if view.load is not None:
        taken = view.load.sessions_max - view.load.sessions_free
        found += [
            _one(table.QUEUE, view.load.queue_depth),
            _one(table.SESSIONS, view.load.sessions_free, "free"),
            _one(table.SESSIONS, taken, "taken"),
            _one(table.SPEED, view.load.tokens_per_s),
        ]
    for part in view.parts:
        if isinstance(part, LedgerView):
            alarms = [peer for peer, _ in part.alarms if peer not in part.acknowledged]
            found += [_one(table.LEDGER, part.size), _one(table.ALARMS, len(alarms))]
    return found


def _one(metric: Metric, value: float, *labels: str) -> Sample:
    return Sample(metric, labels, float(value))


def _relay(kind: str, value: int) -> Sample:
    match kind:
        case "carried_bytes":
            return _one(table.RELAY_BYTES, value)
        case "reservations" | "circuits":
            return _one(table.RELAY, value, kind)
        case _:
            return _one(table.RELAY_REQUESTS, value, kind)
