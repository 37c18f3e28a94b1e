"""Two lists of one distribution do not differ, however they are cut; those of two do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.trust.comparison import DEEP_NATS, Reading, compare, compare_readings
from swarmllm.wire.sparse import SparseList, decode_list
from swarmllm.wire.sparse_encoding import encode_logits

WORDS = 300
ENTRIES = 64


def logits_of(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 3, WORDS).astype(np.float32)


def listed(logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> SparseList:
    return decode_list(encode_logits(logits, ENTRIES, 0), ENTRIES, WORDS)


@given(st.integers(0, 10_000))
def test_a_list_does_not_differ_from_itself(seed: int) -> None:
    one = listed(logits_of(seed))
    found = compare(one, one, ENTRIES, follows=3)
    assert (found.variation, found.nats, found.ranks) == (0.0, 0.0, 0)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 3))
def test_differences_are_the_same_both_ways_and_no_more_than_there_are(
    seed: int, other: int, share: float
) -> None:
    left = logits_of(seed)
    right = (left + share * logits_of(other)).astype(np.float32)
    one, two = listed(left), listed(right)
    found, back = compare(one, two, ENTRIES, 3), compare(two, one, ENTRIES, 3)
    assert found.variation == pytest.approx(back.variation)
    assert found.nats == pytest.approx(back.nats)
    assert found.ranks == back.ranks
    p, q = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (left, right))
    # Cells of the lists weigh a little too.
    assert found.variation <= 0.5 * float(np.abs(p - q).sum()) + 0.03


def test_rounding_is_little_and_another_model_is_much() -> None:
    left = logits_of(1)
    noise = np.random.default_rng(2).normal(0, 0.01, WORDS).astype(np.float32)
    near, far = listed((left + noise).astype(np.float32)), listed(logits_of(3))
    assert compare(listed(left), near, ENTRIES).variation < 0.02
    assert compare(listed(left), far, ENTRIES).variation > 0.5
    assert compare(listed(left), far, ENTRIES).nats > 1


def test_a_short_list_hides_nothing() -> None:
    logits = logits_of(1)
    whole = listed(logits)
    first = decode_list(encode_logits(logits, 1, 0), ENTRIES, WORDS)
    assert compare(whole, first, ENTRIES).variation > 0.3
    assert compare(whole, first, ENTRIES).nats > 1


def test_a_token_that_is_raised_from_nowhere_shows_in_the_nats() -> None:
    logits = logits_of(1)
    raised = logits.copy()
    raised[int(logits.argmin())] = logits.max() - 3.5  # 2 to 3 % of all.
    found = compare(listed(logits), listed(raised), ENTRIES)
    assert found.variation < 0.05
    assert found.nats > 0.15


def test_what_a_whole_set_has_is_compared_too_and_counts_less_far_down() -> None:
    one = listed(logits_of(1))
    found = compare_readings(Reading(one, -2.0), Reading(one, -3.0), ENTRIES)
    assert (found.variation, found.nats, found.mass) == (0.0, 0.0, 1.0)
    deep = compare_readings(Reading(one, -5 * DEEP_NATS), Reading(one, 1 - 5 * DEEP_NATS), ENTRIES)
    assert deep.mass == pytest.approx(0.2)
    assert compare_readings(Reading(one), Reading(one), ENTRIES).mass is None


def test_of_a_set_those_that_hardly_come_have_no_part_in_the_nats() -> None:
    left = np.linspace(0, -30, WORDS).astype(np.float32)
    right = left.copy()
    right[10] -= 1.0  # Likely, by a nat; ...
    sparse = np.full(WORDS, -np.inf, np.float32)
    sparse[:4] = 0, -1, -2, -20
    other = sparse.copy()
    other[3] = -24  # ... and one that hardly comes, by four.
    for one, two, is_less in ((left, right, False), (sparse, other, True)):
        readings = Reading(listed(one), -1.0), Reading(listed(two), -1.0)
        found = compare_readings(*readings, ENTRIES)
        whole = compare(readings[0].listed, readings[1].listed, ENTRIES)
        assert (found.nats < 0.01) is is_less
        assert found.variation == whole.variation
        assert whole.nats > 0.03
