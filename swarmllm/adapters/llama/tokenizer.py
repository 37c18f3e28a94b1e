"""llama.cpp's tokenizer behind three calls: load, encode, and the vocabulary as one value. Only
ever inside a worker process.

llama.cpp knows every kind of vocabulary and every pre-tokenizer by name; what it does is right by
definition, for the models were converted for it. One thing it cannot do is to parse control tokens
in some spans of a text and not in others, so that is done here: control tokens are cut out first,
by llama.cpp's own rule (the longest names first, each from left to right), and it encodes what is
left."""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

import llama_cpp.llama_cpp as llama
import numpy as np

from swarmllm.adapters.llama.gguf_format import read_metadata
from swarmllm.adapters.llama.gguf_parts import parts_of
from swarmllm.adapters.llama.gguf_tokenizer import (
    TOKENIZER_KEYS,
    gguf_of,
    reserved_tokens,
    tokenizer_in,
)
from swarmllm.adapters.llama.llama_api import capture_log, complaint
from swarmllm.core.vocabulary import Span, Vocabulary, ends_of
from swarmllm.errors import LocalError
from swarmllm.wire.tokenizer import BYTE, ID_KEYS, NORMAL, USER_DEFINED, Tokenizer, is_ordinary

LSTRIP, RSTRIP = llama.LLAMA_TOKEN_ATTR_LSTRIP, llama.LLAMA_TOKEN_ATTR_RSTRIP
HIDDEN: Final = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN
SPECIAL: Final = HIDDEN | llama.LLAMA_TOKEN_ATTR_USER_DEFINED
BLANK: Final = b" \t\n\v\f\r"


def read_tokenizer(path: Path) -> tuple[Path, Tokenizer]:
    """The file that the tokenizer is in (of a model in parts: the first one), and what it says.
    LocalError."""
    first = parts_of(path)[0]
    return first, tokenizer_in(path, read_metadata(first, TOKENIZER_KEYS))


