"""Small made tokenizers of each kind that llama.cpp knows, for `gguf_fixture.write_model` and for
GGUF files without a model (`gguf_tokenizer.gguf_of`).

They hold the letters of ASCII, some words, and what makes their kind awkward: byte fallback, a
space in front of a text, white space as tokens of its own, or no way to write a character at all.
"""

from __future__ import annotations

import string
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from swarmllm.wire.tokenizer import (
    BYTE,
    CONTROL,
    ID_KEYS,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Tokenizer,
)

SPACE: Final = "▁"
LETTERS: Final = string.ascii_letters + string.digits + string.punctuation
WORDS: Final = ("the", "qu", "ick", "br", "own", "fox", "in", "ing", "er", "th", "東京", "é")
Token = tuple[str, int]


def tokenizer(
    model: str, tokens: Sequence[Token], ids: Mapping[str, int], **more: object
) -> Tokenizer:
    """A tokenizer of these tokens, with nothing else."""
    plain = Tokenizer(
        model=model,
        pre="",
        space_prefix=False,
        trims_spaces=False,
        unknown=None,
        texts=[text.encode() for text, _ in tokens],
        kinds=bytes(kind for _, kind in tokens),
        scores=b"",
        merges=[],
        charsmap=b"",
        ids=tuple(ids.get(key) for key in ID_KEYS),
        add_bos=None,
        trimming="",
        template="",
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def _bytes() -> list[Token]:
    return [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]


def _pieces() -> list[Token]:
    """Letters, and words with and without a space in front."""
    spaced = [SPACE + word for word in (*WORDS, *string.ascii_lowercase)]
    return [(text, NORMAL) for text in (SPACE, *LETTERS, *WORDS, *spaced)]


def _scores(tokens: Sequence[Token]) -> bytes:
    """The longer a piece the better, as merging finds it; earlier ones before later ones."""
    scores = [
        -1000.0 / len(text) - at / 1000 if kind == NORMAL else 0.0
        for at, (text, kind) in enumerate(tokens)
    ]
    return struct.pack(f"<{len(scores)}f", *scores)


def sentence_piece() -> Tokenizer:
    """As LLaMA-2's and Mistral's: bytes for what has no piece, a space in front of each text."""
    head: list[Token] = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    tokens = [*head, *_bytes(), *_pieces()]
    ids = {"bos": 1, "eos": 2}
    return tokenizer("llama", tokens, ids, scores=_scores(tokens), space_prefix=True, unknown=0)


def gemma_like() -> Tokenizer:
    """As Gemma's: no space in front, runs of white space are tokens, turns have their own marks."""
    head: list[Token] = [("<pad>", CONTROL), ("<eos>", CONTROL), ("<bos>", CONTROL)]
    marks: list[Token] = [("<start_of_turn>", CONTROL), ("<end_of_turn>", CONTROL)]
    blank: list[Token] = [(text, USER_DEFINED) for text in ("\n", "\n\n", "\t", SPACE * 2)]
    odd: list[Token] = [("<unk>", UNKNOWN), ("<unused0>", CONTROL), ("<tool>", USER_DEFINED)]
    tokens = [*head, *odd, *marks, *blank, *_bytes(), *_pieces()]
    ids = {"bos": 2, "eos": 1, "eot": 7}
    return tokenizer("llama", tokens, ids, scores=_scores(tokens), unknown=3, add_bos=True)


def without_bytes() -> Tokenizer:
    """A SentencePiece vocabulary that cannot write most of Unicode."""
    base = sentence_piece()
    tokens = [
        (text.decode(), kind)
        for text, kind in zip(base.texts, base.kinds, strict=True)
        if kind != BYTE
    ]
    ids = {"bos": 1, "eos": 2}
    return tokenizer("llama", tokens, ids, scores=_scores(tokens), space_prefix=True, unknown=0)


def unigram() -> Tokenizer:
    """As T5's (UGM): the likeliest segmentation, and one unknown token for what has none."""
    head: list[Token] = [("<pad>", CONTROL), ("</s>", CONTROL), ("<unk>", UNKNOWN)]
    tokens = [*head, *_pieces()]
    return tokenizer(
        "t5",
        tokens,
        {"eos": 1},
        scores=_scores(tokens),
        space_prefix=True,
        trims_spaces=True,
        unknown=2,
    )


def word_piece() -> Tokenizer:
    """As BERT's: words in small letters, and one unknown token for those that have no pieces."""
    marks: list[Token] = [(f"[{name}]", CONTROL) for name in ("PAD", "CLS", "SEP", "EOS")]
    marks.insert(1, ("[UNK]", UNKNOWN))
    tokens = [*marks, *((t, k) for t, k in _pieces() if t != SPACE)]
    return tokenizer("bert", tokens, {"bos": 2, "eos": 4}, unknown=1)


def rwkv() -> Tokenizer:
    """As RWKV's: the longest token that fits, all bytes among them; texts are written escaped."""
    single = [(f"\\x{byte:02x}", NORMAL) for byte in range(256)]
    words = [(word, NORMAL) for word in ("the", " the", "quick", " quick", "in", "ing", "\\n\\n")]
    tokens: list[Token] = [("<s>", CONTROL), *single, *words]
    return tokenizer("rwkv", tokens, {"bos": 0, "eos": 0})


KINDS: Final = {
    "SentencePiece": sentence_piece,
    "Gemma-like": gemma_like,
    "UGM": unigram,
    "WordPiece": word_piece,
    "RWKV": rwkv,
}
"""By the name that people know them by; `without_bytes` apart."""
