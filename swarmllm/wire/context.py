"""A rolling hash over tokens, so that requester and expert find at once where their contexts
differ.

The requester owns the truth and the expert only caches it; each round names the prefix it builds on
by length and hash. Eight bytes are enough because the hash guards against mistakes, not against the
requester, who could lie about its own context to nobody's harm but its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from swarmllm.messages import VOCABULARY_MAX

EMPTY: Final = bytes(8)
"""The hash of no tokens at all."""


def extend(digest: bytes, token: int) -> bytes:
    """The hash of a context one token longer: BLAKE2b with 8 bytes of output over `digest` and the
    token as a big-endian u32.

    RFC 7693. The token is below `VOCABULARY_MAX`; whoever reads it from outside has checked that.
    """
    assert 0 <= token < VOCABULARY_MAX, f"token {token} is outside any vocabulary"
    return blake2b(digest + token.to_bytes(4, "big"), digest_size=8).digest()


def digests(tokens: Iterable[int]) -> list[bytes]:
    """The hash of every prefix, from `EMPTY` to all of `tokens`: one more than there are tokens."""
    found = [EMPTY]
    for token in tokens:
        found.append(extend(found[-1], token))
    return found
