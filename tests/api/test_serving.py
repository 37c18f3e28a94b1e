"""The server over real sockets: it answers, gives up clients that do not read, and ends at once."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmllm.api import serving as module
from swarmllm.api.serving import TOKEN_FILE, Options, serving
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.service.service import Service
from tests.runtime.little_swarm import little_swarm


def options(folder: Path, host: str = "127.0.0.1", port: int = 0, *keys: str) -> Options:
    return Options(host, port, keys, (), (), folder / TOKEN_FILE)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(60):
            await body()

    trio.run(limited)


@asynccontextmanager
async def opened(folder: Path, loaded: Callable[[], None] = lambda: None) -> AsyncIterator[int]:
    """The port of a node's API."""
    async with little_swarm([7], delay_s=0.001, service_s=0.001) as swarm:
        await swarm.wait_met()
        service = Service()
        service.open(swarm.members[0].local)
        async with serving(service, options(folder), loaded) as url:
            yield int(url.rpartition(":")[2])


def request(port: int, body: object, path: str = "/v1/completions") -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def read_until(stream: trio.SocketStream, mark: bytes) -> bytes:
    found = b""
    while mark not in found:
        more = await stream.receive_some(4096)
        assert more, found
        found += more
    return found


def test_a_stream_comes_over_a_socket_and_the_connection_serves_the_next_request(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        async with opened(tmp_path) as port:
            asked = {"model": "swarm", "prompt": "a", "max_tokens": 3, "stream": True}
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                for _ in range(2):
                    await stream.send_all(request(port, asked))
                    got = await read_until(stream, b"\r\n0\r\n\r\n")
                    assert got.startswith(b"HTTP/1.1 200")
                    assert b"text/event-stream" in got
                    assert b"[DONE]" in got

    run(body)


def test_it_is_told_once_that_all_which_the_api_needs_is_loaded(tmp_path: Path) -> None:
    told: list[bool] = []

    async def body() -> None:
        async with opened(
            tmp_path, lambda: told.append("hypercorn.trio.tcp_server" in sys.modules)
        ) as port:
            assert told == []
            for _ in range(2):
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await stream.send_all(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                    await read_until(stream, b"ok")
        assert told == [True]

    run(body)


@pytest.mark.parametrize("stream", [True, False])
def test_a_connection_that_is_to_be_closed_is_closed_behind_the_reply(
    tmp_path: Path, stream: bool
) -> None:
    """The end of the reply tells the application that its client is gone; that had cancelled the
    server in the middle of closing, and such clients waited for ever."""

    async def body() -> None:
        async with opened(tmp_path) as port:
            asked = {"model": "swarm", "prompt": "a", "max_tokens": 3, "stream": stream}
            data = request(port, asked).replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
            async with await trio.open_tcp_stream("127.0.0.1", port) as connection:
                await connection.send_all(data)
                got = b"".join([one async for one in connection])
                assert got.startswith(b"HTTP/1.1 200")

    run(body)


def test_a_refusal_before_the_body_came_keeps_the_connection(tmp_path: Path) -> None:
    async def body() -> None:
        async with opened(tmp_path) as port:
            asked = {"model": "swarm", "prompt": "a", "max_tokens": 1}
            late = request(port, asked | {"prompt": "a" * 100_000}, "/v1/nothing")
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(late[:300])
                await trio.sleep(0.1)
                await stream.send_all(late[300:])
                assert (await read_until(stream, b"not_found")).startswith(b"HTTP/1.1 404")
                await stream.send_all(request(port, asked))
                assert b"HTTP/1.1 200" in await read_until(stream, b"text_completion")

    run(body)


async def drained(stream: trio.SocketStream) -> None:
    """Until the other end has closed it."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some(1 << 20):
            pass


async def large(scope: Any, receive: Any, send: Any) -> None:
    """An application whose reply is more than the buffers of both ends hold."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(64):
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})


@pytest.mark.parametrize("send_s", [0.2, 3600.0], ids=["in time", "at the end of the node"])
def test_a_client_that_does_not_read_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, send_s: float
) -> None:
    monkeypatch.setattr(module, "SEND_S", send_s)
    monkeypatch.setattr("swarmllm.api.routes.api", lambda *_, **__: large)

    async def body() -> None:
        async with AsyncExitStack() as stack:
            async with serving(Service(), options(tmp_path)) as url:
                port = int(url.rpartition(":")[2])
                stream = await stack.enter_async_context(
                    await trio.open_tcp_stream("127.0.0.1", port)
                )
                await stream.send_all(request(port, {}))
                await read_until(stream, b"HTTP/1.1 200")
                await trio.sleep(0.5)  # Until the buffers of both ends are full.
                if send_s < 1:
                    await drained(stream)

    run(body)


def test_the_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    async def body() -> None:
        for _ in range(2):
            async with serving(Service(), options(tmp_path)):
                tokens.append((tmp_path / TOKEN_FILE).read_text())

    tokens: list[str] = []
    run(body)
    assert tokens[0] == tokens[1]
    assert len(tokens[0]) > 40
    assert stat.S_IMODE((tmp_path / TOKEN_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("held", [b"", b"\n", "g\u00e9n\u00e9\n".encode(), b"a" * 300])
def test_what_is_no_token_is_told_with_its_path(tmp_path: Path, held: bytes) -> None:
    """An empty one is what a node leaves that is killed, or has no room, while it makes it."""

    async def body() -> None:
        with pytest.raises(LocalError, match=str(tmp_path / TOKEN_FILE)):
            async with serving(Service(), options(tmp_path)):
                pass

    (tmp_path / TOKEN_FILE).write_bytes(held)
    (tmp_path / TOKEN_FILE).chmod(0o600)
    run(body)


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        with pytest.raises(LocalError, match="chmod 600"):
            async with serving(Service(), options(tmp_path)):
                pass

    (tmp_path / TOKEN_FILE).write_text("a" * 43)
    (tmp_path / TOKEN_FILE).chmod(0o644)
    run(body)


def test_a_port_that_is_taken_is_said_unless_nobody_chose_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(Service(), options(tmp_path)) as url:
            port = int(url.rpartition(":")[2])
            with pytest.raises(LocalError, match=f"port {port}"):
                async with serving(Service(), options(tmp_path, port=port)):
                    pass
            usual = options(tmp_path, port=module.DEFAULT_PORT)
            async with serving(Service(), usual) as one, serving(Service(), usual) as other:
                assert one != other

    run(body)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_beyond_loopback_there_is_no_api_without_a_key(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="--api-key"):
        options(tmp_path, host).check()
    options(tmp_path, host, 0, "sha256:" + "0" * 64).check()
    options(tmp_path, "::1").check()
