"""What is remembered over a restart: a whole copy is enough, and whatever cannot be read halts.
Cites protocols/halt.md (HALT)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.halt.state import HaltState
from swarmllm.core.halt.state_file import STATE_BYTES_MAX, Boot, load, pack_genesis, pack_state
from swarmllm.errors import UsageError
from tests.core.halt.support import (
    OWNER,
    PRIVATE,
    ROOTS,
    SWARM,
    A,
    B,
    apply,
    founded,
    halt,
    resume,
    rotation,
    signed,
)

STATE = apply(founded(), halt(A, 3), halt(B, 1), resume({B: 1}))
OLD, NEW = pack_state(founded(), 1), pack_state(STATE, 2)
MARK = pack_genesis(SWARM)


def boot(
    first: bytes | None,
    second: bytes | None,
    genesis: bytes | None = MARK,
    pinned: bytes | None = SWARM,
) -> Boot:
    return load(first, second, genesis, PRIVATE, pinned)


@pytest.mark.parametrize(
    "state",
    [
        STATE,
        founded(),
        HaltState(SWARM),
        replace(STATE, stopped_here=True),
        replace(founded(), lost=True),
        HaltState(SWARM, lost=True),
    ],
    ids=["halted", "a charter", "nothing", "stopped here", "lost", "lost without a charter"],
)
def test_a_state_comes_back_as_it_was(state: HaltState) -> None:  # HALT-30
    found = boot(pack_state(state, 7), None)
    assert (found.state, found.generation, found.remarks) == (state, 7, ())
    assert found.state.digest == state.digest


def test_a_new_folder_has_no_state_and_is_not_halted() -> None:  # HALT-32
    lone = load(None, None, None, PRIVATE)
    assert lone.is_new
    assert (lone.state.version, lone.state.reasons) == (1, ())
    joined = load(None, None, None, PRIVATE, SWARM)
    assert (joined.state.swarm, joined.state.version, joined.is_new) == (SWARM, 0, True)


def test_corrupt_first_copy_uses_second() -> None:  # HALT-31
    found = boot(NEW[:-1] + bytes((NEW[-1] ^ 1,)), NEW)
    assert found.state == STATE
    assert found.state.standing
    assert "checksum" in found.remarks[0]
    assert boot(None, NEW).state == STATE
    assert boot(NEW, b"junk").state == STATE


def test_the_newer_of_two_whole_copies_counts() -> None:  # HALT-31
    assert boot(NEW, OLD).state == boot(OLD, NEW).state == STATE


@pytest.mark.parametrize(
    "copies",
    [
        (b"", b""),
        (b"junk", None),
        (None, b"junk"),
        (NEW[:-9], OLD[:50]),
        (bytes(STATE_BYTES_MAX + 1), b""),
    ],
)
@pytest.mark.parametrize(
    "genesis", [MARK, None, b"junk"], ids=["marked", "no marker", "marker spoilt"]
)
# HALT-32
def test_corrupt_both_boots_halted(
    copies: tuple[bytes | None, bytes | None], genesis: bytes | None
) -> None:
    found = boot(*copies, genesis)
    assert found.state.lost
    assert found.state.reasons == ("the record of former halts was lost or cannot be read",)
    assert found.remarks
    assert not found.is_new


def test_state_deleted_boots_halted() -> None:  # HALT-32
    found = boot(None, None)
    assert found.state.reasons
    assert "halt.genesis" in found.remarks[0]
    unpinned = boot(None, None, pinned=None)
    assert (unpinned.state.swarm, unpinned.state.lost) == (SWARM, True)
    lone = load(None, None, pack_genesis(load(None, None, None, PRIVATE).state.swarm), PRIVATE)
    assert (lone.state.version, lone.state.lost) == (1, True)
    spoilt = boot(None, None, genesis=b"", pinned=None)
    assert spoilt.state.lost


@given(st.integers(0, len(NEW) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(at: int, change: int) -> None:  # HALT-30
    injured = NEW[:at] + bytes((NEW[at] ^ change,)) + NEW[at + 1 :]
    assert boot(injured, None).state.lost


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_halt(data: bytes) -> None:  # HALT-32
    assert boot(data, data).state.lost


# HALT-30
def test_records_that_contradict_each_other_are_not_believed_even_with_a_good_checksum() -> None:
    second = signed(rotation(founded()), *ROOTS)
    chain = apply(founded(), second).charters
    broken = HaltState(SWARM, founded().charters)
    for state in (
        replace(broken, halts=STATE.halts * 2),
        HaltState(bytes(32), broken.charters),
        HaltState(SWARM, chain[1:]),
    ):
        assert boot(pack_state(state, 1), None).state.lost


def test_a_state_survives_a_rotation() -> None:
    after = apply(STATE, signed(rotation(STATE), *ROOTS), halt(B, 9))
    assert boot(pack_state(after, 3), None).state == after


# --- which swarm ----------------------------------------------------------------------------------


def test_a_folder_of_another_swarm_is_not_taken_over() -> None:
    with pytest.raises(UsageError, match="--data-dir"):
        boot(NEW, None, pinned=bytes(32))


def test_a_swarm_of_one_that_never_halted_may_join_another() -> None:  # HALT-4
    lone = load(None, None, None, PRIVATE).state
    moved = boot(pack_state(lone, 4), None)
    assert (moved.state, moved.generation) == (HaltState(SWARM), 4)
    for state in (
        apply(lone, halt(OWNER, 1, lone.swarm)),
        replace(lone, stopped_here=True),
        replace(lone, lost=True),
    ):
        with pytest.raises(UsageError):
            boot(pack_state(state, 4), None)


def test_the_largest_state_fits_its_bound() -> None:
    assert len(NEW) < 4_096 < STATE_BYTES_MAX
