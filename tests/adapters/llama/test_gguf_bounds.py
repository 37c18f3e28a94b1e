"""What a header claims costs neither memory nor time: every count is a stranger's, and a sparse
file has any size."""

from __future__ import annotations

import gc
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.llama import gguf_format
from swarmllm.adapters.llama.gguf_file import read_model_file
from swarmllm.adapters.llama.gguf_format import ARRAY, I32, SCALARS, STRING, header, read_metadata
from swarmllm.adapters.llama.tokenizer import read_tokenizer
from swarmllm.errors import LocalError
from swarmllm.testing.gguf_fixture import FixtureShape, write_model
from tests.adapters.llama.models import model

APPARENT = 1 << 40  # Bytes that a sparse file says it has.
# Address space above that of the interpreter: what is kept, the header's buffer, and the heap's own
# waste.
ALLOWANCE = 320 << 20
TOKENS, TYPES = b"tokenizer.ggml.tokens", b"tokenizer.ggml.token_type"


def text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def opening(tensors: int, keys: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys)


def listed(key: bytes, item: int, count: int) -> bytes:
    return text(key) + struct.pack("<IIQ", ARRAY, item, count)


HUGE = (3 << 30, 1 << 39, (1 << 64) - 1)
CLAIMS: dict[str, bytes] = {
    **{f"{n} keys": opening(0, n) for n in HUGE},
    **{f"{n} tensors": opening(n, 0) for n in HUGE},
    **{f"a key of {n}": opening(0, 1) + struct.pack("<Q", n) for n in HUGE},
    **{
        f"a name of {n}": opening(0, 1) + text(b"general.name") + struct.pack("<IQ", STRING, n)
        for n in HUGE
    },
    **{
        f"a text of {n}": opening(0, 1) + text(b"other") + struct.pack("<IQ", STRING, n)
        for n in HUGE
    },
    **{f"{n} tokens": opening(0, 1) + listed(TOKENS, STRING, n) for n in HUGE},
    **{f"{n} texts": opening(0, 1) + listed(b"other", STRING, n) for n in HUGE},
    **{f"{n} types": opening(0, 1) + listed(TYPES, I32, n) for n in HUGE},
    **{f"{n} numbers": opening(0, 1) + listed(b"other", I32, n) for n in HUGE},
    **{
        f"a token of {n}": opening(0, 1) + listed(TOKENS, STRING, 1) + struct.pack("<Q", n)
        for n in HUGE
    },
    **{f"a tensor name of {n}": opening(1, 0) + struct.pack("<Q", n) for n in HUGE},
    "two million tokens": opening(0, 1) + listed(TOKENS, STRING, 1 << 21),
    "two million types": opening(0, 1) + listed(TYPES, I32, 1 << 21),
    "65,536 tensors": opening(65_536, 0),
    "lists of lists": opening(0, 1)
    + listed(TOKENS, ARRAY, 1 << 20)
    + struct.pack("<IQ", ARRAY, 1 << 40) * 64,
    "long tokens": opening(0, 1)
    + listed(TOKENS, STRING, 900)
    + text("🦙".encode() + b"a" * 65_000) * 900,
    "many short tokens": opening(0, 1)
    + listed(TOKENS, STRING, 1 << 20)
    + text("🦙abc".encode()) * (1 << 20),
    "a tensor of 2^256 weights": opening(1, 0)
    + text(b"t")
    + struct.pack("<I4QIQ", 4, *[(1 << 64) - 1] * 4, 0, (1 << 64) - 1),
    "a tensor of no known type": opening(1, 0)
    + text(b"t")
    + struct.pack("<IQIQ", 1, 4, 1 << 31, 0),
    "a tensor of no dimensions": opening(1, 0) + text(b"t") + struct.pack("<I", 0),
}


