"""A tokenizer as bytes: everything that llama.cpp needs to turn text into token ids, in two
canonical sections, and the two digests that name them.

The section `encoding` decides how text is cut; its SHA-256 is the vocabulary's fingerprint. The
section `chat` says how conversations are written (control tokens, special ids, the chat template);
eight bytes of its SHA-256 are the chat digest. So whoever knows the digests can check what a
stranger sends before a byte of it is parsed. Byte for byte: protocols/tokenizer.md.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.errors import RemoteError
from swarmllm.messages import SEALED_MAX, VOCABULARY_MAX

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Token types of GGUF's `tokenizer.ggml.token_type`."""

ENCODING_DOMAIN: Final = b"swarmllm/vocabulary/2"
CHAT_DOMAIN: Final = b"swarmllm/chat/1"

INFLATED_MAX: Final = 32 << 20  # The largest published vocabulary has 11 MB.
TEXT_MAX: Final = 1 << 16  # Of one token, merge or template, in bytes.
MERGES_MAX: Final = 2 * VOCABULARY_MAX
CHARSMAP_MAX: Final = 4 << 20
NAME_MAX: Final = 64

ID_KEYS: Final = ("bos", "eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
"""The special ids that say how a text begins and ends, as `tokenizer.ggml.*_token_id` names
them."""

ADD_BOS: Final = (None, False, True)


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """`model` and `pre` are GGUF's names of the kind and of the pre-tokenizer. `texts` and `kinds`
    are those of each token by id; `scores` little-endian float32, one a token, or empty; `merges`
    "left right" in order. `unknown` is the id for what cannot be spelled. `trimming` names models
    whose control tokens swallow white space behind them. Ids that are not there are None."""

    model: str
    pre: str
    space_prefix: bool
    trims_spaces: bool
    unknown: int | None
    texts: Sequence[bytes]
    kinds: bytes
    scores: bytes
    merges: Sequence[bytes]
    charsmap: bytes
    ids: tuple[int | None, ...]
    add_bos: bool | None
    trimming: str
    template: str

    def encoding(self) -> bytes:
        """The section that the fingerprint is taken of. Texts of control tokens are left out:
        fine-tunes rename them, and must still mix."""
        flags = self.space_prefix | self.trims_spaces << 1
        parts = [ENCODING_DOMAIN, _text(self.model.encode()), _text(self.pre.encode())]
        parts.append(struct.pack(">BII", flags, _id(self.unknown), len(self.texts)))
        for text, kind in zip(self.texts, self.kinds, strict=True):
            if is_ordinary(text, kind):
                parts += (bytes([kind]), _text(text))
            else:
                parts.append(b"\0")
        parts += (_text(self.scores), struct.pack(">I", len(self.merges)))
        parts += map(_text, self.merges)
        parts.append(_text(self.charsmap))
        return b"".join(parts)

    def chat(self) -> bytes:
        """The section that the chat digest is taken of."""
        add_bos = ADD_BOS.index(self.add_bos)
        parts = [CHAT_DOMAIN, struct.pack(f">{len(self.ids)}IB", *map(_id, self.ids), add_bos)]
        parts += (_text(self.trimming.encode()), _text(self.template.encode()))
        for text, kind in zip(self.texts, self.kinds, strict=True):
            if not is_ordinary(text, kind):
                parts += (bytes([kind]), _text(text))
        return b"".join(parts)

    def digests(self) -> tuple[bytes, bytes]:
        """(fingerprint, chat digest)."""
        return fingerprint_of(self.encoding()), chat_digest_of(self.chat())

    def sealed(self) -> bytes:
        """Both sections, deflated, as peers send them."""
        encoding, chat = self.encoding(), self.chat()
        return zlib.compress(_text(encoding) + _text(chat), 6)


def is_ordinary(text: bytes, kind: int) -> bool:
    """Whether a token's text is a part of what the fingerprint covers: it is text, or cut out of
    text before everything else (user-defined) and not named like a control token (`<tool>`):
    converters disagree on the types of those."""
    if kind == USER_DEFINED:
        return not (text[:1] in (b"<", b"[") and text[-1:] in (b">", b"]"))
    return kind in (NORMAL, BYTE)


def fingerprint_of(encoding: bytes) -> bytes:
    return hashlib.sha256(encoding).digest()


def chat_digest_of(chat: bytes) -> bytes:
    return hashlib.sha256(chat).digest()[:8]


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _id(token: int | None) -> int:
    return 0 if token is None else token + 1


# --- reading --------------------------------------------------------------------------------------


def unseal(data: bytes, fingerprint: bytes, chat_digest: bytes | None) -> Tokenizer:
    """What a peer sent under these digests (None: whatever chat section it has). RemoteError unless
    it inflates within bounds, is what the digests name, and is the one encoding of what it says."""
    sections = _Reader(_inflated(data))
    encoding, chat = sections.text(INFLATED_MAX), sections.text(INFLATED_MAX)
    sections.end()
    if fingerprint_of(encoding) != fingerprint:
        raise RemoteError(f"a tokenizer that is not the one named {fingerprint.hex()[:12]}")
    if chat_digest is not None and chat_digest_of(chat) != chat_digest:
        raise RemoteError(f"a chat format that is not the one named {chat_digest.hex()}")
    found = _read(_Reader(encoding), _Reader(chat))
    if found.encoding() != encoding or found.chat() != chat:
        raise RemoteError("a tokenizer that is not in its one encoding")
    return found


def _inflated(data: bytes) -> bytes:
    if len(data) > SEALED_MAX:
        raise RemoteError(f"a tokenizer of {len(data)} bytes, more than {SEALED_MAX}")
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(data, INFLATED_MAX)
    except zlib.error as error:
        raise RemoteError(f"a tokenizer that is not deflated ({error})") from error
    if not inflater.eof or inflater.unused_data:
        raise RemoteError("a tokenizer that is cut off, too large or has something behind it")
    return found


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise RemoteError(f"a tokenizer that ends where {count} bytes are missing")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, most: int) -> int:
        found = int.from_bytes(self.take(4), "big")
        if found > most:
            raise RemoteError(f"a tokenizer with {found} where {most} is the most")
        return found

    def text(self, most: int) -> bytes:
        return self.take(self.number(most))

    def name(self) -> str:
        return _utf8(self.text(NAME_MAX))

    def token(self, size: int) -> int | None:
        found = self.number(size)
        return None if found == 0 else found - 1

    def end(self) -> None:
        if self._at != len(self._data):
            raise RemoteError("a tokenizer with something behind its end")


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RemoteError("a tokenizer with a text that is no UTF-8") from error


