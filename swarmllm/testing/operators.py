"""Operators with real keys, always the same ones, and the charter that they founded a swarm with:
for tests, drills and simulations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from swarmllm.core.halt.charter import Pin, charter_hash, successor
from swarmllm.messages import Charter, Halt, Resume
from swarmllm.wire.marks import marks_of
from swarmllm.wire.signed import key_id, open_record, sign_record


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature is good; never raises."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True)
class Operator:
    """Somebody with an Ed25519 key."""

    name: str
    _key: Ed25519PrivateKey = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "_key", Ed25519PrivateKey.from_private_bytes(sha256(self.name.encode()).digest())
        )

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    @property
    def id(self) -> bytes:
        return key_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class Founders:
    """Three of each role, two of three for root and resume. `pin` is what nodes of their swarm
    start with. `voter` are the keys that the charter gives a vote, `ext` is what it says beside."""

    def __init__(
        self, name: str = "test", *, voter: Sequence[bytes] = (), ext: bytes = b""
    ) -> None:
        people = {
            role: [Operator(f"{name} {role} {i}") for i in range(3)]
            for role in ("root", "halt", "resume")
        }
        self.roots, self.halters, self.resumers = people["root"], people["halt"], people["resume"]
        keys = {role: tuple(sorted(p.public_key for p in found)) for role, found in people.items()}
        charter = Charter(
            version=1,
            prev_hash=bytes(32),
            root=keys["root"],
            halt=keys["halt"],
            resume=keys["resume"],
            voter=tuple(sorted(voter)),
            beacon=(),
            root_threshold=2,
            resume_threshold=2,
            revert_changes=3,
            beacon_ttl_s=0,
            lift_base=(),
            issued_ms=0,
            expires_ms=0,
            ext=ext,
        )
        self._last = charter
        self.charter = self._sign(charter)
        self.swarm = charter_hash(open_record(self.charter))
        self.pin = Pin(self.swarm, (self.charter,))

    def rotate(self, lifts: dict[int, int], *, voter: Sequence[bytes], ext: bytes = b"") -> bytes:
        """The next charter, signed by two of root: other voters and terms, the same otherwise;
        halter i's orders stay lifted up to `lifts[i]`."""
        changed = replace(self._last, voter=tuple(sorted(voter)), ext=ext)
        lifted = {self.halters[i].id: seq for i, seq in lifts.items()}
        self._last = successor(open_record(self._sign(self._last)), lifted, changed)
        return self._sign(self._last)

    def _sign(self, charter: Charter) -> bytes:
        return sign_record(charter, [(p.public_key, p.sign) for p in self.roots[:2]])

    def halt(self, seq: int = 1, who: int = 0, *, issued_ms: int = 0) -> bytes:
        """A signed order to halt."""
        person = self.halters[who]
        return sign_record(
            Halt(self.swarm, person.id, seq, 1, issued_ms), [(person.public_key, person.sign)]
        )

    def resume(
        self, lifts: dict[int, int] | None = None, signers: tuple[int, ...] = (0, 1)
    ) -> bytes:
        """A signed order to resume; `lifts[i]` is the seq up to which halter i's orders are
        lifted."""
        marks = marks_of({self.halters[i].id: seq for i, seq in (lifts or {0: 1}).items()})
        people = [self.resumers[i] for i in signers]
        return sign_record(
            Resume(self.swarm, 1, marks, 0), [(p.public_key, p.sign) for p in people]
        )
