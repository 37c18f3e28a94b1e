"""`/metrics`: what a node counts, as Prometheus reads it.

`prometheus-client` writes the format, both the plain one and OpenMetrics, and adds what the system
says of the process; the figures are the node's own, so there is a registry for each request and
nothing global. It is a route like any other: where the API asks for keys, it needs one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarmllm.core.metrics import table
from swarmllm.core.metrics.table import BY_NAME, Metric
from swarmllm.runtime.service.service import Client

PATH: Final = "/metrics"
ROUTES: Final = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages/count_tokens",
    "/v1/messages",
    "/v1/models",
    "/health",
    "/ready",
    "/api",
    PATH,
)
OTHER: Final = "other"
_COUNTS: Final = "swarmllm.http_counts"

Row = Sequence[Any]
"""As in `runtime.service.metrics`."""


def metrics(client: Client) -> Callable[[Request], Awaitable[Response]]:
    """The route."""

    async def answer(request: Request) -> Response:
        async with client.call("metrics") as records:
            [record] = [record async for record in records]
        counts: HttpCounts | None = request.scope.get(_COUNTS)
        rows = [*record["samples"], *(counts.rows() if counts is not None else ())]
        text, kind = exposition(rows, request.headers.get("accept", ""))
        return Response(text, media_type=kind)

    return answer


def exposition(
    rows: Iterable[Row], accept: str = "", *, with_process: bool = True
) -> tuple[bytes, str]:
    """The figures in the format that `accept` asks for, and its media type. `with_process`: with
    those of this process."""
    encode, kind = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(list(rows)))
    if with_process:
        ProcessCollector(registry=registry)
    found: bytes = encode(registry)
    return found, kind


class _Figures(Collector):
    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Family]:
        families: dict[str, Family] = {}
        for name, labels, value, counts in self._rows:
            metric = BY_NAME[name]
            family = families.get(name) or families.setdefault(name, _family(metric))
            if isinstance(family, HistogramMetricFamily):
                family.add_metric(labels, _buckets(metric, counts), value)
            elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
                family.add_metric(labels, value)
        yield from families.values()


def _family(metric: Metric) -> Family:
    match metric.kind:
        case "counter":
            return CounterMetricFamily(metric.name, metric.about, labels=metric.labels)
        case "gauge":
            return GaugeMetricFamily(metric.name, metric.about, labels=metric.labels)
        case "histogram":
            return HistogramMetricFamily(metric.name, metric.about, labels=metric.labels)


def _buckets(metric: Metric, counts: Sequence[int]) -> list[tuple[str, float]]:
    """Each counts all below it, as Prometheus has them."""
    bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
    return list(zip(bounds, map(float, accumulate(counts)), strict=True))


class HttpCounts:
    """Responses by route and status, and requests that are open."""

    def __init__(self) -> None:
        self.open = 0
        self._responses: Counter[tuple[str, str]] = Counter()

    def responded(self, path: str, status: int) -> None:
        self._responses[route_of(path), str(status)] += 1

    def rows(self) -> list[Row]:
        """As in the record of the node's figures."""
        found = [[table.HTTP.name, list(at), float(n), []] for at, n in self._responses.items()]
        return [[table.HTTP_OPEN.name, [], float(self.open), []], *found]


def route_of(path: str) -> str:
    """The route that a path belongs to: what clients may write into a path makes no label."""
    return next((one for one in ROUTES if path == one or path.startswith(one + "/")), OTHER)


class Counting:
    """The ASGI middleware before all others: counts responses, whoever writes them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._counts = HttpCounts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts.responded(scope["path"], message["status"])
            await send(message)

        self._counts.open += 1
        try:
            await self._app({**scope, _COUNTS: self._counts}, receive, counted)
        finally:
            self._counts.open -= 1
