"""A signature is good for one author, one payload and one purpose. Cites protocols/envelope.md
(ENV) and capacity.md (CAP)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import CONTEXT_MAX, RECORD_MAX, CapacityRecord, Envelope, ExpertRecord
from swarmllm.messages.bounds import EXT_MAX
from swarmllm.messages.declare import DECLARED, domain_of
from swarmllm.wire.codec import encode
from swarmllm.wire.envelope import seal, unseal
from swarmllm.wire.identity import peer_id_of
from tests.wire.strategies import mutate, of_type

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()
KINDS: tuple[type[Any], ...] = (CapacityRecord, ExpertRecord)
SIZE_MAX = 4_096


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


payloads = st.one_of(of_type(CapacityRecord), of_type(ExpertRecord))


@settings(max_examples=30)
@given(payloads)
def test_unseal_gives_author_and_payload(payload: object) -> None:  # ENV-1
    sealed = seal(payload, PUBLIC, PRIVATE.sign)
    assert unseal(sealed, KINDS, verify, SIZE_MAX) == (peer_id_of(PUBLIC), payload)


@settings(max_examples=30)
@given(of_type(CapacityRecord))
def test_every_capacity_record_fits_its_bound(record: CapacityRecord) -> None:  # CAP-2
    assert len(seal(record, PUBLIC, PRIVATE.sign)) <= RECORD_MAX


def test_the_largest_capacity_record_fits_its_bound() -> None:  # CAP-2
    domains, addrs = (
        ("é" * 8,) * 4,
        ("/ip6/2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/tcp/65535ab",) * 3,
    )
    record = CapacityRecord(
        boot=2**63 - 1,
        seq=2**32 - 1,
        model="m" * 32,
        model_digest=b"\xff" * 32,
        vocab_fingerprint=b"\xff" * 32,
        n_params=2**63 - 1,
        context_max=CONTEXT_MAX,
        rate=2**32 - 1,
        queue_depth=65_535,
        sessions_free=65_535,
        sessions_max=65_535,
        domains=domains,
        addrs=tuple(a.ljust(56, "x") for a in addrs),
        ctl_digest=b"\xff" * 8,
        ext=b"\xff" * EXT_MAX,
    )
    assert len(seal(record, PUBLIC, PRIVATE.sign)) == 573 <= RECORD_MAX


@settings(max_examples=20, deadline=None)
@given(payloads, st.integers(0, 2**32))
def test_an_injured_envelope_never_opens(payload: object, seed: int) -> None:  # ENV-2, ENV-3
    rng = Random(seed)
    sealed = seal(payload, PUBLIC, PRIVATE.sign)
    for _ in range(500):
        injured = mutate(rng, sealed)
        if injured != sealed:
            with pytest.raises(RemoteError):
                unseal(injured, KINDS, verify, SIZE_MAX)


@given(st.binary(max_size=300))
def test_any_bytes_open_or_raise_remote_error(data: bytes) -> None:  # ENV-2
    with pytest.raises(RemoteError):
        unseal(data, KINDS, verify, SIZE_MAX)


@settings(max_examples=30)
@given(of_type(CapacityRecord), of_type(ExpertRecord))
# ENV-3
def test_a_signature_for_one_purpose_is_none_for_another(
    capacity: CapacityRecord, expert: ExpertRecord
) -> None:
    for payload, other in ((capacity, ExpertRecord), (expert, CapacityRecord)):
        packed = encode(payload)
        for domain in (domain_of(other), b""):
            forged = encode(Envelope(PUBLIC, packed, PRIVATE.sign(domain + packed)))
            with pytest.raises(RemoteError, match="bad signature"):
                unseal(forged, KINDS, verify, SIZE_MAX)
        with pytest.raises(RemoteError, match="must be one of"):
            unseal(seal(payload, PUBLIC, PRIVATE.sign), (other,), verify, SIZE_MAX)


@settings(max_examples=30)
@given(of_type(ExpertRecord))
def test_another_author_cannot_be_written_over_a_signature(record: ExpertRecord) -> None:  # ENV-3
    sealed = seal(record, PUBLIC, PRIVATE.sign)
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    with pytest.raises(RemoteError, match="bad signature"):
        unseal(sealed.replace(PUBLIC, other), KINDS, verify, SIZE_MAX)


@settings(max_examples=30)
@given(of_type(ExpertRecord))
def test_size_and_form_are_judged_before_the_signature(record: ExpertRecord) -> None:  # ENV-2
    def never(public_key: bytes, message: bytes, signature: bytes) -> bool:
        raise AssertionError("verified for nothing")

    sealed = seal(record, PUBLIC, PRIVATE.sign)
    for data, size_max in (
        (sealed, len(sealed) - 1),
        (sealed[:-1], SIZE_MAX),
        (sealed + b"\0", SIZE_MAX),
    ):
        with pytest.raises(RemoteError):
            unseal(data, KINDS, never, size_max)


def test_domains_cannot_be_confused() -> None:  # ENV-3
    found = sorted(one.domain for one in DECLARED.values() if one.domain)
    assert len(set(found)) == len(found) > 1
    assert all(
        domain.endswith(b"\0") and domain.count(b"\0") == 1 and domain.startswith(b"swarmllm/")
        for domain in found
    )


def test_a_signer_that_returns_rubbish_is_noticed() -> None:
    with pytest.raises(LocalError):
        seal(ExpertRecord(1, "m", bytes(32), bytes(32), 1, ()), PUBLIC, lambda message: b"short")
