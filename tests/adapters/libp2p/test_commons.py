"""Peers share what a node can afford: many who each keep to a limit are not too many together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.libp2p.lane import BURST_S, Bucket, Commons
from swarmllm.adapters.libp2p.options import NetworkLimits

LIMITS = NetworkLimits(messages_per_s=100.0, bytes_per_s=1_000.0)


@given(st.integers(1, 300))
def test_equal_shares_add_up_to_what_the_node_affords(peers: int) -> None:
    commons = Commons(LIMITS)
    commons.peers = peers
    assert commons.messages_per_s * peers == pytest.approx(LIMITS.messages_per_s)
    assert commons.bytes_per_s * peers == pytest.approx(LIMITS.bytes_per_s)


@given(st.integers(1, 50), st.integers(1, 20))
def test_all_together_are_read_at_the_rate_of_one(peers: int, seconds: int) -> None:
    commons = Commons(LIMITS)
    commons.peers = peers
    buckets = [Bucket(commons.messages_per_s, BURST_S, 0.0) for _ in range(peers)]
    read = 0
    for bucket in buckets:
        now = 0.0
        while now < seconds:  # As a lane does: one message, and a pause where it was one too many.
            bucket.refit(commons.messages_per_s, BURST_S)
            now += bucket.take(1, now)
            read += 1
    assert read <= LIMITS.messages_per_s * (seconds + BURST_S) + 2 * peers


def test_a_share_that_shrinks_holds_for_what_was_saved_up() -> None:
    bucket = Bucket(100.0, BURST_S, 0.0)
    bucket.refit(1.0, BURST_S)
    assert [bucket.take(1, 0.0) for _ in range(3)] == [0.0, 0.0, 1.0]


def test_before_anybody_is_there_the_share_is_the_whole() -> None:
    commons = Commons(LIMITS)
    commons.peers = 0
    assert commons.messages_per_s == LIMITS.messages_per_s
