"""What a relay lends, and that a crowd does not take what belongs to all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.peers.eviction import Block, block_of
from swarmllm.core.peers.relay_quota import (
    ASKERS_MAX,
    Circuit,
    RelayLimits,
    RelayQuota,
    RelayStatus,
)
from swarmllm.messages import PeerId

OK = RelayStatus.OK
ELSEWHERE = block_of("198.18.7.1")
PATIENT = RelayLimits(requests_burst=1e6, all_requests_burst=1e6, block_requests_burst=1e6)
"""For tests of the other bounds."""


def peer(number: int) -> PeerId:
    return PeerId(f"peer{number}")


def block(number: int) -> Block:
    return block_of(f"8.{number >> 8}.{number & 255}.1")


def test_a_thousand_reservations_from_one_block_leave_the_rest_to_others() -> None:
    quota = RelayQuota(PATIENT)
    got = [quota.reserve(peer(n), block(0), 0.0) for n in range(1_000)]
    assert got.count(OK) == PATIENT.reservations_per_block_max
    assert set(got) == {OK, RelayStatus.RESERVATION_REFUSED}
    assert quota.reserve(peer(1_001), ELSEWHERE, 0.0) is OK
    assert quota.refused == 1_000 - PATIENT.reservations_per_block_max


def test_there_are_only_so_many_reservations_in_all_and_the_old_ones_may_be_renewed() -> None:
    quota = RelayQuota(PATIENT)
    most = PATIENT.reservations_max
    assert all(quota.reserve(peer(n), block(n), 0.0) is OK for n in range(most))
    assert quota.reserve(peer(most), block(most), 0.0) is RelayStatus.RESERVATION_REFUSED
    assert quota.reserve(peer(0), block(0), 0.0) is OK
    quota.release(peer(1))
    assert quota.reserve(peer(most), block(most), 0.0) is OK


def test_a_reservation_ends_with_its_time_and_with_its_peer() -> None:
    quota = RelayQuota(PATIENT)
    quota.reserve(peer(0), block(0), 0.0)
    assert quota.holds(peer(0), PATIENT.reservation_s - 1)
    assert not quota.holds(peer(0), PATIENT.reservation_s + 1)
    quota.reserve(peer(0), block(0), 9_000.0)
    quota.release(peer(0))
    assert not quota.holds(peer(0), 9_000.0)


def test_who_asks_all_the_time_is_refused_and_others_are_not() -> None:
    quota = RelayQuota(RelayLimits())
    got = [quota.reserve(peer(0), block(0), 0.0) for _ in range(100)]
    assert got.count(OK) == RelayLimits().requests_burst
    assert got[-1] is RelayStatus.RESOURCE_LIMIT_EXCEEDED
    assert quota.reserve(peer(1), block(1), 0.0) is OK
    assert quota.reserve(peer(0), block(0), 1.0) is OK  # Some comes back.


def test_all_together_ask_only_so_often() -> None:
    quota = RelayQuota(RelayLimits(reservations_max=10_000))
    got = [quota.reserve(peer(n), block(n), 0.0) for n in range(1_000)]
    assert got.count(OK) == RelayLimits().all_requests_burst
    assert len(quota._asked) <= ASKERS_MAX + 1


def test_a_block_that_asks_all_the_time_leaves_the_others_their_requests() -> None:
    """Under as many identities as it likes: each is refused, and none of what is for all is gone.
    Whoever was refused a reservation asks again after minutes."""
    quota = RelayQuota(RelayLimits(reservations_max=9_999, reservations_per_block_max=9_999))
    got = [quota.reserve(peer(n), block(0), n / 1_000) for n in range(1_000)]
    assert got.count(OK) == pytest.approx(RelayLimits().block_requests_burst, abs=4)
    assert [quota.reserve(peer(n), block(n), 1.0) for n in range(1_000, 1_100)] == [OK] * 100


def test_one_block_does_not_keep_others_from_a_peer() -> None:
    """Two identities could: they held all circuits that a target may have."""
    quota = RelayQuota(PATIENT)
    target = peer(99)
    quota.reserve(target, block(9), 0.0)
    crowd = [quota.open(Circuit(peer(n % 8), block(0), target), 0.0) for n in range(64)]
    assert crowd.count(OK) == PATIENT.circuits_per_target_and_block_max
    assert quota.open(Circuit(peer(70), block(1), target), 0.0) is OK


def test_a_circuit_needs_a_reservation_at_its_other_end() -> None:
    quota = RelayQuota(PATIENT)
    circuit = Circuit(peer(0), block(0), peer(1))
    assert quota.open(circuit, 0.0) is RelayStatus.NO_RESERVATION
    quota.reserve(peer(1), block(1), 0.0)
    assert quota.open(circuit, 0.0) is OK
    assert quota.open(replace(circuit, source=peer(1)), 0.0) is RelayStatus.PERMISSION_DENIED
    assert quota.circuits == 1
    quota.close(circuit)
    assert quota.circuits == 0


def test_circuits_are_bounded_for_a_source_a_block_a_target_and_in_all() -> None:
    limits = replace(
        PATIENT,
        circuits_max=9,
        circuits_per_source_max=2,
        circuits_per_block_max=4,
        circuits_per_target_max=5,
    )
    quota = RelayQuota(limits)
    for n in range(100, 103):
        quota.reserve(peer(n), block(n), 0.0)

    def opened(source: int, where: int, target: int, times: int) -> int:
        circuit = Circuit(peer(source), block(where), peer(target))
        return [quota.open(circuit, 0.0) for _ in range(times)].count(OK)

    assert opened(0, 0, 100, 9) == 2  # One source.
    assert opened(1, 0, 100, 9) == 2
    assert opened(2, 0, 101, 9) == 0  # One block.
    assert opened(3, 1, 100, 9) == 1  # One target.
    assert opened(4, 2, 101, 9) + opened(5, 3, 101, 9) + opened(6, 4, 102, 9) == 4  # All.


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 5), st.floats(0, 50)),
        max_size=60,
    )
)
def test_whatever_is_opened_and_closed_the_count_is_right_and_never_beyond_its_bounds(
    steps: list[tuple[bool, int, int, float]],
) -> None:
    limits = replace(PATIENT, circuits_max=6, circuits_per_source_max=3)
    quota, running, now = RelayQuota(limits), list[Circuit](), 0.0
    for opens, source, target, pause_s in steps:
        now += pause_s
        quota.reserve(peer(target), block(target), now)
        circuit = Circuit(peer(source), block(source), peer(target))
        if opens and quota.open(circuit, now) is OK:
            running.append(circuit)
        elif running and not opens:
            quota.close(running.pop())
        assert quota.circuits == len(running) <= limits.circuits_max
        assert sum(one.source == peer(source) for one in running) <= 3
