"""Laws of every dialect: no body is a fault of ours, and a stream adds up to the whole reply."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.api.asked import Dialect
from swarmllm.api.choice import Choice
from swarmllm.api.dialects.anthropic_messages import MessagesDialect
from swarmllm.api.dialects.openai_chat import ChatDialect
from swarmllm.api.dialects.openai_completions import CompletionDialect
from swarmllm.api.dialects.openai_responses import ResponsesDialect
from swarmllm.api.problem import Problem
from swarmllm.core.tool_calls import CLOSING, opening
from swarmllm.errors import UsageError
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.request import parse_request

HELLO = [{"role": "user", "content": "hi"}]
HEAD = {"id": "x-1", "created": 7, "model": "swarm"}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
BODIES: dict[type[Any], dict[str, Any]] = {
    ChatDialect: {
        "messages": HELLO,
        "tools": [{"type": "function", "function": {"name": "get", "parameters": SCHEMA}}],
        "response_format": {"type": "text"},
        "swarm": {"k": 2},
        "stop": "x",
    },
    CompletionDialect: {"prompt": "hi", "logprobs": 1, "stop": ["x"], "n": 2},
    ResponsesDialect: {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "tools": [{"type": "function", "name": "get", "parameters": SCHEMA}],
    },
    MessagesDialect: {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "max_tokens": 5,
        "tools": [{"name": "get", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any"},
    },
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "name", "function", "schema"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a body."""
    found = [path] if path else []
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    return found + [one for key, inner in pairs for one in places(inner, (*path, key))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_body_with_anything_in_any_place_is_asked_for_or_refused(
    kind: type[Any], data: st.DataObject
) -> None:
    body = {"model": "swarm", **BODIES[kind]}
    path = data.draw(st.sampled_from(places(body)))
    with suppress(Problem, UsageError):
        dialect = kind(replaced(body, path, data.draw(JSON)), HEAD)
        for question in dialect.asked.questions:
            parse_request(question).check()


THINKING = {"opening": "<think>", "closing": "</think>", "is_open": False}


def records(pieces: list[str], reason: str, *, thinks: bool = False) -> list[Record]:
    weighed: Record = {"event": "weighed", "prompt_tokens": 3, "experts": []}
    if thinks:
        weighed["thinking"] = THINKING
    tokens = [{"event": "token", "k": 1, "text": piece} for piece in pieces]
    more = {"prompt_tokens": 3, "tokens": len(pieces), "failovers": 0, "seconds": 1.5}
    more |= {"rounds": len(pieces), "drafted": 0, "accepted": 0}
    return [weighed, *tokens, {"event": "end", "reason": reason, **more}]


def streamed(dialect: Dialect, choice: Choice, given: list[Record]) -> list[Any]:
    choice.push(given[0])
    events = dialect.begin([choice])
    for record in given[1:]:
        events += dialect.push(choice, record, choice.push(record))
    return [event.data for event in events + dialect.end([choice])]


PIECES = st.lists(st.text(st.sampled_from("ab <é🙂\n"), min_size=1, max_size=4), max_size=6)


@given(
    PIECES,
    st.booleans(),
    st.sampled_from(["", "<think>", "<think>\nI see\n</think>\n\n"]),
    st.sampled_from(["eos", "length"]),
    st.integers(1, 30),
)
def test_a_stream_adds_up_to_the_whole_reply(
    pieces: list[str], calls: bool, thought: str, reason: str, size: int
) -> None:
    pieces = [thought[i : i + size] for i in range(0, len(thought), size)] + pieces
    if calls:
        text = opening("get") + '{"a":"}é"}' + CLOSING
        pieces = pieces + [text[i : i + size] for i in range(0, len(text), size)]
    given_records = records(pieces, reason, thinks=bool(thought))
    for kind in (ChatDialect, ResponsesDialect, MessagesDialect):
        body = {"model": "swarm", **BODIES[kind], "stream": True}
        body.pop("stop", None)
        dialect: Dialect = kind(body, HEAD)
        choice = Choice(0, "1", True)
        chunks = streamed(dialect, choice, given_records)
        whole = dialect.whole([choice])
        assert added(kind, chunks) == content(kind, whole)
        assert thought_in(kind, chunks) == thoughts(kind, whole) == choice.thinking
        if thought.endswith("\n"):
            assert choice.thinking == "I see"
        elif not thought:
            assert choice.thinking == ""
        assert choice.thought_tokens <= len(pieces)
        assert bool(choice.thought_tokens) == bool(thought)


def thought_in(kind: type[Any], chunks: list[Any]) -> str:
    """The thinking of a stream."""
    text = ""
    for chunk in chunks:
        if kind is ChatDialect and chunk != "[DONE]":
            for one in chunk["choices"]:
                text += one["delta"].get("reasoning_content", "")
                assert one["delta"].get("reasoning") == one["delta"].get("reasoning_content")
        elif kind is MessagesDialect and chunk["type"] == "content_block_delta":
            text += chunk["delta"].get("thinking", "")
        elif kind is ResponsesDialect and chunk["type"] == "response.reasoning_text.delta":
            text += chunk["delta"]
    return text


def thoughts(kind: type[Any], whole: dict[str, Any]) -> str:
    """The same of a whole reply."""
    if kind is ChatDialect:
        return str(whole["choices"][0]["message"].get("reasoning_content", ""))
    if kind is MessagesDialect:
        return "".join(one.get("thinking", "") for one in whole["content"])
    found = [one for one in whole["output"] if one["type"] == "reasoning"]
    return "".join(one["content"][0]["text"] for one in found)


def added(kind: type[Any], chunks: list[Any]) -> tuple[str, list[str]]:
    """The text and the arguments of the calls of a stream."""
    text, arguments = "", list[str]()
    for chunk in chunks:
        if kind is ChatDialect and chunk != "[DONE]":
            for one in chunk["choices"]:
                text += one["delta"].get("content", "")
                for call in one["delta"].get("tool_calls", []):
                    arguments += [""] if "id" in call else []
                    arguments[-1] += call["function"]["arguments"]
        elif kind is MessagesDialect and chunk["type"] == "content_block_start":
            arguments += [""] if chunk["content_block"]["type"] == "tool_use" else []
        elif kind is MessagesDialect and chunk["type"] == "content_block_delta":
            text += chunk["delta"].get("text", "")
            if "partial_json" in chunk["delta"]:
                arguments[-1] += chunk["delta"]["partial_json"]
        elif kind is ResponsesDialect and chunk["type"] == "response.output_text.delta":
            text += chunk["delta"]
        elif kind is ResponsesDialect and chunk["type"].endswith("arguments.done"):
            arguments.append(chunk["arguments"])
    return text, [json.dumps(json.loads(one)) for one in arguments]


def content(kind: type[Any], whole: dict[str, Any]) -> tuple[str, list[str]]:
    """The same of a whole reply."""
    if kind is ChatDialect:
        message = whole["choices"][0]["message"]
        calls = [call["function"]["arguments"] for call in message.get("tool_calls", [])]
        return message["content"] or "", [json.dumps(json.loads(one)) for one in calls]
    items = whole["content" if kind is MessagesDialect else "output"]
    if kind is MessagesDialect:
        text = "".join(one["text"] for one in items if one["type"] == "text")
        return text, [json.dumps(one["input"]) for one in items if one["type"] == "tool_use"]
    said = [one["content"][0]["text"] for one in items if one["type"] == "message"]
    calls = [one["arguments"] for one in items if one["type"] == "function_call"]
    return "".join(said), [json.dumps(json.loads(one)) for one in calls]


def test_a_client_that_wants_no_thinking_is_shown_none() -> None:
    body = {"model": "swarm", "messages": HELLO, "max_tokens": 5, "stream": True}
    dialect = MessagesDialect(body | {"thinking": {"type": "disabled"}}, HEAD)
    choice = Choice(0, "1")
    given_records = records(["<think>", "hm", "</think>", "so"], "eos", thinks=True)
    chunks = streamed(dialect, choice, given_records)
    assert thought_in(MessagesDialect, chunks) == ""
    assert added(MessagesDialect, chunks) == ("so", [])
    whole = dialect.whole([choice])
    assert [one["type"] for one in whole["content"]] == ["text"]
    assert whole["usage"]["output_tokens_details"] == {"thinking_tokens": 3}


def test_tokens_of_the_thinking_are_counted_with_its_marks() -> None:
    for pieces, count in (
        (["<th", "ink>", "a", "</think>", "b"], 4),
        (["\n", "<thin", "g"], 0),
        (["a", "<think>"], 0),
        (["<think>", "a"], 2),
    ):
        choice = Choice(0, "1")
        for record in records(pieces, "eos", thinks=True):
            choice.push(record)
        assert choice.thought_tokens == count, pieces
