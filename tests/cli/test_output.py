"""Sentences on standard error: broken between words on a terminal, whole in a pipe."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.cli.output import notice, wrapped
from tests.cli.terminal import Terminal

SENTENCE = (
    "No node runs on the folder; start one with `swarmllm join --data-dir mine` and ask again"
)


def test_a_sentence_is_broken_between_words_and_a_command_stays_whole() -> None:
    lines = wrapped(SENTENCE, 48)
    assert " ".join(lines) == SENTENCE
    assert all(len(line) <= 48 for line in lines)
    assert any("`swarmllm join --data-dir mine`" in line for line in lines)


@given(text=st.text("ab `\u4e00", max_size=200), columns=st.integers(1, 60))
def test_no_letter_is_lost(text: str, columns: int) -> None:
    lines = wrapped(text, columns)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_letters_of_two_columns_count_twice() -> None:
    assert wrapped("\u4e00" * 8 + " " + "\u4e00" * 8, 24) == ["\u4e00" * 8] * 2


@pytest.mark.parametrize("is_terminal", [True, False])
def test_only_a_terminal_is_written_to_in_lines(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setenv("COLUMNS", "48")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", stream)
    notice(SENTENCE)
    assert (SENTENCE in stream.getvalue()) != is_terminal
    assert stream.getvalue().count("\n") == (2 if is_terminal else 1)
