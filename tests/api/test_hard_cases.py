"""Twenty-two cases that servers of these APIs get wrong, each by its name."""

from __future__ import annotations

import json
import random
from functools import partial
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import trio

from swarmllm.api.choice import Choice
from swarmllm.api.dialects.openai_chat import ChatDialect
from swarmllm.api.guard import Guard
from swarmllm.api.models import listed
from swarmllm.api.reply import KEEP_ALIVE_S
from swarmllm.core.tool_calls import CLOSING, opening
from swarmllm.testing.operators import Founders
from tests.api.http_client import Client, Got, serving
from tests.clock import under_mock_clock

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hi"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"properties": {"n": {"enum": [1, 2, 3]}}, "required": ["n"]},
        },
    }
    for name in ("get", "put")
]
EOS = frozenset({511})


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "local", "messages": HELLO, "max_tokens": 8, "seed": 5, **more}


def said(got: Got) -> str:
    """The text of a stream, of its first choice."""
    return "".join(one["choices"][0]["delta"].get("content", "") for one in chunks(got))


def chunks(got: Got) -> list[Any]:
    return [one for one in got.events if one != "[DONE]" and one.get("choices")]


async def both(client: Client, body: dict[str, Any]) -> tuple[Got, Any]:
    """The same request streamed, and not."""
    streamed = await client.post(CHAT, body | {"stream": True})
    whole = await client.post(CHAT, body)
    assert (streamed.status, whole.status) == (200, 200), whole.body
    return streamed, whole.json()["choices"][0]


@under_mock_clock
async def test_1_usage_comes_once_last_before_done_without_choices_and_only_when_asked() -> None:
    async with serving() as client:
        plain = await client.post(CHAT, chat(stream=True))
        asked = await client.post(CHAT, chat(stream=True, stream_options={"include_usage": True}))
        whole = await client.post(CHAT, chat())
    assert not any("usage" in one for one in plain.events[:-1])
    assert asked.events[-1] == "[DONE]"
    assert asked.events[-2]["choices"] == []
    assert asked.events[-2]["usage"] == whole.json()["usage"]
    assert asked.events[-2]["usage"]["completion_tokens"] == 8
    assert sum("usage" in one for one in asked.events[:-1]) == 1


def test_2_deltas_of_two_calls_do_not_mix_and_add_up_to_the_calls() -> None:
    text = opening("get") + '{"n":1}' + CLOSING + "\n" + opening("put") + '{"n":[2,"}"]}' + CLOSING
    for size in (1, 7, 1000):
        dialect = ChatDialect(chat(tools=TOOLS, stream=True), {"id": "x-1"})
        choice, calls = Choice(0, "1", True), dict[int, dict[str, str]]()
        for at in range(0, len(text), size):
            record = {"event": "token", "k": 1, "text": text[at : at + size]}
            for event in dialect.push(choice, record, choice.push(record)):
                assert isinstance(event.data, dict)
                for part in event.data["choices"][0]["delta"].get("tool_calls", []):
                    call = calls.setdefault(part["index"], {"arguments": ""})
                    call["arguments"] += part["function"]["arguments"]
                    call |= {k: v for k, v in part["function"].items() if k == "name"}
        assert list(calls.values()) == [
            {"name": one.name, "arguments": one.arguments} for one in choice.calls
        ]
        assert [json.loads(one.arguments) for one in choice.calls] == [{"n": 1}, {"n": [2, "}"]}]


@under_mock_clock
async def test_2_calls_are_the_same_streamed_and_whole() -> None:
    body = chat(tools=TOOLS, tool_choice="required", max_tokens=400)
    async with serving([7], stop_tokens=EOS) as client:
        streamed, whole = await both(client, body)
    assert whole["finish_reason"] == "tool_calls"
    found: dict[int, str] = {}
    for chunk in chunks(streamed):
        for part in chunk["choices"][0]["delta"].get("tool_calls", []):
            found[part["index"]] = found.get(part["index"], "") + part["function"]["arguments"]
    calls = whole["message"]["tool_calls"]
    assert list(found.values()) == [one["function"]["arguments"] for one in calls]
    for call in calls:
        jsonschema.validate(
            json.loads(call["function"]["arguments"]), TOOLS[0]["function"]["parameters"]
        )
    assert len({call["id"] for call in calls}) == len(calls)


