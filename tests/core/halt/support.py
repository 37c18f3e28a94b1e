"""People with keys, the charter they agreed on, and records signed by them. Signatures are hashes:
the laws tested with these do not depend on the curve, and thousands of them cost nothing;
`tests/wire/test_signed.py` and the vectors use Ed25519."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256, sha512
from typing import Any

from swarmllm.core.effects import HaltEffect, Persist, RecordChecked, SendFrame
from swarmllm.core.halt.charter import private_charter, successor
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.halt.state import Applied, HaltState, validate
from swarmllm.core.halt.state_file import Boot, load
from swarmllm.core.inputs import RecordOffered
from swarmllm.messages import Charter, Halt, HaltDigest, HaltFrame, Live, PeerId, Records, Resume
from swarmllm.wire.codec import encode
from swarmllm.wire.envelope import Sign
from swarmllm.wire.marks import marks_of
from swarmllm.wire.signed import SignedRecord, key_id, open_record, sign_record


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a key; forging needs no secret here, so tests forge by signing other bytes."""

    name: str
    public_key: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public_key", sha256(self.name.encode()).digest())

    @property
    def id(self) -> bytes:
        return key_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        return _seal(self.public_key, message)

    @property
    def signer(self) -> tuple[bytes, Sign]:
        return self.public_key, self.sign


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    return signature == _seal(public_key, message)


def _seal(public_key: bytes, message: bytes) -> bytes:
    """In the form of a signature that is looked at: the last byte is that of an S below the order
    of the group."""
    return sha512(public_key + message).digest()[:63] + b"\0"


ROOTS = tuple(Person(f"root {i}") for i in range(3))
HALTERS = tuple(Person(f"halt {i}") for i in range(3))
RESUMERS = tuple(Person(f"resume {i}") for i in range(3))
BEACON = Person("beacon")
STRANGER = Person("stranger")


def keys(people: Sequence[Person]) -> tuple[bytes, ...]:
    return tuple(sorted(person.public_key for person in people))


FIRST = Charter(
    version=1,
    prev_hash=bytes(32),
    root=keys(ROOTS),
    halt=keys(HALTERS),
    resume=keys(RESUMERS),
    voter=(),
    beacon=(BEACON.public_key,),
    root_threshold=2,
    resume_threshold=2,
    revert_changes=3,
    beacon_ttl_s=0,
    lift_base=(),
    issued_ms=1_790_000_000_000,
    expires_ms=0,
)


def signed(record: Any, *people: Person) -> bytes:
    return sign_record(record, [person.signer for person in people])


def forged(record: Any, *people: Person) -> bytes:
    """Signatures by the right keys over the wrong bytes."""

    def signer(person: Person) -> tuple[bytes, Sign]:
        return person.public_key, lambda message: person.sign(b"forged" + message)

    return sign_record(record, [signer(person) for person in people])


def apply(state: HaltState, *records: bytes) -> HaltState:
    """The state after records that must all bring news."""
    for data in records:
        outcome = validate(state, data, verify)
        assert isinstance(outcome, Applied), outcome
        state = outcome.state
    return state


def feed(state: HaltState, *records: bytes) -> HaltState:
    """The state after records of which any may be refused."""
    for data in records:
        outcome = validate(state, data, verify)
        state = outcome.state if isinstance(outcome, Applied) else state
    return state


def founded(charter: Charter = FIRST) -> HaltState:
    """The state of a swarm whose first charter this is, and nothing else."""
    opened = open_record(signed(charter, *ROOTS))
    return apply(HaltState(sha256(opened.payload).digest()), opened.data)


SWARM = founded().swarm
A, B = HALTERS[0], HALTERS[1]


def halt(person: Person = A, seq: int = 1, swarm: bytes = SWARM, issued_ms: int = 0) -> bytes:
    return signed(Halt(swarm, person.id, seq, 1, issued_ms), person)


