"""Text sides read from a model's own file, and files that have none."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.llama.bpe_text import ALPHABET, BpeText, shown
from swarmllm.adapters.llama.fingerprint import CONTROL, NORMAL, UNUSED, USER_DEFINED, fingerprint
from swarmllm.adapters.llama.gguf_format import Value, header, read_metadata
from swarmllm.adapters.llama.gguf_text import PATTERNS, text_of_gguf
from swarmllm.errors import LocalError

WORDS = [b"th", b"the", b" the", b"in", b"ing", b"12"]
TOKENS = [*ALPHABET, *map(shown, WORDS), "<note>", "<s>", "</s>", "<|eot_id|>"]
TYPES = [NORMAL] * 262 + [USER_DEFINED, CONTROL, CONTROL, CONTROL]
MERGES = ["t h", "th e", "Ġ the", "i n", "in g", "1 2"]
NOTE, BOS, EOS, EOT = range(262, 266)
GOOD: dict[str, Value] = {
    "general.name": "small",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": TYPES,
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.bos_token_id": BOS,
    "tokenizer.ggml.eos_token_id": EOS,
}


def write(folder: Path, **changes: Value | None) -> Path:
    """A GGUF file without tensors; None leaves a key out."""
    metadata = GOOD | {
        f"tokenizer.ggml.{key}": value for key, value in changes.items() if value is not None
    }
    for key, value in changes.items():
        if value is None:
            del metadata[f"tokenizer.ggml.{key}"]
    path = folder / "small.gguf"
    path.write_bytes(header(metadata, []))
    return path


@pytest.fixture(name="small", scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> BpeText:
    return text_of_gguf(write(tmp_path_factory.mktemp("gguf")))


def words_of(text: BpeText, tokens: list[int]) -> list[bytes]:
    return [text.vocabulary.piece(token) for token in tokens]


def test_merges_of_the_file_are_used(small: BpeText) -> None:
    assert words_of(small, small.tokenize("in the thing")) == [b"in", b" the", b" ", b"th", b"ing"]


def test_marks_of_the_file_are_used(small: BpeText) -> None:
    assert (small.vocabulary.size, small.vocabulary.bos, small.vocabulary.eog) == (
        len(TOKENS),
        BOS,
        frozenset({EOS, EOT}),
    )


def test_user_defined_tokens_are_text_and_control_tokens_are_not(small: BpeText) -> None:
    tokens = small.tokenize("a<note>b<s></s><|eot_id|>")
    assert NOTE in tokens
    assert not {BOS, EOS, EOT} & set(tokens)
    assert small.vocabulary.decode([BOS, *tokens, EOS]) == "a<note>b<s></s><|eot_id|>"


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_decoding_undoes_encoding(small: BpeText, text: str) -> None:
    assert small.vocabulary.decode(small.tokenize(text)) == text


@pytest.mark.parametrize("pre", PATTERNS)
def test_every_listed_pattern_splits_without_loss(tmp_path: Path, pre: str) -> None:
    text = text_of_gguf(write(tmp_path, pre=pre))
    for sample in ("It's 12345 o'clock,  isn't it?\r\n\n\t Ja — нет 東京 🦙", " ", ""):
        assert text.vocabulary.decode(text.tokenize(sample)) == sample


def test_digits_are_split_as_the_pattern_says(tmp_path: Path) -> None:
    digits = {
        pre: words_of(found := text_of_gguf(write(tmp_path, pre=pre)), found.tokenize("12"))
        for pre in ("gpt-2", "smollm", "qwen2")
    }
    assert digits == {"gpt-2": [b"12"], "smollm": [b"1", b"2"], "qwen2": [b"1", b"2"]}


def test_a_model_without_a_first_token_begins_with_its_last(tmp_path: Path) -> None:
    assert text_of_gguf(write(tmp_path, bos_token_id=None)).vocabulary.bos == EOS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "llama"}, "'llama'.*byte-level BPE"),
        ({"model": None}, "type None"),
        ({"pre": "tekken"}, "'tekken'.*not supported"),
        ({"pre": None}, "None.*not supported"),
        ({"token_type": TYPES[:-1]}, "266 tokens but not as many types"),
        ({"merges": [*MERGES, "z z"]}, "'z z'"),
        ({"merges": None}, "no merges"),
        ({"tokens": ["\udcff", *TOKENS[1:]]}, "no UTF-8"),
        ({"bos_token_id": None, "eos_token_id": None}, "neither a first nor a last"),
        ({"bos_token_id": 999_999, "eos_token_id": 999_999}, "neither a first nor a last"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, Value | None], words: str
) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(LocalError, match=words) as caught:
        text_of_gguf(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_another_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"cannot read the model file .*none\.gguf \(No such file"):
        text_of_gguf(tmp_path / "none.gguf")
    for content in (b"", b"PK\3\4 not this"):
        (tmp_path / "other.gguf").write_bytes(content)
        with pytest.raises(LocalError, match="not a GGUF file"):
            text_of_gguf(tmp_path / "other.gguf")


@given(cut=st.integers(4, len(header(GOOD, [])) - 40))
def test_a_file_that_is_cut_off_is_damaged(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.gguf"
    path.write_bytes(header(GOOD, [])[:cut])
    with pytest.raises(LocalError, match="damaged or cut off"):
        text_of_gguf(path)


@given(data=st.binary(max_size=200), at=st.integers(4, 2000))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.gguf"
    whole = header(GOOD, [])
    path.write_bytes(whole[:at] + data + whole[at + len(data) :])
    with suppress(LocalError):
        read_metadata(path, GOOD)


def test_metadata_comes_back_as_it_was_written(tmp_path: Path) -> None:
    values: dict[str, Value] = {
        "a": True,
        "b": 7,
        "c": 0.5,
        "d": "text",
        "e": ["x", "é"],
        "f": [1, 2],
    }
    (tmp_path / "values.gguf").write_bytes(header(values, []))
    assert read_metadata(tmp_path / "values.gguf", values) == values
    assert read_metadata(tmp_path / "values.gguf", {"f"}) == {"f": [1, 2]}


def test_renamed_control_tokens_leave_the_fingerprint_alone() -> None:
    base = [(text.encode(), kind) for text, kind in zip(TOKENS, TYPES, strict=True)]
    assert fingerprint([*base[:-1], (b"<|other|>", UNUSED)], "gpt-2") == fingerprint(base, "gpt-2")
    others = [
        fingerprint(base, "llama-bpe"),
        fingerprint([(b"?", NORMAL), *base[1:]], "gpt-2"),
        fingerprint([base[1], base[0], *base[2:]], "gpt-2"),
        fingerprint(base[:-1], "gpt-2"),
        fingerprint([*base[:-1], (b"<|other|>", NORMAL)], "gpt-2"),
    ]
    assert len({fingerprint(base, "gpt-2"), *others}) == 6
