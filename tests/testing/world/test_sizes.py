"""Sizes are told without encoding anything; here they are compared with what the codec makes of the
same message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.messages import (
    Busy,
    Close,
    Halted,
    Need,
    Open,
    Refused,
    Score,
    Scores,
    Shuffle,
    Shuffled,
)
from swarmllm.testing.world.recorder import show
from swarmllm.testing.world.sizes import size_of
from swarmllm.wire.framing import frame
from tests.wire.strategies import of_type

SMALL = (Busy, Close, Halted, Need, Refused)
FEW = 18  # Bytes: numbers of one to nine bytes each are counted as usual ones.


@given(st.one_of([of_type(kind) for kind in (*SMALL, Open)]))
def test_small_messages_are_told_within_a_few_bytes(message: object) -> None:
    assert abs(size_of(message) - len(frame(message))) <= FEW, show(message)  # type: ignore[arg-type]


@given(of_type(Shuffle) | of_type(Shuffled))
def test_records_are_counted_exactly_but_for_their_headers(message: Shuffle | Shuffled) -> None:
    assert abs(size_of(message) - len(frame(message))) <= FEW + 3 * len(message.records), show(
        message
    )


@given(of_type(Scores))
def test_lists_are_counted_exactly_but_for_their_headers(message: Scores) -> None:
    assert abs(size_of(message) - len(frame(message))) <= FEW + 8 + 2 * len(message.lists), show(
        message
    )


@given(of_type(Score))
def test_tokens_are_counted_as_three_bytes_each(message: Score) -> None:
    """A token of a large vocabulary takes five, one of a small takes one: as many bytes as tokens,
    either way, and places within the text up to three."""
    places = len(message.answer) + len(message.targets)
    assert (
        abs(size_of(message) - len(frame(message)))
        <= FEW + 6 + 2 * len(message.tokens) + 2 * places
    ), show(message)


@pytest.mark.parametrize("entries", [1, 64, 256])
def test_a_usual_answer_is_told_to_the_byte_or_nearly(entries: int) -> None:
    message = Scores(1 << 30, 17, 0, (bytes(2 + 5 * entries),), b"", 0, 1000, bytes(8))
    assert abs(size_of(message) - len(frame(message))) <= 8
