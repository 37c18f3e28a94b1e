"""The charter says which keys may halt, resume and change the swarm: signed, numbered, chained to
the one before.

The rules are TUF's for its root of trust: charter N+1 needs the root threshold of N **and** of N+1,
counts exactly one up, and carries the hash of N. So nobody who steals fewer keys than a threshold
can move the swarm, and nobody can roll it back. The swarm's id is the hash of its first charter:
whoever knows the id can check everything that follows, from any source.

**Lifts start afresh with each charter.** A RESUME counts only under the charter whose resume keys
signed it; otherwise keys that were taken out could go on lifting. What was lifted before must
therefore be listed in `lift_base`. A rotation that forgets this halts the swarm again: the mistake
stops, it never starts. Halts, however, stand until lifted, whatever the charter.

**A halt key that goes must be lifted for good**: `lift_base` names it with the highest seq there
is, and it never comes back. So after a rotation no halt is left whose key cannot be checked, and a
stolen key is made harmless by the same act that removes it.

`expires_ms` is a reminder. A charter that has expired still halts, still resumes, still rotates: a
clock must not decide these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from swarmllm.errors import RemoteError, UsageError
from swarmllm.messages import SEQ_MAX, Charter
from swarmllm.wire.envelope import Verify
from swarmllm.wire.marks import marks_of, vector_of
from swarmllm.wire.signed import SignedRecord, good_signers, key_id

CHARTERS_MAX: Final = 64
"""Charters in a chain: a quarter of a MiB at most, kept by every node for those who come later. A
rotation a month lasts five years."""
FEW_SIGNATURES: Final = "root signatures that"  # How a refusal for lack of them can be told.
REVERT_CHANGES: Final = 3  # The default: what an agent does in one sitting.


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that changes nothing, and why in one sentence. `penalise`: its sender broke the
    protocol; `ask`: we may lack a charter that the sender has."""

    reason: str
    penalise: bool
    ask: bool = False


@dataclass(frozen=True, slots=True)
class NamedCharter:
    """The charter that an invite names, by version and hash: whoever shows another one of this
    version would lure its bearer elsewhere."""

    version: int
    hash: bytes

    def contradicts(self, opened: SignedRecord) -> bool:
        """Whether this is another charter of the same version."""
        return charter_of(opened).version == self.version and charter_hash(opened) != self.hash


@dataclass(frozen=True, slots=True)
class Pin:
    """The swarm that the user named: its id, and what came with the name: its records, or which
    charter it must have."""

    swarm: bytes
    records: tuple[bytes, ...] = ()
    named: NamedCharter | None = None


def key_ids(public_keys: Sequence[bytes]) -> frozenset[bytes]:
    """The ids by which records name these keys."""
    return frozenset(key_id(public_key) for public_key in public_keys)


def charter_of(opened: SignedRecord) -> Charter:
    """The charter in a record that is known to be one."""
    assert isinstance(opened.record, Charter)
    return opened.record


def charter_hash(opened: SignedRecord) -> bytes:
    """SHA-256 of the charter's encoding, without signatures: of the first one, it is the swarm's
    id."""
    return sha256(opened.payload).digest()


def retired_halt_keys(chain: Sequence[SignedRecord]) -> frozenset[bytes]:
    """Ids of the keys that once could halt and no longer can."""
    ever = frozenset[bytes]().union(*(key_ids(charter_of(one).halt) for one in chain))
    return ever - (key_ids(charter_of(chain[-1]).halt) if chain else frozenset())


# --- making charters ------------------------------------------------------------------------------


def private_charter(public_key: bytes) -> Charter:
    """The charter of a swarm of one: its owner's key alone may halt, resume and rotate. The same
    key always makes the same one."""
    one = (public_key,)
    return Charter(1, bytes(32), one, one, one, (), (), 1, 1, REVERT_CHANGES, 0, (), 0, 0)


def is_private(charter: Charter) -> bool:
    """Whether this is, in every field, what `private_charter` makes."""
    return charter == private_charter(charter.root[0])


