"""How a text begins and where an answer ends is for the model's file to say, and llama.cpp reads it
the same way."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_cpp import llama_cpp as llama

from swarmllm.adapters.llama import gguf_text
from swarmllm.adapters.llama.bpe_text import ALPHABET, BpeText
from swarmllm.adapters.llama.fingerprint import CONTROL, NORMAL, USER_DEFINED
from swarmllm.adapters.llama.gguf_format import Value, header
from swarmllm.adapters.llama.gguf_text import PATTERNS, text_of_gguf, text_of_swarm
from swarmllm.adapters.llama.llama_api import capture_log
from swarmllm.adapters.llama.vocabulary import (
    LLAMA3_BOS,
    LLAMA3_FINGERPRINT,
    LLAMA3_PRE,
    LLAMA3_STOPS,
    load_tables,
    special_tokens,
)
from swarmllm.errors import LocalError

MODEL: dict[str, Value] = {
    "general.architecture": "llama",
    "llama.context_length": 64,
    "llama.embedding_length": 32,
    "llama.block_count": 1,
    "llama.feed_forward_length": 32,
    "llama.attention.head_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 32,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
}


def write(path: Path, more: list[tuple[str, int]], **keys: Value) -> Path:
    """A vocabulary of all bytes and `more` tokens behind them, from 256 on."""
    tokens = [(text, NORMAL) for text in ALPHABET] + more
    lists: dict[str, Value] = {
        "tokenizer.ggml.tokens": [text for text, _ in tokens],
        "tokenizer.ggml.token_type": [kind for _, kind in tokens],
        "tokenizer.ggml.merges": [],
    }
    path.write_bytes(
        header(MODEL | lists | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}, [])
    )
    return path


class Reference:
    """llama.cpp's reading of the same file."""

    def __init__(self, path: Path) -> None:
        wish = llama.llama_model_default_params()
        wish.vocab_only = True
        self._model: Any = llama.llama_model_load_from_file(str(path).encode(), wish)
        assert self._model, "llama.cpp cannot read the file"
        self._vocab = llama.llama_model_get_vocab(self._model)

    def stops(self) -> set[int]:
        return {
            t
            for t in range(llama.llama_vocab_n_tokens(self._vocab))
            if llama.llama_vocab_is_eog(self._vocab, t)
        }

    def add_bos(self) -> bool:
        return bool(llama.llama_vocab_get_add_bos(self._vocab))

    def encode(self, text: str) -> list[int]:
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        count = llama.llama_tokenize(self._vocab, data, len(data), room, len(room), False, False)
        return list(room[:count])

    def close(self) -> None:
        llama.llama_model_free(self._model)


