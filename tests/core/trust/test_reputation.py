"""What was found fades, trust grows with time alone, and a damaged disk is no way in."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.trust.reputation import (
    ACCOUNTS_MAX,
    DAY_S,
    FLOOR,
    NEW_TRUST,
    Reputation,
    Terms,
)
from swarmllm.core.trust.suspicion import ALARM_NATS, Suspicion
from swarmllm.messages import PeerId

PEER, OTHER = PeerId("one"), PeerId("other")
DIGEST = bytes(32)
START_S = 1_800_000_000.0
ALARM = Suspicion(ALARM_NATS)


def days(count: float) -> float:
    return START_S + count * DAY_S


def known() -> Reputation:
    found = Reputation()
    found.met(PEER, DIGEST, START_S)
    return found


@pytest.mark.parametrize(
    ("age", "trust"), [(0, NEW_TRUST), (7, NEW_TRUST), (18.5, 0.75), (30, 1.0), (400, 1.0)]
)
def test_trust_is_capped_for_a_week_and_whole_after_a_month(age: float, trust: float) -> None:
    assert known().trust(PEER, DIGEST, days(age)) == pytest.approx(trust)


def test_good_behaviour_does_not_shorten_the_week_but_the_owner_does() -> None:
    found = known()
    for _ in range(100):
        found.agreed(PEER, DIGEST, Suspicion(), days(1))
    assert found.trust(PEER, DIGEST, days(6)) == NEW_TRUST
    short = Reputation(Terms(capped_days=0.0, whole_days=0.0))
    short.met(PEER, DIGEST, START_S)
    assert short.trust(PEER, DIGEST, START_S) == 1.0


def test_our_own_expert_never_falls_behind_those_that_become_known() -> None:
    assert Reputation().trust_in_own(days(40)) == NEW_TRUST
    found = known()
    for age in (0.0, 10.0, 40.0):
        assert found.trust_in_own(days(age)) == found.trust(PEER, DIGEST, days(age))
    found.met(OTHER, DIGEST, days(39))
    assert Reputation(saved=found.packed()).trust_in_own(days(40)) == 1.0


def test_another_model_begins_anew() -> None:
    assert known().trust(PEER, b"\1" * 32, days(40)) == NEW_TRUST
    assert known().trust(OTHER, DIGEST, days(40)) == NEW_TRUST


def test_what_was_found_halves_in_a_week() -> None:
    found = known()
    for _ in range(8):
        found.agreed(PEER, DIGEST, Suspicion(8.0), START_S)
    later = found.of(PEER, DIGEST, days(7))
    assert later.valid == pytest.approx(4.0)
    assert later.suspicion == pytest.approx(4.0)
    assert found.of(PEER, DIGEST, days(-3)).valid == 8.0


def test_audits_become_rarer_down_to_the_floor_and_a_failure_brings_them_back() -> None:
    found, chances = Reputation(), []
    for _ in range(30):
        chances.append(found.audit_chance(PEER, DIGEST))
        found.agreed(PEER, DIGEST, Suspicion(), START_S)
    assert chances[:5] == [1.0, 1.0, 0.5, pytest.approx(1 / 3), 0.25]
    assert chances[-1] == FLOOR
    found.failed(PEER, DIGEST, Suspicion(1.0), START_S, "x")
    assert found.audit_chance(PEER, DIGEST) == 1.0


def test_an_alarm_excludes_for_a_time_and_then_it_begins_anew() -> None:
    found = known()
    assert not found.failed(PEER, DIGEST, Suspicion(3.0), days(1), "a doubt")
    assert not found.is_excluded(PEER, DIGEST, days(1))
    assert found.failed(PEER, DIGEST, ALARM, days(1), "it lies")
    assert found.is_excluded(PEER, DIGEST, days(7.9))
    assert found.trust(PEER, DIGEST, days(2)) == 0.0
    assert not found.is_excluded(PEER, DIGEST, days(8.1))
    assert found.of(PEER, DIGEST, days(8.1)).suspicion == 0.0
    assert found.of(PEER, DIGEST, days(2)).why == "it lies"


def test_disputes_exclude_nobody_however_many() -> None:
    found = known()
    for _ in range(1000):
        found.disputed(PEER, DIGEST, START_S)
    assert not found.is_excluded(PEER, DIGEST, START_S)
    assert found.trust(PEER, DIGEST, days(30)) == 1.0


def test_a_flood_of_newcomers_pushes_out_nobody_who_is_excluded_or_known_for_long() -> None:
    found = known()
    found.failed(OTHER, DIGEST, ALARM, days(1), "it lies")
    for number in range(ACCOUNTS_MAX + 50):
        found.met(PeerId(f"new {number}"), DIGEST, days(2))
    assert len(list(found)) == ACCOUNTS_MAX
    assert found.is_excluded(OTHER, DIGEST, days(2))
    assert found.trust(PEER, DIGEST, days(40)) == 1.0


actions = st.lists(
    st.tuples(
        st.sampled_from(["met", "agreed", "disputed", "unsigned", "failed", "proved"]),
        st.sampled_from([PEER, OTHER]),
        st.floats(0, 90),
    ),
    max_size=20,
)


@given(actions)
def test_what_was_saved_is_read_as_it_was(done: list[tuple[str, PeerId, float]]) -> None:
    found = Reputation()
    for what, peer, age in sorted(done, key=lambda one: one[2]):
        match what:
            case "agreed":
                found.agreed(peer, DIGEST, Suspicion(1.0), days(age))
            case "failed":
                found.failed(peer, DIGEST, ALARM, days(age), "why")
            case "proved":
                found.proved(peer, DIGEST, days(age), "why")
            case _:
                getattr(found, what)(peer, DIGEST, days(age))
    assert dict(Reputation(saved=found.packed())) == dict(found)


values = st.recursive(
    st.one_of(st.none(), st.integers(-5, 5), st.floats(), st.text(max_size=5), st.binary()),
    lambda inner: st.lists(inner, max_size=13),
    max_leaves=30,
)


@given(st.one_of(st.binary(max_size=200), values.map(lambda one: bytes(msgpack.packb([1, one])))))
def test_what_is_damaged_is_forgotten(saved: bytes) -> None:
    for (peer, digest), account in Reputation(saved=saved):
        assert isinstance(peer, str)
        assert len(digest) == 32
        assert account.valid >= 0


@pytest.mark.parametrize(
    ("one_days", "other_days", "may"),
    [
        (0.0, 0.9, True),  # Both are new: nobody knows who came first.
        (0.0, 1.1, False),
        (5.0, 20.0, False),
        (20.0, 5.0, True),
        (29.0, 60.0, False),
        (31.0, 60.0, True),
    ],
)
def test_who_is_known_for_longer_is_not_accused_by_newcomers(
    one_days: float, other_days: float, may: bool
) -> None:
    found, now_s = Reputation(), 100 * DAY_S
    found.met(PEER, DIGEST, now_s - one_days * DAY_S)
    found.met(OTHER, DIGEST, now_s - other_days * DAY_S)
    assert found.may_accuse(PEER, OTHER, DIGEST, now_s) == may


def test_a_clock_that_was_ahead_leaves_nobody_excluded_for_years_nor_new_for_ever() -> None:
    before = Reputation()
    before.met(OTHER, DIGEST, START_S)
    before.met(PEER, DIGEST, days(3_650))
    before.failed(OTHER, DIGEST, ALARM, days(3_650), "why")
    after = Reputation(saved=before.packed(), now_s=days(1))
    assert after.is_excluded(OTHER, DIGEST, days(1))
    assert not after.is_excluded(OTHER, DIGEST, days(9))
    assert after.trust(OTHER, DIGEST, days(40)) == 1
    assert after.trust(PEER, DIGEST, days(40)) == 1
    assert after.of(OTHER, DIGEST, days(8)).failed < 0.6
    same = Reputation(saved=before.packed(), now_s=days(3_651))
    assert dict(same) == dict(before)
