"""Laws of sampling: exact odds, one random number, each setting by its definition, and clear words
for nonsense."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.decoding.pooling import Pooled
from swarmllm.core.decoding.sampling import (
    BLIND_NATS,
    draw,
    draw_with,
    likeliest,
    numbers,
    validate,
    with_biased,
)
from swarmllm.core.values import Sampling
from swarmllm.errors import UsageError

DRAWS = 12_000
GRID = 2_000
PROBS = [0.30, 0.05, 0.02, 0.20, 0.13, 0.08, 0.15, 0.07]
IDS = [4, 9, 11, 40, 41, 500, 7_000, 128_255]


def pooled_of(probs: list[float], ids: list[int] | None = None) -> Pooled:
    p = np.array(probs, dtype=np.float64)
    numbers = np.array(ids if ids is not None else range(len(probs)), dtype=np.int32)
    return Pooled(numbers, p / p.sum(), 0.0, 1.0)


STANDARD = pooled_of(PROBS, IDS)


class Scripted(random.Random):
    """A generator of one known number, which counts how often it is asked."""

    def __init__(self, number: float) -> None:
        super().__init__(0)
        self.number = number
        self.asked = 0

    def random(self) -> float:
        self.asked += 1
        return self.number

    def getrandbits(self, k: int, /) -> int:
        raise AssertionError(f"{k} bits where one number is the law")


def reachable(
    pooled: Pooled, sampling: Sampling, recent: list[int] | None = None
) -> dict[int, float]:
    """Every token that can be drawn and its odds, found by walking a fine grid of random
    numbers."""
    counts = Counter(
        draw(pooled, sampling, Scripted((i + 0.5) / GRID), recent or [])[0] for i in range(GRID)
    )
    return {token: count / GRID for token, count in counts.items()}


def chi_square(counts: Counter[int], expected: dict[int, float]) -> float:
    assert set(counts) <= set(expected)
    total = counts.total()
    return sum((counts[token] - total * p) ** 2 / (total * p) for token, p in expected.items())


def limit(expected: dict[int, float], deviations: float = 4.0) -> float:
    """Four standard deviations above the mean of the chi-square distribution: about 1 in 500 by
    chance, and the seeds are fixed."""
    freedom = len(expected) - 1
    return freedom + deviations * math.sqrt(2 * freedom)


def by_id(values: npt.NDArray[np.float64]) -> dict[int, float]:
    return {i: float(v) for i, v in zip(IDS, values / values.sum(), strict=True) if v > 0}


probabilities = st.lists(st.integers(1, 1_000), min_size=1, max_size=40).map(
    lambda odds: pooled_of([float(o) for o in odds])
)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-300, 0.1, 0.7, 1.0, 2.0, 100.0]),
    top_k=st.integers(0, 50),
    top_p=st.floats(1e-9, 1.0),
    min_p=st.floats(0.0, 1.0),
    repetition_penalty=st.sampled_from([0.1, 0.9, 1.0, 1.1, 1.5, 10.0]),
    penalty_last=st.integers(0, 70),
)


# --- exact odds -----------------------------------------------------------------------------------


def expected_odds() -> list[tuple[Sampling, dict[int, float]]]:
    p = np.array(PROBS)
    only = {name: p.copy() for name in ("top_k", "top_p", "min_p", "all")}
    only["top_k"][[1, 2, 5, 7]] = 0.0
    only["top_p"][[1, 2, 4, 5, 7]] = 0.0  # 0.30, 0.20 and 0.15 reach 0.6.
    only["min_p"][[1, 2, 5, 7]] = 0.0  # Below 0.4 of 0.30.
    cool = p**2
    cool_kept = np.where(np.isin(np.arange(8), [0, 3, 6]), cool, 0.0)  # 77 and 90 % of four.
    penalised = p.copy()
    score = math.log(PROBS[0]) + BLIND_NATS
    penalised[0] = math.exp(score / 1.2 - BLIND_NATS)
    return [
        (Sampling(), by_id(p)),
        (Sampling(temperature=0.5), by_id(cool)),
        (Sampling(temperature=2.0), by_id(np.sqrt(p))),
        (Sampling(top_k=4), by_id(only["top_k"])),
        (Sampling(top_p=0.6), by_id(only["top_p"])),
        (Sampling(min_p=0.4), by_id(only["min_p"])),
        (Sampling(temperature=0.5, top_k=4, top_p=0.85), by_id(cool_kept)),
        (Sampling(repetition_penalty=1.2), by_id(penalised)),
    ]


@pytest.mark.parametrize(("sampling", "expected"), expected_odds())
def test_draws_follow_the_distribution(sampling: Sampling, expected: dict[int, float]) -> None:
    rng = random.Random(20_240_229)
    counts = Counter(draw(STANDARD, sampling, rng, [IDS[0]])[0] for _ in range(DRAWS))
    assert chi_square(counts, expected) < limit(expected)


@pytest.mark.parametrize(("sampling", "expected"), expected_odds())
def test_the_inverse_sum_gives_every_token_its_exact_share(
    sampling: Sampling, expected: dict[int, float]
) -> None:
    found = reachable(STANDARD, sampling, [IDS[0]])
    assert found.keys() == expected.keys()
    for token, odds in expected.items():
        assert found[token] == pytest.approx(odds, abs=2 / GRID)


def test_the_chi_square_test_can_fail() -> None:
    rng = random.Random(20_240_229)
    counts = Counter(draw(STANDARD, Sampling(temperature=1.1), rng, [])[0] for _ in range(DRAWS))
    assert chi_square(counts, by_id(np.array(PROBS))) > limit(by_id(np.array(PROBS)))


@given(
    probabilities,
    samplings,
    st.lists(st.integers(0, 40), max_size=80),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_a_valid_setting_always_gives_a_token_of_the_pool_and_its_pooled_logprob(
    pooled: Pooled, sampling: Sampling, recent: list[int], number: float
) -> None:
    validate(sampling)
    rng = Scripted(number)
    token, logprob = draw(pooled, sampling, rng, recent)
    where = pooled.ids.tolist().index(token)
    assert logprob == math.log(pooled.probs[where])
    assert rng.asked == (0 if sampling.temperature == 0 else 1)


@given(
    probabilities, samplings, st.lists(st.integers(0, 40), max_size=80), st.integers(0, 2**63 - 1)
)
def test_a_seed_repeats_its_draw(
    pooled: Pooled, sampling: Sampling, recent: list[int], seed: int
) -> None:
    one, other = (draw(pooled, sampling, random.Random(seed), recent) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("number", [0.0, math.nextafter(1.0, 0.0)])
@given(pooled=probabilities)
def test_the_ends_of_the_unit_interval_give_the_likeliest_and_the_least_likely(
    number: float, pooled: Pooled
) -> None:
    token, _ = draw(pooled, Sampling(), Scripted(number), [])
    order = np.argsort(-pooled.probs, kind="stable")
    assert token == (order[0] if number == 0 else order[-1])


def test_each_token_owns_its_start_and_not_its_end() -> None:
    halves = pooled_of([0.5, 0.5])
    assert draw(halves, Sampling(), Scripted(math.nextafter(0.5, 0.0)), [])[0] == 0
    assert draw(halves, Sampling(), Scripted(0.5), [])[0] == 1


@given(st.floats(1.0, 2.0**20))
def test_no_number_that_a_generator_gives_reaches_the_whole_sum(total: float) -> None:
    assert (1 - 2**-53) * total < total


def test_an_impossible_token_is_never_drawn() -> None:
    pooled = pooled_of([0.0, 0.5, 0.5, 0.0])
    for number in (0.0, 0.25, 0.75, math.nextafter(1.0, 0.0)):
        assert draw(pooled, Sampling(repetition_penalty=0.1), Scripted(number), [0, 3])[0] in (1, 2)


@given(probabilities, st.floats(0.0, 0.95))
def test_a_new_token_at_the_end_leaves_what_a_number_means_before_it(
    pooled: Pooled, number: float
) -> None:
    share = 0.04 * float(pooled.probs.min())
    longer = Pooled(
        np.append(pooled.ids, np.int32(900)),
        np.append(pooled.probs * (1 - share), share),
        pooled.tail,
        pooled.agreement,
    )
    before = draw(pooled, Sampling(), Scripted(number), [])[0]
    sums = np.cumsum(np.sort(pooled.probs)[::-1])
    if np.abs(sums - number).min() > 2 * share:
        assert draw(longer, Sampling(), Scripted(number), [])[0] == before


# --- greedy ---------------------------------------------------------------------------------------


@given(probabilities)
def test_greedy_takes_the_likeliest_and_the_lowest_id_among_equals(pooled: Pooled) -> None:
    token, _ = draw(pooled, Sampling(temperature=0), Scripted(0.5), [])
    assert token == min(i for i, p in enumerate(pooled.probs) if p == pooled.probs.max())


@given(probabilities, st.integers(0, 50), st.floats(1e-9, 1.0), st.floats(0.0, 1.0))
def test_greedy_ignores_what_narrows_the_choice(
    pooled: Pooled, top_k: int, top_p: float, min_p: float
) -> None:
    narrow = Sampling(temperature=0, top_k=top_k, top_p=top_p, min_p=min_p)
    assert draw(pooled, narrow, Scripted(0.5), []) == draw(
        pooled, Sampling(temperature=0), Scripted(0.5), []
    )


def test_greedy_tells_apart_what_the_logarithm_cannot() -> None:
    low = 1e-7
    high = math.nextafter(low, 1.0)
    assert math.log(low) == math.log(high)  # The premise.
    pooled = Pooled(np.array([3, 8], dtype=np.int32), np.array([low, high]), 0.0, 1.0)
    assert draw(pooled, Sampling(temperature=0), Scripted(0.5), [])[0] == 8


def test_a_temperature_near_zero_is_greedy_and_a_large_one_uniform() -> None:
    assert reachable(STANDARD, Sampling(temperature=1e-300)).keys() == {IDS[0]}
    assert max(reachable(STANDARD, Sampling(temperature=100.0)).values()) < 1 / 8 + 0.005


# --- what narrows the choice ----------------------------------------------------------------------


@given(probabilities, st.integers(1, 50))
def test_top_k_keeps_exactly_the_k_likeliest(pooled: Pooled, top_k: int) -> None:
    order = np.argsort(-pooled.probs, kind="stable")[:top_k]
    for number in (0.0, 0.5, math.nextafter(1.0, 0.0)):
        assert draw(pooled, Sampling(top_k=top_k), Scripted(number), [])[0] in order
    assert (
        draw(pooled, Sampling(top_k=top_k), Scripted(math.nextafter(1.0, 0.0)), [])[0] == order[-1]
    )


@given(probabilities, st.floats(1e-6, 1.0), st.sampled_from([0.5, 1.0, 2.0]), st.integers(0, 50))
def test_top_p_keeps_the_smallest_prefix_that_reaches_it(
    pooled: Pooled, top_p: float, temperature: float, top_k: int
) -> None:
    order = np.argsort(-pooled.probs, kind="stable")[: top_k or None]
    odds = pooled.probs[order] ** (1 / temperature)
    reached = np.cumsum(odds) / odds.sum()
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    last = draw(pooled, sampling, Scripted(math.nextafter(1.0, 0.0)), [])[0]
    count = order.tolist().index(last) + 1
    assert reached[count - 1] >= top_p - 1e-9
    assert count == 1 or reached[count - 2] < top_p + 1e-9


@given(probabilities, st.floats(0.0, 1.0))
def test_min_p_keeps_what_has_that_share_of_the_likeliest(pooled: Pooled, min_p: float) -> None:
    last = draw(pooled, Sampling(min_p=min_p), Scripted(math.nextafter(1.0, 0.0)), [])[0]
    ratio = np.sort(pooled.probs)[::-1] / pooled.probs.max()
    kept = pooled.probs[last] / pooled.probs.max()
    assert kept >= min_p - 1e-9
    dropped = ratio[ratio < kept - 1e-12]
    assert dropped.size == 0 or dropped.max() < min_p + 1e-9


def test_top_p_is_content_with_a_prefix_that_just_reaches_it() -> None:
    quarters = pooled_of([0.25] * 4)
    assert reachable(quarters, Sampling(top_p=0.5)).keys() == {0, 1}
    assert reachable(quarters, Sampling(top_p=math.nextafter(0.5, 1.0))).keys() == {0, 1, 2}


def test_top_p_counts_what_top_k_and_temperature_left() -> None:
    # 0.30 is 0.6 of the 0.50 left.
    assert reachable(STANDARD, Sampling(top_k=2, top_p=0.59)).keys() == {4}
    assert reachable(STANDARD, Sampling(top_k=2, top_p=0.61)).keys() == {4, 40}
    assert reachable(STANDARD, Sampling(temperature=0.25, top_p=0.7)).keys() == {4}
    assert reachable(STANDARD, Sampling(temperature=1.0, top_p=0.7)).keys() == {4, 40, 7_000, 41}


def test_min_p_measures_against_the_likeliest_after_temperature() -> None:
    assert reachable(STANDARD, Sampling(min_p=0.45)).keys() == {4, 40, 7_000}
    assert reachable(STANDARD, Sampling(min_p=0.45, temperature=0.5)).keys() == {4}


# --- the repetition penalty -----------------------------------------------------------------------


def odds_ratio(pooled: Pooled, sampling: Sampling, recent: list[int]) -> float:
    odds = reachable(pooled, sampling, recent)
    return odds.get(0, 0.0) / odds[1]


def test_the_penalty_follows_its_published_rule_above_and_below_a_blind_draw() -> None:
    below = Pooled(
        np.array([0, 1], dtype=np.int32), np.exp(np.array([-1.0, -1.2]) - BLIND_NATS), 0.0, 1.0
    )
    # 1.0 becomes 1.1, then 1.3 nats below, beside 1.2.
    for penalty, chosen in ((1.1, 0), (1.3, 1)):
        assert (
            draw(below, Sampling(temperature=0, repetition_penalty=penalty), Scripted(0.5), [0])[0]
            == chosen
        )
    common = pooled_of([0.25, 0.75])
    ratio = odds_ratio(common, Sampling(repetition_penalty=1.5), [0])
    expected = math.exp((math.log(0.25) + BLIND_NATS) / 1.5 - BLIND_NATS) / 0.75
    assert ratio == pytest.approx(expected, abs=0.002)
    assert expected < 0.25 / 0.75


def test_the_penalty_breaks_a_loop_of_near_certain_tokens() -> None:
    loop = pooled_of([0.99, 0.01])
    assert odds_ratio(loop, Sampling(), [0]) > 90
    assert odds_ratio(loop, Sampling(repetition_penalty=1.3), [0]) < 10


@given(probabilities, st.floats(1.01, 10.0), st.lists(st.integers(0, 40), max_size=10))
def test_the_penalty_never_helps_a_recent_token_against_another(
    pooled: Pooled, penalty: float, recent: list[int]
) -> None:
    token, _ = draw(
        pooled, Sampling(temperature=0, repetition_penalty=penalty), Scripted(0.5), recent
    )
    if token in recent:
        others = [p for i, p in enumerate(pooled.probs) if i not in recent]
        assert not others or pooled.probs[token] >= max(others)


@given(probabilities, st.floats(0.1, 10.0), st.lists(st.integers(41, 99), max_size=10))
def test_tokens_outside_the_pool_change_nothing(
    pooled: Pooled, penalty: float, recent: list[int]
) -> None:
    for number in (0.0, 0.3, 0.9):
        found = draw(pooled, Sampling(repetition_penalty=penalty), Scripted(number), recent)
        assert found == draw(pooled, Sampling(), Scripted(number), [])


@pytest.mark.parametrize(("last", "penalised"), [(0, False), (1, False), (2, True), (64, True)])
def test_the_penalty_looks_at_the_last_tokens_only(last: int, penalised: bool) -> None:
    pooled = pooled_of([0.55, 0.45])
    sampling = Sampling(temperature=0, repetition_penalty=2.0, penalty_last=last)
    assert draw(pooled, sampling, Scripted(0.5), [0, 77])[0] == (1 if penalised else 0)


def test_how_often_a_token_was_seen_does_not_count() -> None:
    sampling = Sampling(repetition_penalty=1.4)
    assert reachable(STANDARD, sampling, [4]) == reachable(STANDARD, sampling, [4, 4, 4, 4])


def test_drawing_changes_neither_the_pool_nor_the_history() -> None:
    probs, recent = STANDARD.probs.copy(), [4, 9]
    draw(
        STANDARD,
        Sampling(temperature=0.5, repetition_penalty=2.0, top_k=3, top_p=0.5, min_p=0.1),
        Scripted(0.5),
        recent,
    )
    np.testing.assert_array_equal(STANDARD.probs, probs)
    assert recent == [4, 9]


# --- nonsense -------------------------------------------------------------------------------------

NONSENSE: list[tuple[str, object]] = [
    *[("temperature", v) for v in (-0.1, math.nan, math.inf, -math.inf, 100.1, "hot", None, True)],
    *[("top_k", v) for v in (-1, 1.5, 2**20 + 1, "many", False)],
    *[("top_p", v) for v in (0.0, -0.5, 1.01, math.nan, math.inf, "x")],
    *[("min_p", v) for v in (-0.01, 1.01, math.nan)],
    *[("repetition_penalty", v) for v in (0.0, -1.0, 0.09, 10.1, math.nan, math.inf)],
    *[("penalty_last", v) for v in (-1, 2**20 + 1, 3.0)],
    *[("seed", v) for v in (-1, 2**63, 1.0, None)],
]


@pytest.mark.parametrize(("field", "value"), NONSENSE)
def test_nonsense_is_refused_by_name_and_value(field: str, value: object) -> None:
    sampling = dataclasses.replace(Sampling(), **{field: value})  # type: ignore[arg-type]
    with pytest.raises(UsageError) as caught:
        validate(sampling)
    assert str(caught.value).startswith(f"{field} {value!r} makes no sense: choose a ")


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0),
        Sampling(
            temperature=100,
            top_k=2**20,
            top_p=1,
            min_p=1,
            repetition_penalty=10,
            penalty_last=2**20,
            seed=2**63 - 1,
        ),
        Sampling(temperature=1e-300, top_p=1e-300, repetition_penalty=0.1, penalty_last=0),
    ],
)
def test_the_ends_of_every_range_are_allowed(sampling: Sampling) -> None:
    validate(sampling)
    assert draw(STANDARD, sampling, Scripted(0.5), [4])[0] in IDS


def test_presence_and_frequency_penalties_count_the_answer_alone() -> None:
    """OpenAI's rule: mu[j] - c[j] * frequency - (c[j] > 0) * presence."""
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25)
    pooled = pooled_of([0.5, 0.3, 0.2])
    odds = [0.5 * math.exp(-0.5 - 2 * 0.25), 0.3 * math.exp(-0.5 - 0.25), 0.2]
    found = Counter(
        draw(pooled, sampling, Scripted((i + 0.5) / GRID), [2, 2, 0, 1, 0], [0, 1, 0])[0]
        for i in range(GRID)
    )
    for token, weight in enumerate(odds):
        assert abs(found[token] / GRID - weight / sum(odds)) <= 1 / GRID


