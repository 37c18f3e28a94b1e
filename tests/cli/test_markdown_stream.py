"""Markdown that comes in pieces is shown once, whole, and harmless."""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.cli.markdown_stream import blocks, shown
from swarmllm.cli.screen import Screen

LINES = st.lists(
    st.sampled_from(
        ["word", "", "```", "```python", "~~~", "- item", "# Head", "  x = 1", "a **b**"]
    ),
    max_size=12,
)


@given(LINES)
def test_blocks_are_the_text(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert "".join(blocks(text)) == text


def test_a_blank_line_in_a_fence_ends_no_block() -> None:
    assert blocks("a\n\n```\nx\n\ny\n```\n\nb") == ["a\n\n", "```\nx\n\ny\n```\n\n", "b"]
    assert blocks("```\nx\n\n") == ["```\nx\n\n"]
    assert blocks("````\n```\n\n````\n\nb") == ["````\n```\n\n````\n\n", "b"]


def written(pieces: list[str]) -> str:
    out = io.StringIO()
    screen = Screen(file=out, width=60, force_terminal=True, color_system=None)
    with shown(screen) as stream:
        for piece in pieces:
            stream.push(piece)
    return out.getvalue()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["one ", "two\n", "\n", "three", "\n\n"]), max_size=10))
def test_every_word_is_left_on_the_screen(pieces: list[str]) -> None:
    shown_text, text = written(pieces), "".join(pieces)
    for word in ("one", "two", "three"):
        assert shown_text.count(word) >= text.count(word)


def test_what_a_stranger_writes_does_not_act() -> None:
    found = written(["a \x1b[2J\x1b]0;title\x07 [link](http://x) b\n\n\x9b31m c"])
    assert "\x1b[2J" not in found
    assert "\x07" not in found
    assert "\x9b" not in found
    assert "\x1b]8" not in found
