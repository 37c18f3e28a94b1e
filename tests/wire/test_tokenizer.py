"""A stranger's tokenizer is bounded, checked against its digests, and has one encoding (TOK-3,
TOK-4)."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.errors import RemoteError
from swarmllm.messages import SEALED_MAX
from swarmllm.testing.gguf_vocabularies import KINDS, gemma_like
from swarmllm.wire.tokenizer import (
    INFLATED_MAX,
    Tokenizer,
    chat_digest_of,
    fingerprint_of,
    unseal,
)

GOOD = gemma_like()
DIGESTS = GOOD.digests()


def counted(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def sealed(encoding: bytes, chat: bytes) -> tuple[bytes, bytes, bytes]:
    """With the digests that fit, whatever it is."""
    data = zlib.compress(counted(encoding) + counted(chat))
    return data, fingerprint_of(encoding), chat_digest_of(chat)


def bomb() -> bytes:
    """A gibibyte of zeros in a megabyte, behind the length of a section that would fit."""
    deflater = zlib.compressobj(9)
    parts = [deflater.compress(struct.pack(">I", INFLATED_MAX - 4))]
    parts += [deflater.compress(bytes(1 << 20)) for _ in range(1024)]
    return b"".join([*parts, deflater.flush()])


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_sealed_comes_back(kind: str) -> None:
    made = KINDS[kind]()
    found = unseal(made.sealed(), *made.digests())
    assert replace(found, texts=[*found.texts], merges=[*found.merges]) == made
    assert unseal(made.sealed(), made.digests()[0], None) == found


@pytest.mark.parametrize("wrong", [(b"\0" * 32, DIGESTS[1]), (DIGESTS[0], b"\0" * 8)])
def test_what_other_digests_name_is_refused(wrong: tuple[bytes, bytes]) -> None:
    with pytest.raises(RemoteError, match="not the one named"):
        unseal(GOOD.sealed(), *wrong)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not zlib at all",
        GOOD.sealed()[:-1],
        GOOD.sealed() + b"\0",
        GOOD.sealed() * 2,
        zlib.compress(b"\xff\xff\xff\xff"),
        zlib.compress(counted(GOOD.encoding()) + counted(GOOD.chat()) + b"\0"),
        bytes(SEALED_MAX + 1),
    ],
    ids=["empty", "garbage", "cut", "longer", "twice", "a length", "behind the end", "too long"],
)
def test_what_is_no_sealed_tokenizer_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteError):
        unseal(data, *DIGESTS)


def test_a_bomb_takes_no_more_memory_than_the_largest_tokenizer() -> None:
    data = bomb()
    assert len(data) < SEALED_MAX
    tracemalloc.start()
    with pytest.raises(RemoteError, match="too large"):
        unseal(data, *DIGESTS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * INFLATED_MAX


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteError):
        unseal(data, *DIGESTS)


@given(st.data())
def test_sections_that_were_changed_are_read_as_what_they_say_or_refused(
    data: st.DataObject,
) -> None:
    """Whoever makes the records as well can make digests that fit."""
    sections = [GOOD.encoding(), GOOD.chat()]
    which = data.draw(st.integers(0, 1))
    section = sections[which]
    at = data.draw(st.integers(0, len(section) - 1))
    cut = data.draw(st.integers(0, 4))
    sections[which] = section[:at] + data.draw(st.binary(max_size=4)) + section[at + cut :]
    try:
        found = unseal(*sealed(*sections))
    except RemoteError:
        return
    assert [found.encoding(), found.chat()] == sections
    assert 0 < len(found.texts) == len(found.kinds)
    assert len({*found.texts}) == len(found.texts)


@pytest.mark.parametrize(
    "texts",
    [[b"a", b"a"], [b"", b"[EMPTY_0]"], [b"\xff", b"b"], [b"\xed\xa0\x80", b"b"]],
    ids=["twice", "twice when empty", "no UTF-8", "half a surrogate pair"],
)
def test_texts_that_end_llama_cpp_are_refused(texts: list[bytes]) -> None:  # TOK-4
    made = Tokenizer(
        "gpt2", "gpt-2", False, False, None, texts, b"\1" * len(texts), b"", [], b"",
        (None,) * 7, None, "", "",
    )  # fmt: skip
    with pytest.raises(RemoteError, match=r"second one|no UTF-8"):
        unseal(made.sealed(), *made.digests())
