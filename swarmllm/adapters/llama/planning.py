"""Which rows make one batch: a piece of one prompt, or the next tokens of sessions whose slots lie close together.

llama.cpp computes sequences of consecutive numbers in one go and each gap as a batch of its own, which reads all weights again. So
narrow gaps are bridged by a row that nobody wants, put behind what the idle slot holds and forgotten at once. In the same way a lone row
gets company where the model needs it to be exact (`rows_min`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from swarmllm.adapters.llama.rows import Rows
from swarmllm.adapters.llama.session import Order, Session

GAP_MAX: Final = 2  # Idle slots that are worth bridging: a row without logits is cheaper than reading the weights once more.


class Model(Protocol):
    """`llama_api.LlamaModel`, or a double."""

    vocab_size: int
    cells: int
    batch_max: int
    outputs_max: int
    rows_min: int

    def decode(self, rows: Rows) -> NDArray[np.float32]: ...

    def forget(self, slot: int, start: int) -> None: ...

    def copy(self, source: int, target: int) -> None: ...


@dataclass(slots=True)
class Plan:
    """A batch: `parts` are (session, how many tokens of its current order); `bridged` are idle slots with one row each."""

    parts: list[tuple[Session, int]]
    is_prompt: bool
    bridged: list[int] = field(default_factory=list)


def chunk(session: Session, rows: int, model: Model) -> Plan:
    """At most `rows` tokens of one prompt."""
    order = session.orders[0]
    size = min(order.left, model.batch_max, rows)
    return Plan([(session, _within_outputs(order, size, model.outputs_max))], is_prompt=True)


def group(decodes: Sequence[Session], rows: int, model: Model) -> Plan:
    """The first of `decodes`, and all around it that can be computed with it: a token each, and drafts as far as `rows` go in all."""
    ready = {s.slot: s for s in decodes}
    first = decodes[0].slot
    low, high = _reach(ready, first, -1, model), _reach(ready, first, +1, model)
    chosen = [ready[slot] for slot in range(low, high + 1) if slot in ready]
    bridged = [slot for slot in range(low, high + 1) if slot not in ready]
    share = max(1, min(rows, model.batch_max) // len(chosen))
    size = 1 if bridged else min(share, *(s.orders[0].left for s in chosen))
    room = model.outputs_max // len(chosen)
    size = min(_within_outputs(s.orders[0], size, room) for s in chosen)
    return Plan([(s, size) for s in chosen], is_prompt=False, bridged=bridged)


def _reach(ready: Mapping[int, Session], slot: int, way: int, model: Model) -> int:
    """The last ready slot in direction `way` that no gap beyond `GAP_MAX` separates from `slot`, within the batch's size."""
    last, size = slot, model.batch_max // 2  # Both ways together.
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


def rows_of(plan: Plan, by_slot: Mapping[int, Session], rows_min: int) -> tuple[Rows, list[int]]:
    """The batch in the order of slots, and which of its rows with logits are really wanted (indices among those)."""
    rows = Rows()
    bridges = [(slot, by_slot.get(slot)) for slot in plan.bridged]
    parts = [(s.slot, s, size) for s, size in plan.parts] + [(slot, s, 0) for slot, s in bridges]
    for slot, session, size in sorted(parts, key=lambda part: part[0]):
        held = len(session.tokens) if session is not None else 0
        if size == 0 or session is None:
            rows.add(0, held, slot, False)
            continue
        order = session.orders[0]
        wanted = set(order.wanted[order.next_wanted : order.next_wanted + size])
        for i in range(order.done, order.done + size):
            rows.add(order.tokens[i], order.base + i, slot, i in wanted)
    real = [i for i, output in enumerate(rows.outputs) if output]
    if len(rows.tokens) < rows_min:
        rows.add(0, rows.positions[-1] + 1, rows.slots[-1], bool(real))
    elif 0 < len(real) < rows_min:
        rows.outputs[real[0] - 1 if real[0] > 0 else 1] = True
    shown = [i for i, output in enumerate(rows.outputs) if output]
    return rows, [n for n, i in enumerate(shown) if i in set(real)]
