"""Calls of tools are read out of a text in whatever pieces it comes."""

from __future__ import annotations

import json
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.tool_calls import (
    CALLS_MAX,
    CLOSING,
    MARK,
    Arguments,
    CallBegan,
    CallReader,
    Offer,
    Part,
    Said,
    offer_of,
    opening,
)
from swarmllm.errors import UsageError

TEXTS = st.text(st.sampled_from('ab {}[]"\\\n<>/é'), max_size=12)
VALUES = TEXTS | st.lists(TEXTS, max_size=2) | st.dictionaries(TEXTS, TEXTS, max_size=2)
CALLS = st.lists(
    st.tuples(st.sampled_from(["get", "a.b-c_9"]), st.dictionaries(TEXTS, VALUES, max_size=2)),
    max_size=3,
)


def written(calls: list[tuple[str, dict[str, object]]]) -> str:
    return "\n".join(
        opening(name) + json.dumps(arguments, ensure_ascii=False) + CLOSING
        for name, arguments in calls
    )


def joined(parts: list[Part]) -> tuple[str, list[tuple[str, str]]]:
    text, calls = "", list[tuple[str, str]]()
    for part in parts:
        match part:
            case Said(piece):
                text += piece
            case CallBegan(name):
                calls.append((name, ""))
            case Arguments(piece):
                calls[-1] = (calls[-1][0], calls[-1][1] + piece)
    return text, calls


@given(TEXTS, CALLS, st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_calls_come_out_as_they_were_written_however_the_text_is_cut(
    text: str, calls: list[tuple[str, dict[str, object]]], sizes: list[int]
) -> None:
    """Also with brackets and quotes inside of the arguments."""
    whole, reader, found, lengths = text + written(calls), CallReader(), list[Part](), cycle(sizes)
    while whole:
        cut = next(lengths)
        found += reader.push(whole[:cut])
        whole = whole[cut:]
    said, read = joined(found + reader.finish())
    assert [(name, json.loads(arguments)) for name, arguments in read] == calls
    assert said == (text.rstrip() if calls else text)


def test_arguments_may_hold_what_ends_a_call() -> None:
    reader, arguments = CallReader(), '{"a": "}\\n</tool_call>\\""}'
    assert joined(reader.push(opening("get") + arguments + CLOSING)) == ("", [("get", arguments)])


@pytest.mark.parametrize("text", ["<tool_cal", "a < b", "<tool", " ", "so \n"])
def test_what_only_looks_like_the_beginning_of_a_call_is_text(text: str) -> None:
    reader = CallReader()
    assert joined(reader.push(text) + reader.finish()) == (text, [])


def test_a_call_that_is_cut_off_keeps_what_there_is_of_its_arguments() -> None:
    reader = CallReader()
    assert joined(reader.push(opening("get") + '{"city": "Par') + reader.finish()) == (
        "",
        [("get", '{"city": "Par')],
    )


def test_an_offer_goes_through_text_and_closes_what_its_schemas_leave_open() -> None:
    offer = Offer((("get", {"properties": {"city": {"type": "string"}}}), ("now", {})), 1, 1)
    read = offer_of(offer.as_text())
    assert read.least == read.most == 1
    assert read.tools[0][1]["additionalProperties"] is False
    assert read.tools[1][1]["properties"] == {}


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "{}",
        '{"tools": [], "least": 0, "most": 1}',
        '{"tools": [{"name": "a b", "parameters": {}}], "least": 0, "most": 1}',
        '{"tools": [{"name": "a", "parameters": {"type": "array"}}], "least": 0, "most": 1}',
        Offer((("a", {}),), most=CALLS_MAX + 1).as_text(),
        Offer((("a", {}),), least=2).as_text(),
    ],
)
def test_what_is_no_offer_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(UsageError):
        offer_of(text)


@given(st.text(st.sampled_from('a<"\\\n'), max_size=4), CALLS, st.integers(1, 30))
def test_beside_a_form_an_answer_is_json_or_calls_and_a_mark_in_json_is_text(
    said: str, calls: list[tuple[str, dict[str, object]]], size: int
) -> None:
    for whole in (json.dumps([said, MARK, written(calls)]), written(calls)):
        reader, found = CallReader(has_form=True), list[Part]()
        for at in range(0, len(whole), size):
            found += reader.push(whole[at : at + size])
        text, called = joined(found + reader.finish())
        if whole.startswith("["):
            assert (text, called) == (whole, [])
        else:
            assert text == ""
            assert [(name, json.loads(one)) for name, one in called] == calls


def test_a_form_comes_through_the_text_of_an_offer() -> None:
    offer = Offer((("get", {"type": "object"}),), form={"type": "string"})
    assert offer_of(offer.as_text()).form == {"type": "string"}
    for wrong in (
        {"form": "text"},
        {"form": {}, "least": 1},
    ):
        text = json.dumps(
            {"tools": [{"name": "get", "parameters": {}}], "least": 0, "most": 1} | wrong
        )
        with pytest.raises(UsageError, match="form"):
            offer_of(text)
