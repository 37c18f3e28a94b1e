"""Traces: an answer is a span with its rounds below it, and nothing of what was said is in any."""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from typing import Any

import pytest
import trio
import trio.testing

from swarmllm.adapters.traces import ROUNDS_MAX, exporter_to, tracing
from swarmllm.core.effects import Emit
from swarmllm.core.events import Ended, EndReason, ExpertUse, TokenChosen
from swarmllm.core.inputs import Asked
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import MissingExtraError
from swarmllm.messages import PeerId

PEER, OTHER = PeerId("12D3KooWus"), PeerId("12D3KooWthem")
PROMPT = (71_234, 98_765)
TOKEN = 55_443
SECRET = "zugvogel"

sdk = pytest.mark.skipif(
    find_spec("opentelemetry.sdk") is None,
    reason="the extra otel is not installed",
)


def token(round: int, shared: int = 1, k: int = 2) -> Emit:
    uses = (
        ExpertUse(OTHER, SECRET, 0.6, 400, 0.02, True),
        ExpertUse(PEER, SECRET, 0.4, 100, 0.5, False),
    )
    return Emit(TokenChosen(1, 0, TOKEN, -0.1, round, k, 0.25, uses, 1.0, shared=shared))


def ended(reason: EndReason) -> Emit:
    return Emit(Ended(1, reason, 3, 1, 0, SECRET, drafted=4, accepted=2))


def spans_of(*events: tuple[object, float]) -> list[dict[str, Any]]:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()

    async def body() -> None:
        zero = int(trio.current_time() * 1e9)
        async with tracing(exporter, PEER, lambda: zero) as traces:  # So that 0 is 1970.
            for event, now in events:
                traces.observe(event, now)

    trio.run(body, clock=trio.testing.MockClock())
    return [json.loads(span.to_json()) for span in exporter.get_finished_spans()]


ASKED = Asked(1, GenerateRequest(PROMPT, k=2, max_tokens=9))


@sdk
def test_an_answer_is_a_span_and_each_round_one_below_it() -> None:
    events = [(ASKED, 10.0), (token(0), 11.0), (token(1, 2), 12.0), (token(1, 2), 12.0)]
    events += [(token(2, k=0), 12.5), (ended("eos"), 13.0)]
    *rounds, answer = spans_of(*events)
    assert [one["name"] for one in rounds] == ["round", "round"]
    assert answer["name"] == "answer"
    assert {one["parent_id"] for one in rounds} == {answer["context"]["span_id"]}
    assert {one["context"]["trace_id"] for one in rounds} == {answer["context"]["trace_id"]}
    assert answer["start_time"].startswith("1970-01-01T00:00:10.0")
    assert answer["end_time"].startswith("1970-01-01T00:00:13.0")
    assert rounds[0]["start_time"].startswith("1970-01-01T00:00:10.75")
    told = answer["attributes"]
    assert told["gen_ai.usage.input_tokens"] == 2
    assert told["gen_ai.usage.output_tokens"] == 3
    assert told["gen_ai.response.finish_reasons"] == ["eos"]
    assert (told["swarmllm.rounds"], told["swarmllm.accepted"]) == (2, 2)
    assert rounds[0]["attributes"]["swarmllm.received_bytes"] == 500
    assert rounds[0]["attributes"]["swarmllm.late"] == 1
    assert rounds[1]["attributes"]["swarmllm.tokens"] == 2
    assert answer["resource"]["attributes"]["service.instance.id"] == PEER


@sdk
@pytest.mark.parametrize("reason", ["eos", "error", "halted"])
def test_nothing_of_what_was_said_is_in_a_span(reason: EndReason) -> None:
    """No token, no id of a peer elsewhere, no name of a model, no sentence of an error."""
    spans = spans_of((ASKED, 0.0), (token(0), 1.0), (ended(reason), 2.0))
    text = json.dumps(spans)
    for secret in (*map(str, PROMPT), str(TOKEN), SECRET, OTHER):
        assert secret not in text
    assert (spans[-1]["status"]["status_code"] == "ERROR") == (reason != "eos")


@sdk
def test_an_endless_answer_makes_a_bounded_number_of_spans() -> None:
    rounds = [(token(place), 1.0) for place in range(ROUNDS_MAX + 50)]
    spans = spans_of((ASKED, 0.0), *rounds, (ended("length"), 2.0))
    assert len(spans) == ROUNDS_MAX + 1
    assert spans[-1]["attributes"]["swarmllm.rounds"] == ROUNDS_MAX + 50


@sdk
def test_a_collector_that_takes_nothing_does_not_hold_up_the_end() -> None:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Slow(SpanExporter):  # type: ignore[misc]
        def export(self, spans: Any) -> SpanExportResult:
            time.sleep(2)
            return SpanExportResult.FAILURE

    async def body() -> None:
        with trio.fail_after(1.8):  # Less than one export takes.
            async with tracing(Slow(), PEER, time.time_ns) as traces:
                traces.observe(ASKED, 0.0)
                traces.observe(ended("eos"), 1.0)

    trio.run(body)


def test_without_the_extra_the_setting_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "opentelemetry.exporter", raising=False)
    with pytest.raises(MissingExtraError, match="otel"):
        exporter_to("http://localhost:4318/v1/traces")
