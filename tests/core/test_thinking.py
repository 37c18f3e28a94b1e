"""Thinking is told from the answer, however the text is cut; nothing is lost but the marks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swarmllm.core.thinking import BLANKS_MAX, Thinking, Thought, ThoughtReader, marks_of
from swarmllm.core.tool_calls import MARK

MARKS = Thinking("<think>", "</think>")
OPEN = Thinking("<think>", "</think>", is_open=True)
WORDS = ("<think>", "</think>", MARK, "<", "</th", "ink>", "\n", " ", "a", "é🙂", "\n" * 70)
TEXTS = st.lists(st.sampled_from(WORDS), max_size=8).map("".join)


def read(pieces: list[str], marks: Thinking = MARKS, *, calls: bool = False) -> tuple[str, str]:
    """The thinking, and what was said."""
    reader = ThoughtReader(marks, reads_calls=calls)
    parts = [part for piece in pieces for part in reader.push(piece)] + reader.finish()
    assert all(part.text for part in parts)
    kinds = [isinstance(part, Thought) for part in parts]
    assert kinds == sorted(kinds, reverse=True), "thinking comes first"
    thought = "".join(part.text for part in parts if isinstance(part, Thought))
    return thought, "".join(part.text for part in parts if not isinstance(part, Thought))


@given(TEXTS, st.lists(st.integers(0, 120), max_size=6), st.booleans(), st.booleans())
@example("\n<think>\na\n</think>\n\nb", [1, 3, 9, 12], False, False)
def test_however_the_text_is_cut_it_is_split_alike(
    text: str, cuts: list[int], is_open: bool, calls: bool
) -> None:
    marks = OPEN if is_open else MARKS
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(borders)]
    assert read(pieces, marks, calls=calls) == read([text], marks, calls=calls)
    assert read(list(text), marks, calls=calls) == read([text], marks, calls=calls)


@given(TEXTS, st.booleans())
def test_nothing_is_lost_but_marks_and_line_feeds_beside_them(text: str, is_open: bool) -> None:
    thought, said = read([text], OPEN if is_open else MARKS)

    def kept(found: str) -> str:
        for mark in ("<think>", "</think>"):
            found = found.replace(mark, "")
        return "".join(found.split())

    assert kept(thought) + kept(said) == kept(text) or kept(thought + said) == kept(text)


@pytest.mark.parametrize(
    ("text", "marks", "thought", "said"),
    [
        ("<think>\nwhy\n</think>\n\nso", MARKS, "why", "so"),
        (" \n<think>why</think>so", MARKS, "why", "so"),
        ("so <think>why</think>", MARKS, "", "so <think>why</think>"),
        ("<think>a</think>b<think>c</think>", MARKS, "a", "b<think>c</think>"),
        ("<think>\n\n</think>\n\nso", MARKS, "", "so"),
        ("<think>cut off </thi", MARKS, "cut off </thi", ""),
        ("<thi", MARKS, "", "<thi"),
        ("why</think>so", MARKS, "", "why</think>so"),
        ("why</think>so", OPEN, "why", "so"),
        ("<think>why</think>so", OPEN, "why", "so"),
        ("why", OPEN, "why", ""),
        (" " * (BLANKS_MAX + 1) + "<think>", MARKS, "", " " * (BLANKS_MAX + 1) + "<think>"),
    ],
)
def test_the_first_stretch_between_the_marks_is_thinking(
    text: str, marks: Thinking, thought: str, said: str
) -> None:
    assert read([text], marks) == (thought, said)


def test_a_call_ends_the_thinking() -> None:
    text = f"<think>I look{MARK}\n..."
    assert read([text], calls=True) == ("I look", f"{MARK}\n...")
    assert read([text]) == (f"I look{MARK}\n...", "")


@given(st.lists(TEXTS, max_size=20))
def test_little_is_held_back(pieces: list[str]) -> None:
    """What could be a mark, and line feeds before one."""
    reader, come, gone = ThoughtReader(OPEN), 0, 0
    for piece in pieces:
        come += len(piece)
        gone += sum(len(part.text) for part in reader.push(piece))
        assert len(reader._held) < 2 * BLANKS_MAX
    assert gone <= come


def test_the_marks_are_those_of_the_template_or_of_control_tokens() -> None:
    assert marks_of("{{ content.split('</think>')[-1] }}", ()) == ("<think>", "</think>")
    assert marks_of("", ("[THINK]", "[/THINK]", "</s>")) == ("[THINK]", "[/THINK]")
    assert marks_of("{{ content }}", ("<|im_end|>", "[THINK]")) is None
