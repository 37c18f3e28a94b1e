"""Laws of the record of a run: equal runs have equal digests, and whatever differs shows."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.testing.world.recorder import Recorder, show

VALUES = st.recursive(
    st.integers() | st.binary(max_size=40) | st.text(max_size=5) | st.booleans(),
    lambda inner: st.lists(inner, max_size=12).map(tuple),
)


@dataclass(frozen=True)
class Pair:
    one: object
    two: object


@given(VALUES)
def test_a_value_is_always_shown_the_same(value: object) -> None:
    assert show(value) == show(value)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_different_bytes_are_shown_differently(one: bytes, two: bytes) -> None:
    assert (show(one) == show(two)) == (one == two)


@given(st.lists(st.integers(), max_size=30), st.lists(st.integers(), max_size=30))
def test_different_lists_are_shown_differently_however_long(one: list[int], two: list[int]) -> None:
    assert (show(tuple(one)) == show(tuple(two))) == (one == two)


def test_sets_are_shown_sorted() -> None:
    assert show(frozenset({"b", "a", "c"})) == "{a b c}"


def test_a_dataclass_is_shown_by_its_fields() -> None:
    assert show(Pair(1, (2.5, b""))) == "Pair(1 (2.5 -))"


def test_the_digest_tells_runs_apart_and_the_transcript_holds_every_line() -> None:
    lines: list[str] = []
    one, two, three = Recorder(lines.append), Recorder(), Recorder()
    for recorder in (one, two):
        recorder.note(1.0, "first")
        recorder.note(2.0, "second")
    three.note(1.0, "first")
    assert one.digest == two.digest != three.digest
    assert lines == ["1.000000 first", "2.000000 second"]
    assert one.lines == 2
