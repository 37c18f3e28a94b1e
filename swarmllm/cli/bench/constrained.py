"""What constrained output costs the requester itself: walks through texts that grammars allow, over
the vocabulary of a model.

Two parts of a token's time are told apart: what comes before the next question to the experts (the
token is taken, forced text is looked for), and the mask of what is allowed, which is worked out
while they compute. llguidance's own calls are the least either can take.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Final

import numpy as np
import trio

from swarmllm.adapters.grammar.llguidance_grammar import (
    CompiledGrammar,
    TokenTable,
    compile_grammar,
)
from swarmllm.adapters.llama.llama_text import open_text
from swarmllm.cli.bench.report import Measurement
from swarmllm.core.decoding.guide import Guide
from swarmllm.core.grammar import GrammarSource
from swarmllm.core.values import GenerateRequest
from swarmllm.core.vocabulary import Vocabulary
from swarmllm.wire.token_set import TokenSet

LENGTH: Final = 60  # Of one text; then the next begins.
GOAL_MS: Final = 0.5
SEED: Final = 7
_TASK: Final = {
    "type": "object",
    "properties": {
        "setting": {"enum": ["k", "chunk", "quality", "learning_rate"]},
        "value": {"type": "number", "minimum": 0, "maximum": 100},
        "reason": {"type": "string", "maxLength": 80},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 4},
    },
    "required": ["setting", "value", "reason", "tags"],
    "additionalProperties": False,
}
SOURCES: Final = {
    "schema": GrammarSource("json_schema", json.dumps(_TASK)),
    "any JSON": GrammarSource("json_object"),
    "date": GrammarSource("regex", r"[0-9]{4}-[01][0-9]-[0-3][0-9]( [a-z]+){1,20}"),
}


@dataclass(frozen=True, slots=True)
class _Costs:
    """Milliseconds of each token."""

    before: list[float] = field(default_factory=list)
    mask: list[float] = field(default_factory=list)


async def measure(
    model: Path, tokens: int, say: Callable[[str], None]
) -> AsyncGenerator[Measurement]:
    """Two measurements for each kind of grammar, over `tokens` tokens of texts drawn at random."""
    say("reading the vocabulary")
    async with open_text(model) as text:
        vocabulary = await text.ready()
    table = TokenTable(vocabulary)
    for name, source in SOURCES.items():
        say(f"constrained output: {name}")
        # Compiled twice, for a grammar keeps what was worked out with it.
        texts = _texts(compile_grammar(source, table), vocabulary, tokens)
        ours = _guided(compile_grammar(source, table), vocabulary, texts)
        alone = _unguided(compile_grammar(source, table), texts)
        parameters = {"grammar": name, "vocabulary": vocabulary.size}
        yield _measurement(
            "grammar before the next question", ours.before, alone.before, parameters
        )
        yield _measurement("mask while experts compute", ours.mask, alone.mask, parameters)
        await trio.lowlevel.checkpoint()


def _measurement(
    name: str, ours: list[float], alone: list[float], parameters: dict[str, object]
) -> Measurement:
    details = {
        "median_ms": round(median(ours), 3),
        "p95_ms": round(float(np.percentile(ours, 95)), 3),
        "max_ms": round(max(ours), 3),
        "tokens": len(ours),
    }
    goal = GOAL_MS if name.startswith("grammar") else None
    return Measurement(name, mean(ours), "ms", mean(alone), parameters, goal, details)


def _order(grammar: CompiledGrammar, vocabulary: Vocabulary) -> GenerateRequest:
    return GenerateRequest(
        (0,), vocab_size=vocabulary.size, stop_tokens=vocabulary.eog, grammar=grammar
    )


def _texts(grammar: CompiledGrammar, vocabulary: Vocabulary, tokens: int) -> list[list[int]]:
    """Texts of the grammar, `tokens` tokens together, each token drawn evenly among the allowed."""
    rng, texts, left = random.Random(SEED), list[list[int]](), tokens
    stops = TokenSet.of(vocabulary.eog, vocabulary.size)
    while left > 0:
        guide, text = Guide(_order(grammar, vocabulary)), list[int]()
        while len(text) < min(LENGTH, left) and not guide.is_done():
            allowed = guide.allowed()
            assert allowed is not None
            choices = allowed.without(stops).ids()
            if not len(choices):
                break
            text.append(int(rng.choice(choices)))
            guide.took(text[-1])
        texts.append(text)
        left -= len(text)
    return texts


def _guided(
    grammar: CompiledGrammar, vocabulary: Vocabulary, texts: Sequence[Sequence[int]]
) -> _Costs:
    costs = _Costs()

    def go_on(token: int) -> None:
        guide.took(token)
        guide.forced()

    for text in texts:
        guide = Guide(_order(grammar, vocabulary))
        for token in text:
            costs.mask.append(_ms(guide.allowed))
            costs.before.append(_ms(partial(go_on, token)))
    return costs


def _unguided(grammar: CompiledGrammar, texts: Sequence[Sequence[int]]) -> _Costs:
    """llguidance alone."""
    costs = _Costs()

    def go_on(token: int) -> None:
        matcher.consume_tokens([token])
        matcher.compute_ff_tokens()

    for text in texts:
        matcher = grammar.matcher.deep_copy()
        for token in text:
            costs.mask.append(_ms(matcher.compute_bitmask))
            costs.before.append(_ms(partial(go_on, token)))
    return costs


def _ms(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return (time.thread_time() - began) * 1000
