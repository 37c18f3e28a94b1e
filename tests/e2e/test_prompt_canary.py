"""The prompt canary: what is asked and what is answered is in no file, log, metric, list of
processes or bug report, whichever way it was asked, and however it went wrong."""

from __future__ import annotations

import json
import signal
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest

from swarmllm.adapters.data_marker import STORE
from swarmllm.adapters.llama.engine import WORKER
from swarmllm.testing.gguf_fixture import write_model
from tests.cli.command import RunningNode, run

pytestmark = pytest.mark.slow

ASKED: Final = "zugvogelasked"
ANSWERED: Final = "zugvogelanswered"
HELLO: Final = [{"role": "user", "content": f"say {ASKED}"}]
SCHEMA: Final = {
    "type": "object",
    "properties": {"said": {"enum": [ANSWERED]}},
    "required": ["said"],
    "additionalProperties": False,
}
FORMAT: Final = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
LONG: Final = 400
KINDS: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 5},
    "/v1/completions": {"prompt": ASKED, "max_tokens": 5},
    "/v1/responses": {"input": ASKED, "max_output_tokens": 5},
    "/v1/messages": {"messages": HELLO, "max_tokens": 5},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def node(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    model = write_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    flags = ("--port", "0", "--api-port", "0", "--threads", "1", "--log-level", "debug")
    with RunningNode(home, home / "data", "--model", str(model), *flags) as running:
        running.wait_for("ready")
        yield running


def url_of(node: RunningNode) -> str:
    ready = node.found("ready")
    assert ready is not None
    return str(ready["http"])


def forms(secret: str) -> list[bytes]:
    return [secret.encode(), secret.encode("utf-16-le"), secret.encode().hex().encode()]


def assert_untold(where: object, data: bytes, secrets: Sequence[str] = (ASKED, ANSWERED)) -> None:
    for secret in secrets:
        assert not any(form in data for form in forms(secret)), f"{secret} is in {where}"


def assert_untold_anywhere(home: Path, node: RunningNode) -> None:
    """Whatever the node has written or shows."""
    files = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "node.log" for path in files)
    for path in files:
        assert_untold(path, path.read_bytes())
    assert_untold("the records of join", json.dumps(node.records).encode())
    assert_untold("/metrics", httpx.get(f"{url_of(node)}/metrics").content)
    assert_titles_untold(node.process.pid)


def assert_titles_untold(pid: int) -> None:
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        told = [*process.cmdline(), process.name(), *process.environ().values()]
        assert_untold(f"process {process.pid}", "\n".join(told).encode())


def post(node: RunningNode, path: str, body: object, **more: Any) -> httpx.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = {"content-type": "application/json"}
    return httpx.post(f"{url_of(node)}{path}", content=data, headers=kind, timeout=120, **more)


@pytest.mark.parametrize("place", ["data/node.log", ".cache/x/y"])
def test_it_would_be_found(home: Path, node: RunningNode, place: str) -> None:
    """And the log is on: it tells of the node's work."""
    assert (home / "data/node.log").stat().st_size > 0
    path = home / place
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    path.write_bytes(before + b"x" + forms(ANSWERED)[1])
    with pytest.raises(AssertionError, match=path.name):
        assert_untold_anywhere(home, node)
    path.write_bytes(before)


@pytest.mark.parametrize("path", KINDS)
@pytest.mark.parametrize("stream", [True, False])
def test_of_a_reply_nothing_is_written_down(
    home: Path, node: RunningNode, path: str, stream: bool
) -> None:
    got = post(node, path, {"model": "swarm", "stream": stream, **KINDS[path]})
    assert got.status_code == 200, got.text
    assert_untold_anywhere(home, node)


def test_nor_of_what_is_answered(home: Path, node: RunningNode) -> None:
    body = {"model": "swarm", "messages": HELLO, "max_tokens": 200, "response_format": FORMAT}
    got = post(node, "/v1/chat/completions", body)
    assert ANSWERED in got.text
    assert_untold_anywhere(home, node)


@pytest.mark.parametrize("path", KINDS)
def test_nor_of_what_is_refused(home: Path, node: RunningNode, path: str) -> None:
    good = {"model": "swarm", **KINDS[path]}
    wrong: list[object] = [
        json.dumps(good).encode()[:-1],  # No JSON.
        good | {"temperature": ASKED},
        good | {"stream": ASKED},
        good | {ASKED: ASKED},
        good | {"model": ASKED},
        good | {"tools": [{"type": "function", "function": {"name": "x", "parameters": ASKED}}]},
    ]
    if path == "/v1/chat/completions":
        wrong += [
            good | {"messages": [{"role": ASKED, "content": ASKED}]},
            good | {"messages": [{"role": "user", "content": ASKED * 5_000}]},
            good | {"stop": [ASKED] * 5},
            good | {"response_format": {**FORMAT, "json_schema": {"name": "x", "schema": ASKED}}},
        ]
    for body in wrong:
        assert post(node, path, body).status_code in {400, 404}, body
    assert_untold_anywhere(home, node)


