"""Who may ask: hosts, origins, keys, types, sizes and pace."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.api.guard import BODY_BYTES_MAX, BODY_S, BURST, OPEN_MAX, PER_S, Guard
from swarmllm.api.problem import Problem
from tests.api.http_client import HOST, serving
from tests.clock import under_mock_clock

KEY = "a-key-of-sixteen-or-more"
HASHED = "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()
CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


def status(guard: Guard, method: str = "GET", path: str = "/v1/models", **headers: str) -> int:
    given = {"host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        guard.check(method, path, given, 0.0)
        guard.check_body(method, given)
    except Problem as problem:
        return problem.status
    return 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:7337"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost.evil.example:7337"},
        {"host": "evil.example:7337", "origin": "http://evil.example:7337"},
        {"host": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"http://{HOST}.evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"host": "[::1", "origin": "http://[::1"},
        {"host": "2130706433"},
        {"host": "127.1"},
    ],
    ids=str,
)
def test_a_page_of_elsewhere_and_a_name_that_points_here_are_refused(headers: Any) -> None:
    assert status(Guard(), **headers) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost"},
        {"host": "LOCALHOST:7337"},
        {"host": "[::1]:7337"},
        {"host": "192.168.1.5:7337"},
        {"host": "node.lan:7337"},
        {"origin": f"http://{HOST}", "sec_fetch_site": "same-origin"},
        {"origin": "https://app.example", "sec_fetch_site": "cross-site"},
    ],
    ids=str,
)
def test_programs_the_own_page_and_what_is_named_may_ask(headers: Any) -> None:
    guard = Guard(hosts=frozenset({"node.lan"}), origins=frozenset({"https://app.example"}))
    assert status(guard, **headers) == 200


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_host_or_origin_is_a_fault_of_ours(host: str, origin: str) -> None:
    assert status(Guard(), host=host, origin=origin) in {200, 403}


def test_a_key_is_asked_for_everywhere_but_at_health() -> None:
    guard = Guard(keys=frozenset({HASHED}))
    assert status(guard) == 401
    assert status(guard, path="/health") == 200
    assert status(guard, authorization=f"Bearer {KEY}") == 200
    assert status(guard, authorization=f"bearer {KEY}") == 200
    assert status(guard, x_api_key=KEY) == 200
    for wrong in (f"Bearer {KEY}x", f"Basic {KEY}", KEY, f"Bearer {HASHED}", "Bearer "):
        assert status(guard, authorization=wrong) == 401


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"content_type": "application/json", "content_encoding": "gzip"}, 415),
        ({"content_type": "application/json", "content_length": str(BODY_BYTES_MAX + 1)}, 413),
        ({"content_type": "application/json", "content_length": "9" * 5000}, 413),
        ({"content_type": "application/json", "content_length": "²"}, 413),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bodies_are_json_of_a_bounded_size(headers: Any, expected: int) -> None:
    assert status(Guard(), "POST", CHAT, **headers) == expected


def test_a_key_has_so_many_requests_at_once_and_so_many_each_second() -> None:
    guard = Guard()
    found = [0.0] * int(BURST) + [0.0] + [1.0] * int(PER_S) + [1.0]
    told = []
    for now in found:
        try:
            guard.check("GET", "/v1/models", {"host": HOST}, now)
            told.append(200)
        except Problem as problem:
            told.append(problem.status)
    assert [i for i, one in enumerate(told) if one == 429] == [int(BURST), len(found) - 1]


@under_mock_clock
async def test_changes_need_the_token_of_the_folder_also_on_loopback() -> None:
    async with serving([7], guard=Guard(token="t" * 20)) as client:
        local = client.swarm.members[0].local
        for more in ({}, {"x-swarmllm-token": "u" * 20}, {"x-swarmllm-token": ""}):
            got = await client.post("/api/shutdown", {}, **more)
            assert got.status == 403
        with trio.move_on_after(1) as waiting:
            await local.wait_stopped()
        assert waiting.cancelled_caught
        got = await client.post("/api/shutdown", {}, **{"x-swarmllm-token": "t" * 20})
        assert got.json()["records"][0]["event"] == "stopping"
        nobody = await client.get("/api/shutdown")
    assert nobody.status == 405
    assert nobody.headers["allow"] == "POST"


@under_mock_clock
async def test_the_request_after_so_many_open_ones_is_told_to_come_back() -> None:
    async with serving([7]) as client, trio.open_nursery() as nursery:
        client.swarm.members[0].freeze()
        gone = trio.Event()
        body = b'{"model":"swarm","prompt":"a","max_tokens":1}'
        for _ in range(OPEN_MAX):
            nursery.start_soon(client.send, "POST", "/v1/completions", body, JSON, None, gone)
        await trio.sleep(0.1)
        assert (await client.get("/v1/models")).status == 429
        assert (await client.get("/health")).status == 200
        gone.set()
        await trio.sleep(0.1)
        assert (await client.get("/v1/models")).status == 200


@under_mock_clock
async def test_a_body_that_does_not_come_or_is_too_long_is_given_up() -> None:
    async with serving([7]) as client:
        found: list[int] = []

        async def send(message: Any) -> None:
            await trio.lowlevel.checkpoint()
            if message["type"] == "http.response.start":
                found.append(message["status"])

        async def never() -> Any:
            await trio.sleep_forever()

        async def endless() -> Any:
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": b" " * (1 << 20), "more_body": True}

        headers = [(b"host", HOST.encode()), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": CHAT, "query_string": b""}
        began_at = trio.current_time()
        for receive in (never, endless):
            await client.app({**scope, "headers": headers, "root_path": ""}, receive, send)
        assert trio.current_time() < began_at + BODY_S + 1
    assert found == [408, 413]


@under_mock_clock
async def test_nothing_of_a_prompt_is_in_what_a_fault_of_ours_leaves(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise ValueError("the canary sings")

    monkeypatch.setattr("swarmllm.api.routes.resolved", broken)
    async with serving([7]) as client:
        got = await client.post("/v1/completions", {"model": "swarm", "prompt": "the canary"})
    assert got.status == 500
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text + got.body.decode()
