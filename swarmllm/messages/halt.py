"""Messages of the kill switch: signed records that halt, resume, charter and beacon, and the frames
of `/swarmllm/halt` that carry them (protocols/halt.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from swarmllm.messages.bounds import U32, U63, Digest, Ext, Range, ShortHash, Size, rising
from swarmllm.messages.declare import BOTH, HALT, message

KEY_ID_BYTES: Final = 16
SEQ_MAX: Final = 2**63 - 1
# Keys per role, and so keys per version vector: one key per person, and a swarm has few operators.
ROLE_KEYS_MAX: Final = 16
LIFT_BASE_MAX: Final = 32  # The halt keys that stay and those that go.
THRESHOLD_MAX: Final = 5  # So many signatures and 16 lifts still fit a record of 1 KiB.
SIGNERS_MAX: Final = 10  # A charter: the root thresholds of the old one and of the new one.
HALT_RECORD_MAX: Final = 1_024  # Bytes of a signed Halt, Resume or Live.
CHARTER_RECORD_MAX: Final = 4_096  # Bytes of a signed Charter.
RECORDS_MAX: Final = 16  # Records per frame.
# Bytes of a frame of /swarmllm/halt/2 without its length: nobody waits long behind a full one.
HALT_FRAME_MAX: Final = 16_384
# Changes that a halt takes back; more than a person could look through afterwards.
REVERT_MAX: Final = 16
# A beacon that may be silent for longer than a day guards nothing.
BEACON_TTL_MAX_S: Final = 86_400

KeyId = Annotated[bytes, Size(KEY_ID_BYTES, KEY_ID_BYTES)]
PublicKey = Annotated[bytes, Size(32, 32)]
Seq = Annotated[int, Range(1, SEQ_MAX)]
Version = Annotated[int, Range(1, 2**32 - 1)]
Mark = Annotated[bytes, Size(KEY_ID_BYTES + 8, KEY_ID_BYTES + 8)]
"""One entry of a version vector: a key id and a seq of 1..SEQ_MAX as a big-endian u64. In a list,
ids rise strictly."""

SIGNATURE_BYTES: Final = 96
Signature = Annotated[bytes, Size(SIGNATURE_BYTES, SIGNATURE_BYTES)]
"""A public key (32 bytes) and its signature (64). In a list, keys rise strictly: nobody signs
twice."""


@message(code=96, domain=b"swarmllm/halt/1\0", size_max=HALT_RECORD_MAX)
class Halt:
    """Stop everything. `key` is the id of the halt key that signs; its highest `seq` counts.
    `issued_ms` (Unix time) and `reason_code` are for people and decide nothing."""

    swarm: Digest
    key: KeyId
    seq: Seq
    reason_code: Annotated[int, Range(0, 255)]
    issued_ms: U63


HALT_REASONS: Final = {
    0: "not given",
    1: "drill",
    2: "misbehaviour",
    3: "security",
    4: "legal",
    5: "maintenance",
}


def reason_name(code: int) -> str:
    """A reason code for people; those of later versions are shown by number."""
    return HALT_REASONS.get(code, f"reason {code}")


@message(code=97, domain=b"swarmllm/resume/1\0", size_max=HALT_RECORD_MAX)
class Resume:
    """The halts up to each mark in `lifts` are lifted; one with a higher seq stands."""

    swarm: Digest
    charter_version: Version
    lifts: Annotated[tuple[Mark, ...], Size(1, ROLE_KEYS_MAX)]
    issued_ms: U63

    def fault(self) -> str:
        return _marks("lifts", self.lifts)


@message(code=100, domain=b"swarmllm/charter/2\0", size_max=CHARTER_RECORD_MAX)
class Charter:
    """Who may do what. `prev_hash` is SHA-256 of the encoding of the charter before (zeros in the
    first, whose own hash is the swarm's id); each role lists public keys that rise strictly.
    `lift_base` are the lifts that this charter starts from.

    `revert_changes` is how many of the agent's changes a halt takes back; `beacon_ttl_s` 0 means
    that beacons are off; `expires_ms` (0: never) warns people and refuses nothing. `ext` is for
    fields that come later: see `bounds.Ext`.
    """

    version: Version
    prev_hash: Digest
    root: Annotated[tuple[PublicKey, ...], Size(1, ROLE_KEYS_MAX)]
    halt: Annotated[tuple[PublicKey, ...], Size(1, ROLE_KEYS_MAX)]
    resume: Annotated[tuple[PublicKey, ...], Size(1, ROLE_KEYS_MAX)]
    voter: Annotated[tuple[PublicKey, ...], Size(0, ROLE_KEYS_MAX)]
    beacon: Annotated[tuple[PublicKey, ...], Size(0, ROLE_KEYS_MAX)]
    root_threshold: Annotated[int, Range(1, THRESHOLD_MAX)]
    resume_threshold: Annotated[int, Range(1, THRESHOLD_MAX)]
    revert_changes: Annotated[int, Range(0, REVERT_MAX)]
    beacon_ttl_s: Annotated[int, Range(0, BEACON_TTL_MAX_S)]
    lift_base: Annotated[tuple[Mark, ...], Size(0, LIFT_BASE_MAX)]
    issued_ms: U63
    expires_ms: U63
    ext: Ext = b""

    def fault(self) -> str:
        for name in ("root", "halt", "resume", "voter", "beacon"):
            if wrong := rising(f"{name} keys", getattr(self, name)):
                return wrong
        if self.root_threshold > len(self.root):
            return f"root threshold {self.root_threshold} of {len(self.root)} keys"
        if self.resume_threshold > len(self.resume):
            return f"resume threshold {self.resume_threshold} of {len(self.resume)} keys"
        if self.beacon_ttl_s and not self.beacon:
            return "a beacon time to live without a beacon key would stop everything for ever"
        if (self.version == 1) != (self.prev_hash == bytes(32)):
            return (
                "the first charter has a previous hash of zeros,"
                " every other one that of the charter before"
            )
        if self.version == 1 and self.lift_base:
            return "the first charter has nothing to lift"
        return _marks("lift_base", self.lift_base)


@message(code=99, domain=b"swarmllm/live/1\0", size_max=HALT_RECORD_MAX)
class Live:
    """A beacon's sign of life: nodes under a charter with beacons stop when none has come for
    `ttl_s`."""

    swarm: Digest
    charter_version: Version
    key: KeyId
    seq: Seq
    issued_ms: U63
    ttl_s: Annotated[int, Range(1, BEACON_TTL_MAX_S)]
    ctl_digest: ShortHash


HaltRecord = Halt | Resume | Charter | Live


@message(code=81)
class Signed:
    """A halt record with its signatures, each over the record type's domain and `payload`: see
    `wire.signed`."""

    payload: Annotated[bytes, Size(1, CHARTER_RECORD_MAX)]
    signatures: Annotated[tuple[Signature, ...], Size(1, SIGNERS_MAX)]

    def fault(self) -> str:
        return rising("signers", [entry[:32] for entry in self.signatures])


@message(code=112, stream=HALT, sender=BOTH)
class HaltDigest:
    """The first frame both ways, and every 10 s to somebody: what the sender's halt state adds
    up to. Equal: nothing to say."""

    swarm: Digest
    charter_version: U32
    ctl_digest: ShortHash


@message(code=113, stream=HALT, sender=BOTH)
class Vectors:
    """The sender's halt state itself; version 0 and a hash of zeros while it has no charter
    yet."""

    swarm: Digest
    charter_version: U32
    charter_hash: Digest
    halts: Annotated[tuple[Mark, ...], Size(0, ROLE_KEYS_MAX)]
    lifts: Annotated[tuple[Mark, ...], Size(0, ROLE_KEYS_MAX)]

    def fault(self) -> str:
        unknown = self.charter_version == 0
        if unknown != (self.charter_hash == bytes(32)) or (unknown and (self.halts or self.lifts)):
            return "charter 0 has a hash of zeros and no marks, every other one a hash"
        return _marks("halts", self.halts) or _marks("lifts", self.lifts)


@message(code=114, stream=HALT, sender=BOTH)
class Records:
    """Signed records as they were signed; charters first and in order, for the others can only be
    checked under them."""

    records: Annotated[
        tuple[Annotated[bytes, Size(1, CHARTER_RECORD_MAX)], ...], Size(1, RECORDS_MAX)
    ]


@message(code=115, stream=HALT, sender=BOTH)
class Ack:
    """The sender's halt state with this digest would survive a power cut."""

    ctl_digest: ShortHash


HaltFrame = HaltDigest | Vectors | Records | Ack


def _marks(name: str, marks: Sequence[bytes]) -> str:
    if any(not 1 <= int.from_bytes(mark[KEY_ID_BYTES:], "big") <= SEQ_MAX for mark in marks):
        return f"{name}: a seq is 1 to {SEQ_MAX}"
    return rising(name, [mark[:KEY_ID_BYTES] for mark in marks])
