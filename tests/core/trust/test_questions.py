"""What another holder is asked in an audit is what the expert was asked: of an honest one the
readings are the same to the bit, also where a grammar had left few tokens."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from swarmllm.core.effects import Send
from swarmllm.core.facts import ExpertReplied, ExpertTold
from swarmllm.core.trust.case import Verdict, draw
from swarmllm.core.trust.comparison import compare_readings
from swarmllm.core.trust.questions import Question, questions
from swarmllm.core.trust.suspicion import POSITIONS, differs
from swarmllm.core.trust.transcript import Replay, Said, Transcript, replay
from swarmllm.core.values import SessionKey
from swarmllm.errors import RemoteError
from swarmllm.messages import Close, PeerId, Score, ScoreAllowed, Scores
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.wire.context import digests
from swarmllm.wire.ext import ANSWERS_ALLOWED, SIGNS_SESSIONS, addition
from swarmllm.wire.sparse_encoding import encode_allowed
from swarmllm.wire.token_set import TokenSet, encode_set
from tests.core.trust import test_transcript
from tests.core.trust.test_audits import EXPERT, SECOND, THIRD, Bench, record_of

WORDS = 512
TEXT = tuple(range(40, 60))
KEY = SessionKey(PeerId("asker"), 3)


def digits(number: int) -> bytes:
    return encode_set(TokenSet.of(range(number, 100 + number), WORDS))


def asked(base: int, upto: int, allowed: bytes = b"") -> Score:
    rest = digests(TEXT)[base], TEXT[base:upto], (upto - base - 1,), (), 64, 0, bytes(8)
    score = Score(3, 0, 0, base, *rest)
    named = {field.name: getattr(score, field.name) for field in fields(score)}
    return ScoreAllowed(**named, allowed=allowed) if allowed else score


def session(expert: ScriptedModel, liar: ScriptedModel | None = None) -> Replay:
    """Of an answer under a grammar: behind every other token a set is asked about as well, which
    `liar` answers."""
    kept, rng = Transcript(3, expert.card.digest), random.Random(1)
    for length in range(4, len(TEXT) + 1):
        kept.add(score := asked(length - 1 if length > 4 else 0, length), said(expert, score), rng)
        if length % 2:
            score = asked(length - 1, length, digits(length))
            whose = expert if liar is None else liar
            kept.add(score, said(whose, _whole(score) if liar else score), rng)
    return replay(kept.rounds, WORDS)


def _whole(score: Score) -> Score:
    """The same question with all of the text, for one that holds none of it."""
    assert isinstance(score, ScoreAllowed)
    return asked(0, score.base + 1, score.allowed)


def said(model: ScriptedModel, score: Score) -> Scores:
    reply = model.score(KEY, score)
    assert isinstance(reply, Scores), reply
    return reply


def differences(found: Replay, drawn: tuple[Said, ...], holder: ScriptedModel) -> bool:
    compared = []
    for question in questions(drawn, found.text[: drawn[-1].length], 3, bytes(8)):
        readings = question.read(said(holder, question.score), WORDS)
        compared += [
            compare_readings(one.reading, other, one.entries_max, one.follows)
            for one, other in zip(question.said, readings, strict=True)
        ]
    assert len(compared) == len(drawn)
    assert [one.mass is not None for one in compared] == [bool(one.allowed) for one in drawn]
    return differs(compared)


@pytest.mark.parametrize("seed", range(8))
def test_an_honest_holder_says_the_same_of_both_kinds_of_positions(seed: int) -> None:
    found = session(ScriptedModel())
    assert sum(bool(one.allowed) for one in found.said) == 8
    drawn = draw(found, random.Random(seed), 4)
    assert len(drawn) == POSITIONS
    assert not differences(found, drawn, ScriptedModel())
    assert not differences(found, found.said, ScriptedModel())
    assert differences(found, drawn, ScriptedModel(seed=2))


def test_who_lies_about_sets_alone_is_seen() -> None:
    found = session(ScriptedModel(), ScriptedModel(seed=2))
    plain = tuple(one for one in found.said if not one.allowed)
    sets = tuple(one for one in found.said if one.allowed)
    assert not differences(found, plain, ScriptedModel())
    assert differences(found, sets, ScriptedModel())
    assert differences(found, found.said, ScriptedModel())


def test_positions_about_all_tokens_are_asked_about_together_and_no_question_is_too_large() -> None:
    found = session(ScriptedModel())
    plain = tuple(one for one in found.said if not one.allowed)
    (one,) = questions(plain, found.text, 3, bytes(8))
    assert one.score.answer == tuple(said.length - 1 for said in plain)
    wide = [Said(n, plain[0].listed, 1024, None) for n in range(1, 201)]
    rows = questions(wide, range(200), 3, bytes(8))
    assert [len(one.said) for one in rows] == [32] * 6 + [8]
    assert [one.score.round for one in rows] == list(range(7))


def test_an_answer_that_is_none_is_refused_in_a_sentence() -> None:
    found = session(ScriptedModel())
    of_set = next(one for one in found.said if one.allowed)
    (question,) = questions([of_set], found.text[: of_set.length], 3, bytes(8))
    good = said(ScriptedModel(), question.score)
    other = said(ScriptedModel(), asked(0, of_set.length))
    for reply, why in (
        (Scores(3, 0, 0, (), b"", 0, 1, bytes(8)), "0 lists where 1 were asked"),
        (Scores(3, 0, 0, good.lists, b"", 0, 1, bytes(8)), "0 bytes where the mass"),
        (Scores(3, 0, 0, other.lists, b"ab", 0, 1, bytes(8)), "not allowed"),
    ):
        with pytest.raises(RemoteError, match=why):
            Question(question.score, question.said).read(reply, WORDS)


ANSWERS_SETS = record_of(addition(SIGNS_SESSIONS, b"") + addition(ANSWERS_ALLOWED, b""))
ALLOWED = encode_set(TokenSet.of(range(8, 24), test_transcript.WORDS))


def of_set(score: Score, length: int, model: int) -> Scores:
    """What a holder of the model says of the set behind so many tokens."""
    words = test_transcript.WORDS
    logits = np.random.default_rng(1000 * model + length).normal(0, 3, words).astype(np.float32)
    found = encode_allowed(logits, ALLOWED, words, 0)
    assert found is not None
    mass = found[1].to_bytes(2, "big")
    return Scores(score.session, score.round, 0, (found[0],), mass, 1, 1, bytes(8))


def set_round(bench: Bench, base: int, model: int = 1) -> None:
    """Behind the same text, about the tokens that a grammar allows."""
    rest = bytes(8), (base,), (0,), (), test_transcript.WORDS, 0, bytes(8)
    score = ScoreAllowed(7, 100 + base, 0, base, *rest, allowed=ALLOWED)
    scores = of_set(score, base + 1, model)
    assert bench.hears(ExpertTold(EXPERT, score)) == []
    assert bench.hears(ExpertReplied(EXPERT, scores)) == []
    bench.chains[7].add(score, scores)


def looks_at_all(bench: Bench, told: list[Any], model: int = 1) -> tuple[PeerId, list[Any]]:
    """A holder answers every question of an audit; what comes of the last."""
    by, score = bench.asked(told)
    for number in range(2 * 12):
        assert score.round == number
        if isinstance(score, ScoreAllowed):
            reply = of_set(score, score.base + len(score.tokens), model)
        else:
            lists = tuple(
                test_transcript.listed(1000 * model + score.base + i + 1) for i in score.answer
            )
            reply = Scores(score.session, number, 0, lists, b"", 1, 1, bytes(8))
        told = bench.hears(ExpertReplied(by, reply))
        match told:
            case [Send(peer=peer, message=Score() as score)]:
                assert peer == by
            case _:
                return by, told
    raise AssertionError(told)


@pytest.mark.parametrize("model", [1, 2])
def test_lists_over_the_tokens_of_a_grammar_are_looked_at_too(model: int) -> None:
    """An expert that lies there alone is excluded, and who does not is not."""
    bench = Bench(holders=dict.fromkeys((EXPERT, SECOND, THIRD), ANSWERS_SETS))
    for number in range(1, 3):
        bench.opens()
        for base in range(60):
            bench.round(base)
            if base % 10 == 1:
                set_round(bench, base, model)
        bench.hears(ExpertTold(EXPERT, Close(7)))
        by, told = looks_at_all(bench, bench.signs())
        if model == 1:
            assert bench.verdicts == [Verdict.AGREED] * number
            assert told == [Send(by, Close(told[0].message.session))]
            bench.reputation.disputed(
                EXPERT, test_transcript.DIGEST, 1e9
            )  # So the next one is audited.
            continue
        other, _ = looks_at_all(bench, told)
        assert {by, other} == {SECOND, THIRD}
        assert bench.verdicts == [Verdict.DIFFERED] * number
    assert (bench.part.trust(EXPERT, test_transcript.DIGEST, bench.now) == 0) is (model == 2)


def test_who_knows_no_questions_about_sets_is_not_asked_about_one() -> None:
    """Here only the expert itself is left, which answered one."""
    bench = Bench()
    bench.holders[EXPERT] = ANSWERS_SETS
    bench.opens()
    for base in range(12):
        set_round(bench, base)
    bench.hears(ExpertTold(EXPERT, Close(7)))
    by, _ = looks_at_all(bench, bench.signs())
    assert by == EXPERT
    assert bench.verdicts == [Verdict.REPEATED]


def test_a_late_answer_to_an_earlier_question_of_an_audit_is_dropped() -> None:
    bench = Bench(holders=dict.fromkeys((EXPERT, SECOND, THIRD), ANSWERS_SETS))
    bench.opens()
    for base in range(12):
        set_round(bench, base)
    bench.hears(ExpertTold(EXPERT, Close(7)))
    by, score = bench.asked(bench.signs())
    first = of_set(score, score.base + len(score.tokens), 1)
    assert len(bench.hears(ExpertReplied(by, first))) == 1
    assert bench.hears(ExpertReplied(by, first)) == []
