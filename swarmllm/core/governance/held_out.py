"""The held-out text that a charter pins for the quality gate: a report for a phase has to be over
that text and no other (GOV-28)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from swarmllm.wire.ext import HELD_OUT, addition, additions

DIGEST_BYTES: Final = 16
NAME_MAX: Final = 12  # Bytes: what an ext has left beside the digest of the terms.


@dataclass(frozen=True, slots=True)
class HeldOut:
    """`digest` is that of `digest_of`. Both are empty where a charter pins what this version cannot
    read: then no report will do."""

    name: str
    digest: bytes


def held_out_in(ext: bytes) -> HeldOut | None:
    """What the `ext` of a charter pins; None: nothing, so that text of any kind will do."""
    value = additions(ext).get(HELD_OUT)
    if value is None:
        return None
    digest, letters = value[:DIGEST_BYTES], value[DIGEST_BYTES:]
    try:
        name = letters.decode()
    except UnicodeDecodeError:
        return HeldOut("", b"")
    return HeldOut(name, digest) if is_name(name) else HeldOut("", b"")


def is_name(name: str) -> bool:
    return 1 <= len(name.encode("utf-8", "replace")) <= NAME_MAX and name.isprintable()


def pinning(held: HeldOut) -> bytes:
    """What a charter that pins this has in its `ext`."""
    return addition(HELD_OUT, held.digest + held.name.encode())


def digest_of(texts: Mapping[str, Sequence[str]]) -> bytes:
    """Of all passages by kind of text. It does not depend on the order of the passages."""
    kinds = [
        _hash(_hash(name.encode()) + b"".join(sorted(_hash(_bytes(one)) for one in passages)))
        for name, passages in sorted(texts.items())
    ]
    return _hash(b"".join(kinds))[:DIGEST_BYTES]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _hash(data: bytes) -> bytes:
    return sha256(data).digest()
