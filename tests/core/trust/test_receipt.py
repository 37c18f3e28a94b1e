"""A receipt proves what its expert signed, and whatever else stands in one is refused in a
sentence."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.operator_keys import verify
from swarmllm.core.trust.receipt import (
    RECEIPT_BYTES_MAX,
    SESSIONS_MAX,
    VALUES_MAX,
    Signed,
    contradicted,
    contradictions,
    read,
    written,
)
from swarmllm.core.trust.transcript import Transcript
from swarmllm.errors import RemoteError
from swarmllm.messages import SESSION_SEALED_MAX, PeerId, ScoreAllowed, SessionRecord
from swarmllm.wire.envelope import seal, unseal
from swarmllm.wire.token_set import TokenSet, encode_set
from tests.core.trust.test_transcript import DIGEST, WORDS, asked, kept, listed, said

EXPERT = ephemeral_key()


def opened(sealed: bytes) -> tuple[PeerId, SessionRecord]:
    return unseal(sealed, (SessionRecord,), verify, SESSION_SEALED_MAX)


def session(*numbers: int) -> Transcript:
    """A text of one token more in each round; the lists are those of the numbers."""
    return kept(*((asked(i, i + 1), said(listed(n))) for i, n in enumerate(numbers)))


def signed(found: Transcript, key: KeyFile = EXPERT) -> bytes:
    record = SessionRecord(found.session, DIGEST, len(found.rounds), found.link)
    return seal(record, key.public_key, key.sign)


def receipt(*found: Transcript) -> bytes:
    return written([(signed(one), one.rounds) for one in found])


def test_a_receipt_says_who_signed_which_text() -> None:
    (one, other) = read(receipt(session(1, 2, 3), session(4)), opened)
    assert (one.peer, one.record.rounds) == (EXPERT.peer, 3)
    assert one.found.text == (1, 2, 3)
    assert [s.length for s in one.found.said] == [1, 2, 3]
    assert other.found.text == (1,)


def changed(way: Any) -> bytes:
    found = json.loads(receipt(session(1, 2, 3)))
    way(found)
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    ("way", "why"),
    [
        (lambda r: r.update(format="other"), "its format is not"),
        (lambda r: r.update(format=["swarmllm receipt 2"]), "its format is not"),
        (lambda r: r.update(format="swarmllm receipt 2"), "'swarmllm receipt 2', and this version"),
        (lambda r: r.update(sessions=[]), "1 to 64 sessions"),
        (lambda r: r.update(sessions=r["sessions"] * (SESSIONS_MAX + 1)), "1 to 64 sessions"),
        (lambda r: r.update(sessions=[3]), "no object"),
        (lambda r: r["sessions"][0]["rounds"].pop(), "2 rounds where"),
        (lambda r: r["sessions"][0]["rounds"].reverse(), "are not those that"),
        (lambda r: r["sessions"][0]["rounds"].clear(), "1 to 16384 rounds"),
        (lambda r: r["sessions"][0]["rounds"][0].pop(), "not three values"),
        (lambda r: r["sessions"][0].update(signed="%%"), "not base64"),
        (lambda r: r["sessions"][0].update(signed="QUJD" * 200), "too long"),
        (lambda r: r["sessions"][0].update(signed=""), "envelope|message"),
        (lambda r: r["sessions"][0]["rounds"][1].__setitem__(2, "QUJD"), "not the one of its hash"),
        (lambda r: r["sessions"][0]["rounds"][1].__setitem__(1, "QUJD"), "more than a session may"),
    ],
)
def test_what_was_changed_proves_nothing(way: Any, why: str) -> None:
    with pytest.raises(RemoteError, match=why):
        read(changed(way), opened)


def test_what_another_key_signed_is_of_that_key() -> None:
    found, other = session(1, 2), ephemeral_key()
    (one,) = read(written([(signed(found, other), found.rounds)]), opened)
    assert one.peer == other.peer
    sealed = bytearray(signed(found))
    sealed[-1] ^= 1
    with pytest.raises(RemoteError, match="bad signature"):
        read(written([(bytes(sealed), found.rounds)]), opened)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_whatever_is_no_receipt_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(RemoteError) as fault:
        read(data, opened)
    assert "\n" not in str(fault.value)


def test_depth_and_size_are_bounded_before_anything_is_built() -> None:
    for data in (b"[" * 100_000, b" " * (RECEIPT_BYTES_MAX + 1)):
        with pytest.raises(RemoteError):
            read(data, opened)


def test_the_number_of_values_is_bounded_before_anything_is_built() -> None:
    """22 million empty lists fit into a receipt, and took 1.6 GB."""
    data = b'{"format":"swarmllm receipt 1","sessions":[' + b"[]," * VALUES_MAX + b"0]}"
    assert len(data) < RECEIPT_BYTES_MAX
    with pytest.raises(RemoteError, match=f"at most {VALUES_MAX} values"):
        read(data, opened)


def test_the_text_of_all_sessions_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmllm.core.trust.receipt.TEXTS_MAX", 5)
    assert len(read(receipt(session(1, 2), session(4, 5, 6)), opened)) == 2
    with pytest.raises(RemoteError, match="at most 5 tokens"):
        read(receipt(session(1, 2, 3), session(4, 5, 6)), opened)


def test_few_pairs_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    brought = [of(1, 2, 3), of(1, 2, 3), of(1, 5, 3)]
    assert contradicted(brought) == [(EXPERT.peer, DIGEST)]
    monkeypatch.setattr("swarmllm.core.trust.receipt.COMPARED_MAX", 4)
    assert contradicted(brought) == []


def of(*numbers: int, key: KeyFile = EXPERT) -> Signed:
    found = session(*numbers)
    (one,) = read(written([(signed(found, key), found.rounds)]), opened)
    return one


def test_two_signed_replies_to_one_question_that_differ_prove_themselves() -> None:
    assert len(contradictions(of(1, 2, 3), of(1, 5, 3))) == 1
    assert contradictions(of(1, 2, 3), of(1, 2, 3)) == ()
    assert contradictions(of(1, 2, 3), of(1, 2)) == ()


def test_who_contradicts_itself_is_named_once() -> None:
    other = ephemeral_key()
    signed = [of(1, 2, 3), of(1, 5, 6), of(1, 7, 3), of(1, 2, 3, key=other)]
    assert contradicted(signed) == [(EXPERT.peer, DIGEST)]
    assert contradicted(signed[:1]) == []


def test_what_somebody_else_signed_contradicts_nobody() -> None:
    assert contradictions(of(1, 2, 3), of(1, 5, 3, key=ephemeral_key())) == ()


def test_a_list_about_a_set_contradicts_none_about_all_tokens_and_one_about_that_set() -> None:
    def signed_set(number: int, *allowed: int) -> Signed:
        score = asked(0, 1)
        named = {field.name: getattr(score, field.name) for field in fields(score)}
        which = encode_set(TokenSet.of(allowed, WORDS))
        reply = replace(said(listed(number)), target_logprobs=bytes(2))
        found = kept((ScoreAllowed(**named, allowed=which), reply))
        (one,) = read(written([(signed(found), found.rounds)]), opened)
        return one

    assert contradictions(of(1), of(2))
    assert contradictions(of(1), signed_set(2, 3, 5)) == ()
    assert contradictions(signed_set(1, 3, 5), signed_set(2, 3, 6)) == ()
    assert contradictions(signed_set(1, 3, 5), signed_set(2, 3, 5))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_receipt_is_of_one_encoding_for_it_is_sent_on_as_text(encoding: str) -> None:
    with pytest.raises(RemoteError, match="not JSON"):
        read(receipt(session(1)).decode().encode(encoding), opened)


def test_a_part_of_a_receipt_is_none() -> None:
    data = receipt(session(1, 2))
    for size in range(0, len(data) - 1, 97):
        with pytest.raises(RemoteError, match="a part of one"):
            read(data[:size], opened)
