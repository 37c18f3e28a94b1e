"""LLaMA-3's vocabulary, 128,256 tokens, rebuilt at run time from Meta's own file: that of the
bundled experts, and of nodes without a model that were told so.

The file ships in the PyPI package `llama-models`, under the Llama community licence; it is read
there and never copied into this project. It lists the tokens only: a BPE needs merges too, and for
a vocabulary that was trained by merging, the merges are all the ways in which a token is made of
two others, in the order of the tokens they make. Finding them takes a second, so they are kept in
the user's cache (they load in half the time of the built tokenizer's own JSON). A cache that cannot
be read or written costs that second and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.resources
import logging
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swarmllm.adapters.llama.bpe_text import BpeText, build_tokenizer, shown
from swarmllm.adapters.llama.cache_file import replacing
from swarmllm.adapters.llama.gguf_tokenizer import reserved_tokens
from swarmllm.core.vocabulary import Vocabulary, ends_of
from swarmllm.errors import LocalError
from swarmllm.wire.tokenizer import CONTROL, NORMAL, Tokenizer

LLAMA3_BOS = 128_000
LLAMA3_EOS = 128_001
LLAMA3_SIZE = 128_256
LLAMA3_STOPS = frozenset({128_001, 128_008, 128_009})  # End of text, of message, of turn.
LLAMA3_PRE = "llama-bpe"  # What GGUF calls the split pattern below.
LLAMA3_FILE_SHA256 = "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55"
LLAMA3_FINGERPRINT = "a8c85186c0a024cc55e195f7b55e0880530d13c937cd279b6be31511f043d11d"
LLAMA3_CHAT_DIGEST = "6d2f0f0aedec1f9d"  # Of the bundled experts, which have no template.

# Published with the model (llama_models/llama3/tokenizer.py) and in llama.cpp as the "llama-bpe"
# pre-tokenizer.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CACHE_FORMAT = 1  # Raise it when the content of the cached file changes.
_DIGEST_BYTES = 32

log = logging.getLogger("swarmllm.vocabulary")


@cache
def _meta_file() -> bytes:
    """Meta's file. LocalError if the installed package holds another one: the ids would not mean
    what other peers think."""
    try:
        data = (
            importlib.resources.files("llama_models.llama3")
            .joinpath("tokenizer.model")
            .read_bytes()
        )
    except (ImportError, OSError) as e:
        raise LocalError(
            f"cannot read LLaMA-3's vocabulary from the package llama-models ({e}):"
            " reinstall it with pip"
        ) from e
    if hashlib.sha256(data).hexdigest() != LLAMA3_FILE_SHA256:
        version = importlib.metadata.version("llama-models")
        raise LocalError(
            f"llama-models {version} holds another vocabulary file than LLaMA-3's:"
            " reinstall llama-models 0.3.0"
        )
    return data


@cache
def load_merge_ranks() -> dict[bytes, int]:
    """Token bytes -> id, for the 128,000 ordinary tokens, in the order of Meta's file."""
    pairs = (line.split() for line in _meta_file().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def special_tokens() -> list[str]:
    """The 256 special tokens, in the order of their ids from 128,000 on."""
    named = {
        0: "<|begin_of_text|>",
        1: "<|end_of_text|>",
        2: "<|reserved_special_token_0|>",
        3: "<|reserved_special_token_1|>",
        4: "<|finetune_right_pad_id|>",
        5: "<|reserved_special_token_2|>",
        6: "<|start_header_id|>",
        7: "<|end_header_id|>",
        8: "<|eom_id|>",
        9: "<|eot_id|>",
        10: "<|python_tag|>",
    }
    return [named.get(i, f"<|reserved_special_token_{i - 8}|>") for i in range(256)]


@dataclass(frozen=True, slots=True)
class Tables:
    """What a tokenizer is built from: the ordinary tokens as GGUF spells them, and int32 rows (id,
    left id, right id), one for every way to make a token of two others, in the order in which BPE
    tries them."""

    spelled: list[str]
    merges: npt.NDArray[np.int32]

    def gguf_tokens(self) -> list[tuple[str, int]]:
        """(text, type) of every id, as a GGUF file lists them."""
        return [(text, NORMAL) for text in self.spelled] + [
            (text, CONTROL) for text in special_tokens()
        ]

    def merge_pairs(self) -> list[tuple[str, str]]:
        left, right = self.merges[:, 1].tolist(), self.merges[:, 2].tolist()
        return list(
            zip(
                map(self.spelled.__getitem__, left),
                map(self.spelled.__getitem__, right),
                strict=True,
            )
        )

    def tokenizer(self) -> Tokenizer:
        """As the GGUF files of the bundled experts have it."""
        tokens = self.gguf_tokens()
        return Tokenizer(
            model="gpt2",
            pre=LLAMA3_PRE,
            space_prefix=False,
            trims_spaces=False,
            unknown=None,
            texts=[text.encode() for text, _ in tokens],
            kinds=bytes(kind for _, kind in tokens),
            scores=b"",
            merges=[" ".join(pair).encode() for pair in self.merge_pairs()],
            charsmap=b"",
            ids=(LLAMA3_BOS, LLAMA3_EOS, LLAMA3_BOS + 9, LLAMA3_BOS + 8, None, None, None),
            add_bos=True,
            trimming="",
            template="",
        )

    def last_merges(self) -> dict[int, tuple[int, int]]:
        """For every id made of two pieces: the pieces of its last BPE merge, which is the one whose
        pieces are the earliest."""
        token, left, right = self.merges.T
        lengths = np.array([len(text) for text in self.spelled])
        order = np.lexsort((lengths[left], np.maximum(left, right), token))
        best = order[np.flatnonzero(np.diff(token[order], prepend=-1))]
        pairs = zip(left[best].tolist(), right[best].tolist(), strict=True)
        return dict(zip(token[best].tolist(), pairs, strict=True))


def find_tables() -> Tables:
    ranks = load_merge_ranks()
    found = []
    for token, rank in ranks.items():
        for i in range(1, len(token)):
            left = ranks.get(token[:i])
            if left is not None and (right := ranks.get(token[i:])) is not None:
                found.append((rank, left, right))
    found.sort()
    return Tables([shown(token) for token in ranks], np.array(found, np.int32))


def cache_path(cache_dir: Path) -> Path:
    return cache_dir / f"llama3-{LLAMA3_FILE_SHA256[:12]}-{CACHE_FORMAT}.tables"


def _store(tables: Tables, path: Path) -> None:
    """Digest, number of merges, merges, tokens one a line (none holds a line break: GGUF's spelling
    has no control characters)."""
    data = (
        struct.pack("<I", len(tables.merges))
        + tables.merges.astype("<i4").tobytes()
        + "\n".join(tables.spelled).encode()
    )
    try:
        with replacing(path) as file:
            file.write(hashlib.sha256(data).digest() + data)
    except OSError as e:
        log.info(
            "the vocabulary's merges could not be cached (%s): finding them again next time", e
        )


def _restore(path: Path) -> Tables | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        log.info("the cached merges %s are damaged: finding them again", path)
        return None
    (count,) = struct.unpack_from("<I", data)
    merges = np.frombuffer(data, "<i4", count * 3, 4).astype(np.int32).reshape(-1, 3)
    return Tables(data[4 + merges.nbytes :].decode().split("\n"), merges)


@cache
def load_tables(cache_dir: Path | None = None) -> Tables:
    _meta_file()  # The cache speaks for Meta's file, so that one has to be right first.
    path = cache_path(cache_dir) if cache_dir else None
    tables = _restore(path) if path else None
    if tables is None:
        tables = find_tables()
        if path:
            _store(tables, path)
    return tables


@cache
def load_vocabulary(cache_dir: Path | None = None) -> BpeText:
    """LLaMA-3's text side. With a `cache_dir` the merges are kept there: about 0.3 s instead of
    1.2."""
    tables = load_tables(cache_dir)
    vocab = dict(zip(tables.spelled, range(len(tables.spelled)), strict=True))
    tokenizer = build_tokenizer(vocab, tables.merge_pairs(), SPLIT_PATTERN)
    names = special_tokens()
    special = {name: LLAMA3_BOS + i for i, name in enumerate(names)}
    pieces = [*load_merge_ranks(), *[b""] * len(names)]
    value = Vocabulary(
        fingerprint=bytes.fromhex(LLAMA3_FINGERPRINT),
        bos=LLAMA3_BOS,
        add_bos=True,
        chat_digest=bytes.fromhex(LLAMA3_CHAT_DIGEST),
        eog=LLAMA3_STOPS | reserved_tokens(special),
        pieces=b"".join(pieces),
        ends=ends_of(pieces),
        bos_text=names[0],
        eos_text=names[LLAMA3_EOS - LLAMA3_BOS],
        source="LLaMA-3",
    )
    return BpeText(tokenizer, special, value)
