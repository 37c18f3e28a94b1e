"""Laws of strikes: the third refuses, time forgives, and no number of offenders takes more
memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.peers.strikes import KNOCK_EVERY_S, OFFENDERS_MAX, REFUSE_S, STRIKES_MAX, Strikes
from swarmllm.messages import PeerId

PEER = PeerId("offender")


@given(st.lists(st.integers(0, 2 * round(REFUSE_S)), min_size=1, max_size=12))
def test_a_peer_is_refused_from_its_third_strike_until_nothing_has_come_for_long_enough(
    gaps: list[int],
) -> None:
    strikes, now, streak = Strikes(), 100.0, 0
    for gap in gaps:
        streak = 1 if gap >= REFUSE_S else streak + 1
        now += gap
        strikes.add(PEER, now)
        assert strikes.refuses(PEER, now) == (streak >= STRIKES_MAX)
        assert not strikes.refuses(PEER, now + REFUSE_S + 0.001)
        assert not strikes.refuses(PeerId("another"), now)


def test_more_offenders_than_are_remembered_push_out_the_one_that_was_quiet_longest() -> None:
    strikes = Strikes()
    for _ in range(STRIKES_MAX):
        strikes.add(PEER, 0.0)
    for number in range(OFFENDERS_MAX - 1):
        strikes.add(PeerId(f"p{number}"), 1.0)
    assert strikes.refuses(PEER, 2.0)
    strikes.add(PeerId("one more"), 2.0)
    assert not strikes.refuses(PEER, 2.0)


def test_the_log_hears_of_a_refused_peer_once_a_minute_and_for_how_long_it_is_refused() -> None:
    strikes = Strikes()
    for _ in range(STRIKES_MAX):
        strikes.add(PEER, 0.0)
    assert strikes.knocks(PEER, 10.0) == REFUSE_S - 10.0
    assert strikes.knocks(PEER, 9.0 + KNOCK_EVERY_S) is None
    assert strikes.knocks(PEER, 10.0 + KNOCK_EVERY_S) == REFUSE_S - 10.0 - KNOCK_EVERY_S
