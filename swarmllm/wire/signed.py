"""Multi-signed records: one payload, several keys, and signatures that are good for this kind of
record only.

Signatures are gathered one by one, on machines that never meet, so adding one is an operation of
its own. A record with a bad or a superfluous signature is refused as a whole and not counted down
to the good ones: every record then has one meaning for everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeVar

from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import (
    CHARTER_RECORD_MAX,
    KEY_ID_BYTES,
    SIGNERS_MAX,
    Charter,
    Halt,
    HaltRecord,
    Live,
    Resume,
    Signed,
)
from swarmllm.messages.declare import DECLARED
from swarmllm.wire import codec
from swarmllm.wire.ed25519 import is_sound
from swarmllm.wire.envelope import Sign, Verify

HALTING: Final[tuple[type[HaltRecord], ...]] = (Halt, Resume, Charter, Live)
"""The kinds that the kill switch obeys. Fixed here by hand: what else may ever be signed in a
swarm, it is none of these."""
HALT_DOMAINS: Final[dict[type[HaltRecord], bytes]] = {
    kind: DECLARED[kind].domain for kind in HALTING
}

_Record = TypeVar("_Record", Halt, Resume, Charter, Live)


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A control record as it travels (`data`) and as it reads. Whether its signatures are good is
    for `good_signers` to say."""

    data: bytes
    record: HaltRecord
    payload: bytes
    signatures: tuple[bytes, ...]

    @property
    def signers(self) -> tuple[bytes, ...]:
        """The public keys that claim to have signed, rising strictly."""
        return tuple(entry[:32] for entry in self.signatures)


def key_id(public_key: bytes) -> bytes:
    """The 16 bytes by which records name a key."""
    return sha256(public_key).digest()[:KEY_ID_BYTES]


def size_max(kind: type[HaltRecord]) -> int:
    """No signed record of this kind is longer, in bytes."""
    return DECLARED[kind].size_max


def sign_record(record: HaltRecord, signers: Sequence[tuple[bytes, Sign]]) -> bytes:
    """The record signed by each (public key, sign), the same key once. LocalError if there are
    none, or too many for its bounds."""
    payload = codec.encode(record)
    return _pack(
        record, payload, {key: _signature(record, payload, key, sign) for key, sign in signers}
    )


def add_signature(data: bytes, public_key: bytes, sign: Sign) -> bytes:
    """The signed record with one more signature (in place of the same key's former one).
    RemoteError if `data` is no record."""
    opened = open_record(data)
    entries = {entry[:32]: entry for entry in opened.signatures}
    entries[public_key] = _signature(opened.record, opened.payload, public_key, sign)
    return _pack(opened.record, opened.payload, entries)


def merge(one: bytes, two: bytes) -> bytes:
    """The same record with the signatures of both. LocalError if the two are different records."""
    first, second = open_record(one), open_record(two)
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
    """The record in `data`; no signature is checked. RemoteError if it is too long, malformed, or
    of another kind.

    The length is judged before anything is read, and the tighter bound of the record's own kind
    right after.
    """
    if len(data) > CHARTER_RECORD_MAX:
        raise RemoteError(f"control record of {len(data)} bytes exceeds {CHARTER_RECORD_MAX}")
    signed = codec.decode(data, (Signed,))
    record: HaltRecord = codec.decode(signed.payload, HALTING)
    if len(data) > size_max(type(record)):
        raise RemoteError(
            f"{type(record).__name__} of {len(data)} bytes exceeds {size_max(type(record))}"
        )
    return SignedRecord(data, record, signed.payload, signed.signatures)


def good_signers(
    opened: SignedRecord, allowed: frozenset[bytes], verify: Verify
) -> frozenset[bytes]:
    """The distinct public keys that signed. RemoteError if one is not among the `allowed` ones or
    its signature is bad.

    Membership comes first: a stranger's signature costs no verification.
    """
    name = type(opened.record).__name__
    for public_key in opened.signers:
        if public_key not in allowed:
            raise RemoteError(f"{name}: key {key_id(public_key).hex()} has no part in signing this")
    domain = HALT_DOMAINS[type(opened.record)]
    for entry in opened.signatures:
        if not is_sound(entry[:32], entry[32:]) or not verify(
            entry[:32], domain + opened.payload, entry[32:]
        ):
            raise RemoteError(f"{name}: bad signature of key {key_id(entry[:32]).hex()}")
    return frozenset(opened.signers)


def _signature(record: HaltRecord, payload: bytes, public_key: bytes, sign: Sign) -> bytes:
    signature = sign(HALT_DOMAINS[type(record)] + payload)
    if len(public_key) != 32 or len(signature) != 64:
        raise LocalError(
            f"an Ed25519 key of {len(public_key)} and signature of {len(signature)} bytes;"
            " they have 32 and 64"
        )
    return public_key + signature


def _pack(record: HaltRecord, payload: bytes, entries: dict[bytes, bytes]) -> bytes:
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
