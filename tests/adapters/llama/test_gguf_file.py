"""A model file comes from a stranger: whatever is in it, the answer is a value or one LocalError,
in time and memory that the file's size bounds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.gguf_file import file_digest, read_model_file
from swarmllm.adapters.llama.llama_api import fitting_sessions, session_bytes
from swarmllm.adapters.llama.model_name import NAME_BYTES_MAX
from swarmllm.adapters.llama.tokenizer import read_tokenizer
from swarmllm.errors import LocalError, UsageError
from swarmllm.testing.gguf_fixture import FixtureShape, write_model
from tests.adapters.llama.models import model


@pytest.fixture(name="scratch", scope="module")
def _scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf") / "any.gguf"


def test_what_a_good_file_says_of_itself() -> None:
    path = model("q8_0")
    found = read_model_file(path)
    assert (found.name, found.vocab_size, found.context_trained, found.row_exact) == (
        "fixture",
        512,
        512,
        True,
    )
    assert (found.vocab_fingerprint, found.chat_digest) == read_tokenizer(path)[1].digests()
    assert found.kv_values == 2 * 1 * 32  # Layers x KV heads x head size.
    assert not read_model_file(model("f16")).row_exact


def test_replicas_are_equal_byte_for_byte_and_other_seeds_are_not(tmp_path: Path) -> None:
    one, same, other = (
        write_model(tmp_path / f"{n}.gguf", FixtureShape(seed=seed))
        for n, seed in enumerate((4, 4, 5))
    )
    assert one.read_bytes() == same.read_bytes() != other.read_bytes()


def test_a_long_name_is_cut_between_characters(tmp_path: Path) -> None:
    name = read_model_file(write_model(tmp_path / "a.gguf", name="ä" * 40)).name
    assert name == "ä" * 16
    assert len(name.encode()) <= NAME_BYTES_MAX


@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    scratch: Path, data: st.DataObject
) -> None:
    good = model("q8_0").read_bytes()
    content = bytearray(good[: data.draw(st.integers(0, len(good)), "length")])
    head = min(len(content), 14_000)  # Everything before the weights.
    for _ in range(data.draw(st.integers(0, 4), "changes")):
        if head:
            content[data.draw(st.integers(0, head - 1))] = data.draw(st.integers(0, 255))
    scratch.write_bytes(content)
    said = ""
    try:
        read_model_file(scratch)
    except LocalError as error:
        said = str(error)
    assert not said or str(scratch) in said
    assert len(said) < 400 + len(str(scratch))


@given(st.binary(max_size=400))
def test_any_bytes_behind_the_magic_are_refused(scratch: Path, content: bytes) -> None:
    scratch.write_bytes(b"GGUF\3\0\0\0" + content)
    with pytest.raises(LocalError):
        read_model_file(scratch)


def test_the_digest_is_that_of_the_file_and_is_remembered_until_the_file_changes(
    tmp_path: Path,
) -> None:
    path, cache = tmp_path / "a.gguf", tmp_path / "cache"
    path.write_bytes(b"one" * 1000)
    stamp = path.stat()
    assert (
        file_digest(path, cache)
        == file_digest(path, None)
        == hashlib.sha256(b"one" * 1000).digest()
    )
    path.write_bytes(b"two" * 1000)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert file_digest(path, cache) == hashlib.sha256(b"one" * 1000).digest(), (
        "same size, time and inode: not read again"
    )
    os.utime(path, ns=(0, stamp.st_mtime_ns + 1))
    assert file_digest(path, cache) == hashlib.sha256(b"two" * 1000).digest()
    for entry in (cache / "digests").iterdir():
        entry.write_bytes(b"{")
    assert file_digest(path, cache) == hashlib.sha256(b"two" * 1000).digest()


def test_as_many_sessions_are_opened_as_fit_into_memory() -> None:
    file = read_model_file(model("q8_0"))
    each = session_bytes(file, 300)
    assert each == 512 * 64 * 4
    plenty, options = 10**12, EngineOptions(sessions_max=16)
    assert fitting_sessions(file, options, 300, plenty) == 16
    assert fitting_sessions(file, options, 300, None) == 16
    least = next(free for free in range(0, 10**9, 10**5) if fits(file, options, free))
    assert fitting_sessions(file, options, 300, least) < 16
    exactly = EngineOptions(sessions_max=16, sessions_exact=True)
    with pytest.raises(LocalError, match=r"16 sessions .* with .*gguf .*, fewer --sessions or"):
        fitting_sessions(file, exactly, 300, least)
    with pytest.raises(LocalError, match=r"1 session of 300 .* smaller --context or a smaller"):
        fitting_sessions(file, options, 300, 0)


def fits(file: object, options: EngineOptions, free: int) -> bool:
    try:
        return fitting_sessions(file, options, 300, free) > 0  # type: ignore[arg-type]
    except LocalError:
        return False


@pytest.mark.parametrize(
    "wrong",
    [
        {"context_max": 0},
        {"sessions_max": 257},
        {"threads": -1},
        {"batch_max": 1},
        {"idle_s": -1.0},
    ],
)
def test_options_out_of_range_are_refused_by_name(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        EngineOptions(**wrong)  # type: ignore[arg-type]
