"""The process that reads a stranger's tokenizer keeps what is right, and nothing else (TOK-9)."""

from __future__ import annotations

import hashlib
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from swarmllm.adapters.llama.llama_text import LlamaText
from swarmllm.errors import LocalError, RemoteError
from swarmllm.testing.gguf_vocabularies import gemma_like
from tests.wire.test_tokenizer import bomb

GOOD = gemma_like()
DIGESTS = GOOD.digests()


def start(path: Path, data: bytes, digests: tuple[bytes, bytes] = DIGESTS) -> LlamaText:
    text = LlamaText(path, digests)

    async def body() -> None:
        try:
            await text.start(data)
        finally:
            with trio.CancelScope(shield=True):
                await text._end()

    trio.run(body)
    return text


def test_the_worker_keeps_what_is_right_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept.gguf"
    for data in (GOOD.sealed()[:-1], gemma_like().sealed() + b"\0", bomb(), b"x" * 100_000):
        with pytest.raises(RemoteError):
            start(path, data)
        assert [*tmp_path.iterdir()] == []
    text = start(path, GOOD.sealed())
    assert (text.vocabulary.fingerprint, text.vocabulary.chat_digest) == DIGESTS
    kept = hashlib.sha256(path.read_bytes()).digest()
    assert start(path, b"").vocabulary == text.vocabulary
    assert hashlib.sha256(path.read_bytes()).digest() == kept


def test_what_is_of_no_use_is_not_kept(tmp_path: Path) -> None:
    """Else each made-up vocabulary would leave 32 MiB in the cache."""
    unfit = replace(GOOD, model="evil")
    with pytest.raises(LocalError, match="cannot read the vocabulary"):
        start(tmp_path / "kept.gguf", unfit.sealed(), unfit.digests())
    assert [*tmp_path.iterdir()] == []


def test_another_tokenizer_under_the_name_of_this_one_is_no_cache(tmp_path: Path) -> None:
    path = tmp_path / "kept.gguf"
    other = replace(GOOD, scores=b"")
    start(path, other.sealed(), other.digests())
    with pytest.raises(LocalError, match="another vocabulary than its name says"):
        start(path, b"")


def test_a_full_disk_keeps_nothing_and_blames_nobody(tmp_path: Path) -> None:
    small = 1_000
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (small, hard))
    try:
        with pytest.raises(LocalError) as caught:
            start(tmp_path / "kept.gguf", GOOD.sealed())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not isinstance(caught.value, RemoteError)
    assert not (tmp_path / "kept.gguf").exists()