@pytest.fixture(name="quiet", autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """llama.cpp logs each reading."""

    @llama.llama_log_callback  # type: ignore[untyped-decorator]
    def nothing(level: int, text: bytes, _: ctypes.c_void_p) -> None: ...

    llama.llama_log_set(nothing, None)
    yield
    capture_log()


# --- the end -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["eos", "eot", "eom"])
def test_each_end_that_the_file_names_ends_an_answer(tmp_path: Path, key: str) -> None:
    path = write(
        tmp_path / "a.gguf",
        [("<own end>", CONTROL), ("</x>", CONTROL)],
        **{"eos_token_id": 257, f"{key}_token_id": 256},
    )
    assert 256 in text_of_gguf(path).vocabulary.eog


@pytest.mark.parametrize("name", sorted(gguf_text._END_NAMES))
@pytest.mark.parametrize("kind", [CONTROL, USER_DEFINED, NORMAL])
def test_a_token_that_is_called_an_end_is_one_for_us_and_for_llama_cpp(
    tmp_path: Path, name: str, kind: int
) -> None:
    path = write(
        tmp_path / "a.gguf",
        [(name, kind), ("<other>", CONTROL)],
        bos_token_id=257,
        eos_token_id=257,
    )
    assert text_of_gguf(path).vocabulary.eog == {256, 257}
    reference = Reference(path)
    # What the installed llama.cpp does not list yet, newer ones do.
    assert reference.stops() == {256, 257} or name in {"</s>", "<EOT>", "[e~["}
    reference.close()


def test_control_tokens_with_other_names_end_nothing(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.gguf",
        [("<|im_start|>", CONTROL), ("<think>", USER_DEFINED), ("</s>", CONTROL)],
        eos_token_id=258,
    )
    assert text_of_gguf(path).vocabulary.eog == {258}


@pytest.mark.parametrize(
    ("names", "stops"),
    [
        (["<|return|>", "<|call|>", "<|end|>"], {256, 257}),
        (["<|flush|>", "<|calls|>", "<|end|>"], {256, 257}),
        (["<|return|>", "<|other|>", "<|end|>"], {256, 258}),
        (["<|tool_response>", "<turn|>", "</s>"], {256, 257}),
    ],
)
def test_what_stands_within_answers_of_some_formats_does_not_end_them(
    tmp_path: Path, names: list[str], stops: set[int]
) -> None:
    path = write(tmp_path / "a.gguf", [(name, CONTROL) for name in names], eos_token_id=256)
    assert text_of_gguf(path).vocabulary.eog == stops
    reference = Reference(path)
    assert reference.stops() == stops
    reference.close()


# --- the beginning -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "qwen2", "llama-bpe", "falcon3", "dbrx"])
@pytest.mark.parametrize("said", [None, True, False])
def test_the_file_says_whether_a_text_begins_with_bos(
    tmp_path: Path, pre: str, said: bool | None
) -> None:
    keys: dict[str, Value] = {"bos_token_id": 256, "eos_token_id": 257, "pre": pre}
    if said is not None:
        keys["add_bos_token"] = said
    path = write(tmp_path / "a.gguf", [("<s>", CONTROL), ("</s>", CONTROL)], **keys)
    text, reference = text_of_gguf(path), Reference(path)
    assert text.vocabulary.bos == 256
    assert text.vocabulary.add_bos is reference.add_bos()
    assert said is None or text.vocabulary.add_bos is said
    reference.close()


# --- LLaMA-3 and its fine-tunes ----------------------------------------------------------------------------------------------


def fine_tune(path: Path, renamed: dict[int, str], **keys: Value) -> Path:
    """A file over LLaMA-3's vocabulary, with other names for some special tokens."""
    tokens = load_tables().gguf_tokens()
    for token, text in renamed.items():
        tokens[token] = (text, CONTROL)
    lists: dict[str, Value] = {
        "tokenizer.ggml.pre": LLAMA3_PRE,
        "tokenizer.ggml.tokens": [text for text, _ in tokens],
        "tokenizer.ggml.token_type": [kind for _, kind in tokens],
        "tokenizer.ggml.merges": [],
    }
    path.write_bytes(
        header(MODEL | lists | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}, [])
    )
    return path


def of_swarm(path: Path | None, tmp_path: Path) -> BpeText:
    return text_of_swarm(path, bytes.fromhex(LLAMA3_FINGERPRINT), tmp_path / "cache")


def test_a_fine_tune_over_llama3_ends_where_its_file_says(tmp_path: Path) -> None:
    named = fine_tune(
        tmp_path / "a.gguf", {128_040: "<finish>"}, bos_token_id=LLAMA3_BOS, eos_token_id=128_040
    )
    assert of_swarm(named, tmp_path).vocabulary.eog >= LLAMA3_STOPS | {128_040}
    known = fine_tune(
        tmp_path / "b.gguf", {128_002: "<|im_end|>"}, bos_token_id=LLAMA3_BOS, eos_token_id=128_001
    )
    assert of_swarm(known, tmp_path).vocabulary.eog >= LLAMA3_STOPS | {128_002}


