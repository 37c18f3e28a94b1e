"""LLaMA-3's vocabulary, against llama.cpp's published vectors and Meta's own file."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.llama import vocabulary
from swarmllm.adapters.llama.vocabulary import (
    LLAMA3_BOS,
    LLAMA3_FINGERPRINT,
    LLAMA3_SIZE,
    Tables,
    cache_path,
    find_tables,
    load_merge_ranks,
    load_tables,
    load_vocabulary,
    special_tokens,
)
from swarmllm.core.vocabulary import Vocabulary
from swarmllm.errors import LocalError, UsageError
from tests import ROOT

VECTORS = json.loads(
    (ROOT / "tests" / "vectors" / "llama3_tokens.json").read_text(encoding="utf-8")
)["vectors"]

ids = st.lists(st.integers(0, LLAMA3_SIZE - 1), max_size=40)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def words() -> Vocabulary:
    """Of the one that is loaded once, when the first test wants it."""
    return load_vocabulary().vocabulary


class Finder:
    """Stands in for the slow search and counts how often it was wanted; what it finds was really
    found, once."""

    def __init__(self) -> None:
        self.tables = find_tables()
        self.calls = 0

    def __call__(self) -> Tables:
        self.calls += 1
        return self.tables

    def load(self, cache_dir: Path) -> bool:
        """As a fresh process would: whether it took a search. What is loaded is always the same."""
        load_tables.cache_clear()
        before, found = self.calls, load_tables(cache_dir)
        assert found.spelled == self.tables.spelled
        assert (found.merges == self.tables.merges).all()
        return self.calls > before


@pytest.fixture(name="searched", scope="module")
def _searched() -> Finder:
    return Finder()


@pytest.fixture(name="finder")
def _finder(searched: Finder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Finder]:
    monkeypatch.setattr(vocabulary, "find_tables", searched)
    yield searched
    load_tables.cache_clear()


def streamed(tokens: list[int]) -> str:
    stream = words().decoder()
    return "".join([*map(stream.push, tokens), stream.finish()])


def test_there_are_46_published_vectors() -> None:
    assert len(VECTORS) == 46


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["text"][:20]))
def test_published_vectors(vector: dict[str, Any]) -> None:
    assert load_vocabulary().tokenize(vector["text"]) == vector["ids"]
    assert words().decode(vector["ids"]) == vector["text"]
    assert streamed(vector["ids"]) == vector["text"]


def test_the_fingerprint_is_that_of_metas_file(searched: Finder) -> None:
    fingerprint, chat_digest = searched.tables.tokenizer().digests()
    assert fingerprint.hex() == LLAMA3_FINGERPRINT
    assert (words().fingerprint, words().chat_digest) == (fingerprint, chat_digest)
    assert words().size == LLAMA3_SIZE


def test_special_tokens_are_256_different_ones() -> None:
    names = special_tokens()
    assert len(set(names)) == 256
    assert {names[i - LLAMA3_BOS] for i in words().eog if i < 128_011} == {
        *("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "<|finetune_right_pad_id|>"),
        *(f"<|reserved_special_token_{n}|>" for n in range(3)),
    }
    assert names[(words().bos or 0) - LLAMA3_BOS] == "<|begin_of_text|>"


@given(texts)
def test_decoding_undoes_encoding(text: str) -> None:
    tokens = load_vocabulary().tokenize(text)
    assert words().decode(tokens) == text
    assert streamed(tokens) == text


@given(st.lists(st.one_of(texts, st.sampled_from(special_tokens())), max_size=6))
def test_no_text_can_spell_a_special_token(parts: list[str]) -> None:
    text = "".join(parts)
    tokens = load_vocabulary().tokenize(text)
    assert all(token < LLAMA3_BOS for token in tokens)
    assert words().decode(tokens) == text


@given(ids)
def test_streaming_any_tokens_gives_what_decoding_them_at_once_gives(tokens: list[int]) -> None:
    whole = b"".join(map(words().piece, tokens)).decode(errors="replace")
    assert streamed(tokens) == words().decode(tokens) == whole


@given(texts, st.data())
def test_a_stream_holds_back_only_an_unfinished_character(text: str, data: st.DataObject) -> None:
    """However the bytes are cut into tokens: here, one token a byte, for some of the characters."""
    single = {token: rank for token, rank in load_merge_ranks().items() if len(token) == 1}
    stream, seen = words().decoder(), b""
    out = ""
    for character in text:
        split = data.draw(st.booleans())
        for token in (
            [single[bytes([b])] for b in character.encode()]
            if split
            else load_vocabulary().tokenize(character)
        ):
            seen += words().piece(token)
            out += stream.push(token)
            assert out == seen.decode(errors="ignore")
    assert stream.finish() == ""


def test_a_character_cut_off_at_the_end_is_replaced() -> None:
    single = {token: rank for token, rank in load_merge_ranks().items() if len(token) == 1}
    stream = words().decoder()
    assert [stream.push(single[bytes([b])]) for b in "🦙".encode()[:3]] == ["", "", ""]
    assert stream.finish() == "�"


def test_special_tokens_show_as_nothing_even_inside_a_character() -> None:
    single = {token: rank for token, rank in load_merge_ranks().items() if len(token) == 1}
    first, second = (single[bytes([b])] for b in "é".encode())
    assert streamed([LLAMA3_BOS, first, 128_009, second, 128_001]) == "é"


@pytest.mark.parametrize("token", [-1, LLAMA3_SIZE])
def test_an_id_outside_of_the_vocabulary_is_named(token: int) -> None:
    with pytest.raises(LocalError, match=f"{token} .*128,256"):
        words().decoder().push(token)


def test_half_a_surrogate_pair_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"U\+D83E at position 3"):
        load_vocabulary().tokenize("abc\ud83e")


def test_the_search_is_done_once_a_machine(tmp_path: Path, finder: Finder) -> None:
    assert finder.load(tmp_path / "deep" / "cache")
    assert not finder.load(tmp_path / "deep" / "cache")


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, finder: Finder, damage: str) -> None:
    finder.load(tmp_path)
    path = cache_path(tmp_path)
    good = path.read_bytes()
    middle = len(good) // 2
    bad = {
        "flip": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "cut": good[:middle],
        "empty": b"",
    }[damage]
    path.write_bytes(bad)
    assert finder.load(tmp_path)
    assert path.read_bytes() == good


def test_a_full_disk_only_costs_time(
    tmp_path: Path, finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert finder.load(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_only_costs_time(tmp_path: Path, finder: Finder) -> None:
    (tmp_path / "file").write_text("in the way")
    assert finder.load(tmp_path / "file" / "cache")


def test_another_vocabulary_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, finder: Finder
) -> None:
    monkeypatch.setattr(vocabulary, "LLAMA3_FILE_SHA256", hashlib.sha256(b"another").hexdigest())
    vocabulary._meta_file.cache_clear()
    load_tables.cache_clear()
    with pytest.raises(LocalError, match=r"llama-models .* another vocabulary"):
        load_tables()


def test_last_merges_undo_tokens(searched: Finder) -> None:
    tokens = list(load_merge_ranks())
    for token, (left, right) in searched.tables.last_merges().items():
        assert tokens[left] + tokens[right] == tokens[token]
        assert max(left, right) < token
