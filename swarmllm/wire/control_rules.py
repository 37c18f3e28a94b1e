"""What the bounds of single fields cannot say of control records: order, no repetition, and numbers that fit each other.

Everything here can be judged from the message alone. What needs the charter in force stands in `core.halt.state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from swarmllm.errors import LocalError
from swarmllm.messages import KEY_ID_BYTES, SEQ_MAX, Charter, Resume, Signed, Vectors

_SEQ_BYTES: Final = 8


def mark_of(key: bytes, seq: int) -> bytes:
    """The mark of a key id (16 bytes) and a seq. LocalError outside their bounds."""
    if len(key) != KEY_ID_BYTES or not 1 <= seq <= SEQ_MAX:
        raise LocalError(f"key id of {len(key)} bytes with seq {seq}: an id has {KEY_ID_BYTES} bytes, a seq is 1 to {SEQ_MAX}")
    return key + seq.to_bytes(_SEQ_BYTES, "big")


def marks_of(vector: dict[bytes, int]) -> tuple[bytes, ...]:
    """A version vector as it travels."""
    return tuple(mark_of(key, seq) for key, seq in sorted(vector.items()))


def vector_of(marks: Sequence[bytes]) -> dict[bytes, int]:
    """Key id -> seq of marks that have passed `fault`."""
    return {mark[:KEY_ID_BYTES]: int.from_bytes(mark[KEY_ID_BYTES:], "big") for mark in marks}


def fault(message: object) -> str:
    """What is wrong with a decoded control message; empty if nothing is, or if it is of another kind."""
    match message:
        case Signed(signatures=signatures):
            return _rising("signers", [entry[:32] for entry in signatures])
        case Resume(lifts=lifts):
            return _marks("lifts", lifts)
        case Vectors(halts=halts, lifts=lifts, charter_version=version, charter_hash=charter_hash):
            if (version == 0) != (charter_hash == bytes(32)) or (version == 0 and (halts or lifts)):
                return "charter 0 has a hash of zeros and no marks, every other one a hash"
            return _marks("halts", halts) or _marks("lifts", lifts)
        case Charter():
            return _charter(message)
        case _:
            return ""


def _charter(charter: Charter) -> str:
    for name in ("root", "halt", "resume", "voter", "beacon"):
        if wrong := _rising(f"{name} keys", getattr(charter, name)):
            return wrong
    if charter.root_threshold > len(charter.root):
        return f"root threshold {charter.root_threshold} of {len(charter.root)} keys"
    if charter.resume_threshold > len(charter.resume):
        return f"resume threshold {charter.resume_threshold} of {len(charter.resume)} keys"
    if charter.beacon_ttl_s and not charter.beacon:
        return "a beacon time to live without a beacon key would stop everything for ever"
    if (charter.version == 1) != (charter.prev_hash == bytes(32)):
        return "the first charter has a previous hash of zeros, every other one that of the charter before"
    if charter.version == 1 and charter.lift_base:
        return "the first charter has nothing to lift"
    return _marks("lift_base", charter.lift_base)


def _marks(name: str, marks: Sequence[bytes]) -> str:
    if any(not 1 <= int.from_bytes(mark[KEY_ID_BYTES:], "big") <= SEQ_MAX for mark in marks):
        return f"{name}: a seq is 1 to {SEQ_MAX}"
    return _rising(name, [mark[:KEY_ID_BYTES] for mark in marks])


def _rising(name: str, keys: Sequence[bytes]) -> str:
    return "" if all(one < two for one, two in pairwise(keys)) else f"{name} must rise strictly, so that nobody counts twice"