def test_a_bias_bans_and_raises_tokens_also_those_that_no_list_holds() -> None:
    ban = Sampling(temperature=0, bias=((4, -100.0),))
    assert draw(STANDARD, ban, Scripted(0), [])[0] == 40
    rare = Sampling(temperature=0, bias=((77, 100.0),))
    found = with_biased(STANDARD, rare, 128_256)
    assert math.isclose(found.probs.sum(), 1)
    assert list(found.ids) == sorted([*IDS, 77])
    assert draw(found, rare, Scripted(0), [])[0] == 77
    assert with_biased(STANDARD, ban, 128_256) is STANDARD
    with pytest.raises(UsageError, match="bias 101"):
        validate(Sampling(bias=((4, 101.0),)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9).filter(any), st.integers(0, 12))
def test_the_likeliest_tokens_are_those_of_the_pool_in_their_order(
    probs: list[float], count: int
) -> None:
    pooled = pooled_of(probs)
    found = likeliest(pooled, count)
    assert len(found) == min(count, int(np.count_nonzero(pooled.probs)))
    assert list(found) == sorted(found, key=lambda pair: (-pair[1], pair[0]))
    for token, logprob in found:
        assert math.isclose(math.exp(logprob), pooled.probs[token], rel_tol=1e-9)


# --- a reference that is looked at first ----------------------------------------------------------


