"""Bounds of message fields: the types that every message between peers is made of, enforced by
`wire.codec`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from operator import lt
from typing import Annotated, Final, NewType

PeerId = NewType("PeerId", str)
"""A libp2p peer id in base58 (`12D3Koo...`): the identity multihash of an Ed25519 public key."""


@dataclass(frozen=True, slots=True)
class Range:
    """An integer within `low..high`, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Size:
    """A string (in UTF-8), byte string or tuple of `low..high` bytes or items."""

    low: int
    high: int


VOCABULARY_MAX: Final = 1 << 20  # No published vocabulary reaches a quarter of this.
CONTEXT_MAX: Final = 1 << 20  # Tokens; LLaMA-3.1 takes 131,072.
FRAME_MAX: Final = 256 * 1024  # Bytes, without the 4-byte length.

U32 = Annotated[int, Range(0, 2**32 - 1)]
U63 = Annotated[int, Range(0, 2**63 - 1)]
Token = Annotated[int, Range(0, VOCABULARY_MAX - 1)]
Position = Annotated[int, Range(0, CONTEXT_MAX)]
Digest = Annotated[bytes, Size(32, 32)]
ShortHash = Annotated[bytes, Size(8, 8)]

# Bytes: room for two digests, and the largest capacity record still fits a shuffle of eight.
EXT_MAX: Final = 64
Ext = Annotated[bytes, Size(0, EXT_MAX)]
"""What later versions say in a signed record that is passed on: a reader who does not know it keeps
it and passes it on, as it is, and decides nothing by it. Each addition is a type byte, a length
byte and so many bytes; what a type means is written down in protocols/."""

NO_HALT_DIGEST: Final = bytes(8)
"""The halt digest of a node without any halt record. The kill switch (protocols/halt.md)
gives it meaning."""


def rising(name: str, keys: Sequence[bytes]) -> str:
    """What is wrong with byte strings that must rise strictly; empty if nothing is."""
    return (
        ""
        if all(one < two for one, two in pairwise(keys))
        else f"{name} must rise strictly, so that nobody counts twice"
    )


def rising_below(name: str, values: tuple[int, ...], below: int) -> str:
    """What is wrong with integers that must rise strictly and stay below a bound; empty if nothing
    is."""
    if values and (values[-1] >= below or not all(map(lt, values, islice(values, 1, None)))):
        return f"{name} must rise strictly and stay below {below}"
    return ""
