"""Both sides of a session come to the same chain, and what the requester kept says what was asked
and answered."""

from __future__ import annotations

import json
import random
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.trust.transcript import (
    BODIES_MAX,
    Chain,
    Replay,
    Round,
    Transcript,
    begin,
    chain_of,
    replay,
)
from swarmllm.errors import RemoteError
from swarmllm.messages import Score, ScoreAllowed, ScoreDraft, Scores
from swarmllm.wire.codec import decode
from swarmllm.wire.sparse_encoding import encode_logits
from swarmllm.wire.token_set import TokenSet, encode_set
from tests import ROOT
from tests.wire.strategies import of_type

VECTOR: dict[str, Any] = json.loads(
    (ROOT / "protocols/vectors/transcript.json").read_text(encoding="utf-8")
)
DIGEST = bytes(range(32))
WORDS = 64


def listed(number: int) -> bytes:
    logits = np.random.default_rng(number).normal(0, 3, WORDS).astype(np.float32)
    return encode_logits(logits, WORDS, 0)


def asked(base: int, *tokens: int, answer: tuple[int, ...] | None = None) -> Score:
    wanted = (len(tokens) - 1,) if answer is None else answer
    rest = bytes(8), tokens, wanted, (), WORDS, 0, bytes(8)
    return Score(3, 5, 0, base, *rest)


def said(*lists: bytes) -> Scores:
    return Scores(3, 5, 0, lists, b"", 7, 8, bytes(8))


def kept(*rounds: tuple[Score, Scores]) -> Transcript:
    found = Transcript(3, DIGEST)
    for score, scores in rounds:
        found.add(score, scores, random.Random(1))
    return found


def test_the_published_links_are_ours() -> None:  # EXPERT-18
    digest = bytes.fromhex(VECTOR["model_digest"])
    chain = Chain(digest, begin(VECTOR["session"], digest))
    links = [chain.link.hex()]
    for one in VECTOR["rounds"]:
        question = decode(bytes.fromhex(one["question"]), (Score, ScoreDraft, ScoreAllowed))
        chain.add(question, decode(bytes.fromhex(one["answer"]), (Scores,)))
        links.append(chain.link.hex())
    assert links == VECTOR["links"]


@given(
    st.lists(
        st.tuples(st.one_of(of_type(Score), of_type(ScoreDraft)), of_type(Scores)), max_size=8
    ),
    st.randoms(use_true_random=False),
)
def test_both_sides_come_to_the_same_chain(
    rounds: list[tuple[Score, Scores]], rng: random.Random
) -> None:
    expert, requester = Chain(DIGEST, begin(3, DIGEST)), Transcript(3, DIGEST)
    for score, scores in rounds:
        expert.add(score, scores)
        requester.add(score, scores, rng)
    assert expert.link == requester.link == chain_of(3, DIGEST, requester.rounds)
    assert expert.rounds == len(requester.rounds)


def test_the_text_is_what_was_sent_last_and_lists_of_thrown_away_text_are_left_out() -> None:
    found = kept(
        (asked(0, 1, 2, 3), said(listed(1))),
        (asked(3, 9, 9, answer=(0, 1)), said(listed(2), listed(3))),
        (asked(4, 8), said(listed(4))),
    )
    again = replay(found.rounds, WORDS)
    assert again.text == (1, 2, 3, 9, 8)
    assert [(one.length, one.follows) for one in again.said] == [(3, 9), (4, 8), (5, None)]
    assert all(one.entries_max == WORDS for one in again.said)


def test_a_text_that_shares_the_short_hash_of_another_one_is_told_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever writes a receipt chooses the texts, and 8 bytes collide after some hours of work: a
    list of one text would stand under the other, and an honest expert look like a liar."""
    monkeypatch.setattr("swarmllm.wire.context.extend", lambda *_: bytes(8))
    found = kept((asked(0, 1, 2), said(listed(1))), (asked(0, 3, 4), said(listed(2))))
    (kept_one,) = replay(found.rounds, WORDS).said
    (alone,) = replay(kept((asked(0, 3, 4), said(listed(2)))).rounds, WORDS).said
    (other,) = replay(kept((asked(0, 1, 2), said(listed(1)))).rounds, WORDS).said
    assert kept_one.mark == alone.mark != other.mark
    assert list(kept_one.listed.ids) == list(alone.listed.ids)


def test_what_a_draft_appended_is_no_text() -> None:
    plain = asked(0, 1, 2)
    fields = {name: getattr(plain, name) for name in Score.__dataclass_fields__}
    found = kept((ScoreDraft(**fields, steps=2), said(listed(1), listed(2), listed(3))))
    again = replay(found.rounds, WORDS)
    assert again.text == (1, 2)
    assert [one.length for one in again.said] == [2]


def test_a_requester_keeps_few_answers_and_any_of_them() -> None:
    numbers: set[int] = set()
    for seed in range(40):
        found, rng = Transcript(3, DIGEST), random.Random(seed)
        for number in range(200):
            found.add(asked(number, number % WORDS), said(listed(number % 8)), rng)
        held = [number for number, one in enumerate(found.rounds) if one.body]
        assert len(held) == BODIES_MAX
        numbers.update(held)
    assert min(numbers) < 5
    assert max(numbers) > 194


@pytest.mark.parametrize(
    ("rounds", "why"),
    [
        ([Round(b"\x92\x20\x05", bytes(32))], "must be one of Score"),
        ([Round(b"", bytes(32))], "message of 0 bytes"),
        (kept((asked(4, 1), said(listed(1)))).rounds, "builds on 4 tokens"),
    ],
)
def test_what_is_no_session_is_refused(rounds: list[Round], why: str) -> None:
    with pytest.raises(RemoteError, match=why):
        replay(rounds, WORDS)


def test_an_answer_without_lists_is_not_kept() -> None:
    assert replay(kept((asked(0, 1, 2), said())).rounds, WORDS) == Replay((1, 2), ())


def test_an_answer_in_place_of_another_is_refused() -> None:
    one = kept((asked(0, 1, 2), said(listed(1)))).rounds[0]
    other = kept((asked(0, 1, 2), said(listed(2)))).rounds[0]
    with pytest.raises(RemoteError, match="not the one of its hash"):
        replay([Round(one.head, one.body_hash, other.body)], WORDS)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_whatever_stands_in_a_round_is_read_or_refused(head: bytes, body: bytes) -> None:
    try:
        found = replay([Round(head, sha256(body).digest(), body)], WORDS)
    except RemoteError:
        return
    assert all(one.length <= len(found.text) for one in found.said)


def test_what_was_said_of_a_set_is_kept_beside_what_was_said_of_all_tokens() -> None:
    plain = asked(0, 1, 2)
    fields = {name: getattr(plain, name) for name in Score.__dataclass_fields__}
    allowed = encode_set(TokenSet.of((3, 5), WORDS))
    mass = (2048).to_bytes(2, "big")
    of_set = Scores(3, 5, 0, (listed(2),), mass, 7, 8, bytes(8))
    found = replay(
        kept((plain, said(listed(1))), (ScoreAllowed(**fields, allowed=allowed), of_set)).rounds,
        WORDS,
    )
    assert [one.place for one in found.said] == [(2, b""), (2, allowed)]
    assert [one.log_mass for one in found.said] == [None, -2.0]
    with pytest.raises(RemoteError, match="where the mass"):
        replay(kept((ScoreAllowed(**fields, allowed=allowed), said(listed(2)))).rounds, WORDS)
