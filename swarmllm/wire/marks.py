"""Version vectors of the kill switch: from a mapping of key ids to the list of marks that travels,
and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarmllm.errors import LocalError
from swarmllm.messages import KEY_ID_BYTES, SEQ_MAX

_SEQ_BYTES: Final = 8


def mark_of(key: bytes, seq: int) -> bytes:
    """The mark of a key id (16 bytes) and a seq. LocalError outside their bounds."""
    if len(key) != KEY_ID_BYTES or not 1 <= seq <= SEQ_MAX:
        raise LocalError(
            f"key id of {len(key)} bytes with seq {seq}: an id has {KEY_ID_BYTES} bytes,"
            f" a seq is 1 to {SEQ_MAX}"
        )
    return key + seq.to_bytes(_SEQ_BYTES, "big")


def marks_of(vector: dict[bytes, int]) -> tuple[bytes, ...]:
    """A version vector as it travels."""
    return tuple(mark_of(key, seq) for key, seq in sorted(vector.items()))


def vector_of(marks: Sequence[bytes]) -> dict[bytes, int]:
    """Key id -> seq of marks that have passed `fault`."""
    return {mark[:KEY_ID_BYTES]: int.from_bytes(mark[KEY_ID_BYTES:], "big") for mark in marks}
