"""The vocabulary fingerprint: 32 bytes that are equal if, and only if, the same id means the same
piece of text.

It covers the ordered tokens and the name of the pre-tokenizer, because the same tokens split by
another pattern make other prompts. The texts of control tokens are left out: LLaMA-3, 3.1, 3.2 and
their fine-tunes give the reserved ones other names, and must still mix. For the same reason every
type that is not ordinary counts as the same one: converters disagree on whether a padding token is
control (3), user-defined (4) or unused (5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Token types of GGUF's `tokenizer.ggml.token_type`."""

DOMAIN = b"swarmllm/vocabulary/1"


def fingerprint(tokens: Iterable[tuple[bytes, int]], pre: str) -> bytes:
    """SHA-256 over (text, type) of each token in the order of ids, and the pre-tokenizer's name.

    `text` is the token's entry in GGUF's `tokenizer.ggml.tokens`, as UTF-8; `pre` its
    `tokenizer.ggml.pre`. Every part is preceded by its length, so that no two vocabularies give the
    same stream.
    """
    name = pre.encode()
    parts = [DOMAIN, len(name).to_bytes(4, "big"), name]
    for text, kind in tokens:
        if kind in (NORMAL, BYTE):
            parts += (bytes([kind]), len(text).to_bytes(4, "big"), text)
        else:
            parts.append(b"\0")
    return hashlib.sha256(b"".join(parts)).digest()