def successor(head: SignedRecord, lifts: dict[bytes, int], changed: Charter) -> Charter:
    """`changed` as the charter after `head`: numbered, chained, and with the lifts that must not be
    forgotten.

    `lifts` is L of the state in force; the keys in role halt of `changed` keep theirs, those that
    go are lifted for good. UsageError if a key would come back that once was taken out (as far as
    `head` shows).
    """
    current = charter_of(head)
    stay = key_ids(changed.halt)
    gone = key_ids(current.halt) - stay
    base = {key: seq for key, seq in lifts.items() if key in stay} | dict.fromkeys(gone, SEQ_MAX)
    back = stay & {key for key, seq in vector_of(current.lift_base).items() if seq == SEQ_MAX}
    if back - key_ids(current.halt):
        raise UsageError(
            f"halt key {min(back).hex()} was taken out before and cannot come back;"
            " make a new key for that person"
        )
    return replace(
        changed, version=current.version + 1, prev_hash=charter_hash(head), lift_base=marks_of(base)
    )


def expired(charter: Charter, unix_ms: int) -> bool:
    """Whether people should be reminded to renew it. Decides nothing else."""
    return 0 < charter.expires_ms <= unix_ms


# --- checking them --------------------------------------------------------------------------------


def first_fault(opened: SignedRecord, swarm: bytes, verify: Verify) -> Rejected | None:
    """What is wrong with a record as the first charter of this swarm; None if nothing is."""
    if charter_hash(opened) != swarm:
        return Rejected(
            f"charter 1 makes swarm {charter_hash(opened).hex()[:16]}, not {swarm.hex()[:16]}",
            penalise=True,
        )
    return _signature_fault(opened, (charter_of(opened),), verify)


def next_fault(
    chain: Sequence[SignedRecord], opened: SignedRecord, verify: Verify
) -> Rejected | None:
    """What is wrong with a record as the charter after the last one of a chain; None if nothing is.
    Cheapest checks first."""
    current, charter = charter_of(chain[-1]), charter_of(opened)
    name = f"charter {charter.version}"
    if charter.version != current.version + 1:
        return Rejected(
            f"{name} does not follow charter {current.version}: those between are missing",
            penalise=False,
            ask=True,
        )
    if charter.prev_hash != charter_hash(chain[-1]):
        # Its sender may honestly have been given another charter by a root quorum that signed two.
        return Rejected(
            f"{name} is not chained to the charter {current.version} in force", penalise=False
        )
    if len(chain) >= CHARTERS_MAX:
        return Rejected(
            f"{name} is one more than the {CHARTERS_MAX} that a chain may have; found a new swarm",
            penalise=False,
        )
    if wrong := _rotation_fault(chain, charter):
        return Rejected(f"{name}: {wrong}", penalise=True)
    return _signature_fault(opened, (current, charter), verify)


def _rotation_fault(chain: Sequence[SignedRecord], charter: Charter) -> str:
    before, after = key_ids(charter_of(chain[-1]).halt), key_ids(charter.halt)
    base = vector_of(charter.lift_base)
    for key in sorted(before - after):
        if base.get(key) != SEQ_MAX:
            return f"halt key {key.hex()} goes without being lifted for good in lift_base"
    for key in sorted(base.keys() - before - after):
        return f"lift_base names {key.hex()}, which is no halt key"
    for key in sorted(after & retired_halt_keys(chain)):
        return f"halt key {key.hex()} was taken out before and may not come back"
    return ""


def _signature_fault(
    opened: SignedRecord, charters: Sequence[Charter], verify: Verify
) -> Rejected | None:
    """Every charter in `charters` must find its root threshold among the distinct good signers."""
    roots = frozenset(key for charter in charters for key in charter.root)
    try:
        signers = good_signers(opened, roots, verify)
    except RemoteError as fault:
        return Rejected(str(fault), penalise=True)
    for charter in charters:
        have = len(signers & frozenset(charter.root))
        if have < charter.root_threshold:
            return Rejected(
                f"charter {charter_of(opened).version}: {have} of the {charter.root_threshold}"
                f" {FEW_SIGNATURES} charter {charter.version} asks for",
                penalise=True,
            )
    return None