def test_no_claim_takes_memory(tmp_path: Path) -> None:
    for n, content in enumerate(CLAIMS.values()):
        with (tmp_path / f"{n}.gguf").open("wb") as file:
            file.write(content)
            file.truncate(max(APPARENT, len(content)))
    program = (
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "from swarmllm.adapters.llama.gguf_file import read_model_file\n"
        "from swarmllm.adapters.llama.tokenizer import read_tokenizer\n"
        "from swarmllm.errors import LocalError\n"
        "taken = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[2]),) * 2)\n"
        "for path in sorted(Path(sys.argv[1]).glob('*.gguf')):\n"
        "    said = {}\n"
        "    for read in (read_model_file, read_tokenizer):\n"
        "        try: read(path)\n"
        "        except LocalError as error: said[read.__name__] = str(error)\n"
        "        except BaseException as error: said[read.__name__] = repr(error) + ' BROKEN'\n"
        "    print(json.dumps([path.stem, said]), flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, str(ALLOWANCE)],
        capture_output=True,
        text=True,
        check=True,
    )
    said = {int(stem): found for stem, found in map(json.loads, done.stdout.splitlines())}
    assert len(said) == len(CLAIMS)
    for n, name in enumerate(CLAIMS):
        assert set(said[n]) == {"read_model_file", "read_tokenizer"}, name
        for sentence in said[n].values():
            assert "BROKEN" not in sentence, (name, sentence)
            assert len(sentence) < 400 + len(str(tmp_path)), name


def test_what_was_read_of_a_refused_file_goes_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(CLAIMS["two million tokens"])
    gc.collect()
    gc.disable()  # It may come late, and two files at once are more than one may take.
    try:
        with pytest.raises(LocalError):
            read_model_file(path)
        assert not any(isinstance(one, gguf_format._Reader) for one in gc.get_objects())
    finally:
        gc.enable()


def test_what_is_kept_is_bounded_as_python_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "a.gguf")
    monkeypatch.setattr(gguf_format, "KEPT_BYTES_MAX", 20_000)
    with pytest.raises(LocalError, match="takes more than"):
        read_model_file(path)


def test_a_header_beyond_its_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "a.gguf")
    monkeypatch.setattr(gguf_format, "HEADER_BYTES_MAX", 5_000)
    with pytest.raises(LocalError, match=r"an item of|longer than"):
        read_model_file(path)


KINDS = st.sampled_from([*SCALARS, STRING, ARRAY, 13, 255])
COUNTS = st.one_of(st.integers(0, 40), st.sampled_from([1 << 20, 1 << 32, 1 << 63, (1 << 64) - 1]))
NAMES = st.sampled_from(
    [
        TOKENS,
        TYPES,
        b"general.architecture",
        b"general.alignment",
        b"split.count",
        b"llama.block_count",
        b"x",
    ]
)


@st.composite
def values(draw: st.DrawFn) -> bytes:
    kind = draw(KINDS)
    start = text(draw(NAMES)) + struct.pack("<I", kind)
    if kind == STRING:
        return start + struct.pack("<Q", draw(COUNTS)) + draw(st.binary(max_size=40))
    if kind == ARRAY:
        return start + struct.pack("<IQ", draw(KINDS), draw(COUNTS)) + draw(st.binary(max_size=80))
    return start + draw(st.binary(max_size=9))


@given(
    pairs=st.lists(values(), max_size=6),
    keys=COUNTS,
    tensors=COUNTS,
    end=st.binary(max_size=200),
    size=st.integers(0, 1 << 33),
)
def test_any_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[bytes],
    keys: int,
    tensors: int,
    end: bytes,
    size: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-header.gguf"
    content = opening(tensors, keys) + b"".join(pairs) + end
    with path.open("wb") as file:
        file.write(content)
        file.truncate(max(size, len(content)) if size % 2 else len(content))
    for sentence in (said_of(read_model_file, path), said_of(read_tokenizer, path)):
        assert not sentence or str(path) in sentence
        assert len(sentence) < 500 + len(str(path))


def said_of(read: Callable[[Path], object], path: Path) -> str:
    try:
        read(path)
    except LocalError as error:
        return str(error)
    return ""


