"""Multi-signed records: one payload, several keys, and signatures that are good for this kind of
record only.

A kind is declared once, with its domain and its longest record (`messages.declare`); this module
signs and opens any of them. What the kill switch obeys is a list of its own here, and closed.

Signatures are gathered one by one, on machines that never meet, so adding one is an operation of
its own. A record with a bad or a superfluous signature is refused as a whole and not counted down
to the good ones: every record then has one meaning for everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Generic, TypeVar

from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import (
    KEY_ID_BYTES,
    SIGNERS_MAX,
    Charter,
    Halt,
    HaltRecord,
    Live,
    Resume,
    Signed,
)
from swarmllm.messages.declare import DECLARED, domain_of
from swarmllm.wire import codec
from swarmllm.wire.ed25519 import is_sound
from swarmllm.wire.envelope import Sign, Verify

HALTING: Final[tuple[type[HaltRecord], ...]] = (Halt, Resume, Charter, Live)
"""The kinds that the kill switch obeys. Fixed here by hand: what else may ever be signed in a
swarm, it is none of these."""
HALT_DOMAINS: Final[dict[type[HaltRecord], bytes]] = {
    kind: DECLARED[kind].domain for kind in HALTING
}

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class MultiSigned(Generic[_Record]):
    """A record as it travels (`data`) and as it reads. Whether its signatures are good is for
    `good_signers` to say."""

    data: bytes
    record: _Record
    payload: bytes
    signatures: tuple[bytes, ...]

    @property
    def signers(self) -> tuple[bytes, ...]:
        """The public keys that claim to have signed, rising strictly."""
        return tuple(entry[:32] for entry in self.signatures)


SignedRecord = MultiSigned[HaltRecord]
"""A record of the kill switch."""


def key_id(public_key: bytes) -> bytes:
    """The 16 bytes by which records name a key."""
    return sha256(public_key).digest()[:KEY_ID_BYTES]


def size_max(kind: type[Any]) -> int:
    """No signed record of this kind is longer, in bytes."""
    return DECLARED[kind].size_max


def sign_record(record: object, signers: Sequence[tuple[bytes, Sign]]) -> bytes:
    """The record signed by each (public key, sign), the same key once. LocalError if there are
    none, or too many for its bounds."""
    payload = codec.encode(record)
    return _pack(
        record, payload, {key: _signature(record, payload, key, sign) for key, sign in signers}
    )


def add_signature(
    data: bytes, public_key: bytes, sign: Sign, kinds: Sequence[type[Any]] = HALTING
) -> bytes:
    """The signed record with one more signature (in place of the same key's former one).
    RemoteError if `data` is no record of these kinds."""
    opened = open_signed(data, kinds)
    entries = {entry[:32]: entry for entry in opened.signatures}
    entries[public_key] = _signature(opened.record, opened.payload, public_key, sign)
    return _pack(opened.record, opened.payload, entries)


def merge(one: bytes, two: bytes, kinds: Sequence[type[Any]] = HALTING) -> bytes:
    """The same record with the signatures of both. LocalError if the two are different records."""
    first, second = open_signed(one, kinds), open_signed(two, kinds)
    if first.payload != second.payload:
        raise LocalError(
            "these two files hold different records, so their signatures do not add up;"
            " sign one and the same file"
        )
    return _pack(
        first.record,
        first.payload,
        {entry[:32]: entry for entry in (*second.signatures, *first.signatures)},
    )


def open_record(data: bytes) -> SignedRecord:
    """`open_signed` for what the kill switch obeys."""
    return open_signed(data, HALTING)


def open_signed(data: bytes, kinds: Sequence[type[_Record]]) -> MultiSigned[_Record]:
    """The record in `data`; no signature is checked. RemoteError if it is too long, malformed, or
    of another kind.

    The length is judged before anything is read, and the tighter bound of the record's own kind
    right after.
    """
    longest = max(map(size_max, kinds))
    if len(data) > longest:
        raise RemoteError(f"signed record of {len(data)} bytes exceeds {longest}")
    signed = codec.decode(data, (Signed,))
    record = codec.decode(signed.payload, kinds)
    if len(data) > size_max(type(record)):
        raise RemoteError(
            f"{type(record).__name__} of {len(data)} bytes exceeds {size_max(type(record))}"
        )
    return MultiSigned(data, record, signed.payload, signed.signatures)


def good_signers(
    opened: MultiSigned[Any], allowed: frozenset[bytes], verify: Verify
) -> frozenset[bytes]:
    """The distinct public keys that signed. RemoteError if one is not among the `allowed` ones or
    its signature is bad.

    Membership comes first: a stranger's signature costs no verification.
    """
    name = type(opened.record).__name__
    for public_key in opened.signers:
        if public_key not in allowed:
            raise RemoteError(f"{name}: key {key_id(public_key).hex()} has no part in signing this")
    domain = domain_of(type(opened.record))
    for entry in opened.signatures:
        if not is_sound(entry[:32], entry[32:]) or not verify(
            entry[:32], domain + opened.payload, entry[32:]
        ):
            raise RemoteError(f"{name}: bad signature of key {key_id(entry[:32]).hex()}")
    return frozenset(opened.signers)


def _signature(record: object, payload: bytes, public_key: bytes, sign: Sign) -> bytes:
    signature = sign(domain_of(type(record)) + payload)
    if len(public_key) != 32 or len(signature) != 64:
        raise LocalError(
            f"an Ed25519 key of {len(public_key)} and signature of {len(signature)} bytes;"
            " they have 32 and 64"
        )
    return public_key + signature


def _pack(record: object, payload: bytes, entries: dict[bytes, bytes]) -> bytes:
    name = type(record).__name__
    if not 1 <= len(entries) <= SIGNERS_MAX:
        raise LocalError(f"{name} with {len(entries)} signatures; 1 to {SIGNERS_MAX} are possible")
    data = codec.encode(Signed(payload, tuple(entries[key] for key in sorted(entries))))
    if len(data) > size_max(type(record)):
        raise LocalError(
            f"{name} of {len(data)} bytes exceeds {size_max(type(record))};"
            " use fewer keys or signatures"
        )
    return data