class LlamaTokenizer:
    """A vocabulary that llama.cpp has loaded, without weights. One thread at a time."""

    def __init__(self, path: Path) -> None:
        """LocalError, naming the file, for one that is unfit."""
        self._path, self.data = read_tokenizer(path)
        capture_log()
        self._model: Any = _loaded(self._path, self.data)
        if not self._model:
            raise LocalError(
                f"llama.cpp cannot read the vocabulary of {path} ({complaint()}):"
                " choose another file, or a newer llama-cpp-python"
            )
        self._vocab: Any = llama.llama_model_get_vocab(self._model)
        self.size = len(self.data.texts)
        self._attributes = [self._attribute(token) for token in range(self.size)]
        special = [token for token in range(self.size) if self._attributes[token] & SPECIAL]
        named = [(self._name(token), token) for token in special]
        self._special = sorted(named, key=lambda one: -len(one[0]))

    def close(self) -> None:
        llama.llama_model_free(self._model)

    def vocabulary(self, path: Path) -> Vocabulary:
        """LocalError for a model whose answers would never end."""
        fingerprint, chat_digest = self.data.digests()
        pieces = [self.piece(token) for token in range(self.size)]
        bos, eos, eog = self._marks(path)
        add_bos = bos is not None and bool(llama.llama_vocab_get_add_bos(self._vocab))
        return Vocabulary(
            fingerprint=fingerprint,
            bos=bos,
            add_bos=add_bos,
            eog=eog,
            pieces=b"".join(pieces),
            ends=ends_of(pieces),
            chat_template=self.data.template,
            chat_digest=chat_digest,
            bos_text="" if bos is None else self._name(bos).decode(errors="replace"),
            eos_text="" if eos is None else self._name(eos).decode(errors="replace"),
            space_prefix=self.data.space_prefix,
            source=str(path),
        )

    def _marks(self, path: Path) -> tuple[int | None, int | None, frozenset[int]]:
        """(BOS, EOS, all ids that end an answer). Where a file names none, llama.cpp takes a usual
        id for the kind of vocabulary, which may be an ordinary word: then there is none.

        Models without a BOS put their end-of-text token between documents, so it stands in. A token
        whose name only keeps a place ends an answer as well: it has no text, and whichever model of
        the swarm chose it meant something by it that our own model's file does not know.
        """
        said = dict(zip(ID_KEYS, self.data.ids, strict=True))
        bos, eos = (
            token
            if token >= 0 and (said[key] is not None or self.data.kinds[token] != NORMAL)
            else None
            for key, token in (
                ("bos", llama.llama_vocab_bos(self._vocab)),
                ("eos", llama.llama_vocab_eos(self._vocab)),
            )
        )
        ends = {token for token in range(self.size) if llama.llama_vocab_is_eog(self._vocab, token)}
        if eos is None:
            ends.discard(llama.llama_vocab_eos(self._vocab))
        if not ends:
            raise LocalError(
                f"{path} names no token that ends a text (tokenizer.ggml.eos_token_id),"
                " so its answers would never end: choose another conversion of the model"
            )
        names = {
            self._name(t).decode(errors="replace"): t
            for t, a in enumerate(self._attributes)
            if a & HIDDEN
        }
        return (eos if bos is None else bos), eos, frozenset(ends) | reserved_tokens(names)

    def _name(self, token: int) -> bytes:
        return bytes(llama.llama_vocab_get_text(self._vocab, token))

    def special_names(self) -> dict[int, str]:
        """How each control token is spelled."""
        return {
            token: self._name(token).decode(errors="replace")
            for token in range(self.size)
            if self._attributes[token] & HIDDEN
        }

    def _attribute(self, token: int) -> int:
        return int(llama.llama_vocab_get_attr(self._vocab, token))

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; none for control tokens."""
        room = ctypes.create_string_buffer(64)
        count = llama.llama_token_to_piece(self._vocab, token, room, len(room), 0, False)
        if count < 0:
            room = ctypes.create_string_buffer(-count)
            count = llama.llama_token_to_piece(self._vocab, token, room, len(room), 0, False)
        return room.raw[:count]

    # --- encoding ---------------------------------------------------------------------------------

    def encode(self, spans: Sequence[Span]) -> list[int]:
        """The ids of the spans as one text, without BOS."""
        kinds = {span.parse_special for span in spans if span.text}
        text = b"".join(span.text.encode() for span in spans)
        if len(kinds) <= 1:
            return self.tokenize(text, parse_special=True in kinds)
        return self.encode_parted(spans)

    def encode_parted(self, spans: Sequence[Span]) -> list[int]:
        """`encode` for spans of both kinds.

        Some converters make the marks of turns user-defined, and llama.cpp finds those in any text.
        Beside a template they stay text as control tokens do: the name is cut behind its first
        letter (where a text gets a space in front, so does the rest of the name).
        """
        text, allowed = _together(spans)
        parts: list[tuple[int, int] | int] = [(0, len(text))]
        barred = list[bytes]()
        for name, token in self._special:
            if name in text:
                hidden = self._attributes[token] & HIDDEN
                if not hidden and not is_ordinary(name, USER_DEFINED):
                    hidden = True
                    barred.append(name)
                parts = [
                    piece
                    for part in parts
                    for piece in (
                        [part]
                        if isinstance(part, int)
                        else self._cut(text, part, name, token, allowed if hidden else None)
                    )
                ]
        ids: list[int] = []
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
            else:
                for piece in _apart(text[part[0] : part[1]], barred):
                    ids += self.tokenize(piece)
        return ids

    def _cut(
        self,
        text: bytes,
        part: tuple[int, int],
        name: bytes,
        token: int,
        allowed: list[tuple[int, int]] | None,
    ) -> list[tuple[int, int] | int]:
        """The stretch `part` of the text, cut at each place where the token is spelled, within
        `allowed` (None: anywhere)."""
        (start, end), search, found = part, part[0], list[tuple[int, int] | int]()
        while (at := text.find(name, search, end)) >= 0:
            behind = at + len(name)
            if allowed is not None and not any(a <= at and behind <= b for a, b in allowed):
                search = at + 1
                continue
            left = at
            if self._attributes[token] & LSTRIP:
                left = start + len(text[start:at].rstrip(BLANK))
            if left > start:
                found.append((start, left))
            found.append(token)
            if self._attributes[token] & RSTRIP:
                behind = end - len(text[behind:end].lstrip(BLANK))
            start = search = behind
        if end > start:
            found.append((start, end))
        return found

    def tokenize(self, text: bytes, *, parse_special: bool = False) -> list[int]:
        """llama.cpp's own answer."""
        room = np.empty(len(text) + 16, np.int32)
        count = self._tokenize(text, room, parse_special)
        if count < 0:  # Normalisation made more of it.
            room = np.empty(-count, np.int32)
            count = self._tokenize(text, room, parse_special)
        ids: list[int] = room[:count].tolist()
        return ids if max(ids, default=0) < self.size else self._known(ids)

    def _known(self, ids: list[int]) -> list[int]:
        """With one unknown token, or none, for each stretch of bytes that have no token."""
        found: list[int] = []
        for is_known, group in groupby(ids, lambda token: token < self.size):
            if is_known:
                found += group
            elif self.data.unknown is not None:
                found.append(self.data.unknown)
        return found

    def _tokenize(self, text: bytes, room: Any, parse_special: bool) -> int:
        address = room.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        return int(
            llama.llama_tokenize(
                self._vocab, text, len(text), address, len(room), False, parse_special
            )
        )


