"""Replies of a real node and grammar: what is thought, called and said is told apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest

from swarmllm.core.chat import ChatMessage, ChatPrompt
from swarmllm.core.thinking import Thinking
from swarmllm.core.tool_calls import MARK
from swarmllm.testing.scripted_text import WORDS, ScriptedText
from tests.api.http_client import serving
from tests.api.test_hard_cases import CHAT, EOS, TOOLS, both, chat, chunks, said
from tests.clock import under_mock_clock


@under_mock_clock
async def test_a_format_beside_tools_is_a_call_or_the_format_whatever_stands_in_its_strings() -> (
    None
):
    asked = {"tools": TOOLS, "max_tokens": 400, "parallel_tool_calls": False}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [MARK * 2]}}}
    kinds = set()
    async with serving([7], stop_tokens=EOS) as client:
        for seed, bias in product(range(4), (100, -100)):  # Of the mark's first byte.
            more = {"seed": seed, "logit_bias": {str(ord("<")): bias}}
            body = chat(response_format=form, **asked | more)
            streamed, whole = await both(client, body)
            kinds.add(whole["finish_reason"])
            for call in whole["message"].get("tool_calls", ()):
                assert json.loads(call["function"]["arguments"])["n"] in {1, 2, 3}
            if whole["finish_reason"] == "stop":
                assert json.loads(said(streamed)) == MARK * 2
                assert whole["message"]["content"] == said(streamed)
        _, called = await both(client, chat(response_format=form, tool_choice="required", **asked))
        text = {"format": {"type": "json_object"}}
        tools = [{"type": "function"} | TOOLS[0]["function"]]
        body = {"model": "swarm", "input": "hi", "text": text, "tools": tools, "stream": False}
        responses = await client.post("/v1/responses", body | {"max_output_tokens": 2000})
    assert kinds == {"stop", "tool_calls"}
    assert called["finish_reason"] == "tool_calls"
    for item in responses.json()["output"]:
        found = item["arguments"] if "arguments" in item else item["content"][0]["text"]
        assert item["status"] == "incomplete" or isinstance(json.loads(found), dict)


@under_mock_clock
async def test_what_a_model_thinks_is_told_from_what_it_says() -> None:
    """Its template marks thinking, and begins it; the scripted model never ends it."""
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ '</think>' and '<think>' }}"
    async with serving([7], chat_template=template) as client:
        streamed, whole = await both(client, chat())
        usage = (await client.post(CHAT, chat())).json()["usage"]
        responses = (await client.post("/v1/responses", {"model": "swarm", "input": "hi"})).json()
        legacy = await client.post("/v1/completions", {"model": "swarm", "prompt": "hi"})
    message, first = whole["message"], chunks(streamed)[1]["choices"][0]["delta"]
    assert message["content"] == ""
    assert message["reasoning"] == message["reasoning_content"] != ""
    assert set(first) == {"reasoning", "reasoning_content"}
    assert usage["completion_tokens_details"]["reasoning_tokens"] == usage["completion_tokens"]
    assert [one["type"] for one in responses["output"]] == ["reasoning", "message"]
    assert legacy.json()["choices"][0]["text"]


@under_mock_clock
async def test_control_tokens_that_are_marks_are_read_though_they_have_no_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = ScriptedText.encode_chat

    async def marking(self: ScriptedText, messages: Sequence[ChatMessage]) -> ChatPrompt:
        prompt = await written(self, messages)
        return replace(prompt, thinking=Thinking("[T]", "[/T]", is_open=True, tokens=marks))

    monkeypatch.setattr(ScriptedText, "encode_chat", marking)
    marks, always, word = ((256, "[/T]"),), {"256": 100}, WORDS[256].decode()
    async with serving([7]) as client:
        _, found = await both(client, chat(logit_bias=always, max_tokens=2))
    assert found["message"]["reasoning"] == word
    assert found["message"]["content"] == f"{word}[/T]"


@under_mock_clock
async def test_a_model_whose_template_marks_no_thinking_has_none() -> None:
    async with serving([7]) as client:
        _, whole = await both(client, chat())
    assert "reasoning_content" not in whole["message"]