@pytest.mark.parametrize("after_s", [0.001, 0.5], ids=["prefill", "decode"])
@pytest.mark.parametrize("stream", [True, False])
@under_mock_clock
async def test_3_a_client_that_goes_away_frees_its_experts_within_a_second(
    after_s: float, stream: bool
) -> None:
    async with serving() as client, trio.open_nursery() as nursery:
        gone = trio.Event()
        body = json.dumps(chat(model="swarm", max_tokens=4000, stream=stream)).encode()
        kind = {"content-type": "application/json"}
        nursery.start_soon(partial(client.send, "POST", CHAT, body, kind, gone=gone))
        await trio.sleep(after_s)
        first = client.swarm.members[0].local
        assert first.view().answers_open == 1
        gone.set()
        await trio.sleep(1)
        assert first.view().answers_open == 0
        served = [m.engine.served for m in client.swarm.members if m.engine is not None]
        await trio.sleep(5)
        assert served == [m.engine.served for m in client.swarm.members if m.engine is not None]


@under_mock_clock
async def test_4_there_is_one_bos_whether_or_not_the_template_writes_it() -> None:
    counts = []
    for bos in ("{{ bos_token }}", ""):
        template = bos + "{% for message in messages %}{{ message.content }}{% endfor %}"
        async with serving([7], chat_template=template) as client:
            counts.append((await client.post(CHAT, chat())).json()["usage"]["prompt_tokens"])
    assert counts == [1 + len("hi")] * 2


@pytest.mark.parametrize("top", [0, 20])
@under_mock_clock
async def test_5_logprobs_are_as_many_as_tokens_and_their_bytes_are_the_text(top: int) -> None:
    async with serving() as client:
        streamed, whole = await both(client, chat(logprobs=True, top_logprobs=top))
        body = {"model": "local", "prompt": "hi", "max_tokens": 8, "logprobs": top}
        legacy = (await client.post("/v1/completions", body)).json()["choices"][0]
    entries = whole["logprobs"]["content"]
    assert len(entries) == 8
    assert (
        bytes(b for one in entries for b in one["bytes"]).decode(errors="replace")
        == (whole["message"]["content"])
    )
    assert all(len(one["top_logprobs"]) == top for one in entries)
    told = [one["choices"][0].get("logprobs") for one in chunks(streamed)]
    assert [entry for one in told if one for entry in one["content"]] == entries
    lists = legacy["logprobs"]
    assert {len(one) for one in lists.values()} == {8}
    assert lists["text_offset"][0] == 0


@under_mock_clock
async def test_6_characters_of_several_tokens_are_never_cut() -> None:
    wanted = "漢字🙂é"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [wanted]}}}
    async with serving([7], stop_tokens=EOS) as client:
        streamed, whole = await both(client, chat(response_format=form, max_tokens=100))
    assert json.loads(whole["message"]["content"]) == wanted
    assert said(streamed) == whole["message"]["content"]
    assert "\ufffd" not in streamed.body.decode()


@pytest.mark.parametrize("stream", [True, False])
@under_mock_clock
async def test_7_a_prompt_of_one_token_too_many_is_refused_with_both_numbers(stream: bool) -> None:
    async with serving(context_max=64) as client:
        prompt = list(range(97, 97 + 26)) * 3
        for count, status in ((62, 200), (64, 400)):  # And one BOS.
            body = {"model": "swarm", "prompt": prompt[:count], "stream": stream}
            got = await client.post("/v1/completions", body)
            assert got.status == status
    error = got.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "65 tokens" in error["message"]
    assert "64 tokens" in error["message"]


@pytest.mark.parametrize("as_list", [True, False])
@under_mock_clock
async def test_8_a_stop_string_across_two_tokens_leaks_no_beginning(as_list: bool) -> None:
    async with serving([7]) as client:
        whole = (await client.post(CHAT, chat(max_tokens=20))).json()
        text = whole["choices"][0]["message"]["content"]
        stop = text[len(text) // 2 : len(text) // 2 + 4]
        streamed, found = await both(
            client, chat(max_tokens=20, stop=[stop, "\N{SNOWMAN}"] if as_list else stop)
        )
    assert found["message"]["content"] == text[: text.index(stop)] == said(streamed)
    assert found["finish_reason"] == "stop"


@under_mock_clock
async def test_8_a_stop_string_ends_the_json_of_a_format_and_stands_beside_tools() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["abcdef"]}}}
    async with serving([7], stop_tokens=EOS) as client:
        _, cut = await both(client, chat(response_format=form, stop="de", max_tokens=50))
        required = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 400}
        _, called = await both(client, chat(stop=['"', "n"], **required))
    assert (cut["message"]["content"], cut["finish_reason"]) == ('"abc', "stop")
    assert called["finish_reason"] == "tool_calls"
    for call in called["message"]["tool_calls"]:
        assert json.loads(call["function"]["arguments"])["n"] in {1, 2, 3}


