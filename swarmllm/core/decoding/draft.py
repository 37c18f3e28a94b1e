"""A draft that our own expert makes, token by token: what it says of each position, and what it
would write there by itself.

Each of its lists is an answer to the round as well as a step of the draft; so at the end the draft
has one list more than it has tokens, and our own expert need not be asked again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarmllm.core.decoding.consent import alone, written_of
from swarmllm.core.decoding.guide import Guide
from swarmllm.core.decoding.sampling import draw, numbers
from swarmllm.core.decoding.speculation import Speculation
from swarmllm.core.peers.router import Candidate
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import LocalError
from swarmllm.wire.sparse import SparseList


@dataclass(slots=True)
class Draft:
    """`drafter` is our own expert; `guide` goes ahead with the draft. `expected` tokens of it are
    accepted, on average; `reached` is the probability that all are."""

    order: GenerateRequest
    drafter: Candidate
    guide: Guide
    room: int
    began_at: float
    lists: list[SparseList] = field(default_factory=list)
    measures: list[float] = field(default_factory=list)
    expected: float = 0.0
    reached: float = 1.0

    def next(
        self, found: SparseList, text: Sequence[int], index: int, speculation: Speculation
    ) -> int | None:
        """The next token of the draft, after our own expert's list of the token `index` of the
        answer, which comes after `text`; None if it is at its end."""
        self.lists.append(found)
        if len(self.measures) >= self.room or self.guide.is_done() or self.guide.forced():
            return None
        try:
            pooled = alone(found, self.order, self.guide.allowed())
        except LocalError:
            return None  # Whoever decides about the text will find the same, and say so.
        if pooled is None:
            return None
        rng, sampling = numbers(self.order.sampling.seed, index), self.order.sampling
        token, logprob = draw(pooled, sampling, rng, text, written_of(self.order, text))
        measure = math.exp(logprob)
        reached = self.reached * speculation.odds("local", measure)
        count = len(self.measures) + 1
        is_end = token in self.order.stop_tokens
        if is_end or not speculation.is_worth("local", reached, count, self.expected):
            return None
        self.reached, self.expected = reached, self.expected + reached
        self.measures.append(measure)
        try:
            self.guide.took(token)
        except LocalError:
            return None
        return token
