"""Documents to score, as tokens: of one domain each, and mixed ones that change their domain at
places we know.

A mixed text begins with a segment of one domain, longer than the prompt, and then keeps switching:
what a conversation does that quotes code, or a log with a story around it. Everything is drawn from
the seed, so the same corpora give the same documents.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from swarmllm.cli.eval.corpora import Passage
from swarmllm.cli.eval.plan import SCORED_MIN, SEGMENT_MAX, SEGMENT_MIN, Plan
from swarmllm.core.governance.held_out import digest_of
from swarmllm.errors import UsageError

MIXED: Final = "mixed"
SINGLE: Final = "single-domain"

Encode = Callable[[str], list[int]]
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Document:
    """`tokens` without a first token of the vocabulary's own (BOS). `segments` are (where it
    begins, its domain), from (0, ...) on."""

    text: str
    tokens: Tokens
    segments: tuple[tuple[int, str], ...]

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(
            b"".join(token.to_bytes(4, "big") for token in self.tokens)
        ).hexdigest()

    @property
    def domain(self) -> str:
        """Of its prompt."""
        return self.segments[0][1]


@dataclass(frozen=True, slots=True)
class Texts:
    """`kinds` are the corpora's names and, with two corpora or more, "mixed". `notes` are sentences
    for people; `digest` is that of the corpora, whatever was drawn of them."""

    documents: tuple[Document, ...]
    kinds: tuple[str, ...]
    notes: tuple[str, ...]
    digest: bytes


def make_texts(corpora: Mapping[str, Sequence[Passage]], encode: Encode, plan: Plan) -> Texts:
    """UsageError for a corpus that is too short."""
    encoded = {
        name: [tuple(encode(passage.text)) for passage in passages]
        for name, passages in corpora.items()
    }
    documents: list[Document] = []
    notes: list[str] = []
    for name, passages in encoded.items():
        pieces = _pieces(name, passages, plan)
        if len(pieces) < plan.documents:
            notes.append(
                f"the corpus {name!r} gives {len(pieces)} documents,"
                f" not the {plan.documents} asked for"
            )
        documents += [Document(name, tokens, ((0, name),)) for tokens in pieces]
    kinds = [*encoded]
    if len(encoded) > 1:
        documents += _mixed(encoded, plan)
        kinds.append(MIXED)
    else:
        notes.append(
            f"with {next(iter(encoded))!r} as the only corpus there is no mixed text:"
            " name a second one with --corpus"
        )
    digest = digest_of({name: [one.text for one in found] for name, found in corpora.items()})
    return Texts(tuple(documents), tuple(kinds), tuple(notes), digest)


def _pieces(name: str, passages: Sequence[Tokens], plan: Plan) -> list[Tokens]:
    """Up to `plan.documents` pieces, the first ones of as many passages as possible."""
    least = plan.prompt + SCORED_MIN
    order = list(passages)
    random.Random(f"{plan.seed} {name}").shuffle(order)
    found: list[Tokens] = []
    at = 0
    while len(found) < plan.documents and any(len(tokens) >= at + least for tokens in order):
        found += [tokens[at : at + plan.tokens] for tokens in order if len(tokens) >= at + least]
        at += plan.tokens
    if not found:
        longest = max((len(tokens) for tokens in passages), default=0)
        raise UsageError(
            f"the corpus {name!r} is too short: its longest text has {longest} tokens,"
            f" and {least} are needed (a prompt of {plan.prompt} and {SCORED_MIN} to score);"
            " add text, or choose a smaller --prompt"
        )
    return found[: plan.documents]


def _mixed(encoded: Mapping[str, Sequence[Tokens]], plan: Plan) -> list[Document]:
    rng = random.Random(f"{plan.seed} {MIXED}")
    names = list(encoded)
    long_enough = {
        name: [tokens for tokens in passages if len(tokens) >= SEGMENT_MIN]
        for name, passages in encoded.items()
    }
    short = next((name for name in names if not long_enough[name]), None)
    if short is not None:
        raise UsageError(
            f"the corpus {short!r} has no text of {SEGMENT_MIN} tokens,"
            " so no mixed text can be made of it: add longer text"
        )
    return [
        _mixed_document(rng, names[i % len(names)], long_enough, plan)
        for i in range(plan.documents)
    ]


def _mixed_document(
    rng: random.Random, first: str, passages: Mapping[str, Sequence[Tokens]], plan: Plan
) -> Document:
    tokens: list[int] = []
    segments: list[tuple[int, str]] = []
    domain = first
    while len(tokens) < plan.tokens:
        wanted = rng.randint(SEGMENT_MIN, SEGMENT_MAX)
        if not tokens:
            # The prompt is all of one domain, also if it is a long one.
            wanted = max(wanted, plan.prompt + SEGMENT_MIN // 2)
        taken = _stretch(rng, passages[domain], wanted)
        while len(taken) < wanted:
            taken += _stretch(rng, passages[domain], wanted - len(taken))
        segments.append((len(tokens), domain))
        tokens += taken
        domain = rng.choice([name for name in passages if name != domain])
    return Document(MIXED, tuple(tokens[: plan.tokens]), tuple(segments))


def _stretch(rng: random.Random, passages: Sequence[Tokens], size: int) -> list[int]:
    """`size` tokens from somewhere inside a passage that has so many, or the whole of the longest
    one."""
    fitting = [tokens for tokens in passages if len(tokens) >= size]
    if not fitting:
        return list(sorted(passages, key=len)[-1])
    tokens = rng.choice(fitting)
    start = rng.randint(0, len(tokens) - size)
    return list(tokens[start : start + size])
