"""One requester's context as an engine keeps it, and the rounds that wait for it. The requester
owns the truth; this is a cache."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmllm.wire import context
from swarmllm.wire.sparse import decode_list, likeliest_id

# Tokens left up to which a round is a decode step: one token, or the verification of a draft.
DECODE_MAX: Final = 16

Key = tuple[str, int]
"""(peer, session), as it crosses the pipe."""


@dataclass(slots=True, eq=False)
class Order:
    """A `messages.Score`, its id on the pipe, and what has become of it so far."""

    id: int
    key: Key
    epoch: int
    base: int
    context_hash: bytes
    tokens: list[int]
    answer: list[int]
    targets: list[int]
    entries_max: int
    tail_max: int
    arrived_at: float
    allowed: bytes = b""  # The set of tokens that is asked about; empty: all.
    steps: int = 0  # How many tokens more the expert appends by itself.
    started_at: float | None = None
    done: int = 0  # How many of `tokens` are in the cache.
    wanted: list[int] = field(default_factory=list)  # Sorted union of `answer` and `targets`.
    next_wanted: int = 0  # Index into `wanted` of the first that is not computed yet.
    lists: list[bytes] = field(default_factory=list)
    target_logprobs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wanted = sorted({*self.answer, *self.targets})

    def go_on(self, vocab_size: int) -> None:
        """Append the next token of a draft: the likeliest of the last list."""
        found = decode_list(self.lists[-1], self.entries_max, vocab_size)
        self.answer.append(len(self.tokens))
        self.wanted.append(len(self.tokens))
        self.tokens.append(likeliest_id(found))
        self.steps -= 1

    @property
    def left(self) -> int:
        return len(self.tokens) - self.done

    @property
    def reusable(self) -> int:
        """How many of `tokens` need not be computed if the cache already holds them: those before
        the first wanted row."""
        return self.wanted[0] if self.wanted else len(self.tokens)


@dataclass(slots=True, eq=False)
class Session:
    """`tokens` are in the cache at their own positions of sequence `slot`; `digests[n]` is the hash
    of the first n."""

    key: Key
    slot: int
    used_at: float
    begun_at: float = 0.0
    served: int = 0  # The step that last worked for it.
    epoch: int = 0
    answered_at: float = -math.inf
    absence_s: float = math.inf  # From its last answer to the order that followed.
    tokens: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=lambda: [context.EMPTY])
    orders: deque[Order] = field(default_factory=deque)

    @property
    def current(self) -> Order | None:
        """The order under way, if it has begun."""
        return self.orders[0] if self.orders and self.orders[0].started_at is not None else None

    def cut(self, length: int) -> None:
        del self.tokens[length:], self.digests[length + 1 :]


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common prefix."""
    size = min(len(left), len(right))
    if left[:size] == right[:size]:
        return size
    return next(i for i in range(size) if left[i] != right[i])
