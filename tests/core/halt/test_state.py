"""The halt state: order, repetition and replay mean nothing, and nothing but a quorum lifts. Cites
protocols/halt.md (HALT)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.halt.charter import Rejected
from swarmllm.core.halt.state import (
    Applied,
    HaltState,
    Known,
    join,
    lacks,
    missing,
    next_halt,
    next_resume,
    records_of,
    validate,
)
from swarmllm.errors import RemoteError, UsageError
from swarmllm.messages import (
    CHARTER_RECORD_MAX,
    HALT_RECORD_MAX,
    SEQ_MAX,
    Halt,
    Live,
    Resume,
    Signed,
)
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.marks import mark_of, marks_of
from swarmllm.wire.signed import HALT_DOMAINS, key_id, open_record
from tests.core.halt.support import (
    HALTERS,
    RESUMERS,
    ROOTS,
    STRANGER,
    SWARM,
    A,
    B,
    apply,
    feed,
    forged,
    founded,
    halt,
    live,
    resume,
    rotation,
    signed,
    verify,
)

STATE = founded()
NEXT = signed(rotation(apply(STATE, halt(A, 2), resume({A: 2}))), *ROOTS)
RECORDS = (
    *(halt(person, seq) for person in (A, B) for seq in (1, 2, 3)),
    resume({A: 1}),
    resume({A: 2, B: 1}),
    resume({A: 3}),
    resume({B: 3}),
    resume({A: 3}, version=2),
    NEXT,
)
some_records = st.lists(st.sampled_from(RECORDS), max_size=10)


def never(public_key: bytes, message: bytes, signature: bytes) -> bool:
    raise AssertionError("verified for nothing")


def refused(state: HaltState, data: bytes, sender_version: int | None = None) -> Rejected:
    outcome = validate(state, data, verify, sender_version)
    assert isinstance(outcome, Rejected)
    return outcome


def same(one: HaltState, two: HaltState) -> bool:
    return one.vectors == two.vectors and one.standing == two.standing and one.digest == two.digest


# --- order, repetition, replay --------------------------------------------------------------------


@given(some_records, some_records, some_records)
# HALT-11
def test_halt_join_commutes(first: list[bytes], second: list[bytes], third: list[bytes]) -> None:
    a, b, c = feed(STATE, *first), feed(STATE, *second), feed(STATE, *third)
    assert same(join(a, b), join(b, a))
    assert same(join(join(a, b), c), join(a, join(b, c)))
    assert same(join(a, a), a)


@given(some_records)
def test_halt_idempotent(records: list[bytes]) -> None:  # HALT-11
    once = feed(STATE, *records)
    again = feed(once, *records)
    # What was refused the first time, for want of its charter, may be taken the second time; the
    # third changes nothing.
    assert same(feed(again, *records), again)
    for data in records_of(once):
        assert isinstance(validate(once, data, never), Known)


@given(st.permutations(RECORDS[:10]))
def test_replay_any_order(records: list[bytes]) -> None:  # HALT-11
    everything = feed(STATE, *records)
    assert same(everything, feed(STATE, *RECORDS[:10]))
    assert everything.standing == ()
    for data in records:
        assert isinstance(validate(everything, data, never), Known)


@given(st.lists(st.sampled_from(RECORDS), min_size=1))
def test_the_halts_known_never_become_fewer(records: list[bytes]) -> None:  # HALT-11
    state = STATE
    for data in records:
        after = feed(state, data)
        assert after.version >= state.version
        assert all(after.highs[key] >= seq for key, seq in state.highs.items())
        if after.version == state.version:
            assert all(after.lifts[key] >= seq for key, seq in state.lifts.items())
        state = after


def test_resume_misses_newer_halt() -> None:  # HALT-12
    state = apply(STATE, halt(A, 5), halt(A, 6), resume({A: 5}))
    assert [order.seq for order in state.standing] == [6]
    assert apply(state, resume({A: 6})).standing == ()
    late = apply(STATE, resume({A: 5}), halt(A, 6))
    assert [order.seq for order in late.standing] == [6]


def test_one_resume_does_not_lift_another_key() -> None:  # HALT-12
    assert [
        order.key for order in apply(STATE, halt(A, 1), halt(B, 1), resume({A: 1})).standing
    ] == [B.id]


def test_a_resume_that_overtakes_its_halt_lifts_it() -> None:  # HALT-11
    state = apply(STATE, resume({A: 5}))
    assert isinstance(validate(state, halt(A, 5), verify), Applied)
    assert feed(state, halt(A, 5)).standing == ()


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [1, 2**31, SEQ_MAX])
def test_one_halt_key_is_enough(seq: int) -> None:  # HALT-8
    assert apply(STATE, halt(A, seq)).standing


@pytest.mark.parametrize(
    "data",
    [
        forged(Halt(SWARM, A.id, 1, 1, 0), A),
        signed(Halt(SWARM, A.id, 1, 1, 0), STRANGER),
        signed(Halt(SWARM, A.id, 1, 1, 0), B),
        signed(Halt(SWARM, A.id, 1, 1, 0), A, B),
        signed(Halt(SWARM, STRANGER.id, 1, 1, 0), STRANGER),
        signed(Halt(SWARM, RESUMERS[0].id, 1, 1, 0), RESUMERS[0]),
        halt(A, 1, bytes(32)),
    ],
    ids=[
        "forged",
        "a stranger for A",
        "B for A",
        "two signers",
        "a stranger",
        "a resume key",
        "another swarm",
    ],
)
def test_a_halt_by_anybody_else_is_refused_and_counted(data: bytes) -> None:  # HALT-8, HALT-10
    assert refused(STATE, data, sender_version=1).penalise


def test_forged_one_of_two_resume() -> None:  # HALT-12
    state = apply(STATE, halt(A, 1))
    record = Resume(SWARM, 1, marks_of({A.id: 1}), 0)
    good, bad = open_record(signed(record, RESUMERS[0])), open_record(forged(record, RESUMERS[1]))
    mixed = encode(Signed(good.payload, tuple(sorted((*good.signatures, *bad.signatures)))))
    for data in (
        signed(record, RESUMERS[0]),
        mixed,
        forged(record, *RESUMERS),
        signed(record, *RESUMERS[:2], STRANGER),
    ):
        assert refused(state, data).penalise
        assert feed(state, data).standing
    assert apply(state, signed(record, *RESUMERS[1:])).standing == ()


def test_duplicate_signer_counts_once() -> None:  # HALT-2, HALT-12
    state = apply(STATE, halt(A, 1))
    one = open_record(resume({A: 1}, RESUMERS[0]))
    twice = msgpack.packb([81, one.payload, [*one.signatures, *one.signatures]])
    other = one.signatures[0][:-1] + bytes((one.signatures[0][-1] ^ 1,))
    disguised = msgpack.packb([81, one.payload, sorted((one.signatures[0], other))])
    for data in (twice, disguised):
        assert "rise strictly" in refused(state, data).reason
        # Ed25519 lets a signer make as many good signatures as it likes.
        assert isinstance(validate(state, data, lambda _key, _message, _signature: True), Rejected)
    assert (
        "1 of 2 signatures" in refused(state, signed(one.record, RESUMERS[0], RESUMERS[0])).reason
    )


def test_vote_to_lift_refused() -> None:  # HALT-12
    """Neither voters, halt keys, roots nor everybody else together lift anything; and no other kind
    of record does."""
    voters = tuple(HALTERS)
    state = apply(STATE, halt(A, 1))
    for people in (voters, ROOTS, (*HALTERS, *ROOTS, STRANGER), (RESUMERS[0], *HALTERS)):
        assert refused(state, resume({A: 1}, *people)).penalise
    assert feed(state, live(1), halt(B, 1), resume({B: 1})).standing == state.standing


def test_a_signature_for_one_purpose_lifts_nothing_in_another() -> None:  # HALT-1
    state = apply(STATE, halt(A, 1))
    payload = encode(Resume(SWARM, 1, marks_of({A.id: 1}), 0))
    for domain in (b"", *(d for kind, d in HALT_DOMAINS.items() if kind is not Resume)):
        entries = tuple(sorted(p.public_key + p.sign(domain + payload) for p in RESUMERS[:2]))
        assert "bad signature" in refused(state, encode(Signed(payload, entries))).reason
    domains = sorted(HALT_DOMAINS.values())
    assert all(d.endswith(b"\0") and d.count(b"\0") == 1 for d in domains)
    assert len(set(domains)) == 4


def test_a_resume_may_only_name_halt_keys() -> None:  # HALT-12
    assert refused(STATE, resume({STRANGER: 1})).penalise


def test_a_resume_for_another_charter_or_swarm_is_refused() -> None:  # HALT-12
    state = apply(STATE, halt(A, 1))
    ahead = refused(state, resume({A: 1}, version=2))
    assert (ahead.penalise, ahead.ask) == (False, True)
    assert refused(state, resume({A: 1}, swarm=bytes(32))).penalise
    after = apply(state, signed(rotation(state), *ROOTS))
    assert "sign it again" in refused(after, resume({A: 1})).reason


def test_clock_1970_and_2100_still_halts() -> None:  # HALT-9
    for issued_ms in (0, 1, 4_102_444_800_000, 2**63 - 1):
        assert apply(STATE, halt(A, 1, issued_ms=issued_ms)).standing
    # Nor does an operator's clock keep an order from being new.
    state = apply(STATE, halt(A, 1_790_000_000_000), resume({A: 1_790_000_000_000}))
    for unix_ms in (0, 4_102_444_800_000):
        order = next_halt(state, A.public_key, 1, unix_ms)
        state = apply(state, signed(order, A))
        assert state.standing
        state = apply(state, signed(next_resume(state, unix_ms), *RESUMERS[:2]))
        assert not state.standing


def test_without_a_charter_nothing_counts_and_it_is_asked_for() -> None:  # HALT-10
    blank = HaltState(SWARM)
    for data in (halt(A, 1), resume({A: 1})):
        found = refused(blank, data)
        assert (found.penalise, found.ask) == (False, True)
    assert refused(blank, halt(A, 1, bytes(32))).penalise


# --- the order of checks --------------------------------------------------------------------------


def fields_of(data: bytes) -> tuple[list[Any], list[Any]]:
    outer = msgpack.unpackb(data)
    return outer, msgpack.unpackb(outer[1])


def test_unknown_field_refused() -> None:  # HALT-2
    outer, inner = fields_of(halt(A, 1))
    longer = msgpack.packb([*inner, 1])
    shorter = msgpack.packb(inner[:-1])
    for payload in (longer, shorter):
        entry = A.public_key + A.sign(HALT_DOMAINS[Halt] + payload)
        assert refused(STATE, msgpack.packb([81, payload, [entry]])).penalise
    assert refused(STATE, msgpack.packb([*outer, b""])).penalise
    assert refused(STATE, msgpack.packb({"type": 96})).penalise


def test_only_the_one_encoding_is_read() -> None:  # HALT-2
    _, inner = fields_of(halt(A, 1))
    loose = encode(open_record(halt(A, 1)).record)[:-1] + b"\xcc\x00"
    assert msgpack.unpackb(loose) == inner
    entry = A.public_key + A.sign(HALT_DOMAINS[Halt] + loose)
    assert "shortest" in refused(STATE, msgpack.packb([81, loose, [entry]])).reason


@given(st.binary(max_size=300))
def test_any_bytes_are_judged_and_change_nothing(data: bytes) -> None:  # HALT-10
    outcome = validate(STATE, data, never)
    assert isinstance(outcome, Rejected)
    assert outcome.penalise
    assert "\n" not in outcome.reason


def test_what_is_cheap_is_checked_before_any_signature() -> None:  # HALT-10
    state = apply(STATE, halt(A, 5), resume({A: 5}))
    bad = [
        bytes(CHARTER_RECORD_MAX + 1),
        halt(A, 5)[:-1],
        halt(A, 6, bytes(32)),
        halt(STRANGER, 6),
        halt(A, 5),
        halt(A, 1),
        resume({A: 5}),
        resume({STRANGER: 1}),
        resume({A: 6}, STRANGER, *RESUMERS),
        signed(rotation(state), *ROOTS, STRANGER),
        state.charters[0].data,
    ]
    for data in bad:
        assert not isinstance(validate(state, data, never, 1), Applied)


def test_a_record_longer_than_its_own_bound_is_refused() -> None:  # HALT-1
    padded = Signed(
        encode(Resume(SWARM, 1, marks_of({A.id: 1}), 0)),
        tuple(sorted(bytes((i,)) * 96 for i in range(10))),
    )
    assert HALT_RECORD_MAX < len(encode(padded)) < CHARTER_RECORD_MAX
    assert f"exceeds {HALT_RECORD_MAX}" in refused(STATE, encode(padded)).reason


def test_a_sender_that_may_know_a_newer_charter_is_not_blamed() -> None:  # HALT-10
    """A halt key that we do not know may be one of a charter that has not reached us yet."""
    data = halt(STRANGER, 1)
    assert refused(STATE, data, sender_version=1).penalise
    for version in (2, None):
        found = refused(STATE, data, sender_version=version)
        assert (found.penalise, found.ask) == (False, True)


def test_a_sender_that_has_not_heard_of_a_rotation_is_not_blamed() -> None:  # HALT-10
    gone = apply(
        STATE,
        signed(rotation(STATE, halt=tuple(sorted(p.public_key for p in HALTERS[1:]))), *ROOTS),
    )
    assert not refused(gone, halt(A, 9), sender_version=1).penalise


def test_a_seq_of_zero_or_beyond_the_bound_does_not_exist() -> None:  # HALT-2
    for seq in (0, SEQ_MAX + 1):
        lifts = A.id + seq.to_bytes(8, "big")
        payload = msgpack.packb([97, SWARM, 1, [lifts], 0])
        with pytest.raises(RemoteError):
            decode(payload, (Resume,))
    assert mark_of(A.id, SEQ_MAX)


# --- exchange -------------------------------------------------------------------------------------


@given(some_records, some_records)
# HALT-20
def test_two_that_tell_each_other_what_is_missing_agree(
    first: list[bytes], second: list[bytes]
) -> None:
    a, b = feed(STATE, *first), feed(STATE, *second)
    for _ in range(2):  # A charter first, and what counts under it then.
        from_a, from_b = missing(a, b.vectors), missing(b, a.vectors)
        a, b = feed(a, *from_b), feed(b, *from_a)
    assert same(a, b)
    assert not lacks(a, b.vectors)
    assert missing(a, b.vectors) == missing(b, a.vectors) == []


@given(some_records)
def test_an_export_is_the_whole_state(records: list[bytes]) -> None:  # HALT-22
    state = feed(STATE, *records)
    assert same(feed(HaltState(SWARM), *records_of(state)), state)


def test_states_of_different_swarms_or_forked_charters_exchange_nothing() -> None:  # HALT-20
    other = HaltState(bytes(32))
    assert missing(STATE, other.vectors) == []
    assert not lacks(STATE, other.vectors)
    one = apply(STATE, signed(rotation(STATE, revert_changes=1), *ROOTS), halt(A, 1))
    two = apply(STATE, signed(rotation(STATE, revert_changes=2), *ROOTS))
    assert missing(one, two.vectors) == []
    assert not lacks(two, one.vectors)
    assert one.digest != two.digest


@given(some_records, some_records)
# HALT-14
def test_equal_digests_mean_equal_vectors(first: list[bytes], second: list[bytes]) -> None:
    a, b = feed(STATE, *first), feed(STATE, *second)
    assert (a.digest == b.digest) == (a.vectors == b.vectors)


# --- what operators write -------------------------------------------------------------------------


def test_an_order_is_new_even_to_those_who_know_more() -> None:  # HALT-7
    order = next_halt(STATE, A.public_key, 3, 1_790_000_000_000)
    assert order == Halt(SWARM, key_id(A.public_key), 1_790_000_000_000, 3, 1_790_000_000_000)
    fast = apply(STATE, halt(A, 2**62))
    assert next_halt(fast, A.public_key, 3, 1_790_000_000_000).seq == 2**62 + 1


def test_operators_are_told_what_they_cannot_sign() -> None:
    with pytest.raises(UsageError, match="may not halt"):
        next_halt(STATE, STRANGER.public_key, 1, 0)
    with pytest.raises(UsageError, match="import it"):
        next_halt(HaltState(SWARM), A.public_key, 1, 0)
    with pytest.raises(UsageError, match="last number"):
        next_halt(apply(STATE, halt(A, SEQ_MAX)), A.public_key, 1, 0)
    with pytest.raises(UsageError, match="nothing to resume"):
        next_resume(STATE, 0)


def test_a_proposal_lifts_what_stands_and_nothing_else() -> None:  # HALT-12
    state = apply(STATE, halt(A, 4), halt(B, 2), resume({B: 2}))
    assert next_resume(state, 7) == Resume(SWARM, 1, marks_of({A.id: 4}), 7)


def test_every_reason_is_said() -> None:
    state = replace(apply(STATE, halt(A, 4)), stopped_here=True, lost=True)
    assert state.reasons == (
        f"halted by key {A.id[:4].hex()} (reason: drill)",
        "stopped by the owner of this node",
        "the record of former halts was lost or cannot be read",
    )
    assert STATE.reasons == ()
    assert isinstance(open_record(live(1)).record, Live)
