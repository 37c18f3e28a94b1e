"""Laws of voices: nobody's word stands for another's, whoever takes the same name and however quick
it is."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.decoding.gate import FLOOR_NATS, Gate
from swarmllm.core.decoding.voices import (
    AGREE_NATS,
    CONTRADICT_NATS,
    contradicted,
    unconfirmed,
    voices,
)
from swarmllm.messages import PeerId

POSITIONS = range(32)
Levels = st.floats(-64.0, 0.0)
Word = st.lists(Levels, min_size=len(POSITIONS), max_size=len(POSITIONS))
Words = st.dictionaries(
    st.integers(0, 5).map(lambda i: PeerId(f"p{i}")), Word | Levels, min_size=1, max_size=6
)
HONEST = PeerId("honest")


def gate_of(words: Mapping[PeerId, list[float] | float]) -> Gate:
    gate = Gate([POSITIONS])
    for peer, word in words.items():
        for position in POSITIONS:
            gate.learn(peer, position, word if isinstance(word, float) else word[position])
    return gate


@given(Words, st.integers(0, 99), st.booleans())
def test_every_holder_has_one_voice_whatever_the_order(
    words: dict[PeerId, list[float] | float], seed: int, local: bool
) -> None:
    gate, holders = gate_of(words), [*words, PeerId("silent")]
    own = PeerId("p0") if local and "p0" in words else None
    found = voices(holders, gate, own)
    assert found.keys() == set(holders)
    assert all(found[leader] == leader for leader in found.values())
    shuffled = random.Random(seed).sample(holders, len(holders))
    again = gate_of({p: words[p] for p in shuffled if p in words})
    assert voices(shuffled, again, own) == found


@given(Words, Word)
def test_liars_who_take_an_honest_name_hardly_move_what_the_honest_one_is_believed(
    words: dict[PeerId, list[float] | float], truth: list[float]
) -> None:
    """However many they are, and whatever they say: its voice claims no more than it does itself,
    and at most `AGREE_NATS` less."""
    gate = gate_of({**words, HONEST: truth})
    leader = voices([*words, HONEST], gate, None)[HONEST]
    assert gate.distance(leader, HONEST) <= AGREE_NATS
    assert gate.mean(leader) <= gate.mean(HONEST) + 1e-12


@given(Words, Word)
def test_our_own_expert_speaks_for_its_model(
    words: dict[PeerId, list[float] | float], truth: list[float]
) -> None:
    gate = gate_of({**words, HONEST: truth})
    found = voices([*words, HONEST], gate, HONEST)
    assert found[HONEST] == HONEST
    exposed = contradicted([*words, HONEST], gate, HONEST)
    for peer in words:
        assert (peer in exposed) == (gate.distance(peer, HONEST) > CONTRADICT_NATS)
        if found[peer] == HONEST:
            assert gate.distance(peer, HONEST) <= AGREE_NATS
            assert peer not in exposed


@given(Word, st.floats(-0.04, 0.04), st.integers(1, 5))
def test_replicas_that_differ_by_rounding_are_one_voice(
    truth: list[float], shift: float, count: int
) -> None:
    near = [max(-64.0, min(0.0, value + shift)) for value in truth]
    words: dict[PeerId, list[float] | float] = {PeerId(f"r{i}"): near for i in range(count)}
    found = voices([*words, HONEST], gate_of({**words, HONEST: truth}), None)
    assert len(set(found.values())) == 1


def test_who_has_said_nothing_is_counted_with_most() -> None:
    words: dict[PeerId, list[float] | float] = {
        PeerId("a"): -3.0,
        PeerId("b"): -3.0,
        PeerId("liar"): 0.0,
    }
    holders = [*words, PeerId("silent"), PeerId("mute")]
    found = voices(holders, gate_of(words), None)
    assert (
        found[PeerId("silent")]
        == found[PeerId("mute")]
        == found[PeerId("a")]
        == found[PeerId("b")]
        != found[PeerId("liar")]
    )
    assert set(voices(holders, Gate([POSITIONS]), None).values()) == {min(holders)}


def test_a_few_rare_tokens_convict_nobody() -> None:
    gate = Gate([POSITIONS])
    for position in range(4):
        gate.learn(HONEST, position, -9.0)
        gate.learn(PeerId("other"), position, -11.0)
    assert contradicted([HONEST, PeerId("other")], gate, HONEST) == []


def test_what_is_beyond_the_floor_is_no_disagreement() -> None:
    gate = gate_of({PeerId("a"): FLOOR_NATS - 1.0, PeerId("b"): FLOOR_NATS - 30.0})
    assert gate.distance(PeerId("a"), PeerId("b")) == 0.0


def test_of_two_voices_of_a_model_the_modest_one_is_believed_if_as_many_share_it() -> None:
    a, b = PeerId("a"), PeerId("b")
    gate = Gate([range(20)])
    for position in range(20):
        gate.learn(a, position, -3.0)
        gate.learn(b, position, -1.0)
    same, other = {a: b"m", b: b"m"}, {a: b"m", b: b"n"}
    assert unconfirmed({a: 2, b: 1}, same, gate) == {a: 0.0, b: pytest.approx(2.0)}
    assert unconfirmed({a: 1, b: 1}, same, gate) == {a: 0.0, b: pytest.approx(2.0)}
    assert unconfirmed({a: 1, b: 2}, same, gate) == {a: 0.0, b: 0.0}  # One slanders two.
    assert unconfirmed({a: 2, b: 1}, other, gate) == {a: 0.0, b: 0.0}
