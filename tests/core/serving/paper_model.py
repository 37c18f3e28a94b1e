"""The batcher's model on paper: it keeps every cell as llama.cpp would, checks each batch against
llama.cpp's rules, and its logits are a pure function of the context, so that any answer can be
checked against the text it stands for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from swarmllm.adapters.llama.stepping import Stopped, shape_of, step
from swarmllm.core.serving.answers import Answer
from swarmllm.core.serving.batcher import Batcher
from swarmllm.core.serving.planning import Forget
from swarmllm.core.serving.rows import Rows
from swarmllm.core.serving.session import Key, Order
from swarmllm.wire import context

VOCABULARY = 24


def logits_after(tokens: Sequence[int]) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(bytes(tokens)).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(VOCABULARY).astype(np.float32)


def encode(rows: NDArray[np.float32], bounds: Sequence[tuple[int, int]]) -> list[bytes | None]:
    """None for a row of no numbers, as `wire.sparse_encoding.encode_rows`."""
    return [
        bytes([entries_max]) + row.tobytes() if np.isfinite(row.max()) else None
        for row, (entries_max, _) in zip(rows, bounds, strict=True)
    ]


def lists_after(
    text: Sequence[int], base: int, answer: Sequence[int], entries_max: int = 8
) -> list[bytes]:
    rows = np.stack([logits_after(text[: base + i + 1]) for i in answer])
    return [data for data in encode(rows, [(entries_max, 0)] * len(answer)) if data is not None]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class PaperModel:
    """`seconds_per_row` pass on the clock for each row; the next batch ends in `Stopped` while
    `stopped` is set."""

    def __init__(
        self,
        clock: Clock,
        *,
        cells: int = 64,
        batch_max: int = 32,
        outputs_max: int = 8,
        rows_min: int = 1,
    ) -> None:
        self.vocab_size, self.cells, self.batch_max, self.outputs_max, self.rows_min = (
            VOCABULARY,
            cells,
            batch_max,
            outputs_max,
            rows_min,
        )
        self.clock = clock
        self.seconds_per_row = 0.001
        self.stopped = False
        self.poison = -1  # Whatever follows this token is not a number.
        # What happens while the next batch is computed.
        self.meanwhile: Callable[[], None] | None = None
        self.held: dict[int, list[int]] = {}
        self.batches: list[Rows] = []

    def decode(self, rows: Rows) -> NDArray[np.float32]:
        assert self.rows_min <= len(rows.tokens) <= self.batch_max
        outputs = sum(rows.outputs)
        assert outputs <= self.outputs_max
        assert outputs == 0 or outputs >= self.rows_min
        slots = sorted(set(rows.slots))
        assert slots == list(range(slots[0], slots[-1] + 1)), (
            "a gap costs a second pass over the weights"
        )
        assert len({rows.slots.count(slot) for slot in slots}) == 1, (
            "unequal rows cost a second pass over the weights"
        )
        self.batches.append(rows)
        for token, position, slot in zip(rows.tokens, rows.positions, rows.slots, strict=True):
            cells = self.held.setdefault(slot, [])
            assert position == len(cells), "positions must follow each other"
            assert position < self.cells, "no cell left"
            cells.append(token)
        self.clock.now += self.seconds_per_row * len(rows.tokens)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        if self.stopped:
            raise Stopped
        wanted = [i for i, output in enumerate(rows.outputs) if output]
        made = [self._logits(self.held[rows.slots[i]][: rows.positions[i] + 1]) for i in wanted]
        return np.stack(made) if made else np.empty((0, VOCABULARY), np.float32)

    def _logits(self, text: list[int]) -> NDArray[np.float32]:
        return (
            np.full(VOCABULARY, np.nan, np.float32) if self.poison in text else logits_after(text)
        )

    def forget(self, slot: int, start: int) -> None:
        del self.held.setdefault(slot, [])[start:]

    def copy(self, source: int, target: int) -> None:
        self.held[target] = list(self.held[source])

    @property
    def rows_computed(self) -> int:
        return sum(len(rows.tokens) for rows in self.batches)


class Desk:
    """A batcher over a paper model, and orders with their ids counted."""

    def __init__(
        self,
        *,
        sessions_max: int = 4,
        context_max: int = 60,
        idle_s: float = 5.0,
        owner: str = "",
        **model: int,
    ) -> None:
        self.clock = Clock()
        self.model = PaperModel(self.clock, **{"cells": context_max + 1, **model})
        self.batcher = Batcher(shape_of(self.model), sessions_max, context_max, idle_s, owner)
        self.last_id = 0

    def order(
        self,
        session: int,
        text: Sequence[int],
        base: int = 0,
        *,
        answer: Sequence[int] | None = None,
        targets: Sequence[int] = (),
        epoch: int = 0,
        digest: bytes | None = None,
        peer: str = "peer",
    ) -> Order:
        """A round that appends text[base:] and by default wants what follows it."""
        self.last_id += 1
        tokens = list(text[base:])
        wanted = [len(tokens) - 1] if answer is None else list(answer)
        known = context.digests(text[:base])[-1] if digest is None else digest
        return Order(
            self.last_id,
            (peer, session),
            epoch,
            base,
            known,
            tokens,
            wanted,
            list(targets),
            8,
            0,
            self.clock.now,
        )

    def step(self) -> list[Answer]:
        return step(self.batcher, self.model, encode, self.clock)

    def run(self, steps_max: int = 1000) -> list[Answer]:
        answers: list[Answer] = []
        for _ in range(steps_max):
            if not self.batcher.waiting:
                # Whoever left since the last step has left cells, which the next one clears.
                return answers + self.step()
            answers += self.step()
            self.check_cells()
        raise AssertionError(f"still waiting after {steps_max} steps")

    def check_cells(self) -> None:
        """The model holds what the batcher believes, cell by cell; but a session that has just
        ended leaves its cells until the next step makes the edits that are due."""
        for session in self.batcher.places.sessions.values():
            assert self.model.held.get(session.slot, []) == session.tokens
            assert session.digests == context.digests(session.tokens)
        due = {edit.slot for edit in self.batcher.places.edits if isinstance(edit, Forget)}
        for slot, cells in self.model.held.items():
            assert not cells or slot in self.batcher.places.by_slot or slot in due


def key(session: int) -> Key:
    return ("peer", session)
