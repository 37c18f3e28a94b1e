"""Admission of governance records: the order of checks, cheapest first.

A record that nobody signs who may sign anything is dropped before its content is read: strangers
cost a comparison. What is malformed, badly signed, or signed by the wrong role is a breach, and
counted against who sent it; what a peer under another charter may honestly hold is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from swarmllm.core.governance.mandate import Mandate
from swarmllm.core.halt.charter import Rejected
from swarmllm.errors import RemoteError
from swarmllm.messages import Signed
from swarmllm.messages.governance import (
    PROPOSAL_RECORD_MAX,
    CanaryReport,
    GovernanceRecord,
    Proposal,
    Vote,
    Withdrawal,
)
from swarmllm.wire.codec import decode
from swarmllm.wire.envelope import Verify
from swarmllm.wire.signed import MultiSigned, good_signers, key_id, size_max

GOVERNING: Final[tuple[type[GovernanceRecord], ...]] = (Proposal, Vote, Withdrawal, CanaryReport)
"""The kinds of signed records that governance knows. None of them is among `HALTING`
(`wire.signed`), and the kill switch looks at nothing else."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A record whose signature is good, by somebody whose role allows it. `case` is the id of its
    proposal: its own, if it is one."""

    data: bytes
    record: GovernanceRecord
    case: bytes


Known = Callable[[GovernanceRecord, bytes], bool]
"""Whether this record, about the proposal with this id, says nothing new."""


def admit(
    data: bytes, mandate: Mandate, known: Known, verify: Verify
) -> Admitted | Rejected | None:
    """What becomes of a record, as it was signed; None for one that says nothing new, which costs
    its sender nothing and us no signature check."""
    opened = _opened(data, mandate)
    if isinstance(opened, Rejected):
        return opened
    record = opened.record
    name = type(record).__name__
    if record.swarm != mandate.swarm:
        return _refused(
            f"{name} for swarm {record.swarm.hex()[:16]}, not {mandate.swarm.hex()[:16]}"
        )
    if record.charter_version != mandate.version:
        return Rejected(
            f"{name} under charter {record.charter_version}, but {mandate.version} is in force",
            penalise=False,
            ask=record.charter_version > mandate.version,
        )
    key = record.author if isinstance(record, Proposal) else record.key
    if [key_id(signer) for signer in opened.signers] != [key]:
        return _refused(f"{name} that names key {key.hex()}, which is not the one that signed it")
    if key not in _role(record, mandate):
        return _refused(f"{name}: key {key.hex()} has no part in signing this")
    case = sha256(opened.payload).digest() if isinstance(record, Proposal) else record.proposal
    if known(record, case):
        return None
    try:
        good_signers(opened, frozenset(opened.signers), verify)
    except RemoteError as fault:
        return _refused(str(fault))
    return Admitted(data, record, case)


def _opened(data: bytes, mandate: Mandate) -> MultiSigned[GovernanceRecord] | Rejected:
    """The record in `data`, read only if somebody signs it who may sign anything."""
    if len(data) > PROPOSAL_RECORD_MAX:
        return _refused(f"governance record of {len(data)} bytes exceeds {PROPOSAL_RECORD_MAX}")
    try:
        signed = decode(data, (Signed,))
    except RemoteError as fault:
        return _refused(str(fault))
    signers = [key_id(entry[:32]) for entry in signed.signatures]
    if len(signers) != 1:
        return _refused(f"governance record with {len(signers)} signatures; each has one")
    if signers[0] not in mandate.keys:
        return Rejected(
            f"key {signers[0].hex()} is neither a voter nor an agent of charter {mandate.version}",
            penalise=False,
        )
    try:
        record = decode(signed.payload, GOVERNING)
    except RemoteError as fault:
        return _refused(str(fault))
    if len(data) > size_max(type(record)):
        name = type(record).__name__
        return _refused(f"{name} of {len(data)} bytes exceeds {size_max(type(record))}")
    return MultiSigned(data, record, signed.payload, signed.signatures)


def _role(record: GovernanceRecord, mandate: Mandate) -> frozenset[bytes]:
    """The ids of the keys that may sign this."""
    match record:
        case Vote():
            return frozenset(mandate.voters)
        case CanaryReport():
            return frozenset(mandate.agents)
        case Proposal() | Withdrawal():
            return frozenset(mandate.keys)


def _refused(reason: str) -> Rejected:
    return Rejected(reason, penalise=True)
