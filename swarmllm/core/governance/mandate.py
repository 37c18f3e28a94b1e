"""The mandate: who may propose, vote and report under the charter in force, and how many votes
carry what.

The electorate is the charter's `voter` list and nothing else: an open vote is a take-over button.
What a charter does not say is as in `DEFAULTS`. A private charter (a swarm of one) needs no
ceremony: its owner holds every role, and nothing waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from typing import Final

from swarmllm.core.governance.held_out import HeldOut, held_out_in
from swarmllm.core.halt.charter import charter_hash, charter_of, is_private, retired_halt_keys
from swarmllm.errors import RemoteError
from swarmllm.messages import Range
from swarmllm.messages.governance import TERMS_MAX, GovernanceTerms
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.ext import GOVERNANCE_TERMS, addition, additions
from swarmllm.wire.signed import SignedRecord, key_id

DEFAULTS: Final = GovernanceTerms(
    agent=(),
    minor_threshold=2,
    review_h=24,
    canary_permille=10,
    canary_s=3_600,
    phase=0,
    phase_experts=(0, 280, 1_000, 5_000),
    phase_audits=(0, 0, 0, 0),
    stable_days=30,
    unattended=0,
    bounds=(),
    values=(),
)
_SCOPE_DOMAIN: Final = b"swarmllm/gov/1\0"
NO_SCOPE: Final = bytes(8)


class Tier(IntEnum):
    """What an action may do, from nothing to anything."""

    READ_ONLY = 0
    SUGGEST = 1
    SANDBOX_TEST = 2
    DEPLOY_MINOR = 3
    DEPLOY_MAJOR = 4


@dataclass(frozen=True, slots=True)
class Mandate:
    """`voters` and `agents` are key id -> public key; `electorate` counts the voters that the
    charter lists, those included whose key was taken out as a halt key and who therefore cannot
    vote; `retired` are the ids of such keys. `scope` names the set of records under this charter (8
    bytes)."""

    swarm: bytes
    version: int
    scope: bytes
    voters: Mapping[bytes, bytes]
    agents: Mapping[bytes, bytes]
    electorate: int
    terms: GovernanceTerms
    revert_changes: int
    is_private: bool = False
    held_out: HeldOut | None = None
    retired: frozenset[bytes] = frozenset()
    bounds: Mapping[int, Range] = field(default_factory=dict)
    values: Mapping[int, int] = field(default_factory=dict)

    @property
    def keys(self) -> Mapping[bytes, bytes]:
        """Of everybody who may sign anything."""
        return {**self.agents, **self.voters}

    @property
    def majority(self) -> int:
        """Of the whole electorate, whoever votes."""
        return self.electorate // 2 + 1

    def needs(self, tier: Tier) -> int | None:
        """How many yes-votes carry an action of this tier; None if none do: below deploy-minor
        nothing is carried out, and without voters nothing is."""
        if not self.electorate or tier < Tier.DEPLOY_MINOR:
            return None
        if tier is Tier.DEPLOY_MAJOR:
            return self.majority
        if self.terms is DEFAULTS:
            return min(DEFAULTS.minor_threshold, self.electorate)
        return self.terms.minor_threshold

    @property
    def review_s(self) -> float:
        """How long a deploy-major is open to review, whatever the votes."""
        return 0.0 if self.is_private else self.terms.review_h * 3_600.0

    @property
    def canary_s(self) -> float:
        """How long a canary lasts; 0: there is none."""
        has_one = not self.is_private and self.terms.canary_permille
        return float(self.terms.canary_s) if has_one else 0.0


def mandate_of(
    swarm: bytes, charters: Sequence[SignedRecord], terms: GovernanceTerms | None
) -> Mandate | str:
    """The mandate under the last of these charters. `terms` are what is held of the terms that it
    names. A sentence instead if there is none: then nothing is proposed, voted on or enacted."""
    if not charters:
        return "the charter of this swarm has not come yet"
    charter, scope = charter_of(charters[-1]), scope_of(swarm, charters)
    wanted = terms_digest(charters)
    if is_private(charter):
        own = {key_id(charter.root[0]): charter.root[0]}
        return Mandate(swarm, 1, scope, own, own, 1, DEFAULTS, charter.revert_changes, True)
    if wanted and (terms is None or sha256(encode(terms)).digest() != wanted):
        return f"the terms of governance that charter {charter.version} names have not come yet"
    found = DEFAULTS if terms is None or not wanted else terms
    retired = retired_halt_keys(charters)
    voters = {key_id(key): key for key in charter.voter}
    agents = {key_id(key): key for key in found.agent}
    return Mandate(
        swarm,
        charter.version,
        scope,
        {name: key for name, key in voters.items() if name not in retired},
        {name: key for name, key in agents.items() if name not in retired},
        len(charter.voter),
        found,
        charter.revert_changes,
        held_out=held_out_in(charter.ext),
        retired=retired & (voters.keys() | agents.keys()),
        bounds=_bounds(found),
        values=_values(found),
    )


def scope_of(swarm: bytes, charters: Sequence[SignedRecord]) -> bytes:
    """The name of the set of records under the last of these charters."""
    return sha256(_SCOPE_DOMAIN + swarm + charter_hash(charters[-1])).digest()[:8]


def terms_digest(charters: Sequence[SignedRecord]) -> bytes:
    """SHA-256 of the terms that the last charter names; empty if it names none."""
    ext = charter_of(charters[-1]).ext if charters else b""
    found = additions(ext).get(GOVERNANCE_TERMS, b"")
    return found if len(found) == 32 else b""


def naming(terms: GovernanceTerms) -> bytes:
    """What a charter with these terms has in its `ext`."""
    return addition(GOVERNANCE_TERMS, sha256(encode(terms)).digest())


def read_terms(data: bytes) -> GovernanceTerms:
    """RemoteError if that is not what `data` is."""
    if len(data) > TERMS_MAX:
        raise RemoteError(f"terms of governance of {len(data)} bytes exceed {TERMS_MAX}")
    return decode(data, (GovernanceTerms,))


def pack_bounds(bounds: Mapping[int, Range]) -> tuple[bytes, ...]:
    """As they stand in terms."""
    return tuple(
        code.to_bytes(2, "big") + found.low.to_bytes(8, "big") + found.high.to_bytes(8, "big")
        for code, found in sorted(bounds.items())
    )


def pack_values(values: Mapping[int, int]) -> tuple[bytes, ...]:
    """As they stand in terms."""
    return tuple(
        code.to_bytes(2, "big") + value.to_bytes(8, "big") for code, value in sorted(values.items())
    )


def _bounds(terms: GovernanceTerms) -> dict[int, Range]:
    return {
        _integer(entry[:2]): Range(_integer(entry[2:10]), _integer(entry[10:]))
        for entry in terms.bounds
    }


def _values(terms: GovernanceTerms) -> dict[int, int]:
    return {_integer(entry[:2]): _integer(entry[2:]) for entry in terms.values}


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "big")
