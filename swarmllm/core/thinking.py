"""Thinking: what a model writes between two marks before it answers, told from the answer in a text
that arrives in pieces.

The marks are those of the model's own template or vocabulary (`marks_of`); a model that has none
does not think. Some templates write the opening mark themselves, so that an answer begins within
it. Only the beginning of an answer is thinking: marks further on are words like others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.core.tool_calls import MARK, Said

# DeepSeek, Qwen, SmolLM3 and GLM; Magistral; Seed.
KNOWN: Final = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
)
BLANKS_MAX: Final = 64  # Before the opening or closing mark; held back until it is known.


@dataclass(frozen=True, slots=True)
class Thinking:
    """`is_open`: the prompt ends with the opening mark. `tokens`: control tokens that are a mark,
    which have no text of their own, each with its name."""

    opening: str
    closing: str
    is_open: bool = False
    tokens: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of the thinking."""

    text: str


def marks_of(template: str, names: Collection[str]) -> tuple[str, str] | None:
    """The marks that a chat template spells, or control tokens with these `names` are."""
    for opening, closing in KNOWN:
        if closing in template or {opening, closing} <= set(names):
            return opening, closing
    return None


class ThoughtReader:
    """Text goes in in pieces and comes out as thinking and as what was said. However the text is
    cut, what comes out adds up to the same; line feeds at the marks are left out."""

    def __init__(self, thinking: Thinking, *, reads_calls: bool = False) -> None:
        """`reads_calls`: a call of a tool ends the thinking as its mark does."""
        self._thinking = thinking
        self._ends = (thinking.closing, *((MARK,) if reads_calls else ()))
        self._state = "before"
        self._held = ""
        self.has_thought = False
        """The opening mark has come."""
        self._is_first = False  # Nothing but line feeds has come since the last mark.

    @property
    def is_thinking(self) -> bool:
        return self._state == "thinking"

    @property
    def is_undecided(self) -> bool:
        return self._state == "before"

    def push(self, text: str) -> list[Thought | Said]:
        self._held += text
        found: list[Thought | Said] = []
        if self._state == "before":
            self._begin()
        if self._state == "thinking":
            found += self._think()
        if self._state == "said":
            found += self._out(Said)
        return found

    def finish(self) -> list[Thought | Said]:
        """What was held back, and was no mark."""
        is_thought = self.is_thinking or (self.is_undecided and self._thinking.is_open)
        self._state = "thinking" if is_thought else "said"
        return self._out(Thought if is_thought else Said)

    def _begin(self) -> None:
        opening, text = self._thinking.opening, self._held.lstrip()
        is_late = len(self._held) - len(text) > BLANKS_MAX
        if text.startswith(opening) and not is_late:
            self._held, self._state = text[len(opening) :], "thinking"
        elif is_late or not opening.startswith(text):
            self._state = "thinking" if self._thinking.is_open else "said"
        self._is_first = self.has_thought = self._state == "thinking"

    def _think(self) -> list[Thought | Said]:
        text = self._held
        ends = [(at, mark) for mark in self._ends if (at := text.find(mark)) >= 0]
        if ends:
            at, mark = min(ends)
            self._held = text[: _trimmed(text, at)]
            found = self._out(Thought)
            self._held = text[at if mark == MARK else at + len(mark) :]
            self._state, self._is_first = "said", True
            return found
        keep = _trimmed(text, len(text) - _overlap(text, self._ends))
        self._held = text[:keep]
        found = self._out(Thought)
        self._held += text[keep:]
        return found

    def _out(self, kind: type[Thought] | type[Said]) -> list[Thought | Said]:
        text, self._held = self._held, ""
        if self._is_first:
            text = text.lstrip("\n")
            self._is_first = not text
        return [kind(text)] if text else []


def _trimmed(text: str, end: int) -> int:
    """The end of `text[:end]` without the line feeds behind it."""
    least = max(0, end - BLANKS_MAX)
    while end > least and text[end - 1] == "\n":
        end -= 1
    return end


def _overlap(text: str, marks: Sequence[str]) -> int:
    """Length of the longest proper beginning of a mark that `text` ends with."""
    longest = max(len(mark) for mark in marks) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-size:]) for mark in marks):
            return size
    return 0
