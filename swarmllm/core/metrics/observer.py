"""The observer: inputs and effects of the node in, figures out.

It watches what the driver brings to the node and what the node orders, so that nothing of the node
has to count for it. It decides nothing, keeps no text, no token, no address and no peer id, and
costs some microseconds a token.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from swarmllm.core.effects import Emit, Penalise, Send
from swarmllm.core.events import Ended, ExpertUse, NodeHalted, TokenChosen
from swarmllm.core.inputs import Asked, EngineLost, EngineReady, PeerLost, Received, Scored
from swarmllm.core.metrics import table
from swarmllm.core.metrics.table import Metric
from swarmllm.messages import (
    REFUSED_CONTEXT,
    REFUSED_ENGINE,
    REFUSED_MODEL,
    REFUSED_OUTPUT,
    REFUSED_SESSION,
    REFUSED_UNSETTLED,
    REFUSED_VOCABULARY,
    Busy,
    Refused,
    Scores,
    Shuffle,
    Shuffled,
)

MODELS_MAX: Final = 32  # Strangers name their models; those that come later are `OTHER`.
MODEL_CHARS_MAX: Final = 64
OTHER: Final = "other"
REASONS: Final = {
    REFUSED_MODEL: "model",
    REFUSED_VOCABULARY: "vocabulary",
    REFUSED_CONTEXT: "context",
    REFUSED_SESSION: "session",
    REFUSED_ENGINE: "engine",
    REFUSED_OUTPUT: "output",
    REFUSED_UNSETTLED: "unsettled",
}
_UNFIT: Final = re.compile(r"[^ !#-\[\]-~]")
"""Of a label's value: all but printable ASCII, and of that what the text format would escape."""

Labels = tuple[str, ...]


class Spread:
    """A histogram's counts: how many values lie in each bucket, the last one without an upper
    bound, and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of a metric. `counts` are those of a histogram's buckets, and `value` then its
    sum."""

    metric: Metric
    labels: Labels
    value: float
    counts: tuple[int, ...] = ()


class _Model:
    """What the experts of one label have replied; counted here, where each token comes by."""

    __slots__ = ("label", "late", "pooled", "round_trip", "size_bytes")

    def __init__(self, label: str) -> None:
        self.label = label
        self.pooled = self.late = self.size_bytes = 0
        self.round_trip = Spread(table.ROUND_TRIP.buckets)

    def samples(self) -> list[Sample]:
        one, trips = (self.label,), tuple(self.round_trip.counts)
        found = [
            Sample(table.REPLIES, (self.label, "pooled"), self.pooled),
            Sample(table.REPLIES, (self.label, "late"), self.late),
        ]
        if any(trips):
            found += [
                Sample(table.EXPERT_BYTES, one, self.size_bytes),
                Sample(table.ROUND_TRIP, one, self.round_trip.sum, trips),
            ]
        return found


@dataclass(slots=True)
class _Open:
    """An answer under way."""

    began_at: float
    prompt: int
    first_at: float | None = None
    round: int = -1


