"""The local socket: only for its user, one question a connection, everything bounded, and no node
harmed by a bad client."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.local_api.client import NoNodeError, ask, asking
from swarmllm.runtime.local_api.lines import format_line, parse_line
from swarmllm.runtime.local_api.server import serve
from swarmllm.runtime.local_api.socket_path import NAME, PATH_BYTES_MAX, POINTER, bind, find
from swarmllm.runtime.service.json_events import error_record
from swarmllm.runtime.service.request import FIELDS, parse_request
from swarmllm.runtime.service.service import Service
from tests.runtime.little_swarm import LittleSwarm, little_swarm


@asynccontextmanager
async def serving(
    folder: Path, *, started: bool = True
) -> AsyncIterator[tuple[Service, LittleSwarm]]:
    """A swarm of two with the first member's socket in `folder`."""
    service = Service()
    async with (
        little_swarm([7, 7], delay_s=0.001, service_s=0.001) as swarm,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(partial(serve, service, folder, fallback=folder / "s"))
        if started:
            await swarm.wait_met()
            service.open(swarm.members[0].local)
        yield service, swarm
        nursery.cancel_scope.cancel()


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(30):
            await body()

    trio.run(limited)


async def records_of(folder: Path, op: str, **values: object) -> list[dict[str, Any]]:
    async with asking(folder, op, **values) as records:
        return [record async for record in records]


async def say(folder: Path, line: bytes) -> dict[str, Any]:
    """One raw line, and the record that answers it."""
    async with await trio.open_unix_socket(str(folder / NAME)) as stream:
        await stream.send_all(line)
        answer = b""
        while not answer.endswith(b"\n"):
            data = await stream.receive_some()
            assert data, f"closed after {answer!r}"
            answer += data
        return parse_line(answer)


def test_an_answer_streams_tokens_and_then_one_end(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path):
            asked = {"k": 2, "max_tokens": 5, "temperature": 0, "seed": 3, "turns": [2, 4]}
            weighed, *records = await records_of(tmp_path, "generate", prompt="hello", **asked)
            assert (weighed["event"], weighed["known"]) == ("weighed", 2)
            assert sum(e["share"] for e in weighed["experts"]) == pytest.approx(1, abs=0.01)
            assert [r["event"] for r in records] == ["token"] * 5 + ["end"]
            assert [r["index"] for r in records[:-1]] == list(range(5))
            assert records[-1]["text"] == "".join(r["text"] for r in records[:-1])
            assert records[-1]["reason"] == "length"
            assert {e["peer"] for r in records[:-1] for e in r["experts"]} <= set(
                await peers(tmp_path)
            )
            assert all(
                sum(e["weight"] for e in r["experts"]) == pytest.approx(1, abs=0.01)
                for r in records[:-1]
            )

    run(body)


async def peers(folder: Path) -> list[str]:
    return [e["peer"] for e in (await ask(folder, "experts"))["experts"]]


def test_status_and_experts_say_what_the_node_sees(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as (_, swarm):
            status = await ask(tmp_path, "status")
            one, other = (m.peer for m in swarm.members)
            assert (status["event"], status["state"], status["peer"]) == ("status", "running", one)
            assert status["peers"] == [other]
            assert {e["peer"]: e["local"] for e in status["experts"]} == {one: True, other: False}
            assert (await ask(tmp_path, "experts"))["experts"] == status["experts"]

    run(body)


def test_a_node_that_is_still_starting_says_so_and_answers_as_soon_as_it_can(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        async with serving(tmp_path, started=False) as (service, swarm):
            assert (await ask(tmp_path, "status"))["state"] == "starting"
            records: list[dict[str, Any]] = []

            async def generate() -> None:
                records.extend(await records_of(tmp_path, "generate", prompt="hello", max_tokens=2))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(generate)
                assert (await ask(tmp_path, "status"))["state"] == "starting"
                assert records == []
                service.open(swarm.members[0].local)
            assert records[-1]["event"] == "end"

    run(body)


def test_shutdown_is_confirmed_and_passed_on(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as (service, _):
            assert (await ask(tmp_path, "shutdown"))["event"] == "stopping"
            await service.wait_shutdown()

    run(body)


@pytest.mark.parametrize("way", ["close", "cancel"])
def test_a_client_that_leaves_or_cancels_ends_its_answer(tmp_path: Path, way: str) -> None:
    async def body() -> None:
        async with serving(tmp_path) as (_, swarm):
            async with asking(tmp_path, "generate", prompt="hello", max_tokens=4000) as records:
                await anext(records)
                if way == "cancel":
                    await records.cancel()
                    assert [r async for r in records][-1]["reason"] == "cancelled"
            while swarm.members[0].local.view().answers_open:  # The time limit is the test.
                await trio.lowlevel.checkpoint()

    run(body)


def test_events_tell_of_peers_as_they_go(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as (_, swarm), asking(tmp_path, "events") as records:
            await ask(tmp_path, "status")  # By now the question before it has been read.
            swarm.members[1].kill()
            seen = {record["event"] async for record in until(records, "expert_lost")}
            assert "peer_lost" in seen

    run(body)


def test_a_listener_that_leaves_is_forgotten(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as (_, swarm):
            listeners = swarm.members[0].driver._listeners
            async with asking(tmp_path, "events"):
                while not listeners:
                    await trio.lowlevel.checkpoint()
            while listeners:  # The time limit is the test.
                await trio.lowlevel.checkpoint()

    run(body)


async def until(
    records: AsyncIterator[dict[str, Any]], event: str
) -> AsyncIterator[dict[str, Any]]:
    async for record in records:
        yield record
        if record["event"] == event:
            return


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"not json\n",
        b"[1, 2]\n",
        b"{}\n",
        b'{"v": 2, "op": "status"}\n',
        b'{"v": 1}\n',
        b'{"v": 1, "op": "dance"}\n',
        b'{"v": 1, "op": ["generate"]}\n',
        b'{"v": 1, "op": "generate"}\n',
        b'{"v": 1, "op": "generate", "prompt": ""}\n',
        b'{"v": 1, "op": "generate", "prompt": 5}\n',
        b'{"v": 1, "op": "generate", "prompt": "x", "k": true}\n',
        b'{"v": 1, "op": "generate", "prompt": "x", "k": "3"}\n',
        b'{"v": 1, "op": "generate", "prompt": "x", "k": 1000}\n',
        b'{"v": 1, "op": "generate", "prompt": "x", "temperature": NaN}\n',
        b'{"v": 1, "op": "generate", "prompt": "x", "stop": "x"}\n',
        b'{"v": 1, "op": "generate", "prompt": "x", "stop": [1]}\n',
        b'{"v": 1, "op": "generate", "prompt": "x", "colour": "red"}\n',
        b'{"v": 1, "op": "generate", "prompt": "x", "max_tokens": 99999}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_a_malformed_question_gets_one_error_record_and_harms_nobody(
    tmp_path: Path, line: bytes
) -> None:
    async def body() -> None:
        async with serving(tmp_path):
            record = await say(tmp_path, line)
            assert record["event"] == "error"
            assert record["exit_code"] == 2
            assert record["message"]
            assert (await ask(tmp_path, "status"))["state"] == "running"

    run(body)


def test_errors_come_out_at_the_client_as_the_errors_they_are(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path):
            with pytest.raises(UsageError, match="prompt is empty"):
                await records_of(tmp_path, "generate", prompt="")
            with pytest.raises(UsageError, match=r"max_tokens is 99999.*4096"):
                await records_of(tmp_path, "generate", prompt="x", max_tokens=99999)

    run(body)


def test_an_endless_line_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmllm.runtime.local_api.server.LINE_BYTES_MAX", 1000)

    async def body() -> None:
        async with serving(tmp_path):
            record = await say(tmp_path, b'{"v": 1, "op": "status", "x": "' + b"a" * 5000)
            assert record["event"] == "error"

    run(body)


@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "other"]),
        st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.lists(st.text()),
    )
)
def test_any_fields_make_a_request_or_one_usage_error(fields: dict[str, Any]) -> None:
    try:
        request = parse_request(fields)
    except UsageError:
        return
    assert request.prompt == fields["prompt"]
    try:
        request.check()
    except UsageError:
        return
    assert request.prompt


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_a_line_holds_any_text(text: str) -> None:
    line = format_line({"text": text})
    assert line.count(b"\n") == 1
    assert json.loads(line)["text"] == text


# --- where it lies --------------------------------------------------------------------------------


def test_the_socket_is_for_its_user_alone_and_goes_with_the_node(tmp_path: Path) -> None:
    async def body() -> None:
        with bind(tmp_path, tmp_path / "s") as (_, path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert find(tmp_path) == path
        assert not path.exists()
        assert find(tmp_path) is None

    before = os.umask(0)
    try:
        run(body)
    finally:
        os.umask(before)


def test_a_socket_left_by_a_killed_node_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    async def body() -> None:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(tmp_path / NAME))
            with pytest.raises(NoNodeError):
                await ask(tmp_path, "status")
            with bind(tmp_path, tmp_path / "s"):
                with (
                    pytest.raises(LocalError, match="another node listens"),
                    bind(tmp_path, tmp_path / "s"),
                ):
                    pass

    run(body)


def test_a_data_folder_with_a_long_path_has_its_socket_elsewhere_and_clients_find_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ("long" * (PATH_BYTES_MAX // 4))
    folder.mkdir()
    short = Path(f"/tmp/swarmllm-test-{os.getpid()}")

    async def body() -> None:
        async with little_swarm([7], delay_s=0.001) as swarm, trio.open_nursery() as nursery:
            service = Service()
            service.open(swarm.members[0].local)
            path = await nursery.start(partial(serve, service, folder, fallback=short))
            assert path.parent == short
            assert stat.S_IMODE(os.stat(short).st_mode) == 0o700
            assert (await ask(folder, "status"))["state"] == "running"
            nursery.cancel_scope.cancel()

    run(body)
    assert not (folder / POINTER).exists()
    assert list(short.iterdir()) == []
    short.rmdir()


def test_a_fallback_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * (PATH_BYTES_MAX // 4))
    folder.mkdir()
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)

    async def body() -> None:
        with pytest.raises(LocalError, match="not yours alone"), bind(folder, tmp_path / "open"):
            pass

    run(body)


def test_without_a_node_the_client_says_so(tmp_path: Path) -> None:
    async def body() -> None:
        with pytest.raises(NoNodeError, match="no node is running"):
            await ask(tmp_path, "status")

    run(body)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (format_line(error_record(LocalError("64 programs are talking"))), "64 programs are"),
        (b"", "has just stopped"),
        (b'{"event": "err', "has just stopped"),
    ],
    ids=("whole", "nothing", "half"),  # A record holds the time, and a test's name must not.
)
def test_what_a_node_says_before_it_closes_is_told_although_it_took_no_question(
    said: bytes, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that talks to as many programs as it can was said to have stopped."""

    async def body() -> None:
        async with serving(tmp_path):
            ours, theirs = socket.socketpair()
            theirs.sendall(said)
            theirs.close()
            ours.setblocking(False)

            async def opened(path: str) -> trio.SocketStream:
                return trio.SocketStream(trio.socket.from_stdlib_socket(ours))

            monkeypatch.setattr(trio, "open_unix_socket", opened)
            with pytest.raises(LocalError, match=complaint):
                await ask(tmp_path, "status")

    run(body)