@under_mock_clock
async def test_9_the_reason_of_the_end_is_in_the_last_delta_alone() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["a"]}}}
    async with serving([7], stop_tokens=EOS) as client:
        for more, reason in (
            ({"max_tokens": 1}, "length"),
            ({"response_format": form, "max_tokens": 50}, "stop"),
            ({"tools": TOOLS, "tool_choice": "required", "max_tokens": 400}, "tool_calls"),
        ):
            streamed, whole = await both(client, chat(**more))
            assert whole["finish_reason"] == reason
            reasons = [one["choices"][0]["finish_reason"] for one in chunks(streamed)]
            assert reasons == [None] * (len(reasons) - 1) + [reason]


@under_mock_clock
async def test_10_a_preflight_needs_no_key_and_only_named_origins_pass() -> None:
    guard = Guard(keys=frozenset({"sha256:" + "0" * 64}), origins=frozenset({"https://a.example"}))
    async with serving(guard=guard) as client:
        asks = {"access-control-request-method": "POST"}
        good = await client.send("OPTIONS", CHAT, b"", asks | {"origin": "https://a.example"})
        bad = await client.send("OPTIONS", CHAT, b"", asks | {"origin": "https://b.example"})
        keyless = await client.post(CHAT, chat(), origin="https://a.example")
    assert good.status == 204
    assert good.headers["access-control-allow-origin"] == "https://a.example"
    assert bad.status == 403
    assert "access-control-allow-origin" not in bad.headers
    assert keyless.status == 401
    assert keyless.headers["access-control-allow-origin"] == "https://a.example"


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "developer", "content": "Be brief."}, *HELLO],
        [*HELLO, {"role": "system", "content": "Be brief."}, *HELLO],
        [*HELLO, *HELLO],
        [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        [*HELLO, {"role": "assistant", "content": None}],
        [{"role": "user", "content": None}],
        [{"role": "user"}],
        [{"role": "narrator", "content": "hi"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "user", "content": {"a": 1}}],
        ["hi"],
        [None],
        [
            *HELLO,
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "a", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "3"},
        ],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "["}}]}],
        [{"role": "user", "content": "\ud800"}],
    ],
    ids=str,
)
@under_mock_clock
async def test_11_any_order_of_roles_is_answered_or_refused_with_a_reason(
    messages: list[Any],
) -> None:
    async with serving([7]) as client:
        got = await client.post(CHAT, chat(messages=messages, max_tokens=1))
    assert got.status in {200, 400}
    if got.status == 400:
        assert len(got.json()["error"]["message"]) > 10


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (CHAT, {"messages": HELLO, "reasoning_effort": "none", "store": False, "user": "a"}),
        ("/v1/responses", {"input": "a", "reasoning": {"effort": "none", "summary": "auto"}}),
        ("/v1/responses", {"input": "a", "client_metadata": {}, "prompt_cache_key": "a"}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 1, "thinking": {"type": "disabled"}}),
    ],
    ids=str,
)
@under_mock_clock
async def test_11_what_agents_send_and_what_changes_nothing_is_taken(path: str, more: Any) -> None:
    async with serving([7], stop_tokens=frozenset(range(64, 512))) as client:
        got = await client.post(path, {"model": "local", **more})
    assert got.status == 200