class Observer:
    """`observe` takes any input or effect, `now` on the driver's clock; `samples` tells what came
    of all so far."""

    def __init__(self) -> None:
        self._counts: dict[Metric, dict[Labels, float]] = {}
        self._spreads: dict[Metric, dict[Labels, Spread]] = {}
        for metric in table.METRICS:  # What never happened is 0, and no gap in a graph.
            if not metric.labels and metric.kind != "gauge":
                self._begin(metric)
        self._open: dict[int, _Open] = {}  # Bounded by the answers that the node writes at once.
        self._models: dict[str, _Model] = {}  # By the name as it was given; bounded by `_model`.
        self._labels: dict[str, _Model] = {}
        self._is_worker_lost = False
        self._hearers: dict[type, Callable[[Any, float], None]] = {
            Asked: self._asked,
            Emit: self._emitted,
            Received: self._received,
            Send: self._sent,
            Scored: self._scored,
            EngineLost: self._engine_lost,
            EngineReady: self._engine_ready,
            PeerLost: lambda _, __: self._count(table.PEERS_LOST),
            Penalise: lambda _, __: self._count(table.STRIKES),
        }

    def observe(self, event: object, now: float) -> None:
        hearer = self._hearers.get(type(event))
        if hearer is not None:
            hearer(event, now)

    def lagged(self, seconds: float) -> None:
        """A timer of the event loop fired so much later than it was due."""
        self._spread(table.LAG, seconds)

    def samples(self) -> list[Sample]:
        counts = [
            Sample(metric, labels, value)
            for metric, values in self._counts.items()
            for labels, value in values.items()
        ]
        spreads = [
            Sample(metric, labels, spread.sum, tuple(spread.counts))
            for metric, values in self._spreads.items()
            for labels, spread in values.items()
        ]
        return counts + spreads + [one for m in self._labels.values() for one in m.samples()]

    # --- counting ---------------------------------------------------------------------------------

    def _begin(self, metric: Metric) -> None:
        if metric.kind == "histogram":
            self._spreads[metric] = {(): Spread(metric.buckets)}
        else:
            self._counts[metric] = {(): 0.0}

    def _count(self, metric: Metric, labels: Labels = (), more: float = 1) -> None:
        values = self._counts.setdefault(metric, {})
        values[labels] = values.get(labels, 0.0) + more

    def _spread(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        values = self._spreads.setdefault(metric, {})
        spread = values.get(labels)
        if spread is None:
            spread = values[labels] = Spread(metric.buckets)
        spread.add(value)

    def _model(self, name: str) -> _Model:
        """The label of a model: the first `MODELS_MAX` names have one each."""
        model = self._models.get(name)
        if model is not None:
            return model
        is_new = len(self._models) < MODELS_MAX
        label = _UNFIT.sub("?", name[:MODEL_CHARS_MAX]) or OTHER if is_new else OTHER
        model = self._labels.setdefault(label, _Model(label))
        if is_new:
            self._models[name] = model
        return model

    # --- answers ----------------------------------------------------------------------------------

    def _asked(self, event: Asked, now: float) -> None:
        self._open[event.request] = _Open(now, len(event.order.prompt))

    def _emitted(self, effect: Emit, now: float) -> None:
        match effect.event:
            case TokenChosen():
                self._chosen(effect.event, now)
            case Ended():
                self._ended(effect.event, now)
            case NodeHalted():
                self._count(table.HALTS)
            case _:
                pass

    def _chosen(self, chosen: TokenChosen, now: float) -> None:
        self._count(table.TOKENS)
        answer = self._open.get(chosen.request)
        if answer is not None:
            if answer.first_at is None:
                answer.first_at = now
                self._spread(table.FIRST_TOKEN, now - answer.began_at)
            is_same = answer.round == chosen.round
            answer.round = chosen.round
            if not chosen.k:  # Nobody was asked.
                return
            if is_same:  # Several tokens of one round share its bytes; the rest is counted.
                for use in chosen.experts:
                    self._model(use.model).size_bytes += use.size_bytes
                return
        self._spread(table.ROUNDS, chosen.round_s)
        for use in chosen.experts:
            self._used(use)

    def _used(self, use: ExpertUse) -> None:
        model = self._model(use.model)
        if use.used:
            model.pooled += 1
        else:
            model.late += 1
        if use.size_bytes:  # Our own expert's crosses no wire.
            model.size_bytes += use.size_bytes
            model.round_trip.add(use.rtt_s)

    def _ended(self, ended: Ended, now: float) -> None:
        self._count(table.REQUESTS, (ended.reason,))
        self._count(table.FAILOVERS, (), ended.failovers)
        self._count(table.DRAFTED, (), ended.drafted)
        self._count(table.ACCEPTED, (), ended.accepted)
        answer = self._open.pop(ended.request, None)
        if answer is None:
            return
        self._spread(table.DURATION, now - answer.began_at)
        self._spread(table.TOKEN_USAGE, answer.prompt, ("input",))
        self._spread(table.TOKEN_USAGE, ended.tokens, ("output",))
        is_whole = ended.reason not in {"error", "halted"}
        if is_whole and answer.first_at is not None and ended.tokens > 1:
            self._spread(table.PER_TOKEN, (now - answer.first_at) / (ended.tokens - 1))

    # --- experts ----------------------------------------------------------------------------------

    def _received(self, event: Received, now: float) -> None:
        match event.message:
            case Busy() | Refused():
                self._count(table.REFUSED_US, (_reason(event.message),))
            case Shuffle() | Shuffled():
                self._count(table.GOSSIP, ("capacity", "received"), event.size_bytes)
            case _:
                pass

    def _sent(self, effect: Send, now: float) -> None:
        match effect.message:
            case Busy() | Refused():
                self._count(table.REFUSED_OTHERS, (_reason(effect.message),))
            case Shuffle(records=records) | Shuffled(records=records):
                self._count(table.GOSSIP, ("capacity", "sent"), sum(map(len, records)))
            case _:
                pass

    def _scored(self, event: Scored, now: float) -> None:
        if isinstance(event.reply, Scores):
            self._count(table.SERVED)
            self._count(table.POSITIONS, (), len(event.reply.lists))

    def _engine_lost(self, event: EngineLost, now: float) -> None:
        self._is_worker_lost = True

    def _engine_ready(self, event: EngineReady, now: float) -> None:
        if self._is_worker_lost:
            self._count(table.RESTARTS)
        self._is_worker_lost = False


def _reason(message: Busy | Refused) -> str:
    return "busy" if isinstance(message, Busy) else REASONS.get(message.code, OTHER)
