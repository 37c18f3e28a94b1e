"""A set of tokens: what a grammar allows next, in memory and in a ScoreAllowed.

On the wire it is a form byte and either the ids (big-endian u32, rising) or a bitmap (bit i % 8 of
byte i // 8, counted from the lowest), whichever is shorter, the ids where both are equal
(`protocols/expert.md`). Few ids are the rule where experts are asked about a set: a quotation mark
or the digits; the inside of a string is nearly everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from swarmllm.messages.expert import SET_BITMAP, SET_IDS

_BITS: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class TokenSet:
    """Bit i % 32 of `words[i // 32]` (uint32) stands for the token i."""

    words: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, ids: Iterable[int], vocab_size: int) -> Self:
        """All ids must be below `vocab_size`."""
        bits = np.zeros(-(-vocab_size // _BITS) * _BITS, dtype=np.uint8)
        bits[np.fromiter(ids, dtype=np.int64)] = 1
        return cls(np.packbits(bits, bitorder="little").view("<u4"))

    def __len__(self) -> int:
        return int(np.bitwise_count(self.words).sum(dtype=np.int64))

    def holds(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """bool[n]: which of these ids are in it. Ids beyond its words are not."""
        places = ids >> 5
        known = places < self.words.size
        words = self.words[np.where(known, places, 0)]
        found: npt.NDArray[np.bool_] = ((words >> (ids & 31).astype(np.uint32)) & 1).astype(bool)
        return found & known

    def ids(self) -> npt.NDArray[np.int32]:
        """int32[n], rising."""
        bits = np.unpackbits(self.words.view(np.uint8), bitorder="little")
        return np.flatnonzero(bits).astype(np.int32)

    def joined(self, other: TokenSet) -> TokenSet:
        """What is in either; both are of one vocabulary."""
        return TokenSet(self.words | other.words)

    def without(self, other: TokenSet) -> TokenSet:
        """What is in this one and not in the other."""
        return TokenSet(self.words & ~other.words)


def encode_set(tokens: TokenSet) -> bytes:
    """The one encoding of a set that is not empty."""
    ids = tokens.ids()
    assert ids.size, "an empty set of tokens has no encoding"
    bitmap = tokens.words.astype("<u4").tobytes()[: int(ids[-1]) // 8 + 1]
    if 4 * ids.size <= len(bitmap):
        return bytes((SET_IDS,)) + ids.astype(">u4").tobytes()
    return bytes((SET_BITMAP,)) + bitmap


def largest(data: bytes) -> int:
    """The largest id of an encoded set that the message's schema has checked."""
    if data[0] == SET_IDS:
        return int.from_bytes(data[-4:], "big")
    return 8 * (len(data) - 2) + data[-1].bit_length() - 1


def decode_set(data: bytes) -> npt.NDArray[np.int32]:
    """The ids of a set whose encoding the message's schema has checked: int32[n], rising."""
    if data[0] == SET_IDS:
        return np.frombuffer(data, ">u4", offset=1).astype(np.int32)
    bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=1), bitorder="little")
    return np.flatnonzero(bits).astype(np.int32)
