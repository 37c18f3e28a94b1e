"""A charter follows another only with both root quorums, one number up, chained, and forgetting
nothing. Cites protocols/halt.md (HALT)."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from swarmllm.core.halt.charter import (
    CHARTERS_MAX,
    Rejected,
    expired,
    is_private,
    private_charter,
    successor,
)
from swarmllm.core.halt.state import Applied, HaltState, Known, validate
from swarmllm.errors import LocalError, RemoteError, UsageError
from swarmllm.messages import (
    CHARTER_RECORD_MAX,
    HALT_RECORD_MAX,
    NO_HALT_DIGEST,
    SEQ_MAX,
    Charter,
    Halt,
    Resume,
)
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.marks import marks_of, vector_of
from swarmllm.wire.signed import open_record, sign_record
from tests.core.halt.support import (
    BEACON,
    FIRST,
    HALTERS,
    OWNER,
    PRIVATE,
    RESUMERS,
    ROOTS,
    STRANGER,
    SWARM,
    A,
    B,
    Person,
    apply,
    feed,
    forged,
    founded,
    halt,
    keys,
    resume,
    rotation,
    signed,
    verify,
)

NEW_ROOTS = tuple(Person(f"new root {i}") for i in range(3))


def refused(state: HaltState, data: bytes) -> Rejected:
    outcome = validate(state, data, verify)
    assert isinstance(outcome, Rejected)
    return outcome


def test_the_swarm_is_the_hash_of_its_first_charter() -> None:  # HALT-3
    assert sha256(encode(FIRST)).digest() == SWARM
    assert founded().charter == FIRST
    other = signed(replace(FIRST, issued_ms=1), *ROOTS)
    assert refused(HaltState(SWARM), other).penalise


@pytest.mark.parametrize("people", [ROOTS[:2], ROOTS[1:], ROOTS])
# HALT-5
def test_the_first_charter_takes_its_own_root_threshold(people: tuple[Person, ...]) -> None:
    assert apply(HaltState(SWARM), signed(FIRST, *people)).version == 1


@pytest.mark.parametrize(
    "data",
    [
        signed(FIRST, ROOTS[0]),
        forged(FIRST, *ROOTS),
        signed(FIRST, *ROOTS[:2], STRANGER),
        signed(FIRST, *HALTERS),
    ],
    ids=["one of two", "forged", "a stranger besides", "the wrong role"],
)
def test_nothing_less_founds_a_swarm(data: bytes) -> None:  # HALT-5
    assert refused(HaltState(SWARM), data).penalise


def test_a_rotation_needs_the_old_and_the_new_root_quorum() -> None:  # HALT-5
    state = founded()
    second = rotation(state, root=keys(NEW_ROOTS))
    for people in (ROOTS, NEW_ROOTS, (*ROOTS[:2], NEW_ROOTS[0]), (ROOTS[0], *NEW_ROOTS[:2])):
        assert "root signatures" in refused(state, signed(second, *people)).reason
    assert apply(state, signed(second, *ROOTS[:2], *NEW_ROOTS[:2])).version == 2


def test_one_root_key_in_both_charters_counts_in_both() -> None:  # HALT-5
    state = founded()
    second = rotation(state, root=keys((*ROOTS[:2], NEW_ROOTS[0])))
    assert apply(state, signed(second, *ROOTS[:2])).version == 2


def test_charters_count_up_by_one_and_never_back() -> None:  # HALT-5
    state = founded()
    second = rotation(state)
    after = apply(state, signed(second, *ROOTS))
    third = rotation(after)
    jump = refused(state, signed(third, *ROOTS))
    assert (jump.penalise, jump.ask) == (False, True)
    assert isinstance(validate(after, signed(FIRST, *ROOTS), verify), Known)
    assert isinstance(
        validate(after, signed(replace(second, revert_changes=0), *ROOTS), verify), Known
    )


def test_a_charter_must_be_chained_to_the_one_in_force() -> None:  # HALT-5
    state = founded()
    loose = replace(rotation(state), prev_hash=bytes(31) + b"\1")
    assert "not chained" in refused(state, signed(loose, *ROOTS)).reason


def test_a_halt_key_that_goes_is_lifted_for_good_and_never_comes_back() -> None:  # HALT-6
    state = apply(founded(), halt(A, 7))
    second = rotation(state, halt=keys(HALTERS[1:]))
    assert vector_of(second.lift_base) == {A.id: SEQ_MAX}
    for base in ((), marks_of({A.id: 7})):
        assert (
            "without being lifted"
            in refused(state, signed(replace(second, lift_base=base), *ROOTS)).reason
        )
    after = apply(state, signed(second, *ROOTS))
    assert after.standing == ()
    assert after.highs == {}
    with pytest.raises(UsageError, match="make a new key"):
        rotation(after, halt=keys(HALTERS))
    sneaky = replace(rotation(after), halt=keys(HALTERS))
    assert "may not come back" in refused(after, signed(sneaky, *ROOTS)).reason
    third = apply(after, signed(rotation(after), *ROOTS))
    sneaky = replace(rotation(third), halt=keys(HALTERS))
    assert "may not come back" in refused(third, signed(sneaky, *ROOTS)).reason


def test_lift_base_names_halt_keys_only() -> None:  # HALT-6
    state = founded()
    wild = replace(rotation(state), lift_base=marks_of({STRANGER.id: 1}))
    assert "no halt key" in refused(state, signed(wild, *ROOTS)).reason


def test_rotate_forgetting_lift_rehalts() -> None:  # HALT-13
    lifted = apply(founded(), halt(A, 5), resume({A: 5}))
    assert lifted.standing == ()
    careful = apply(lifted, signed(rotation(lifted), *ROOTS))
    assert careful.standing == ()
    forgetful = apply(lifted, signed(rotation(lifted, lifts={}), *ROOTS))
    assert [order.seq for order in forgetful.standing] == [5]
    # The old resume does not help: its signers may no longer be trusted.
    assert feed(forgetful, resume({A: 5})).standing == forgetful.standing
    assert apply(forgetful, resume({A: 5}, version=2)).standing == ()
    # Somebody who comes later sees what everybody sees.
    for state in (careful, forgetful):
        late = feed(
            HaltState(SWARM), *(one.data for one in state.charters), halt(A, 5), resume({A: 5})
        )
        assert late.digest == state.digest
        assert late.standing == state.standing


def test_a_lift_in_the_base_may_be_newer_than_what_the_charter_before_knew() -> None:  # HALT-6
    state = apply(founded(), halt(A, 5))
    assert apply(state, signed(rotation(state, lifts={A.id: 5}), *ROOTS)).standing == ()
    assert apply(state, signed(rotation(state, lifts={A.id: 4}), *ROOTS)).standing != ()


def test_a_resume_key_that_went_resumes_nothing() -> None:  # HALT-12
    thief, friend = RESUMERS[0], RESUMERS[1]
    state = apply(founded(), halt(A, 5))
    after = apply(state, signed(rotation(state, resume=keys((friend, RESUMERS[2]))), *ROOTS))
    assert not refused(after, resume({A: 5}, thief, friend)).penalise
    assert refused(after, resume({A: 5}, thief, friend, version=2)).penalise
    assert apply(after, resume({A: 5}, friend, RESUMERS[2], version=2)).standing == ()


def test_a_chain_is_bounded() -> None:
    state = founded()
    for _ in range(CHARTERS_MAX - 1):
        state = apply(state, signed(rotation(state), *ROOTS))
    assert "found a new swarm" in refused(state, signed(rotation(state), *ROOTS)).reason


def test_expired_charter_still_halts() -> None:  # HALT-9
    old = replace(FIRST, expires_ms=1)
    assert expired(old, 2)
    assert not expired(FIRST, 2**62)
    state = founded(old)
    stopped = apply(state, halt(A, 1, state.swarm, issued_ms=5))
    assert stopped.standing
    assert apply(stopped, resume({A: 1}, swarm=state.swarm)).standing == ()
    assert apply(state, signed(rotation(state), *ROOTS)).version == 2


# --- a swarm of one -------------------------------------------------------------------------------


def test_a_lone_node_makes_its_own_charter_and_it_is_always_the_same() -> None:  # HALT-4
    one = private_charter(OWNER.public_key)
    assert one == private_charter(OWNER.public_key)
    assert is_private(one)
    assert not is_private(FIRST)
    assert not is_private(replace(one, beacon=(BEACON.public_key,)))
    state = apply(HaltState(sha256(encode(one)).digest()), PRIVATE)
    assert state.digest == NO_HALT_DIGEST
    assert HaltState(state.swarm).digest != NO_HALT_DIGEST
    stopped = apply(state, halt(OWNER, 1, state.swarm))
    assert stopped.digest != NO_HALT_DIGEST
    assert apply(stopped, resume({OWNER: 1}, OWNER, swarm=state.swarm)).standing == ()
    assert refused(state, halt(STRANGER, 1, state.swarm)).reason.startswith("key ")


# --- bounds ---------------------------------------------------------------------------------------

CROWD = tuple(Person(f"person {i}") for i in range(16))
BROKEN: dict[str, dict[str, Any]] = {
    "root threshold above its keys": {"root_threshold": 4},
    "resume threshold above its keys": {"resume_threshold": 4},
    "keys out of order": {"halt": tuple(reversed(keys(HALTERS)))},
    "a key twice": {"resume": (keys(RESUMERS)[0],) * 2},
    "a voter twice": {"voter": (keys(RESUMERS)[0],) * 2},
    "no halt key": {"halt": ()},
    "seventeen keys": {"voter": keys((*CROWD, STRANGER))},
    "beacons on without a key": {"beacon": (), "beacon_ttl_s": 5},
    "first with a hash": {"prev_hash": b"\1" * 32},
    "second without": {"version": 2},
    "first with lifts": {"lift_base": marks_of({A.id: 1})},
    "more reverts than the bound": {"revert_changes": 17},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
# HALT-2
def test_a_charter_that_contradicts_itself_cannot_be_written(change: dict[str, Any]) -> None:
    with pytest.raises(LocalError):
        encode(replace(FIRST, **change))


def test_a_charter_of_others_that_names_a_key_twice_is_not_read() -> None:  # HALT-2
    """Such a voter would count twice in the electorate, and one who votes twice would be two."""
    first, second = keys(CROWD[:2])
    made = encode(replace(FIRST, voter=(first, second)))
    assert decode(made, (Charter,)).voter == (first, second)
    with pytest.raises(RemoteError, match="voter keys"):
        decode(made.replace(second, first), (Charter,))


def test_every_allowed_record_fits_its_bound_or_is_refused_when_it_is_made() -> None:  # HALT-1
    seqs = {person.id: SEQ_MAX for person in CROWD}
    full = Resume(b"\xff" * 32, 2**32 - 1, marks_of(seqs), 2**63 - 1)
    assert len(signed(full, *CROWD[:5])) <= HALT_RECORD_MAX
    with pytest.raises(LocalError, match="exceeds 1024"):
        signed(full, *CROWD[:6])
    assert len(signed(Halt(b"\xff" * 32, A.id, SEQ_MAX, 255, 2**63 - 1), A)) <= HALT_RECORD_MAX
    everybody = keys(CROWD)
    large = replace(
        FIRST, root=everybody, halt=everybody, resume=everybody, voter=everybody, beacon=everybody
    )
    assert len(signed(large, *CROWD[:5])) <= CHARTER_RECORD_MAX
    second = successor(open_record(signed(large, *CROWD[:5])), seqs, large)
    with pytest.raises(LocalError, match="use fewer keys"):
        sign_record(second, [person.signer for person in CROWD[:10]])


def test_removing_a_key_while_another_halts_keeps_that_halt() -> None:  # HALT-13
    state = apply(founded(), halt(A, 3), halt(B, 4))
    after = apply(state, signed(rotation(state, halt=keys(HALTERS[1:])), *ROOTS))
    assert [order.key for order in after.standing] == [B.id]


def test_who_is_behind_gets_the_chain_in_order() -> None:
    state = founded()
    chain = [state.charters[0].data]
    for _ in range(3):
        state = apply(state, signed(rotation(state), *ROOTS))
        chain.append(state.charters[-1].data)
    assert isinstance(validate(HaltState(SWARM), chain[0], verify), Applied)
    assert apply(HaltState(SWARM), *chain).digest == state.digest
    assert isinstance(state.charter, Charter)
    assert feed(HaltState(SWARM), *reversed(chain)).version == 1
