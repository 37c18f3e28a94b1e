"""Compiles grammars off the event loop, and keeps what was compiled last."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from swarmllm.core.grammar import Grammar, GrammarSource
from swarmllm.core.vocabulary import Vocabulary
from swarmllm.errors import LocalError, UsageError

if TYPE_CHECKING:  # A node that nobody asks for a grammar does not load llguidance.
    from swarmllm.adapters.grammar.llguidance_grammar import TokenTable

TABLES_MAX: Final = 2  # Vocabularies; a table of 128,256 tokens takes some 30 MB.
GRAMMARS_MAX: Final = 32  # A lexer of `max_lexer_states` takes up to 100 MB, a usual one 1 MB.
COMPILE_S: Final = 5.0  # Far beyond what the bounds of a source let one take.
COMPILING_MAX: Final = 2  # At once.


class Grammars:
    """`runtime.ports.Grammars`."""

    def __init__(self) -> None:
        self._tables: OrderedDict[bytes, TokenTable] = OrderedDict()
        self._compiled: OrderedDict[tuple[bytes, GrammarSource], Grammar] = OrderedDict()
        self._limiter = trio.CapacityLimiter(COMPILING_MAX)

    async def compile(self, source: GrammarSource, vocabulary: Vocabulary) -> Grammar:
        key = vocabulary.fingerprint, source
        found = self._compiled.get(key)
        if found is not None:
            self._compiled.move_to_end(key)
            await trio.lowlevel.checkpoint()
            return found
        with trio.move_on_after(COMPILE_S) as waiting:
            found = await trio.to_thread.run_sync(
                partial(self._compile, source, vocabulary),
                abandon_on_cancel=True,  # type: ignore[call-arg]  # Some installed stubs are older.
                limiter=self._limiter,
            )
        if waiting.cancelled_caught or found is None:
            raise UsageError(
                f"the {source.kind} was not compiled within {COMPILE_S:.0f} s; use a simpler one"
            )
        self._compiled[key] = found
        while len(self._compiled) > GRAMMARS_MAX:
            self._compiled.popitem(last=False)
        return found

    def _compile(self, source: GrammarSource, vocabulary: Vocabulary) -> Grammar:
        from swarmllm.adapters.grammar.llguidance_grammar import TokenTable, compile_grammar

        table = self._tables.get(vocabulary.fingerprint)
        if table is None:
            try:
                table = TokenTable(vocabulary)
            except ValueError as error:
                raise LocalError(
                    f"no grammar can be used with {vocabulary.source}: {error}"
                ) from None
            self._tables[vocabulary.fingerprint] = table
            while len(self._tables) > TABLES_MAX:
                self._tables.popitem(last=False)
        return compile_grammar(source, table)