def resume(
    lifts: dict[Person, int], *people: Person, version: int = 1, swarm: bytes = SWARM
) -> bytes:
    record = Resume(swarm, version, marks_of({person.id: seq for person, seq in lifts.items()}), 0)
    return signed(record, *(people or RESUMERS[:2]))


def live(
    seq: int, *, ttl_s: int = 30, issued_ms: int = 0, version: int = 1, swarm: bytes = SWARM
) -> bytes:
    return signed(Live(swarm, version, BEACON.id, seq, issued_ms, ttl_s, bytes(8)), BEACON)


def rotation(state: HaltState, lifts: dict[bytes, int] | None = None, **changes: Any) -> Charter:
    """The next charter, with the lifts it should not forget unless told otherwise."""
    assert state.charter is not None
    return successor(
        state.charters[-1],
        state.lifts if lifts is None else lifts,
        replace(state.charter, **changes),
    )


def opened(data: bytes) -> SignedRecord:
    return open_record(data)


# --- nodes ----------------------------------------------------------------------------------------

OWNER = Person("owner")
PRIVATE = signed(private_charter(OWNER.public_key), OWNER)


def boot_of(state: HaltState) -> Boot:
    """As if this state had been saved before."""
    return Boot(state, 1)


def new_machine(
    boot: Boot | HaltState | None = None, *, seed: int = 0, unix_ms: int = 0, own: Person = STRANGER
) -> HaltMachine:
    """A machine that has not been started."""
    found = (
        boot_of(founded())
        if boot is None
        else boot_of(boot)
        if isinstance(boot, HaltState)
        else boot
    )
    return HaltMachine(found, own.public_key, verify, random.Random(seed), unix_ms)


def saved(
    machine: HaltMachine, effects: Sequence[HaltEffect], now: float, ok: bool = True
) -> list[HaltEffect]:
    """The effects, with every `Persist` answered and what that brings about put behind."""
    found = list(effects)
    for effect in found:  # Grows while it runs.
        if isinstance(effect, Persist):
            found += machine.persisted(effect.number, ok, now)
            if not ok:
                break
    return found


def running(boot: Boot | HaltState | None = None, **options: Any) -> HaltMachine:
    """A machine that serves at time 10, after it waited alone."""
    machine = new_machine(boot, **options)
    saved(machine, machine.start(0.0), 0.0)
    saved(machine, machine.timer(10.0), 10.0)
    assert machine.may_serve(10.0) == ""
    return machine


def told(effects: Sequence[HaltEffect], peer: PeerId) -> list[HaltFrame]:
    return [
        effect.message
        for effect in effects
        if isinstance(effect, SendFrame)
        and effect.peer == peer
        and isinstance(effect.message, HaltFrame)
    ]


def frame(message: HaltFrame) -> bytes:
    return encode(message)


def kinds(effects: Sequence[object]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def fresh_boot(pinned: bytes | None = None) -> Boot:
    return load(None, None, None, PRIVATE, pinned)


P, Q = PeerId("P"), PeerId("Q")
STATE = founded()


def digest_of(state: HaltState) -> bytes:
    return frame(HaltDigest(state.swarm, state.version, state.digest))


def linked(
    machine: HaltMachine, *peers: PeerId, state: HaltState = STATE, now: float = 10.0
) -> HaltMachine:
    """With links to peers that hold `state`."""
    for peer in peers:
        machine.opened(peer, now)
        machine.received(peer, digest_of(state), now)
    return machine


def put(machine: HaltMachine, peer: PeerId, *records: bytes, now: float = 10.0) -> list[HaltEffect]:
    return saved(machine, machine.received(peer, frame(Records(records)), now), now)


def offered(
    machine: HaltMachine, data: bytes, now: float, forwarder: PeerId | None = None
) -> tuple[RecordChecked, list[HaltEffect]]:
    """Offer a record by gossip, or by hand without a forwarder: what was found of it, and the other
    effects."""
    checked, *effects = machine.handle(RecordOffered(1, data, forwarder), now)
    assert isinstance(checked, RecordChecked)
    return checked, effects
