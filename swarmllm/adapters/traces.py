"""Traces for OpenTelemetry: an answer of this node is a span, each of its rounds a span below it.

For those who have the extra `otel`; off unless `otlp_endpoint` names where to send them. Spans hold
counts and times and no text, no token, no address and no peer id. They are made of what the driver
shows to whoever watches, sent by a thread of the library's own, and dropped where nobody takes
them: a collector that is slow or gone holds up neither an answer nor the end of the node.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from swarmllm.core.effects import Emit
from swarmllm.core.events import Ended, TokenChosen
from swarmllm.core.inputs import Asked
from swarmllm.errors import MissingExtraError
from swarmllm.messages import PeerId

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

EXTRA: Final = "otel"
ROUNDS_MAX: Final = 512  # Spans below one answer; further rounds are in its counts alone.
SEND_S: Final = 5.0
FAREWELL_S: Final = 0.5  # Of the two seconds that closing may take.
S_TO_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Answer:
    span: Any
    round: int = -1
    rounds: int = 0


class Traces:
    """`observe` takes any input or effect, `now` on the driver's clock; `unix_ns_at_zero` is the
    time when that clock showed 0."""

    def __init__(self, tracer: Any, unix_ns_at_zero: int) -> None:
        self._tracer = tracer
        self._zero_ns = unix_ns_at_zero
        self._answers: dict[int, _Answer] = {}  # Bounded by the answers that the node writes.

    def observe(self, event: object, now: float) -> None:
        match event:
            case Asked():
                self._asked(event, now)
            case Emit(event=TokenChosen() as chosen):
                self._chosen(chosen, now)
            case Emit(event=Ended() as ended):
                self._ended(ended, now)
            case _:
                pass

    def _asked(self, asked: Asked, now: float) -> None:
        order = asked.order
        about = {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.request.max_tokens": order.max_tokens,
            "gen_ai.usage.input_tokens": len(order.prompt),
            "swarmllm.experts_wanted": order.k,
            "swarmllm.is_background": order.is_background,
        }
        span = self._tracer.start_span("answer", start_time=self._ns(now), attributes=about)
        self._answers[asked.request] = _Answer(span)

    def _chosen(self, chosen: TokenChosen, now: float) -> None:
        answer = self._answers.get(chosen.request)
        if answer is None or not chosen.k or answer.round == chosen.round:
            return  # A token that a grammar forced, or another one of the same round.
        answer.round = chosen.round
        answer.rounds += 1
        if answer.rounds > ROUNDS_MAX:
            return
        from opentelemetry.trace import set_span_in_context

        used = [use for use in chosen.experts if use.used]
        about = {
            "swarmllm.round": chosen.round,
            "swarmllm.tokens": chosen.shared,
            "swarmllm.experts": chosen.k,
            "swarmllm.late": len(chosen.experts) - len(used),
            "swarmllm.received_bytes": sum(use.size_bytes for use in chosen.experts),
            "swarmllm.round_trip_max_s": max((use.rtt_s for use in used), default=0.0),
        }
        span = self._tracer.start_span(
            "round",
            context=set_span_in_context(answer.span),
            start_time=self._ns(now - chosen.round_s),
            attributes=about,
        )
        span.end(end_time=self._ns(now))

    def _ended(self, ended: Ended, now: float) -> None:
        answer = self._answers.pop(ended.request, None)
        if answer is None:
            return
        from opentelemetry.trace import StatusCode

        answer.span.set_attributes(
            {
                "gen_ai.response.finish_reasons": (ended.reason,),
                "gen_ai.usage.output_tokens": ended.tokens,
                "swarmllm.rounds": answer.rounds,
                "swarmllm.failovers": ended.failovers,
                "swarmllm.drafted": ended.drafted,
                "swarmllm.accepted": ended.accepted,
            }
        )
        if ended.reason in {"error", "halted"}:  # Its sentence may quote: the reason is enough.
            answer.span.set_status(StatusCode.ERROR, ended.reason)
        answer.span.end(end_time=self._ns(now))

    def _ns(self, at: float) -> int:
        return self._zero_ns + int(at * S_TO_NS)


def exporter_to(endpoint: str) -> SpanExporter:
    """What sends to a collector that speaks OTLP over HTTP. MissingExtraError without the extra."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as fault:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise MissingExtraError("the setting otlp_endpoint", package, EXTRA) from fault
    return OTLPSpanExporter(endpoint=endpoint, timeout=SEND_S)


@asynccontextmanager
async def tracing(
    exporter: SpanExporter, peer: PeerId, unix_ns: Callable[[], int]
) -> AsyncIterator[Traces]:
    """Spans go to `exporter` for as long as the block lasts. `peer` is this node, and `unix_ns`
    tells the time. Nothing of the library's is set for the whole process."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = {"service.name": "swarmllm", "service.instance.id": peer}
    provider = TracerProvider(resource=Resource(about), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    zero_ns = unix_ns() - int(trio.current_time() * S_TO_NS)
    try:
        yield Traces(provider.get_tracer("swarmllm"), zero_ns)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S):
            await trio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)  # type: ignore[call-arg]
