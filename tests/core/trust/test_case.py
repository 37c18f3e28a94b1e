"""Where two holders of a model differ, a third says who is wrong; without one, nobody does."""

from __future__ import annotations

import random

import numpy as np
import pytest

from swarmllm.core.trust.case import Case, MayAccuse, Verdict, draw
from swarmllm.core.trust.comparison import Reading
from swarmllm.core.trust.suspicion import POSITIONS
from swarmllm.core.trust.transcript import Replay, Said
from swarmllm.messages import TOKENS_MAX, PeerId
from swarmllm.wire.sparse import decode_list
from swarmllm.wire.sparse_encoding import encode_logits

OWN, EXPERT, SECOND, THIRD = map(PeerId, ("own", "expert", "second", "third"))
ENTRIES = 64


def lists(model: int) -> tuple[Reading, ...]:
    rows = np.random.default_rng(model).normal(0, 3, (POSITIONS, ENTRIES)).astype(np.float32)
    found = (decode_list(encode_logits(row, ENTRIES, 0), ENTRIES, ENTRIES) for row in rows)
    return tuple(map(Reading, found))


def anybody(one: PeerId, other: PeerId) -> bool:
    return True


def case_of(model: int, may_accuse: MayAccuse = anybody) -> Case:
    said = tuple(Said(i + 1, one.listed, ENTRIES, 0) for i, one in enumerate(lists(model)))
    return Case(EXPERT, said, OWN, may_accuse)


@pytest.mark.parametrize("by", [OWN, SECOND])
def test_one_that_agrees_is_enough(by: PeerId) -> None:
    found = case_of(1).answered(by, lists(1))
    assert found is not None
    assert (found.verdict, found.against, found.by) == (Verdict.AGREED, None, (by,))


def test_our_own_file_is_never_wrong() -> None:
    found = case_of(2).answered(OWN, lists(1))
    assert found is not None
    assert (found.verdict, found.against) == (Verdict.DIFFERED, EXPERT)


@pytest.mark.parametrize(
    ("expert", "second", "third", "verdict", "against"),
    [
        (2, 1, 1, Verdict.DIFFERED, EXPERT),
        (1, 2, 1, Verdict.DIFFERED, SECOND),
        (1, 2, 3, Verdict.DISPUTED, None),
    ],
)
def test_two_are_believed_against_one(
    expert: int, second: int, third: int, verdict: Verdict, against: PeerId | None
) -> None:
    case = case_of(expert)
    assert case.answered(SECOND, lists(second)) is None
    found = case.answered(THIRD, lists(third))
    assert found is not None
    assert (found.verdict, found.against) == (verdict, against)


NEW: frozenset[PeerId] = frozenset((SECOND, THIRD))
FOURTH = PeerId("fourth")


def of_old(one: PeerId, other: PeerId) -> bool:
    return one not in NEW or other in NEW


def test_two_that_are_new_speak_against_nobody_who_is_known_and_lie_for_nobody() -> None:
    case = case_of(1, of_old)
    assert case.answered(SECOND, lists(2)) is None
    assert case.answered(THIRD, lists(2)) is None
    assert (case.without_third().verdict, case.without_third().against) == (Verdict.DISPUTED, None)
    found = case.answered(FOURTH, lists(1))
    assert found is not None
    assert (found.verdict, found.against) == (Verdict.DIFFERED, SECOND)


def test_a_new_one_beside_a_liar_convicts_nobody_who_is_known() -> None:
    case = Case(SECOND, case_of(2).said, OWN, of_old)
    assert case.answered(FOURTH, lists(1)) is None
    assert case.answered(THIRD, lists(2)) is None
    found = case.answered(EXPERT, lists(1))
    assert found is not None
    assert (found.verdict, found.against) == (Verdict.DIFFERED, SECOND)


def test_without_a_third_it_stays_a_dispute_and_without_anybody_nothing() -> None:
    case = case_of(1)
    assert case.without_third().verdict is Verdict.NOBODY
    case.answered(SECOND, lists(2))
    assert (case.without_third().verdict, case.without_third().against) == (Verdict.DISPUTED, None)


@pytest.mark.parametrize(
    ("again", "verdict", "against"),
    [(1, Verdict.REPEATED, None), (2, Verdict.DIFFERED, EXPERT)],
)
def test_who_says_something_else_than_it_has_signed_is_wrong(
    again: int, verdict: Verdict, against: PeerId | None
) -> None:
    found = case_of(1).answered(EXPERT, lists(again))
    assert found is not None
    assert (found.verdict, found.against, found.by) == (verdict, against, (EXPERT,))


def test_to_say_the_same_again_settles_no_dispute_and_to_contradict_oneself_does() -> None:
    case = case_of(1)
    assert case.answered(SECOND, lists(2)) is None
    found = case.answered(EXPERT, lists(1))
    assert found is not None
    assert (found.verdict, found.against) == (Verdict.DISPUTED, None)
    case = case_of(1)
    assert case.answered(SECOND, lists(2)) is None
    found = case.answered(EXPERT, lists(2))
    assert found is not None
    assert (found.verdict, found.against) == (Verdict.DIFFERED, EXPERT)


def test_what_is_drawn_is_asked_in_one_question_and_any_of_it() -> None:
    said = tuple(Said(n, lists(1)[0].listed, ENTRIES, None) for n in range(1, TOKENS_MAX + 99, 500))
    found = Replay((), said)
    seen: set[int] = set()
    for seed in range(100):
        drawn = draw(found, random.Random(seed))
        lengths = [one.length for one in drawn]
        assert lengths == sorted(set(lengths))
        assert len(lengths) == POSITIONS
        seen.update(lengths)
    assert seen == {one.length for one in said if one.length <= TOKENS_MAX}
    assert len(draw(Replay((), said[:3]), random.Random(1))) == 3
