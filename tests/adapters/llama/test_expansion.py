"""The expanded file is whole or absent, the same everywhere, and what a reader of GGUF files
expects."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from swarmllm.adapters.llama import expansion
from swarmllm.adapters.llama.demo import BLOCK, BLOCK_BYTES, dequantize, load_compact, save_compact
from swarmllm.adapters.llama.demo_gguf import DemoGguf, rows_for_all
from swarmllm.adapters.llama.expansion import expand, expand_folder, intact, sidecar
from swarmllm.adapters.llama.tokenizer import LlamaTokenizer
from swarmllm.adapters.llama.vocabulary import (
    LLAMA3_EOS,
    LLAMA3_SIZE,
    load_merge_ranks,
    load_tables,
    load_vocabulary,
)
from swarmllm.errors import LocalError, UsageError
from tests.adapters.llama.small import save_small, small_model


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("compact"))


@pytest.fixture(name="content", scope="module")
def _content(folder: Path) -> bytes:
    """What the file must hold, made once and in memory."""
    return b"".join(DemoGguf(load_compact(folder), load_tables()).stream())


class Prepared:
    """The content without the work of making it."""

    def __init__(self, content: bytes) -> None:
        self.size_bytes = len(content)
        self._content = content

    def stream(self) -> Iterator[bytes]:
        for start in range(0, self.size_bytes, 1_000_000):
            yield self._content[start : start + 1_000_000]


@pytest.fixture(autouse=True)
def _prepared(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens on the disk is the subject here; what is written has tests of its own below."""
    monkeypatch.setattr(expansion, "load_tables", lambda _: None)
    monkeypatch.setattr(expansion, "DemoGguf", lambda *_: Prepared(content))


def no_leftovers(cache_dir: Path) -> bool:
    return not [path.name for path in cache_dir.iterdir() if path.name.endswith(".part")]