# --- files of another kind ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"PK\3\4 and so on", "ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "page of a web site"),
        (b"tjgg" + bytes(40), "old format GGJT"),
        (struct.pack("<Q", 60) + b'{"__metadata__":{}}' + bytes(60), "safetensors"),
        (b"once upon a time", "does not begin with 'GGUF'"),
        (b"GGUF", "only 4 bytes"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1, which llama.cpp no longer reads"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(LocalError, match=words) as caught:
        read_model_file(path)
    assert str(path) in str(caught.value)


def test_version_2_is_read_as_3(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.gguf")
    content = bytearray(path.read_bytes())
    before = read_model_file(path)
    content[4] = 2
    path.write_bytes(content)
    assert read_model_file(path) == before


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for name, words in (("pipe.gguf", "no ordinary file"), (".", "a folder")):
        with pytest.raises(LocalError, match=words):
            read_model_file(tmp_path / name)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"general.type": "adapter"}, "a LoRA adapter"),
        ({"general.type": "mmproj"}, "sees or hears"),
        ({"general.type": "imatrix"}, "statistics"),
        ({"general.architecture": "clip"}, "sees or hears"),
        ({"general.architecture": "controlvector"}, "control vector"),
        ({"general.architecture": "nomic-bert"}, "an encoder"),
        ({"llama.attention.causal": False}, "an encoder"),
        ({"general.architecture": "rwkv6"}, "a recurrent model"),
        ({"general.architecture": ""}, "does not say what architecture"),
        ({}, "no vocabulary"),
        (
            {"tokenizer.ggml.tokens": ["a", "b"], "tokenizer.ggml.token_type": [1]},
            "2 tokens but not as many types",
        ),
        ({"tokenizer.ggml.tokens": ["a", "b"], "tokenizer.ggml.model": "gpt2"}, "but no weights"),
    ],
)
def test_what_is_no_language_model_is_named(
    tmp_path: Path, extra: dict[str, gguf_format.Value], words: str
) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(header({"general.architecture": "llama"} | extra, []))
    with pytest.raises(LocalError, match=words) as caught:
        read_model_file(path)
    assert str(path) in str(caught.value)


def test_any_architecture_that_llama_cpp_loads_will_do(tmp_path: Path) -> None:
    found = read_model_file(write_model(tmp_path / "a.gguf", FixtureShape(architecture="qwen2")))
    assert (found.context_trained, found.kv_values, found.measured) == (4096, 2 * 1 * 32, False)
    assert read_model_file(model()).measured


# --- what a file says of its name, and files that change ------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "odd"),
        ("   ", "odd"),
        ("x" * 10_000_000, "x" * 32),
        ("two\nlines", "two-lines"),
        ("\udcff\udcfe", "odd"),
    ],
)
def test_any_name_becomes_a_short_one(tmp_path: Path, name: str, shown: str) -> None:
    path = write_model(tmp_path / "odd.gguf", name="PLACEHOLDER")
    content = path.read_bytes()
    old = text(b"PLACEHOLDER")
    path.write_bytes(realigned(content, old, text(name.encode(errors="surrogateescape"))))
    assert read_model_file(path).name == shown


def realigned(content: bytes, old: bytes, new: bytes) -> bytes:
    """`content` with a value of another length in its header, and its weights still at a multiple
    of 32 bytes."""
    assert content.count(old) == 1
    return content.replace(old, new) + bytes(64)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    once = text(b"general.name") + struct.pack("<I", STRING) + text(b"a")
    path.write_bytes(opening(0, 2) + once * 2)
    with pytest.raises(LocalError, match=r"'general\.name' is there twice"):
        read_metadata(path, set())


@pytest.mark.parametrize("change", ["grown", "shortened"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = write_model(tmp_path / "a.gguf")
    real = gguf_format._metadata

    def meanwhile(*arguments: object) -> object:
        with path.open("r+b") as file:
            file.truncate(10 if change == "shortened" else 1 << 30)
        return real(*arguments)  # type: ignore[arg-type]

    # So that most of it is read after the change.
    monkeypatch.setattr(gguf_format, "BUFFER_BYTES", 512)
    monkeypatch.setattr(gguf_format, "_metadata", meanwhile)
    with pytest.raises(LocalError, match=r"changed while|shorter while|item of|bytes wanted"):
        read_model_file(path)
