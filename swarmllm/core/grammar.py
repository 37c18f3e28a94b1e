"""Constrained output: what a grammar (a JSON schema, a regular expression, a Lark grammar) allows
next, as the decoder sees it.

A `Grammar` is compiled once, for one vocabulary, and may be used by many answers; each `begin`s a
`Constraint`, which follows its text. What a grammar is written in, and how it is compiled, is the
business of an adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from swarmllm.errors import UsageError

if TYPE_CHECKING:  # Help must not cost the import of numpy.
    from swarmllm.wire.token_set import TokenSet

GrammarKind = Literal["json_schema", "json_object", "regex", "lark", "tool_calls"]
KINDS: Final[tuple[GrammarKind, ...]] = (
    "json_schema",
    "json_object",
    "regex",
    "lark",
    "tool_calls",
)
SOURCE_BYTES_MAX: Final = 1 << 16  # The longest schema of a published tool has some 20 kB.


@dataclass(frozen=True, slots=True)
class GrammarSource:
    """What an answer must be: `text` is a JSON schema, a regular expression, a Lark grammar or the
    tools that it may call (`core.tool_calls.Offer`); empty for `json_object`, any JSON object."""

    kind: GrammarKind
    text: str = ""

    def check(self) -> None:
        """UsageError for what can be seen to be wrong without compiling it."""
        if self.kind not in KINDS:
            raise UsageError(
                f"there is no kind of grammar {str(self.kind)[:40]!r}; there is {', '.join(KINDS)}"
            )
        if self.kind == "json_object":
            if self.text:
                raise UsageError("a json_object takes no schema; use json_schema for one")
            return
        if not self.text:
            raise UsageError(f"the grammar is empty; give the text of a {self.kind}")
        try:
            size = len(self.text.encode())
        except UnicodeEncodeError:
            raise UsageError("the grammar is not valid UTF-8; correct it") from None
        if size > SOURCE_BYTES_MAX:
            raise UsageError(
                f"the grammar has {size} bytes, and it may have {SOURCE_BYTES_MAX}; shorten it"
            )


class Constraint(Protocol):
    """Where one text stands in its grammar. LocalError from any method where the grammar costs more
    than it may, and from `commit` for a token that it does not allow; then the answer is over."""

    def allowed(self) -> TokenSet:
        """The tokens of text that may come next: no control tokens, and none that ends a text.
        Empty if only the end may come, or nothing."""

    def forced(self) -> tuple[int, ...]:
        """Tokens whose text must come next, whatever the experts think; empty if there is a
        choice."""

    def commit(self, tokens: Sequence[int]) -> None:
        """The text goes on with these."""

    def fork(self) -> Constraint:
        """Another text that has come as far, and goes on by itself."""

    def may_end(self) -> bool:
        """Whether the text so far is complete."""

    def is_done(self) -> bool:
        """Whether it is complete and nothing may follow."""


class Grammar(Protocol):
    """Compiled. Equal texts give equal constraints."""

    def begin(self) -> Constraint: ...
