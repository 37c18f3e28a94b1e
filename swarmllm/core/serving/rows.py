"""A batch row by row, in the order that a model computes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmllm.core.serving.planning import Batch


@dataclass(slots=True)
class Rows:
    """Row by row: token, position, sequence ("slot"), and whether its logits are wanted. Every slot
    has equally many rows."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    outputs: list[bool] = field(default_factory=list)

    def add(self, token: int, position: int, slot: int, output: bool) -> None:
        self.tokens.append(token)
        self.positions.append(position)
        self.slots.append(slot)
        self.outputs.append(output)


def rows_of(batch: Batch, rows_min: int) -> tuple[Rows, list[int]]:
    """The batch in the order of slots, and which of its rows with logits are `batch.wanted`
    (indices among those, in the same order)."""
    rows = Rows()
    bridges = [(slot, held, None) for slot, held in batch.bridged]
    parts = [(part.session.slot, 0, part) for part in batch.parts]
    for slot, held, part in sorted([*parts, *bridges], key=lambda piece: piece[0]):
        if part is None:
            rows.add(0, held, slot, False)
            continue
        order = part.order
        wanted = set(order.wanted[order.next_wanted : order.next_wanted + part.size])
        for i in range(order.done, order.done + part.size):
            rows.add(order.tokens[i], order.base + i, slot, i in wanted)
    real = [i for i, output in enumerate(rows.outputs) if output]
    if len(rows.tokens) < rows_min:
        rows.add(0, rows.positions[-1] + 1, rows.slots[-1], bool(real))
    elif 0 < len(real) < rows_min:
        rows.outputs[real[0] - 1 if real[0] > 0 else 1] = True
    shown = [i for i, output in enumerate(rows.outputs) if output]
    return rows, [n for n, i in enumerate(shown) if i in set(real)]