def _read(encoding: _Reader, chat: _Reader) -> Tokenizer:
    if encoding.take(len(ENCODING_DOMAIN)) != ENCODING_DOMAIN:
        raise RemoteError("a tokenizer of another version")
    if chat.take(len(CHAT_DOMAIN)) != CHAT_DOMAIN:
        raise RemoteError("a chat format of another version")
    model, pre = encoding.name(), encoding.name()
    flags = encoding.take(1)[0]
    unknown = encoding.number(VOCABULARY_MAX)
    size = encoding.number(VOCABULARY_MAX)
    ids = tuple(chat.token(size) for _ in ID_KEYS)
    add_bos = chat.take(1)[0]
    if not size or unknown > size or flags > 3 or add_bos >= len(ADD_BOS):
        raise RemoteError("a tokenizer that makes no sense")
    trimming, template = chat.name(), _utf8(chat.text(TEXT_MAX))
    texts: list[bytes] = []
    kinds = bytearray()
    for _ in range(size):
        kind = encoding.take(1)[0]
        source = encoding
        if kind == 0:
            kind, source = chat.take(1)[0], chat
        kinds.append(kind)
        texts.append(source.text(TEXT_MAX))
    scores = encoding.text(4 * size)
    if len(scores) not in (0, 4 * size):
        raise RemoteError("a tokenizer whose scores are not one a token")
    merges = [encoding.text(TEXT_MAX) for _ in range(encoding.number(MERGES_MAX))]
    charsmap = encoding.text(CHARSMAP_MAX)
    encoding.end()
    chat.end()
    check_texts(texts)
    return Tokenizer(
        model=model,
        pre=pre,
        space_prefix=bool(flags & 1),
        trims_spaces=bool(flags & 2),
        unknown=None if unknown == 0 else unknown - 1,
        texts=texts,
        kinds=bytes(kinds),
        scores=scores,
        merges=merges,
        charsmap=charsmap,
        ids=ids,
        add_bos=ADD_BOS[add_bos],
        trimming=trimming,
        template=template,
    )


def check_texts(texts: Iterable[bytes]) -> None:
    """RemoteError for texts that end llama.cpp: two tokens of one text, or bytes that are no
    UTF-8."""
    seen = set[bytes]()
    for token, text in enumerate(texts):
        name = text or b"[EMPTY_%d]" % token  # As llama.cpp calls it.
        if name in seen:
            raise RemoteError(f"token {token} is a second one of the text {name[:40]!a}")
        seen.add(name)
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError as error:
                raise RemoteError(f"token {token} is no UTF-8 text") from error
