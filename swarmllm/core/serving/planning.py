"""Batch planning: one batch holds a piece of one prompt, or the next tokens of sessions in
neighbouring slots.

llama.cpp computes sequences of consecutive numbers in one go and each gap as a batch of its own,
which reads all weights again. So narrow gaps are bridged by a row that nobody wants, put behind
what the idle slot holds and forgotten at once. In the same way a lone row gets company where the
model needs it to be exact (`rows_min`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from swarmllm.core.serving.answers import Answer
from swarmllm.core.serving.session import Order, Session
from swarmllm.wire import context

# Idle slots that are worth bridging: a row without logits is cheaper than reading the weights once
# more.
GAP_MAX: Final = 2
BATCH_MAX: Final = 512  # Rows of a batch, unless the owner says otherwise.
# Rows of logits per batch, or as many as there are sessions: a row of 128,256 takes half a
# megabyte.
OUTPUTS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model can take: tokens it knows, tokens that each slot holds, rows and rows with
    logits of a batch; and how many of either a batch has at least, if it is to be exact."""

    vocab_size: int
    cells: int
    batch_max: int = BATCH_MAX
    outputs_max: int = OUTPUTS_MAX
    rows_min: int = 1


class Forget(NamedTuple):
    """An edit of the model's cache: the slot keeps its first `start` tokens."""

    slot: int
    start: int


class Copy(NamedTuple):
    """Likewise: `target` gets all that `source` holds, in place of its own."""

    source: int
    target: int


Edit = Forget | Copy


class Part(NamedTuple):
    """The next `size` tokens of an order; `digests` are those of the text up to and with each."""

    session: Session
    order: Order
    size: int
    digests: list[bytes]


class Wanted(NamedTuple):
    """What somebody wants to know about the token that follows the text with this digest: the list,
    or what a token has of it, or both.

    Its output is (list, -1024 times the log-probability of the target, at most 65535), with None
    for what was not asked. With a set `allowed` (encoded; empty: none) the list is among its tokens
    alone, and the log-probability that of the whole set.
    """

    digest: bytes
    is_list: bool
    target: int | None
    entries_max: int
    tail_max: int
    allowed: bytes = b""


Output = tuple[bytes | None, int | None]


@dataclass(slots=True, eq=False)
class Batch:
    """One step, planned at `begun_at`: `parts` in the order of slots; `bridged` are (slot, tokens
    it holds), idle slots with one row each.

    `answers` are to orders that need no computing. Without parts there is nothing to compute or to
    commit. `waiting` are the peers that had work when it was planned.
    """

    begun_at: float
    answers: list[Answer]
    parts: list[Part] = field(default_factory=list)
    is_prompt: bool = False
    bridged: list[tuple[int, int]] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)
    waiting: frozenset[str] = frozenset()

    @property
    def tokens(self) -> int:
        return sum(part.size for part in self.parts)


def chunk(session: Session, rows: int, shape: Shape) -> list[Part]:
    """At most `rows` tokens of one prompt."""
    order = session.orders[0]
    size = min(order.left, shape.batch_max, rows)
    return [_part(session, _within_outputs(order, size, shape.outputs_max))]


def group(decodes: Sequence[Session], rows: int, shape: Shape) -> tuple[list[Part], list[int]]:
    """The first of `decodes`, and all around it that can be computed with it: a token each, and
    drafts as far as `rows` go in all.

    And the idle slots between them, which have to be bridged.
    """
    ready = {s.slot: s for s in decodes}
    first = decodes[0].slot
    low, high = _reach(ready, first, -1, shape.batch_max), _reach(ready, first, +1, shape.batch_max)
    chosen = [ready[slot] for slot in range(low, high + 1) if slot in ready]
    bridged = [slot for slot in range(low, high + 1) if slot not in ready]
    share = max(1, min(rows, shape.batch_max) // len(chosen))
    size = 1 if bridged else min(share, *(s.orders[0].left for s in chosen))
    room = shape.outputs_max // len(chosen)
    if size > 1:
        size = min(_within_outputs(s.orders[0], size, room) for s in chosen)
    return [_part(s, size) for s in chosen], bridged


def wanted_of(parts: Sequence[Part]) -> list[Wanted]:
    """Whose logits are needed, part by part and in the order of the text."""
    found: list[Wanted] = []
    for _, order, size, digests in parts:
        lists, targets = len(order.lists), len(order.target_logprobs)
        for number in range(order.next_wanted, len(order.wanted)):
            index = order.wanted[number]
            if index >= order.done + size:
                break
            is_list = lists < len(order.answer) and order.answer[lists] == index
            is_target = targets < len(order.targets) and order.targets[targets] == index
            lists, targets = lists + is_list, targets + is_target
            target = order.tokens[index + 1] if is_target else None
            found.append(
                Wanted(
                    *(digests[index - order.done], is_list, target),
                    *(order.entries_max, order.tail_max, order.allowed),
                )
            )
    return found


def _part(session: Session, size: int) -> Part:
    order = session.orders[0]
    digest = session.digests[-1]
    digests = [
        digest := context.extend(digest, token)
        for token in order.tokens[order.done : order.done + size]
    ]
    return Part(session, order, size, digests)


def _reach(ready: Mapping[int, Session], slot: int, way: int, batch_max: int) -> int:
    """The last ready slot in direction `way` that no gap beyond `GAP_MAX` separates from `slot`,
    within the batch's size."""
    last, size = slot, batch_max // 2  # Both ways together.
    for other in range(slot + way, slot + way * size, way):
        if other < 0 or abs(other - last) > GAP_MAX + 1:
            break
        if other in ready:
            last = other
    return last


def _within_outputs(order: Order, size: int, room: int) -> int:
    """At most `size` tokens, of which at most `room` have wanted logits."""
    beyond = order.next_wanted + room
    return min(size, order.wanted[beyond] - order.done) if beyond < len(order.wanted) else size