def test_a_node_without_a_model_ends_at_what_means_nothing_to_it(tmp_path: Path) -> None:
    """The fine-tune of somebody else ends its texts with one of the tokens that LLaMA-3 keeps free."""
    stops, names = of_swarm(None, tmp_path).vocabulary.eog, special_tokens()
    assert stops >= LLAMA3_STOPS | {128_002, 128_040, 128_255}
    assert {names[token - LLAMA3_BOS] for token in stops if token < 128_011} == {
        *("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "<|finetune_right_pad_id|>"),
        *(f"<|reserved_special_token_{n}|>" for n in range(3)),
    }


def test_a_token_that_the_own_file_gives_a_meaning_is_no_end(tmp_path: Path) -> None:
    path = fine_tune(
        tmp_path / "a.gguf", {128_013: "<tool_call>"}, bos_token_id=LLAMA3_BOS, eos_token_id=128_001
    )
    stops = of_swarm(path, tmp_path).vocabulary.eog
    assert 128_013 not in stops
    assert 128_014 in stops


def test_a_file_over_llama3_may_leave_its_bos_away(tmp_path: Path) -> None:
    path = fine_tune(
        tmp_path / "a.gguf", {}, bos_token_id=LLAMA3_BOS, eos_token_id=128_001, add_bos_token=False
    )
    assert not of_swarm(path, tmp_path).vocabulary.add_bos
    assert of_swarm(None, tmp_path).vocabulary.add_bos


def test_a_file_that_became_another_while_it_was_loaded_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", [("</s>", CONTROL)], eos_token_id=256)
    with pytest.raises(LocalError, match=r"a\.gguf changed"):
        text_of_swarm(path, bytes(32), tmp_path)


# --- cutting text ------------------------------------------------------------------------------------------------------------

SAMPLES = [
    "It's 12345 o'clock,  isn't it?\r\n\n\t Ja — нет 東京 🦙",
    "  two spaces, trailing  ",
    "x = {'a': [1, 22, 333]}\n    return x\n\n\n",
    "I'LL we've HE'D ... !!! ?!  1.000,00 €\u00a0nbsp\u3000wide",
]


@pytest.mark.parametrize("pre", PATTERNS)
def test_text_is_cut_as_llama_cpp_cuts_it(tmp_path: Path, pre: str) -> None:
    """Every two neighbouring bytes that may be merged are, so that a border between words shows."""
    pairs = [a + b for a in "ĠĊ1234.'!?" for b in "ĠĊ1234.'!?aItsnl"]
    path = tmp_path / "a.gguf"
    lists: dict[str, Value] = {
        "tokenizer.ggml.tokens": [*ALPHABET, *pairs, "</s>"],
        "tokenizer.ggml.token_type": [NORMAL] * (256 + len(pairs)) + [CONTROL],
        "tokenizer.ggml.merges": [f"{pair[0]} {pair[1]}" for pair in pairs],
        "tokenizer.ggml.eos_token_id": 256 + len(pairs),
        "tokenizer.ggml.pre": pre,
    }
    path.write_bytes(header(MODEL | lists, []))
    text, reference = text_of_gguf(path), Reference(path)
    for sample in SAMPLES:
        assert text.tokenize(sample) == reference.encode(sample), sample
    reference.close()


# --- bytes without a token ---------------------------------------------------------------------------------------------------


def sparse(tmp_path: Path) -> BpeText:
    """As in SmolLM2's vocabulary: a few bytes that hardly any text holds have no token."""
    tokens = [text for byte, text in enumerate(ALPHABET) if byte not in (0x04, 0xF1)]
    path = tmp_path / "a.gguf"
    lists: dict[str, Value] = {
        "tokenizer.ggml.tokens": [*tokens, "</s>"],
        "tokenizer.ggml.token_type": [NORMAL] * len(tokens) + [CONTROL],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": len(tokens),
    }
    path.write_bytes(header(MODEL | lists, []))
    return text_of_gguf(path)


def test_a_vocabulary_without_some_bytes_is_taken(tmp_path: Path) -> None:
    text = sparse(tmp_path)
    for sample in ("Ordinary text, äöü, 東京 🦙\n", "", "\x03\x05"):
        assert text.vocabulary.decode(text.tokenize(sample)) == sample


def test_what_has_no_token_is_left_out_as_in_llama_cpp(tmp_path: Path) -> None:
    text = sparse(tmp_path)
    assert text.vocabulary.decode(text.tokenize("ab\x04c")) == "abc"
