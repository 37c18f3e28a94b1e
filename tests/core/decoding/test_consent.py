"""Laws of the end of a text: no single stranger brings it about, everybody else may, and nothing
else is touched by it."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.decoding.consent import SUPPORT_MIN, decide, lone
from swarmllm.core.decoding.pooling import Holder, pool, single
from swarmllm.core.decoding.sampling import draw_with
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.wire.sparse import SparseList

STOP, OTHER_STOP = 7, 8
STOPS = frozenset({STOP, OTHER_STOP})
LIAR, A, B = Holder(b"liar"), Holder(b"a"), Holder(b"b")


def listed(entries: dict[int, float]) -> SparseList:
    ids = sorted(entries)
    tail = max(0.0, 1.0 - sum(entries.values()))
    return SparseList(
        np.array(ids, np.int32),
        np.log(np.array([entries[i] for i in ids])).astype(np.float32),
        tail,
    )


def order(temperature: float = 1.0) -> GenerateRequest:
    return GenerateRequest(
        (1,), sampling=Sampling(temperature=temperature), stop_tokens=STOPS, vocab_size=64
    )


ENDS = listed({STOP: 0.99, 1: 0.005})
GOES_ON = listed({1: 0.6, 2: 0.3, 3: 0.05})


def test_only_the_wish_of_one_strange_model_among_several_is_lone() -> None:
    wants_too = listed({1: 0.6, OTHER_STOP: 2 * SUPPORT_MIN})
    assert lone(STOPS, [ENDS, GOES_ON, GOES_ON], [LIAR, A, B]) == [0]
    # However many say it under one name.
    assert lone(STOPS, [ENDS, GOES_ON, ENDS], [LIAR, A, LIAR]) == [0, 2]
    assert lone(STOPS, [ENDS, GOES_ON, GOES_ON], [LIAR, A, LIAR]) == [0, 2]
    # Another one wants an end, too, though by another token.
    assert lone(STOPS, [ENDS, wants_too], [LIAR, A]) == []
    assert lone(STOPS, [ENDS, GOES_ON], [replace(LIAR, is_own=True), A]) == []
    # Nobody else was asked; the pool bounds it.
    assert lone(STOPS, [ENDS, GOES_ON], [LIAR, replace(LIAR, is_own=True)]) == []
    assert lone(STOPS, [ENDS, ENDS], [LIAR, LIAR]) == []
    assert lone(STOPS, [ENDS], [LIAR]) == []
    assert lone(STOPS, [GOES_ON, GOES_ON], [A, B]) == []


def test_what_a_list_leaves_out_is_no_consent() -> None:
    flat = listed(dict.fromkeys(range(20, 50), 0.02))
    assert lone(STOPS, [ENDS, flat], [LIAR, A]) == [0]


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.7, 1.0]), st.floats(0.01, 0.99))
def test_a_lone_wish_never_ends_the_text_and_leaves_the_pool_of_the_others(
    seed: int, temperature: float, weight: float
) -> None:
    weights = [weight, (1 - weight) / 2, (1 - weight) / 2]
    token, logprob, heard, pooled = decide(
        order(temperature),
        [ENDS, GOES_ON, GOES_ON],
        weights,
        [LIAR, A, B],
        random.Random(seed),
        (1,),
    )
    assert token not in STOPS
    assert logprob <= 0.0
    assert abs(sum(heard) - 1.0) < 1e-9
    if heard[0] == 0.0:
        assert pooled.ids.tolist() == [1, 2, 3]


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.7, 1.0]))
def test_whoever_is_alone_or_agrees_ends_the_text_as_before(seed: int, temperature: float) -> None:
    wanted = order(temperature)
    for lists, holders in (
        ([ENDS], [LIAR]),
        ([ENDS, listed({STOP: 0.01, 1: 0.9})], [LIAR, A]),
        ([ENDS, GOES_ON], [replace(LIAR, is_own=True), A]),
    ):
        weights = [1 / len(lists)] * len(lists)
        found = decide(wanted, lists, weights, holders, random.Random(seed), (1,))
        pooled, first = pool(lists, weights), single(lists[0])
        plain = draw_with(first, pooled, wanted.sampling, random.Random(seed), (1,))
        assert found[:3] == (*plain, weights)


class Numbers(random.Random):
    """Gives the numbers that it was given."""

    def __init__(self, *numbers: float) -> None:
        super().__init__(0)
        self._numbers = iter(numbers)

    def random(self) -> float:
        return next(self._numbers)


def test_of_those_who_are_left_a_small_wish_is_obeyed() -> None:
    """What the others give the end together is still theirs to draw, however rarely."""
    rare = listed({1: 0.9, STOP: SUPPORT_MIN / 2})
    share = SUPPORT_MIN / 2 / (0.9 + SUPPORT_MIN / 2)
    found = []
    for times in (1.1, 0.9):
        # The first number is the liar's own end of the text, and the second takes it; so it is
        # drawn again, and the end is the less likely of the two tokens that the others name.
        rng = Numbers(0.5, 0.0, 1 - times * share)
        lists, weights, holders = [ENDS, rare, rare], [0.98, 0.01, 0.01], [LIAR, A, B]
        token, *_ = decide(order(), lists, weights, holders, rng, (1,))
        found.append(token)
    assert found == [1, STOP]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_is_new_chooses_no_token_alone_where_a_known_one_was_asked(
    temperature: float,
) -> None:
    forced, new = listed({9: 0.9999}), replace(LIAR, is_new=True)
    lists, weights = [forced, GOES_ON], [0.9, 0.1]

    def tokens(holders: list[Holder], lists: list[SparseList]) -> set[int]:
        shares = [0.9, *[0.1 / (len(lists) - 1)] * (len(lists) - 1)]
        return {
            decide(order(temperature), lists, shares, holders, random.Random(seed), (1,))[0]
            for seed in range(60)
        }

    assert 9 not in tokens([new, A], lists)
    assert 9 in tokens([LIAR, A], lists)  # It is known.
    assert 9 in tokens([new, replace(A, is_new=True)], lists)  # Nobody is.
    assert 9 in tokens([replace(LIAR, is_own=True), A], lists)
    supported = listed({1: 0.6, 9: 2 * SUPPORT_MIN})
    assert 9 in tokens([new, A], [forced, supported])
    # However many say it, under one name or several; and what the others weigh then adds up to 1.
    assert 9 not in tokens([new, A, new], [forced, GOES_ON, forced])
    assert 9 not in tokens([new, A, Holder(b"second", is_new=True)], [forced, GOES_ON, forced])
    _, _, heard, _ = decide(order(temperature), lists, weights, [new, A], random.Random(1), (1,))
    assert heard == pytest.approx([0.0, 1.0])


def test_the_less_known_choose_nothing_alone_beside_the_better_known() -> None:
    """Where nobody was audited yet, three tokens of 24 were those of two liars that were new."""
    forced = listed({9: 0.9999})
    new, untried = replace(LIAR, is_new=True, is_untried=True), replace(A, is_untried=True)

    def tokens(holders: list[Holder], lists: list[SparseList]) -> set[int]:
        shares = [0.9, *[0.1 / (len(lists) - 1)] * (len(lists) - 1)]
        return {
            decide(order(), lists, shares, holders, random.Random(seed), (1,))[0]
            for seed in range(60)
        }

    assert 9 not in tokens([new, untried], [forced, GOES_ON])
    assert 9 not in tokens([untried, B], [forced, GOES_ON])
    assert 9 not in tokens([new, untried, B], [forced, forced, GOES_ON])
    assert 9 in tokens([untried, replace(B, is_untried=True)], [forced, GOES_ON])
    stranger = replace(A, is_new=True, is_untried=True)
    assert 9 not in tokens([replace(new, is_false=True), stranger], [forced, GOES_ON])
    # Nor do they in the place of a token that is drawn again.
    own = replace(B, is_own=True)
    assert tokens([untried, new, own], [GOES_ON, forced, listed({2: 1 - 1e-9})]) == {2}
