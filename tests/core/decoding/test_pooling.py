"""Laws of pooling: the right formula, to the bit independent of order, exact for greedy decoding,
near the pool of whole lists."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.decoding.pooling import HOLDER_FLOOR, PROB_MIN, Holder, Pooled, PoolingRule, pool
from swarmllm.wire.sparse import SparseList, decode_list
from swarmllm.wire.sparse_encoding import encode_logits

VOCABULARY = 64
RULES: tuple[PoolingRule, ...] = ("arithmetic", "geometric")

Floats = npt.NDArray[np.float64]


def listed(entries: dict[int, float], tail: float = 0.0) -> SparseList:
    """A list of these probabilities by id."""
    ids = sorted(entries)
    return SparseList(
        np.array(ids, dtype=np.int32),
        np.log(np.array([entries[i] for i in ids])).astype(np.float32),
        tail,
    )


def truncated(distribution: Floats, count: int) -> SparseList:
    """The `count` likeliest tokens, the lowest ids among equals."""
    ids = np.sort(np.argsort(-distribution, kind="stable")[:count])
    return SparseList(
        ids.astype(np.int32),
        np.log(distribution[ids]).astype(np.float32),
        max(0.0, 1.0 - float(distribution[ids].sum())),
    )


def spread(pooled: Pooled, size: int = VOCABULARY) -> Floats:
    whole = np.zeros(size)
    whole[pooled.ids] = pooled.probs
    return whole


def bits(pooled: Pooled) -> tuple[bytes, bytes, float, float]:
    return pooled.ids.tobytes(), pooled.probs.tobytes(), pooled.tail, pooled.agreement


@st.composite
def distributions(draw: st.DrawFn) -> Floats:
    seed, scale = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.0, 0.5, 2.0, 5.0]))
    logits = np.random.default_rng(seed).standard_normal(VOCABULARY) * scale
    odds = np.exp(logits - logits.max()).astype(np.float64)
    return np.asarray(odds / odds.sum(), dtype=np.float64)


lists_of_any_length = st.builds(truncated, distributions(), st.integers(1, VOCABULARY))
weights = st.floats(0.01, 1.0)
weighted_lists = st.lists(st.tuples(lists_of_any_length, weights), min_size=1, max_size=5)


# --- the formula ----------------------------------------------------------------------------------


def test_arithmetic_pool_is_the_weighted_mean_with_missing_ids_guessed_from_the_tail() -> None:
    first, second = listed({3: 0.5, 7: 0.3}, tail=0.2), listed({7: 0.6, 9: 0.02}, tail=0.38)
    pooled = pool([first, second], [3.0, 1.0])
    raw = {
        # The smallest value that the second list kept is the less.
        3: 0.75 * 0.5 + 0.25 * min(0.02, 0.38 * 0.5),
        7: 0.75 * 0.3 + 0.25 * 0.6,
        # The share of the first list's tail is the less.
        9: 0.75 * min(0.3, 0.2 * 0.02) + 0.25 * 0.02,
    }
    assert pooled.ids.tolist() == [3, 7, 9]
    np.testing.assert_allclose(
        pooled.probs, [raw[i] / sum(raw.values()) for i in (3, 7, 9)], rtol=1e-6
    )
    assert pooled.tail == pytest.approx(0.75 * 0.2 + 0.25 * 0.38)


def test_a_missing_id_is_spread_by_the_mean_over_all_other_lists() -> None:
    holder, other, blind = listed({1: 0.4, 2: 0.6}), listed({2: 1.0}), listed({2: 0.5}, tail=0.5)
    pooled = pool([holder, other, blind], [1.0, 1.0, 1.0])
    assert pooled.probs[0] == pytest.approx(
        (0.4 + 0.0 + 0.5 * (0.4 + 0.0) / 2) / (0.4 + 0.1 + 0.6 + 1.0 + 0.5), rel=1e-6
    )


def test_geometric_pool_is_the_weighted_mean_of_logarithms() -> None:
    pooled = pool([listed({1: 0.9, 2: 0.1}), listed({1: 0.2, 2: 0.8})], [0.5, 0.5], "geometric")
    raw = [math.sqrt(0.9 * 0.2), math.sqrt(0.1 * 0.8)]
    np.testing.assert_allclose(pooled.probs, [x / sum(raw) for x in raw], rtol=1e-6)


def test_geometric_pool_survives_lists_that_share_no_token() -> None:
    pooled = pool([listed({1: 1.0}), listed({2: 1.0})], [0.5, 0.5], "geometric")
    np.testing.assert_allclose(pooled.probs, [0.5, 0.5])
    lopsided = pool([listed({1: 1.0}), listed({2: 1.0})], [0.75, 0.25], "geometric")
    assert lopsided.probs[1] / lopsided.probs[0] == pytest.approx(PROB_MIN**0.5, rel=1e-6)


@pytest.mark.parametrize("rule", RULES)
@given(entries=lists_of_any_length, weight=weights)
def test_one_list_pools_to_itself_renormalised(
    rule: PoolingRule, entries: SparseList, weight: float
) -> None:
    pooled = pool([entries], [weight], rule)
    kept = np.exp(entries.logprobs.astype(np.float64))
    assert pooled.ids.tolist() == entries.ids.tolist()
    np.testing.assert_allclose(pooled.probs, kept / kept.sum(), rtol=1e-12)
    assert pooled.tail == pytest.approx(entries.tail)
    assert pooled.agreement == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
@given(weighted=weighted_lists)
def test_the_pool_is_a_distribution_over_the_union_of_all_ids(
    rule: PoolingRule, weighted: list[tuple[SparseList, float]]
) -> None:
    lists, shares = zip(*weighted, strict=True)
    pooled = pool(lists, shares, rule)
    assert pooled.ids.dtype == np.int32
    assert pooled.probs.dtype == np.float64
    assert pooled.ids.tolist() == sorted(
        set(itertools.chain.from_iterable(entries.ids.tolist() for entries in lists))
    )
    assert (pooled.probs > 0).all()
    assert pooled.probs.sum() == pytest.approx(1.0, abs=1e-12)
    assert 0 <= pooled.tail <= 1
    assert 0 <= pooled.agreement <= 1


@given(
    st.lists(
        st.tuples(distributions(), weights, st.integers(1, VOCABULARY)), min_size=1, max_size=5
    )
)
def test_truncation_moves_the_arithmetic_pool_by_its_tail_at_most(
    parts: list[tuple[Floats, float, int]],
) -> None:
    total = sum(w for _, w, _ in parts)
    exact = sum((d * (w / total) for d, w, _ in parts), start=np.zeros(VOCABULARY))
    pooled = pool([truncated(d, n) for d, _, n in parts], [w for _, w, _ in parts])
    assert 0.5 * np.abs(spread(pooled) - exact).sum() <= pooled.tail + 1e-6


@given(st.lists(st.tuples(distributions(), weights), min_size=1, max_size=5))
def test_the_arithmetic_pool_is_never_worse_than_any_expert_by_more_than_its_weight(
    parts: list[tuple[Floats, float]],
) -> None:
    total = sum(w for _, w in parts)
    whole = spread(pool([truncated(d, VOCABULARY) for d, _ in parts], [w for _, w in parts]))
    for distribution, weight in parts:
        assert (np.log(distribution) - np.log(whole) <= math.log(total / weight) + 1e-6).all()


# --- determinism and greedy exactness -------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@given(weighted=weighted_lists, data=st.data())
def test_the_order_of_the_lists_changes_no_bit(
    rule: PoolingRule, weighted: list[tuple[SparseList, float]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(weighted))
    one = pool([entries for entries, _ in weighted], [w for _, w in weighted], rule)
    other = pool([entries for entries, _ in shuffled], [w for _, w in shuffled], rule)
    assert bits(one) == bits(other)


@pytest.mark.parametrize("rule", RULES)
@given(entries=lists_of_any_length, shares=st.lists(weights, min_size=1, max_size=8))
def test_copies_of_a_list_have_its_own_argmax_and_order(
    rule: PoolingRule, entries: SparseList, shares: list[float]
) -> None:
    pooled = pool([entries] * len(shares), shares, rule)
    assert int(np.argmax(pooled.probs)) == int(np.argmax(entries.logprobs))
    assert (
        np.argsort(-pooled.probs, kind="stable").tolist()
        == np.argsort(-entries.logprobs, kind="stable").tolist()
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [2, 3, 5, 8, 17, 63, 64])
def test_equal_tokens_stay_equal_wherever_they_stand(
    rule: PoolingRule, count: int, size: int
) -> None:
    flat = listed(dict.fromkeys(range(10, 10 + size), 1 / size))
    pooled = pool([flat] * count, [0.1 * (k + 1) for k in range(count)], rule)
    assert (pooled.probs == pooled.probs[0]).all()
    assert pooled.ids[np.argmax(pooled.probs)] == 10


@given(
    seed=st.integers(0, 2**32 - 1),
    shares=st.lists(weights, min_size=1, max_size=4),
    entries_max=st.sampled_from([1, 16, 256]),
)
def test_replicas_over_the_wire_choose_the_token_of_the_logits(
    seed: int, shares: list[float], entries_max: int
) -> None:
    # On a grid: ties are common.
    logits = (np.random.default_rng(seed).integers(-40, 40, 2_000) / 4).astype(np.float32)
    received = [
        decode_list(encode_logits(logits, entries_max, 0), entries_max, 2_000) for _ in shares
    ]
    pooled = pool(received, shares)
    assert int(pooled.ids[np.argmax(pooled.probs)]) == int(np.argmax(logits))


# --- weights and agreement ------------------------------------------------------------------------


@given(weighted=weighted_lists, factor=st.sampled_from([0.25, 2.0, 1024.0]))
def test_only_the_ratios_of_the_weights_count(
    weighted: list[tuple[SparseList, float]], factor: float
) -> None:
    lists, shares = zip(*weighted, strict=True)
    assert bits(pool(lists, shares)) == bits(pool(lists, [w * factor for w in shares]))


def test_a_weight_of_zero_takes_an_expert_out_of_the_arithmetic_pool() -> None:
    with_it = pool([listed({1: 0.5, 2: 0.5}), listed({3: 1.0})], [1.0, 0.0])
    np.testing.assert_array_equal(with_it.probs, [0.5, 0.5, 0.0])


def test_one_poisoned_list_owns_no_more_than_its_weight_and_the_tails_of_others() -> None:
    honest = listed({1: 0.6, 2: 0.3}, tail=0.1)
    pooled = pool([honest] * 4 + [listed({9: 1.0})], [0.2] * 5)
    assert spread(pooled)[9] <= 0.2 + 0.8 * 0.1


@given(lists_of_any_length, st.integers(2, 6))
def test_copies_agree_entirely(entries: SparseList, count: int) -> None:
    assert pool([entries] * count, [1.0] * count).agreement == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_experts_that_share_nothing_agree_only_in_their_own_share(count: int) -> None:
    pooled = pool([listed({k: 1.0}) for k in range(count)], [1.0] * count)
    assert pooled.agreement == pytest.approx(1 / count)


def test_agreement_is_one_minus_the_mean_total_variation() -> None:
    lists = [listed({1: 0.8, 2: 0.2}), listed({1: 0.4, 2: 0.6})]
    assert pool(lists, [0.75, 0.25]).agreement == pytest.approx(1 - (0.1 + 0.3) / 2, abs=1e-6)


@pytest.mark.parametrize(
    "shares",
    [[], [1.0], [0.5, -0.5], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]],
)
def test_weights_that_make_no_sense_are_our_own_fault(shares: list[float]) -> None:
    with pytest.raises(AssertionError):
        pool([listed({1: 1.0}), listed({2: 1.0})], shares)


# --- holders of one model -------------------------------------------------------------------------

MODEL, OWN, OTHER = Holder(b"m"), Holder(b"m", is_own=True), Holder(b"other")
TRUE = {1: 0.7, 2: 0.2, 3: 0.05}
FORCED = {9: 0.99}


def mass(pooled: Pooled, token: int) -> float:
    found = pooled.probs[pooled.ids == token]
    return float(found[0]) if found.size else 0.0


def test_one_of_three_holders_forces_nothing_that_the_others_do_not_bear_out() -> None:
    lists = [listed(FORCED, 0.01), *(listed(TRUE, 0.05) for _ in range(4))]
    assert mass(pool(lists, [0.2] * 5), 9) > 0.19
    # A twentieth left out is room for something.
    assert mass(pool(lists, [0.2] * 5, holders=[MODEL] * 5), 9) < 0.07
    # These leave nothing out.
    exact = [listed(FORCED, 0.01), *(listed(TRUE, 0.0) for _ in range(4))]
    assert mass(pool(exact, [0.2] * 5, holders=[MODEL] * 5), 9) <= HOLDER_FLOOR


def test_our_own_expert_bounds_who_claims_its_model_and_nobody_bounds_it() -> None:
    liar, own = listed(FORCED), listed(TRUE, 0.0)
    for order in ([liar, own], [own, liar]):
        holders = [OWN if one is own else MODEL for one in order]
        pooled = pool(order, [0.5, 0.5], holders=holders)
        assert mass(pooled, 9) < 1e-3
        assert int(pooled.ids[pooled.probs.argmax()]) == 1
    crowd = [own, *(listed(FORCED) for _ in range(5))]
    assert mass(pool(crowd, [1 / 6] * 6, holders=[OWN, *[MODEL] * 5]), 1) > 0.6


def test_of_two_strangers_nobody_knows_who_lies() -> None:
    lists, shares = (
        [listed(FORCED, 0.01), listed(TRUE, 0.05), listed(TRUE, 0.05)],
        [0.25, 0.25, 0.5],
    )
    assert bits(pool(lists, shares, holders=[MODEL, MODEL, OTHER])) == bits(pool(lists, shares))


@given(distributions(), st.integers(1, VOCABULARY), st.integers(2, 5), st.booleans())
def test_honest_holders_lose_not_one_bit_by_the_bound(
    distribution: Floats, count: int, holders: int, local: bool
) -> None:
    lists = [truncated(distribution, count)] * holders
    found = pool(
        lists, [1.0] * holders, holders=[OWN if local else MODEL, *[MODEL] * (holders - 1)]
    )
    assert bits(found) == bits(pool(lists, [1.0] * holders))


@given(distributions(), st.integers(0, 2**32 - 1), st.integers(8, VOCABULARY), st.integers(3, 5))
def test_back_ends_of_one_model_lose_nothing_by_the_bound(
    distribution: Floats, seed: int, count: int, holders: int
) -> None:
    """They differ by some hundredths of a nat, and so in which tokens their lists hold."""
    rng = np.random.default_rng(seed)
    noisy = [distribution * np.exp(rng.normal(0, 0.03, VOCABULARY)) for _ in range(holders)]
    lists = [truncated(np.asarray(row / row.sum(), np.float64), count) for row in noisy]
    assert bits(pool(lists, [1.0] * holders, holders=[MODEL] * holders)) == bits(
        pool(lists, [1.0] * holders)
    )


@given(
    weighted_lists, st.lists(st.sampled_from([MODEL, OTHER]), min_size=5, max_size=5), st.randoms()
)
def test_the_bound_depends_on_no_order(
    entries: list[tuple[SparseList, float]], names: list[Holder], rng: random.Random
) -> None:
    parts = [(one, weight, name) for (one, weight), name in zip(entries, names, strict=False)]
    shuffled = rng.sample(parts, len(parts))
    found = [
        pool([p[0] for p in x], [p[1] for p in x], holders=[p[2] for p in x])
        for x in (parts, shuffled)
    ]
    assert bits(found[0]) == bits(found[1])


def test_one_known_holder_bounds_those_that_are_not_known_and_is_bound_by_none() -> None:
    new = replace(MODEL, is_new=True)
    lists = [listed(TRUE), listed(FORCED), listed(FORCED)]
    bound = spread(pool(lists, [1 / 3] * 3, holders=[MODEL, new, new]))
    assert bound[9] < 0.05
    assert bound[1] > 0.6
    # Of strangers alone the majority is right; two that contradict each other are left as they are.
    assert spread(pool(lists, [1 / 3] * 3, holders=[new, new, new]))[9] > 0.5
    two = pool(lists[:2], [0.5] * 2, holders=[MODEL, MODEL])
    assert spread(two)[9] == pytest.approx(spread(pool(lists[:2], [0.5] * 2))[9])