def _apart(text: bytes, names: Sequence[bytes]) -> list[bytes]:
    """The text cut behind the first byte of each of the names in it, so that none is whole."""
    if not names:
        return [text]
    spelled = re.compile(b"(?=" + b"|".join(map(re.escape, names)) + b")")
    cuts = [0, *(found.start() + 1 for found in spelled.finditer(text)), len(text)]
    return [text[a:b] for a, b in pairwise(cuts) if a < b]


def _loaded(path: Path, data: Tokenizer) -> Any:
    """llama.cpp's model without weights; None if it refuses the file.

    A SentencePiece vocabulary without byte tokens gets them behind its own: llama.cpp would end the
    process over a character that has no piece, and so it is told apart and becomes unknown.
    """
    params = llama.llama_model_default_params()
    params.vocab_only, params.use_mmap = True, False
    lacking = _lacking_bytes(data)
    if not lacking:
        return llama.llama_model_load_from_file(os.fsencode(path), params)
    extended = replace(
        data,
        texts=[*data.texts, *lacking],
        kinds=data.kinds + bytes([BYTE]) * len(lacking),
        scores=data.scores and data.scores + bytes(4 * len(lacking)),
    )
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(gguf_of(extended))
        file.flush()
        return llama.llama_model_load_from_file(os.fsencode(file.name), params)


def _lacking_bytes(data: Tokenizer) -> list[bytes]:
    if data.model != "llama":
        return []
    texts = set(data.texts)
    return [
        name
        for byte in range(256)
        if (name := b"<0x%02X>" % byte) not in texts and bytes([byte]) not in texts
    ]


def _together(spans: Sequence[Span]) -> tuple[bytes, list[tuple[int, int]]]:
    """The whole text, and where in it control tokens may stand: neighbours are one stretch."""
    text, allowed = b"", list[tuple[int, int]]()
    for parse_special, group in groupby((s for s in spans if s.text), lambda s: s.parse_special):
        begin = len(text)
        text += b"".join(span.text.encode() for span in group)
        if parse_special:
            allowed.append((begin, len(text)))
    return text, allowed
