"""Laws of hidden tokens: nobody is told before all have spoken, what comes late counts for nothing,
and they cost no more than their allowance."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.trust.evidence import (
    ALLOWANCE_MAX,
    Allowance,
    HiddenTokens,
    cuts_of,
    doubt,
    hidden_logprob,
    is_credible,
    merits_of,
)
from swarmllm.core.trust.track_record import TrackRecord
from swarmllm.messages import PeerId
from swarmllm.wire.sparse import SparseList

A, B, C = (PeerId(name) for name in "abc")
TOKENS = tuple(range(100, 120))


def listing(**given: float) -> SparseList:
    """Tokens `t5=0.5` with their probabilities; the rest is the tail."""
    ids = sorted(int(name[1:]) for name in given)
    probs = np.array([given[f"t{id}"] for id in ids])
    return SparseList(
        np.array(ids, np.int32), np.log(probs).astype(np.float32), float(1 - probs.sum())
    )


def test_a_token_that_is_not_listed_has_an_even_part_of_the_tail_and_no_more_than_the_least() -> (
    None
):
    found = listing(t3=0.5, t4=0.4)
    assert hidden_logprob(found, 3, 1000) == pytest.approx(math.log(0.5))
    assert hidden_logprob(found, 9, 1000) == pytest.approx(math.log(0.1 / 998))
    assert hidden_logprob(listing(t3=0.9, t4=0.01), 9, 3) == pytest.approx(math.log(0.01))


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=40), st.integers(41, 5000))
def test_what_a_list_gives_to_all_tokens_is_no_more_than_all(raw: list[float], vocab: int) -> None:
    """So nobody gains by leaving tokens out, or by listing all of them."""
    probs = np.array(raw) / max(1.0, sum(raw))
    found = SparseList(
        np.arange(len(raw), dtype=np.int32),
        np.log(probs).astype(np.float32),
        max(0.0, 1 - float(probs.sum())),
    )
    total = sum(math.exp(hidden_logprob(found, token, vocab)) for token in range(vocab))
    assert total <= 1 + 1e-4


def test_nobody_is_waited_for_twice_and_late_words_count_for_nothing() -> None:
    hidden = HiddenTokens(TOKENS, (4, 9), 200)
    assert (hidden.cut, hidden.owing([A, B, C])) == (4, [A, B, C])
    assert hidden.listen(A, 4, listing(t105=0.5)) == pytest.approx(math.log(0.5))
    assert hidden.listen(B, 4, listing(t7=0.5)) is None  # It counts, but there is no exact value.
    assert hidden.owing([A, B, C]) == [C]
    hidden.step()
    assert hidden.cut == 9
    assert hidden.listen(C, 4, listing(t105=1.0)) is None
    assert set(hidden.said[4]) == {A, B}
    assert hidden.owing([A, B, C]) == [A, B]
    hidden.listen(A, 9, listing(t110=0.25))
    hidden.listen(A, 9, listing(t110=1.0))
    assert hidden.said[9] == {A: pytest.approx(math.log(0.25), abs=1e-6)}
    hidden.end()
    assert hidden.cut is None
    assert hidden.owing([A, B, C]) == []


def test_only_a_question_about_one_cut_is_about_a_hidden_token() -> None:
    hidden = HiddenTokens(TOKENS, (4,), 200)
    assert hidden.is_about(range(4, 5))
    assert not any(hidden.is_about(asked) for asked in (range(5, 6), range(4, 6), range(0)))


@given(st.integers(0, 80), st.integers(0, 12), st.integers(0, 99))
def test_cuts_are_positions_with_a_known_token_behind_them(
    size: int, count: int, seed: int
) -> None:
    positions = range(3, 3 + size)
    cuts = cuts_of(positions, count, random.Random(seed))
    assert len(cuts) == min(count, size)
    assert list(cuts) == sorted(set(cuts))
    assert set(cuts) <= set(positions)


@given(st.dictionaries(st.sampled_from([A, B, C]), st.floats(-30, 0), min_size=1))
def test_merit_on_a_hidden_token_is_against_the_pool_of_all(said: dict[PeerId, float]) -> None:
    merits = merits_of(said)
    assert merits.keys() == said.keys()
    assert max(merits.values()) >= -1e-9
    assert max(merits.values()) <= math.log(len(said)) + 1e-9
    mean = sum(math.exp(value) for value in merits.values()) / len(said)
    assert mean == pytest.approx(1.0)


def test_a_boast_is_cut_down_by_what_no_chance_explains() -> None:
    honest = TrackRecord(hidden=8, overclaim=0.8)
    assert doubt(honest) == 0
    assert doubt(TrackRecord(hidden=8, overclaim=6.0)) > 4
    assert doubt(TrackRecord(hidden=128, overclaim=0.8)) > doubt(
        TrackRecord(hidden=32, overclaim=0.8)
    )
    assert doubt(TrackRecord(hidden=500, overclaim=-3.0)) == 0  # Modesty costs nothing.


def test_who_boasts_or_was_refuted_does_not_speak_for_its_model() -> None:
    assert is_credible(TrackRecord(hidden=8, overclaim=0.5))
    assert is_credible(TrackRecord(hidden=8, overclaim=-5.0))  # Modest beside a liar's claims.
    assert not is_credible(TrackRecord(hidden=8, overclaim=5.0))
    assert not is_credible(TrackRecord(is_refuted=True))


@given(st.lists(st.integers(0, 9), max_size=200), st.floats(0, 0.03))
def test_no_more_is_spent_than_was_there_and_was_earned(wanted: list[int], share: float) -> None:
    allowance, spent = Allowance(), 0
    for number, count in enumerate(wanted):
        spent += allowance.spend(count)
        assert spent <= ALLOWANCE_MAX + share * number + 1e-6
        allowance.earn(share)


def test_what_is_kept_in_reserve_is_for_newcomers() -> None:
    allowance = Allowance()
    assert allowance.spend(1, reserve=16) == 0
    assert allowance.spend(99, reserve=8) == 8
    assert allowance.spend(1, reserve=8) == 0
    assert allowance.spend(99) == 8