@pytest.mark.parametrize(("sampling", "expected"), expected_odds())
@pytest.mark.parametrize("words", [PROBS, PROBS[::-1], [1, 1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0]])
def test_a_reference_changes_no_odds(
    sampling: Sampling, expected: dict[int, float], words: list[float]
) -> None:
    ids = IDS[: len(words)]
    first = pooled_of([max(w, 1e-12) for w in words], ids)
    counts = Counter(
        draw_with(first, STANDARD, sampling, numbers(9, i), [IDS[0]])[0] for i in range(DRAWS)
    )
    assert chi_square(counts, expected) < limit(expected, 6.0)  # There are many of these cases.


def test_the_test_of_a_reference_can_fail() -> None:
    first = pooled_of(PROBS[::-1], IDS)
    counts = Counter(draw(first, Sampling(), numbers(9, i), [])[0] for i in range(DRAWS))
    assert chi_square(counts, by_id(np.array(PROBS))) > limit(by_id(np.array(PROBS)))


@pytest.mark.parametrize(
    "words", [PROBS, PROBS[::-1], [0.3, 0.05, 0.02, 0.2, 0.13, 0.2, 0.05, 0.05]]
)
def test_what_the_reference_would_draw_is_taken_as_often_as_any_rule_allows(
    words: list[float],
) -> None:
    """Whose chance is 1 minus the total variation."""
    first = pooled_of(words, IDS)
    same = sum(
        draw(first, Sampling(), numbers(4, i), [])[0]
        == draw_with(first, STANDARD, Sampling(), numbers(4, i), [])[0]
        for i in range(DRAWS)
    )
    most = float(np.minimum(first.probs, STANDARD.probs).sum())
    # The reference's token may also come by way of what the pool has beyond it, but not that often.
    assert same / DRAWS == pytest.approx(most, abs=4 * math.sqrt(0.25 / DRAWS))


@given(probabilities, samplings, st.lists(st.integers(0, 40), max_size=20), st.integers(0, 99))
def test_a_reference_that_says_the_same_is_always_followed(
    pooled: Pooled, sampling: Sampling, recent: list[int], index: int
) -> None:
    assert draw_with(pooled, pooled, sampling, numbers(1, index), recent) == draw(
        pooled, sampling, numbers(1, index), recent
    )


@given(st.integers(0, 2**63 - 1), st.integers(0, 1 << 20))
def test_the_numbers_of_a_token_are_its_own(seed: int, index: int) -> None:
    assert numbers(seed, index).random() == numbers(seed, index).random()
    assert numbers(seed, index).random() != numbers(seed, index + 1).random()
    assert numbers(seed, index).random() != numbers(seed ^ 1, index).random()