def test_nor_of_what_a_client_leaves(home: Path, node: RunningNode) -> None:
    body = {"model": "swarm", "prompt": ASKED, "max_tokens": LONG, "stream": True}
    with httpx.stream("POST", f"{url_of(node)}/v1/completions", json=body, timeout=120) as got:
        next(got.iter_bytes())
        assert_titles_untold(node.process.pid)
    assert_untold_anywhere(home, node)


@pytest.mark.parametrize("path", KINDS)
def test_nor_of_what_a_killed_worker_was_at(home: Path, node: RunningNode, path: str) -> None:
    length = {key: LONG for key in KINDS[path] if key.startswith("max_")}
    body = {"model": "swarm", "stream": True, **KINDS[path], **length}
    with httpx.stream("POST", f"{url_of(node)}{path}", json=body, timeout=120) as got:
        assert got.status_code == 200
        chunks = got.iter_bytes()
        next(chunks)
        for process in psutil.Process(node.process.pid).children(recursive=True):
            if WORKER in process.cmdline():
                process.send_signal(signal.SIGKILL)
        for _ in chunks:
            pass
    assert_untold_anywhere(home, node)
    ready(node)


def ready(node: RunningNode) -> None:
    """Until the worker is up again."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if httpx.get(f"{url_of(node)}/ready", timeout=60).status_code == 200:
            return
        time.sleep(0.5)
    raise AssertionError("no token within 120 s after the worker was killed")


def test_nor_of_what_the_commands_ask(home: Path, node: RunningNode, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text(ASKED)
    data = ("--data-dir", str(home / "data"))
    for words, stdin in (
        (("generate", "-", "--max-tokens", "4"), ASKED),
        (("generate", "--file", str(tmp_path / "prompt"), "--max-tokens", "4"), ""),
        (("chat", "--max-tokens", "4"), f"{ASKED}\n"),
        (("generate", "-", "--max-tokens", "4"), ASKED * 5_000),
    ):
        run(home, *words, *data, stdin=stdin.encode())
        assert_untold_anywhere(home, node)


def test_nor_of_a_task_that_a_program_submits_over_grpc(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its description is kept in the node's store until the task is done, and nowhere else; of one
    that is refused nothing is kept."""
    client = pytest.importorskip("tests.adapters.grpc_service.client")
    home = tmp_path_factory.mktemp("home of tasks")
    model = write_model(tmp_path / "tiny.gguf")
    flags = ("--port", "0", "--api-port", "0", "--threads", "1", "--log-level", "debug")
    more = ("--grpc-port", "0", "--agent")
    with RunningNode(home, home / "data", "--model", str(model), *flags, *more) as node:
        node.wait_for("ready")
        opened = node.found("service_opened")
        assert opened is not None
        pb, token = client.pb, client.bearer(home / "data")
        asked = {"task_type": pb.TASK_TYPE_TUNE_SCHEDULER, "task_description": ASKED}
        with client.connected(opened["grpc"]) as stub:

            def submit(**fields: object) -> Any:
                request = pb.SubmitSelfTaskRequest(**asked | fields)
                return list(stub.SubmitSelfTask(request, timeout=60, metadata=token))

            for wrong in ({"task_description": ASKED * 50}, {"domain": ASKED}):
                client.refused(lambda wrong=wrong: submit(**wrong))
            assert_untold_anywhere(home, node)
            (task,) = submit()
            assert task.accepted
            assert run(home, "agent", "run", "--once", "--data-dir", str(home / "data")).code == 0
        for path in home.rglob("*"):
            if path.is_file() and not path.name.startswith(STORE):
                assert_untold(path, path.read_bytes())
        assert_untold("the records of join", json.dumps(node.records).encode())
        assert_untold("/metrics", httpx.get(f"{url_of(node)}/metrics").content)
        assert_titles_untold(node.process.pid)


def test_nor_after_a_halt_and_in_the_bundle_of_a_bug_report(
    home: Path, node: RunningNode, tmp_path: Path
) -> None:
    """The last of these: the node is stopped."""
    body = {"model": "swarm", "prompt": ASKED, "max_tokens": LONG, "stream": True}
    data = ("--data-dir", str(home / "data"))
    with httpx.stream("POST", f"{url_of(node)}/v1/completions", json=body, timeout=120) as got:
        chunks = got.iter_bytes()
        next(chunks)
        assert run(home, "stop", *data).code == 0
        for _ in chunks:
            pass
    assert post(node, "/v1/completions", body).status_code == 503
    assert_untold_anywhere(home, node)
    done = run(home, "doctor", *data, "--bundle", str(tmp_path / "bundle.tar.gz"))
    assert_untold("what doctor says", (done.out + done.err).encode())
    with tarfile.open(tmp_path / "bundle.tar.gz") as archive:
        entries = archive.getmembers()
        assert len(entries) == 6
        for entry in entries:
            found = archive.extractfile(entry)
            assert found is not None
            assert_untold(entry.name, found.read())


@pytest.mark.skipif(sys.platform != "linux", reason="core dumps are looked at on Linux")
def test_no_core_file_can_hold_it(node: RunningNode) -> None:
    for process in (psutil.Process(node.process.pid), *psutil.Process(node.process.pid).children()):
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        [line] = [one for one in limits.splitlines() if one.startswith("Max core file size")]
        assert line.split()[4] == "0", line
