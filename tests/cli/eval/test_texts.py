"""Documents are what the corpora hold, cut as the plan says, and switch where they say they do."""

from __future__ import annotations

from itertools import pairwise

import pytest

from swarmllm.cli.eval.corpora import Passage
from swarmllm.cli.eval.plan import SEGMENT_MAX, SEGMENT_MIN, make_plan
from swarmllm.cli.eval.texts import MIXED, Document, make_texts
from swarmllm.errors import UsageError
from tests.cli.eval.made import plan

Numbers = dict[str, list[Passage]]


def _encode(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def _corpora(length: int = 500, passages: int = 6) -> Numbers:
    """Each token says where it stands: 100,000 for its domain, 1,000 for its passage, one for its
    place."""
    return {
        name: [
            Passage(
                f"{name}-{i}",
                " ".join(str(100_000 * d + 1000 * i + place) for place in range(length)),
            )
            for i in range(passages)
        ]
        for d, name in enumerate(("a", "b", "c"), start=1)
    }


def test_the_same_seed_takes_the_same_documents_and_another_one_others() -> None:
    one, again, other = (
        make_texts(_corpora(), _encode, plan(seed=seed)).documents for seed in (1, 1, 2)
    )
    assert [d.tokens for d in one] == [d.tokens for d in again]
    assert [d.tokens for d in one] != [d.tokens for d in other]


def test_first_pieces_of_all_passages_come_before_second_pieces() -> None:
    found = make_texts(_corpora(), _encode, plan(documents=8)).documents
    ours = [d for d in found if d.text == "a"]
    assert len(ours) == 8
    assert sorted(d.tokens[0] % 1000 for d in ours) == [0] * 6 + [160] * 2
    assert all(len(d.tokens) == 160 for d in ours)


def test_a_mixed_text_switches_where_it_says_and_to_what_it_says() -> None:
    texts = make_texts(_corpora(), _encode, plan(tokens=450))
    mixed = [d for d in texts.documents if d.text == MIXED]
    assert texts.kinds == ("a", "b", "c", MIXED)
    assert {d.domain for d in mixed} == {"a", "b", "c"}
    for document in mixed:
        assert len(document.tokens) == 450
        assert document.segments[1][0] > plan().prompt
        starts = [start for start, _ in document.segments]
        for (start, domain), end in zip(document.segments, [*starts[1:], 450], strict=True):
            assert {token // 100_000 for token in document.tokens[start:end]} == {
                "abc".index(domain) + 1
            }
            assert end == 450 or SEGMENT_MIN <= end - start <= SEGMENT_MAX
        names = [name for _, name in document.segments]
        assert all(one != other for one, other in pairwise(names))


def test_a_long_prompt_is_all_of_one_domain() -> None:
    texts = make_texts(_corpora(), _encode, plan(tokens=450, prompt=300))
    assert all(
        d.segments[1][0] >= 300 for d in texts.documents if d.text == MIXED and len(d.segments) > 1
    )


def test_fewer_documents_than_asked_for_are_said() -> None:
    texts = make_texts(_corpora(length=170, passages=3), _encode, plan(documents=5))
    assert len([d for d in texts.documents if d.text == "a"]) == 3
    assert any("'a' gives 3 documents" in note for note in texts.notes)


def test_a_corpus_shorter_than_a_document_is_named_with_its_tokens() -> None:
    corpora = {"a": _corpora()["a"], "b": _corpora(length=80)["b"]}
    with pytest.raises(
        UsageError, match=r"'b' is too short: its longest text has 80 tokens, and 96 are needed"
    ):
        make_texts(corpora, _encode, plan())


def test_one_corpus_has_no_mixed_text_and_says_so() -> None:
    texts = make_texts({"a": _corpora()["a"]}, _encode, plan())
    assert texts.kinds == ("a",)
    assert any("no mixed text" in note for note in texts.notes)


def test_a_digest_is_of_the_tokens_alone() -> None:
    one = Document("a", (1, 2, 3), ((0, "a"),))
    assert one.digest == Document("b", (1, 2, 3), ((0, "b"),)).digest
    assert one.digest != Document("a", (1, 2, 4), ((0, "a"),)).digest


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"documents": 0}, "--documents 0"),
        ({"documents": 10_000}, "--documents 10000"),
        ({"tokens": 100}, "--tokens 100"),
        ({"prompt": 0}, "--prompt 0"),
        ({"prompt": -3}, "--prompt -3"),
        ({"seed": -1}, "--seed -1"),
        ({"corpora": ["prose"]}, "not NAME=PATH"),
        ({"corpora": ["=x"]}, "not NAME=PATH"),
        ({"corpora": ["a=x", "a=y"]}, "'a' is named twice"),
        ({"corpora": ["mixed=x"]}, "'mixed' cannot be a name"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, object], says: str) -> None:
    given: dict[str, object] = {
        "models": [],
        "corpora": [],
        "documents": None,
        "tokens": None,
        "prompt": None,
        "seed": 1,
    }
    given |= {"threads": 0, "context": 0, "quick": False, "out": None}
    with pytest.raises(UsageError) as caught:
        make_plan(**{**given, **changes})  # type: ignore[arg-type]
    assert says in str(caught.value)