@under_mock_clock
async def test_12_events_of_responses_are_in_order_and_numbered() -> None:
    async with serving() as client:
        body = {"model": "swarm", "input": "hi", "max_output_tokens": 4, "stream": True}
        got = await client.post("/v1/responses", body)
    assert [one["sequence_number"] for one in got.events] == list(range(len(got.events)))
    assert [one["type"] for one in got.events] == got.names
    assert got.names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert got.names[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    deltas = [one["delta"] for one in got.events if one["type"] == "response.output_text.delta"]
    assert got.events[-1]["response"]["output"][0]["content"][0]["text"] == "".join(deltas)


@under_mock_clock
async def test_13_a_seed_gives_one_text_beside_other_requests_and_n_choices_differ() -> None:
    async with serving([7]) as client:
        alone = (await client.post(CHAT, chat())).json()["choices"][0]["message"]
        async with trio.open_nursery() as nursery:
            for seed in range(3):
                nursery.start_soon(client.post, CHAT, chat(seed=seed))
            beside = (await client.post(CHAT, chat())).json()["choices"][0]["message"]
        several = (await client.post(CHAT, chat(n=3))).json()["choices"]
    assert beside == alone == several[0]["message"]
    assert len({one["message"]["content"] for one in several}) == 3
    assert [one["index"] for one in several] == [0, 1, 2]


def random_words(rng: random.Random) -> list[str]:
    return ["".join(chr(rng.randrange(32, 0x3000)) for _ in range(5)) for _ in range(3)]


def random_schema(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    """Closed and bounded, so that an answer comes to an end whatever is drawn."""
    match rng.randrange(9 if depth else 6):
        case 0:
            return {"enum": random_words(rng)}
        case 1:
            return {"type": rng.choice(["boolean", "null"])}
        case 2:
            low = rng.randrange(-99, 99)
            return {"type": "integer", "minimum": low, "maximum": low + rng.randrange(2000)}
        case 3:
            return {"type": "string", "maxLength": rng.randrange(9)}
        case 4:
            return {"type": "string", "pattern": "^[a-c]{1,4}-[0-9]{2}$"}
        case 5:
            return {"const": rng.choice([*random_words(rng), 7, None])}
        case 6:
            items = random_schema(rng, depth - 1)
            return {"type": "array", "items": items, "minItems": 1, "maxItems": 2}
        case 7:
            return {"anyOf": [random_schema(rng, depth - 1) for _ in range(2)]}
        case _:
            names = rng.sample("abcdé", rng.randrange(1, 4))
            return {
                "type": "object",
                "properties": {name: random_schema(rng, depth - 1) for name in names},
                "required": names[: rng.randrange(4)],
                "additionalProperties": False,
            }


@under_mock_clock
async def test_14_replies_to_random_schemas_validate_at_a_high_temperature() -> None:
    rng = random.Random(1)
    schemas: list[Any] = [{"enum": [word for _ in range(10) for word in random_words(rng)]}]
    while len(schemas) < 51:
        if (schema := random_schema(rng)) not in schemas:
            schemas.append(schema)
    async with serving([7], stop_tokens=EOS) as client:
        for seed, schema in enumerate(schemas):
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
            body = chat(response_format=form, temperature=1.5, max_tokens=500, seed=seed)
            got = await client.post(CHAT, body)
            choice = got.json()["choices"][0]
            assert choice["finish_reason"] == "stop"
            jsonschema.validate(json.loads(choice["message"]["content"]), schema)


@pytest.mark.parametrize(
    "body", [b"[]", b'"x"', b"\xff", b"", b"{", b"null", b'{"a":' * 9999, b"1e999", b"{}"], ids=repr
)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
@under_mock_clock
async def test_15_what_is_no_request_is_told_so_in_json(body: bytes, path: str) -> None:
    async with serving([7]) as client:
        got = await client.post(path, body)
    assert got.status == 400
    assert got.json()["error"]["message"]


@under_mock_clock
async def test_16_what_fails_in_mid_stream_is_an_error_event_and_the_end_without_done() -> None:
    async with serving([7]) as client, trio.open_nursery() as nursery:
        got, body = Got(), json.dumps(chat(stream=True, max_tokens=3000)).encode()
        kind = {"content-type": "application/json"}
        nursery.start_soon(client.send, "POST", CHAT, body, kind, got)
        await trio.sleep(0.5)
        engine = client.swarm.members[0].engine
        assert engine is not None
        engine.die()
    assert got.status == 200
    assert got.over.is_set()
    assert got.events[-1]["error"]["message"]
    assert "[DONE]" not in got.events


@under_mock_clock
async def test_17_deltas_have_no_null_fields_and_the_first_one_has_the_role() -> None:
    async with serving([7], stop_tokens=EOS) as client:
        wanted: list[dict[str, Any]] = [
            {},
            {"tools": TOOLS, "tool_choice": "required", "max_tokens": 300},
        ]
        for more in wanted:
            found = chunks(await client.post(CHAT, chat(stream=True, **more)))
            assert found[0]["choices"][0]["delta"]["role"] == "assistant"
            for one in found:
                assert "null" not in json.dumps(one["choices"][0]["delta"])


@pytest.mark.parametrize(
    ("path", "more", "param"),
    [
        (CHAT, {"audio": {}}, "audio"),
        (CHAT, {"colour": "red"}, "colour"),
        (CHAT, {"n": 9}, "n"),
        (CHAT, {"n": "2"}, "n"),
        (CHAT, {"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        (CHAT, {"logit_bias": {"a": 1}}, "logit_bias.a"),
        (CHAT, {"top_logprobs": 3}, "top_logprobs"),
        (CHAT, {"tool_choice": "required"}, "tool_choice"),
        (CHAT, {"response_format": {"type": "yaml"}}, "response_format.type"),
        (CHAT, {"swarm": {"speed": 1}}, "swarm.speed"),
        (CHAT, {"swarm": {"speculation": 1}}, "swarm.speculation"),
        (CHAT, {"messages": [{"role": "clown"}]}, "messages[0].role"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
        ),
        (CHAT, {"temperature": -1}, "temperature"),
        ("/v1/completions", {"suffix": "x"}, "suffix"),
        ("/v1/completions", {"prompt": [[1, "x"]]}, "prompt[0][1]"),
        ("/v1/responses", {"previous_response_id": "x"}, "previous_response_id"),
        ("/v1/responses", {"input": [{"type": "computer_call"}]}, "input[0]"),
    ],
    ids=str,
)
@under_mock_clock
async def test_18_what_cannot_be_served_is_named(
    path: str, more: dict[str, Any], param: str
) -> None:
    given: dict[str, dict[str, Any]] = {
        CHAT: {"messages": HELLO},
        "/v1/completions": {"prompt": "a"},
    }
    async with serving([7]) as client:
        got = await client.post(path, {"model": "swarm", **given.get(path, {"input": "a"}), **more})
    assert got.status == 400
    assert got.json()["error"]["param"] == param


@under_mock_clock
async def test_19_an_answer_goes_on_when_an_expert_dies_in_mid_stream() -> None:
    async with serving([7, 8, 9]) as client, trio.open_nursery() as nursery:
        options = {"include_usage": True}
        body = chat(model="swarm", stream=True, max_tokens=60, stream_options=options)
        got, kind = Got(), {"content-type": "application/json"}
        nursery.start_soon(client.send, "POST", CHAT, json.dumps(body).encode(), kind, got)
        await trio.sleep(0.5)
        client.swarm.members[2].kill()
        before = len(got.events)
    assert 1 < before < 60, "it died in the middle of the answer"
    assert got.events[-1] == "[DONE]"
    usage = got.events[-2]["usage"]
    assert usage["completion_tokens"] == 60
    assert usage["completion_tokens_details"]["swarm"]["failovers"] >= 1


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
@under_mock_clock
async def test_20_a_halt_in_mid_stream_is_told_within_a_second(path: str) -> None:
    founders = Founders()
    async with serving([7, 8], pin=founders.pin) as client, trio.open_nursery() as nursery:
        got, kind = Got(), {"content-type": "application/json"}
        body = {"model": "swarm", "messages": HELLO, "max_tokens": 3000, "stream": True}
        nursery.start_soon(client.send, "POST", path, json.dumps(body).encode(), kind, got)
        await trio.sleep(0.5)
        client.swarm.members[0].local.stop_here()
        halted_at = trio.current_time()
        await got.over.wait()
        assert trio.current_time() < halted_at + 1
        again = await client.post(path, body)
    assert got.status == 200
    assert "[DONE]" not in got.events
    assert "error" in got.events[-1]
    if path == CHAT:
        assert got.events[-1]["error"]["code"] == "halted"
    assert again.status == 503
    assert int(again.headers["retry-after"]) > 0


def test_21_models_tell_the_swarm_from_the_own_expert_and_have_the_least_context() -> None:
    def expert(model: str, context: int, local: bool = False, digest: str = "") -> dict[str, Any]:
        digest = digest or model * 64
        more = {"context_max": context, "local": local, "started": 1.5, "connected": True}
        return {"model": model, "digest": digest, **more}

    experts = [expert("a", 100, local=True), expert("b", 80), expert("b", 90)]
    found = {one["id"]: one.get("context_length") for one in listed(experts, 0)}
    assert found == {"swarm": 80, "local": 100, "a": 100, "b": 80}
    twice = {one["id"] for one in listed([expert("b", 1), expert("b", 1, digest="c" * 64)], 0)}
    assert twice == {"swarm", "b@bbbbbbbb", "b@cccccccc"}
    assert "context_length" not in listed([], 7.0)[0]


@under_mock_clock
async def test_22_a_comment_keeps_the_connection_while_the_swarm_is_slow() -> None:
    async with serving([7]) as client, trio.open_nursery() as nursery:
        got, body = Got(), json.dumps(chat(stream=True, max_tokens=3)).encode()
        client.swarm.members[0].freeze()
        began_at = trio.current_time()
        nursery.start_soon(
            client.send, "POST", CHAT, body, {"content-type": "application/json"}, got
        )
        await trio.sleep(2.5 * KEEP_ALIVE_S)
        assert got.status == 200
        assert b": keep-alive\n\n" in got.chunks
        assert got.times[0] <= began_at + KEEP_ALIVE_S
        client.swarm.members[0].thaw()
    assert got.events[-1] == "[DONE]"
    assert len(said(got)) > 0
