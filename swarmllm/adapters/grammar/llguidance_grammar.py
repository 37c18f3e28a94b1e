"""llguidance as `core.grammar`: token masks of JSON schemas, regular expressions and Lark grammars
over any of the supported vocabularies, of which it needs nothing but the bytes of each token.

The end of a text is a token of our own behind the vocabulary: which real tokens end one is the
decoder's to say. A control token is never allowed, not even where a Lark grammar names one by its
id. Text that must come next is cut into the longest tokens that fit; llguidance keeps back the last
ones where what follows could still become one token with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from swarmllm.adapters.grammar.source_bounds import check_bounds
from swarmllm.adapters.grammar.tool_calls import lark_of
from swarmllm.core.grammar import GrammarSource
from swarmllm.core.vocabulary import Vocabulary
from swarmllm.errors import LocalError, UsageError
from swarmllm.wire.token_set import TokenSet

LIMITS: Final = LLParserLimits(
    max_grammar_size=200_000, max_lexer_states=50_000, verbose_errors=False
)
# No blanks between the parts of JSON: a small model can write them for ever.
_JSON_OPTIONS: Final[dict[str, Any]] = {"whitespace_flexible": False}
_ANY_OBJECT: Final = '{"type": "object"}'


class TokenTable:
    """A vocabulary as llguidance reads it. Made once for each: it takes 0.1 s for 128,256
    tokens."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        size = vocabulary.size
        pieces = [vocabulary.piece(token) for token in range(size)]
        hidden = [i for i, piece in enumerate(pieces) if not piece or i in vocabulary.eog]
        names = {i: b"<|control %d|>" % i for i in hidden}
        self.tokens = [*(names.get(i, piece) for i, piece in enumerate(pieces)), b"<|end|>"]
        self.eos_token_id = size
        self.special_token_ids = [*hidden, size]
        self._by_bytes = {piece: i for i, piece in enumerate(pieces) if i not in names}
        self._longest = max(map(len, self._by_bytes), default=1)
        self.unwritten = TokenSet.of(hidden, size)
        self.size = size
        self.tokenizer = LLTokenizer(self, n_vocab=size + 1, eos_token=size)  # type: ignore[arg-type]

    def __call__(self, text: str | bytes) -> list[int]:
        """The ids of a text, the longest token first; as far as there are tokens for it."""
        data, at, ids = text.encode() if isinstance(text, str) else text, 0, []
        while at < len(data):
            for size in range(min(self._longest, len(data) - at), 0, -1):
                token = self._by_bytes.get(data[at : at + size])
                if token is not None:
                    ids.append(token)
                    at += size
                    break
            else:
                return ids
        return ids


def compile_grammar(source: GrammarSource, table: TokenTable) -> CompiledGrammar:
    """UsageError, one sentence, for a source that cannot be understood, or that costs too much."""
    found = check_bounds(source)
    try:
        match source.kind:
            case "json_schema":
                assert found is not None
                text = LLMatcher.grammar_from_json_schema(source.text, overrides=_JSON_OPTIONS)  # type: ignore[arg-type]
            case "json_object":
                text = LLMatcher.grammar_from_json_schema(_ANY_OBJECT, overrides=_JSON_OPTIONS)  # type: ignore[arg-type]
            case "regex":
                text = LLMatcher.grammar_from_regex(source.text)
            case "tool_calls":
                text = LLMatcher.grammar_from_lark(lark_of(found))
            case "lark":
                text = LLMatcher.grammar_from_lark(source.text)
    except ValueError as error:
        raise _refused(source, str(error)) from None
    matcher = LLMatcher(table.tokenizer, text, log_level=0, limits=LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()  # The first one builds what the others use.
    if matcher.is_error():
        raise _refused(source, matcher.get_error())
    return CompiledGrammar(matcher, table)


def _refused(source: GrammarSource, why: str) -> UsageError:
    told = " ".join(line.strip() for line in why.splitlines() if line.strip("^ "))
    told = told.replace("<non-verbose/>", "").strip()
    return UsageError(f"the {source.kind} cannot be used: {told[:200]}")


@dataclass(frozen=True, slots=True, eq=False)
class CompiledGrammar:
    """`core.grammar.Grammar`."""

    matcher: LLMatcher
    table: TokenTable

    def begin(self) -> Matching:
        return Matching(self.matcher.deep_copy(), self.table)


class Matching:
    """`core.grammar.Constraint`."""

    def __init__(self, matcher: LLMatcher, table: TokenTable) -> None:
        self._matcher, self._table = matcher, table

    def allowed(self) -> TokenSet:
        words = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint32)
        self._check()
        unwritten = self._table.unwritten
        size, count = self._table.size, unwritten.words.size
        words = words[:count].copy()
        if size % 32:  # Without the end, which is behind the last token.
            words[-1] &= np.uint32((1 << size % 32) - 1)
        return TokenSet(words).without(unwritten)

    def forced(self) -> tuple[int, ...]:
        tokens = self._matcher.compute_ff_tokens()
        self._check()
        found: list[int] = []
        for token in tokens:
            if token >= self._table.size or not self._table.tokens[token]:
                break
            found.append(token)
        if found and self._table.unwritten.holds(np.array(found, dtype=np.int32)).any():
            raise LocalError("the grammar asks for a control token, which no text may hold")
        return tuple(found)

    def commit(self, tokens: Sequence[int]) -> None:
        self._matcher.consume_tokens(list(tokens))
        self._check()

    def fork(self) -> Matching:
        return Matching(self._matcher.deep_copy(), self._table)

    def may_end(self) -> bool:
        return self._matcher.is_accepting()

    def is_done(self) -> bool:
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def _check(self) -> None:
        if self._matcher.is_error():
            why = " ".join(self._matcher.get_error().replace("<non-verbose/>", "").split())
            raise LocalError(f"the grammar cannot be followed any further: {why[:200]}")
