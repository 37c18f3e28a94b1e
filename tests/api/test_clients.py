"""The official clients of OpenAI and Anthropic against a node's server: what they send is served,
and what comes back are values of their types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import anthropic
import openai
import pytest
import trio
from pydantic import BaseModel, ConfigDict

from swarmllm.adapters.grammar.grammars import Grammars
from swarmllm.api.serving import TOKEN_FILE, Options, serving
from swarmllm.runtime.service.halts import HaltService
from swarmllm.runtime.service.service import Service
from swarmllm.testing.operators import Founders
from swarmllm.testing.scripted_text import EOS
from tests.runtime.little_swarm import little_swarm

KEY = "a-key-of-sixteen-or-more"
HASHED = "sha256:827c238796edd4e8b51d59abdc1fbf3f3084c7d5227f1da0c90f37db6452724f"
HELLO: list[Any] = [{"role": "user", "content": "hi"}]
PARAMETERS: dict[str, Any] = {"properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
FUNCTION: dict[str, Any] = {"name": "get", "parameters": {"type": "object", **PARAMETERS}}
NAMED: Any = {"type": "function", "function": {"name": "get"}}


class Kind(BaseModel):
    """Closed: an open one has room for text without end."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["a", "b"]
    is_new: bool


def against(
    folder: Path,
    use: Callable[[str], None],
    *,
    stop_tokens: frozenset[int] = frozenset({EOS}),
    context_max: int = 4096,
    limit_s: float = 120,
) -> None:
    """`use` runs in a thread with the address of a node's API."""

    async def body() -> None:
        with trio.fail_after(limit_s):
            async with little_swarm(
                [7, 8],
                delay_s=0.001,
                service_s=0.001,
                context_max=context_max,
                stop_tokens=stop_tokens,
                pin=Founders().pin,
                grammars=Grammars(),
            ) as swarm:
                await swarm.wait_met()
                one, service = swarm.members[0], Service()
                assert one.orders is not None
                halts = HaltService(one.driver, one.orders, lambda: one.local.view().peers)
                service.open(one.local, halts)
                options = Options("127.0.0.1", 0, (HASHED,), (), (), folder / TOKEN_FILE)
                async with serving(service, options) as url:
                    await trio.to_thread.run_sync(use, url)

    trio.run(body)


def test_the_client_of_openai_is_served(tmp_path: Path) -> None:
    def use(url: str) -> None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
            assert {"swarm", "local"} <= {model.id for model in client.models.list()}
            _chat(client)
            _tools(client)
            _responses(client)
            _refusals(client)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                client.models.list()

    against(tmp_path, use)


def _chat(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "local", "messages": HELLO, "max_tokens": 8, "seed": 1}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert whole.usage is not None
    assert len(logprobs.content) == whole.usage.completion_tokens
    chunks = [*client.chat.completions.create(**asked, stream=True)]
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == whole.choices[0].message.content
    parsed = client.chat.completions.parse(
        model="swarm", messages=HELLO, response_format=Kind, max_tokens=300
    )
    assert isinstance(parsed.choices[0].message.parsed, Kind)


def _tools(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "swarm",
        "tools": [{"type": "function", "function": FUNCTION}],
        "max_tokens": 300,
    }
    first = client.chat.completions.create(messages=HELLO, tool_choice=NAMED, **asked)
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    results = [{"role": "tool", "tool_call_id": c.id, "content": "3"} for c in message.tool_calls]
    said: list[Any] = [*HELLO, message.model_dump(exclude_none=True), *results]
    again = client.chat.completions.create(messages=said, **asked | {"max_tokens": 3})
    assert again.choices[0].finish_reason in {"length", "stop", "tool_calls"}


def _responses(client: openai.OpenAI) -> None:
    whole = client.responses.create(
        model="swarm", input="hi", max_output_tokens=300, text={"format": _format()}
    )
    assert whole.status == "completed"
    Kind.model_validate_json(whole.output_text)
    with client.responses.stream(
        model="swarm", input="hi", max_output_tokens=300, text_format=Kind
    ) as stream:
        assert [event.sequence_number for event in stream]
        assert isinstance(stream.get_final_response().output_parsed, Kind)


def _format() -> Any:
    return {"type": "json_schema", "name": "kind", "schema": Kind.model_json_schema()}


def _refusals(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=HELLO)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="swarm", input="x")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="swarm", messages=HELLO, reasoning_effort="low")
    assert caught.value.param == "reasoning_effort"


def test_the_client_of_anthropic_is_served(tmp_path: Path) -> None:
    def use(url: str) -> None:
        with anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as client:
            with client.messages.stream(model="swarm", max_tokens=8, messages=HELLO) as stream:
                text = "".join(stream.text_stream)
                final = stream.get_final_message()
            assert [block.text for block in final.content if block.type == "text"] == [text]
            assert final.stop_reason == "max_tokens"
            tool: Any = {"name": "get", "input_schema": FUNCTION["parameters"]}
            called = client.messages.create(
                model="swarm",
                max_tokens=300,
                messages=HELLO,
                system="Be brief.",
                tools=[tool],
                tool_choice={"type": "tool", "name": "get"},
            )
            assert called.stop_reason == "tool_use"
            [block] = called.content
            assert block.type == "tool_use"
            assert block.input in ({"n": 1}, {"n": 2})
            counted = client.messages.count_tokens(model="swarm", messages=HELLO)
            assert counted.input_tokens == final.usage.input_tokens
            with pytest.raises(anthropic.NotFoundError):
                client.messages.create(model="nobody", max_tokens=1, messages=HELLO)

    against(tmp_path, use)
