"""What a terminal would obey or hide is written out, whatever it stands beside, and nothing else is
touched."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.runtime.visible import flowing, json_of, one_line, runs

ANY_TEXT = st.text(st.characters(), max_size=40)  # Lone surrogates as well.
ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
SEEN = {"\u06dd", "\u070f"}  # Arabic and Syriac marks of this kind have a shape.


def test_printable_ascii_stays_as_it_is() -> None:
    printable = "".join(map(chr, range(0x20, 0x7F)))
    assert one_line(printable) == flowing(printable) == printable


def test_all_that_acts_or_hides_is_written_out() -> None:
    """Checked against a version of Unicode that every Python has, and never changes."""
    category = unicodedata.ucd_3_2_0.category
    left = [
        c
        for c in map(chr, range(0x110000))
        if category(c) in ACTING and c not in SEEN and c in one_line(c)
    ]
    assert [f"{ord(c):x}" for c in left] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("a\r\b\x7f", r"a\r\x08\x7f"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u200b\ufeff\u2028", r"\u200b\ufeff\u2028"),
        ("\U000e0041\udc9b", r"\U000e0041\udc9b"),
        ("\n\t", r"\n\t"),
        ("naïve “日本語” 🙂 ❤️", "naïve “日本語” 🙂 ❤️"),
    ],
)
def test_it_is_written_as_in_a_literal(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_line_feeds_and_tabs_stay_in_text_of_several_lines() -> None:
    assert flowing("a\n\tb\r\n\x0b\x0c\x85\u2028") == "a\n\tb\\r\n\\x0b\\x0c\\x85\\u2028"


@given(ANY_TEXT, ANY_TEXT)
def test_a_text_may_come_in_any_pieces(one: str, two: str) -> None:
    """So a sequence that is split over two tokens is caught as the whole one is."""
    assert flowing(one) + flowing(two) == flowing(one + two)


@given(ANY_TEXT)
def test_what_is_visible_stays_visible(text: str) -> None:
    assert one_line(one_line(text)) == one_line(text)
    assert "".join(part for part, _ in runs(text, flows=False)) == one_line(text)
    assert "".join(part for part, _ in runs(text, flows=True)) == flowing(text)
    kept = [part for part, is_written_out in runs(text, flows=False) if not is_written_out]
    assert "".join(kept) == "".join(char for char in text if one_line(char) == char)


@given(st.text(max_size=40))
def test_json_is_exact_once_parsed_and_visible_as_it_stands(text: str) -> None:
    line = json_of({"text": text})
    assert json.loads(line) == {"text": text}
    assert one_line(line) == line


def test_json_keeps_halves_of_characters_as_json_does() -> None:
    assert json_of("\udc9b") == r'"\udc9b"'
    assert json.loads(json_of("a\udc9b\U000e0041")) == "a\udc9b\U000e0041"