def test_the_file_holds_the_model_and_nothing_is_done_twice(
    folder: Path, content: bytes, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    path = expand_folder(folder, tmp_path / "deep", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == content
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(content), len(content))
    assert (
        expand_folder(folder, tmp_path / "deep", lambda *_: pytest.fail("made a second time"))
        == path
    )
    assert no_leftovers(tmp_path / "deep")


def test_the_bytes_depend_on_nothing_but_the_model(content: bytes, tmp_path: Path) -> None:
    """Saved again, loaded again, in another interpreter with another hash seed."""
    again = save_small(tmp_path)
    script = (
        "import hashlib, sys; from pathlib import Path\n"
        "from swarmllm.adapters.llama.demo import load_compact\n"
        "from swarmllm.adapters.llama.demo_gguf import DemoGguf\n"
        "from swarmllm.adapters.llama.vocabulary import load_tables\n"
        "print(hashlib.sha256(b''.join(DemoGguf(load_compact(Path(sys.argv[1])),"
        " load_tables()).stream())).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    out = subprocess.run(
        [sys.executable, "-c", script, str(again)],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert out.strip() == hashlib.sha256(content).hexdigest()


def test_saving_is_deterministic_and_loading_undoes_it(tmp_path: Path) -> None:
    model = small_model()
    first, second = (save_compact(model, tmp_path / name) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    found = load_compact(tmp_path / "a")
    assert found.card == model.card
    assert (found.bias_input, found.unused_bias) == (model.bias_input, model.unused_bias)
    assert list(found.layers) == list(model.layers)
    for mine, theirs in [
        *zip(found.layers.values(), model.layers.values(), strict=True),
        (found.rows, model.rows),
    ]:
        assert mine.dtype == theirs.dtype
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("damage", ["flip", "cut", "grown", "no sidecar", "bad sidecar"])
def test_a_damaged_file_is_made_again(
    folder: Path, content: bytes, tmp_path: Path, damage: str
) -> None:
    path = expand_folder(folder, tmp_path)
    match damage:
        case "flip":
            with path.open("r+b") as file:
                file.seek(len(content) // 2)
                file.write(bytes([content[len(content) // 2] ^ 1]))
        case "cut":
            os.truncate(path, len(content) // 2)
        case "grown":
            os.truncate(path, len(content) + 1)
        case "no sidecar":
            sidecar(path).unlink()
        case _:
            sidecar(path).write_text("[]")
    assert not intact(path)
    assert expand_folder(folder, tmp_path) == path
    assert path.read_bytes() == content


def test_a_process_killed_half_way_leaves_nothing_that_counts(
    folder: Path, content: bytes, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from swarmllm.adapters.llama.expansion import expand_folder\n"
        "def die(done, total):\n    if done > total // 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "expand_folder(Path(sys.argv[1]), Path(sys.argv[2]), die)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(folder), str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not no_leftovers(tmp_path)
    assert not list(tmp_path.glob("*.gguf"))
    assert expand_folder(folder, tmp_path).read_bytes() == content
    assert no_leftovers(tmp_path)


class FillingUp(io.FileIO):
    """A disk with room for this many more bytes."""

    room = 4_000_000

    def write(self, data: Any) -> int:
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(data)
        return super().write(data)


def full_disk(_: int) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("when", ["known before", "while writing", "when reaching the disk"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    folder: Path, content: bytes, tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        match when:
            case "known before":
                patch.setattr("shutil.disk_usage", lambda _: Usage(1000))
            case "while writing":
                patch.setattr("os.fdopen", FillingUp)
            case _:
                patch.setattr("os.fsync", full_disk)
        with pytest.raises(LocalError) as caught:
            expand_folder(folder, tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    needed = len(content) + (expansion.SPARE_BYTES if when == "known before" else 0)
    assert f"needs {needed:,} bytes" in message
    assert "\n" not in message
    assert not list(tmp_path.glob("*.gguf"))
    assert no_leftovers(tmp_path)
    assert expand_folder(folder, tmp_path).read_bytes() == content


class Usage:
    """What `shutil.disk_usage` returns, as far as it is looked at."""

    def __init__(self, free: int) -> None:
        self.free = free


def test_a_folder_that_cannot_be_made_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LocalError, match=r"cannot write .*file/cache.*another cache folder"):
        expand_folder(folder, tmp_path / "file" / "cache")


@pytest.mark.parametrize("locks", [True, False], ids=["with locks", "without locks"])
def test_many_at_once_end_with_the_same_whole_file(
    folder: Path, content: bytes, tmp_path: Path, locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, "No locks available")

    if not locks:
        monkeypatch.setattr("fcntl.flock", unsupported)
    finished: list[Path] = []
    made: list[int] = []

    def progress(done: int, total: int) -> None:
        if done == total:
            made.append(total)

    def work() -> None:
        finished.append(expand_folder(folder, tmp_path, progress))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(finished) == 3
    assert len(set(finished)) == 1
    assert finished[0].read_bytes() == content
    assert no_leftovers(tmp_path)
    if locks:
        assert len(made) == 1


def test_an_unknown_expert_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'poetry'.*code.*prose"):
        expand("poetry", tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\3\4 half of one"])
def test_a_damaged_package_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.npz").write_bytes(content)
    with pytest.raises(LocalError, match="reinstall swarmllm"):
        expand_folder(tmp_path / "bad", tmp_path)


def test_every_row_is_its_own_or_made_of_its_pieces(folder: Path, content: bytes) -> None:
    """The input table and the output table, read back from the file's bytes."""
    model, tables = load_compact(folder), load_tables()
    gguf = DemoGguf(model, tables)
    width = model.card.shape.dim // BLOCK * BLOCK_BYTES
    start = len(content) - sum(spec.size_bytes + -spec.size_bytes % 32 for spec in gguf.tensors)
    inputs = dequantize(
        np.frombuffer(content, np.uint8, LLAMA3_SIZE * width, start).reshape(-1, width)
    )
    outputs = dequantize(
        np.frombuffer(content[-LLAMA3_SIZE * width :], np.uint8).reshape(-1, width)
    )
    own = dequantize(model.input_rows())
    assert np.array_equal(inputs[model.active_ids], own)
    assert np.array_equal(outputs[model.active_ids], dequantize(model.rows))
    others = np.setdiff1d(np.arange(LLAMA3_SIZE), model.active_ids)
    assert not outputs[others, 1:].any()
    assert np.allclose(outputs[others, 0], model.unused_bias, rtol=1e-3)
    spelled, token_bytes = rows_for_all(model.active_ids, tables), list(load_merge_ranks())
    for token in [*others[::997].tolist(), 128_009]:
        expected = np.mean(own[spelled[token]].astype(np.float64), axis=0)
        assert (
            np.abs(inputs[token] - expected).max()
            < 0.5 * max(1.0, np.abs(expected).max()) / 127 + 1e-6
        )
        if token < len(token_bytes):
            assert (
                b"".join(token_bytes[model.active_ids[row]] for row in spelled[token])
                == token_bytes[token]
            )
    assert spelled[128_009] == [model.active_ids.tolist().index(LLAMA3_EOS)]


def test_another_reader_of_gguf_files_finds_the_shared_vocabulary(
    folder: Path, tmp_path: Path
) -> None:
    path = expand_folder(folder, tmp_path)
    text = LlamaTokenizer(path).vocabulary(path)
    assert text == replace(load_vocabulary().vocabulary, source=str(path))
