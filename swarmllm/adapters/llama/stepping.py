"""One engine step: plan a batch, compute it, encode the answers. It does what `core.serving` leaves
to others. All that `core.serving` leaves to others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from swarmllm.core.serving.answers import Answer
from swarmllm.core.serving.batcher import Batcher
from swarmllm.core.serving.planning import Copy, Output, Shape, Wanted
from swarmllm.core.serving.rows import Rows, rows_of
from swarmllm.errors import LocalError
from swarmllm.wire.sparse_encoding import encode_allowed, log_mass
from swarmllm.wire.target_logprob import encode_target

Encode = Callable[[NDArray[np.float32], Sequence[tuple[int, int]]], Sequence[bytes | None]]
"""`wire.sparse_encoding.encode_rows`."""


class Stopped(Exception):
    """The abort callback ended the batch; nothing of it is in the cache."""


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


def shape_of(model: Model) -> Shape:
    return Shape(model.vocab_size, model.cells, model.batch_max, model.outputs_max, model.rows_min)


def step(
    batcher: Batcher, model: Model, encode: Encode, clock: Callable[[], float]
) -> list[Answer]:
    """Compute one batch if anything waits. A batch that ended in `Stopped` waits again."""
    batch = batcher.plan(clock())
    _edit(batcher, model)
    if batch is None or not batch.parts:
        return batch.answers if batch is not None else []
    rows, picked = rows_of(batch, model.rows_min)
    try:
        logits = model.decode(rows)
    except Stopped:
        batcher.abandon(batch)
        _edit(batcher, model)
        return batch.answers
    seconds = clock() - batch.begun_at
    answers = batcher.commit(
        batch, _outputs(logits, picked, batch.wanted, encode), seconds, clock()
    )
    _edit(batcher, model)
    return batch.answers + answers


def _edit(batcher: Batcher, model: Model) -> None:
    for edit in batcher.take_edits():
        if isinstance(edit, Copy):
            model.copy(edit.source, edit.target)
        else:
            model.forget(edit.slot, edit.start)


def _outputs(
    logits: NDArray[np.float32], picked: Sequence[int], wanted: Sequence[Wanted], encode: Encode
) -> list[Output | None]:
    """What is wanted of the rows `picked`, in this order; None for a row that is no
    distribution."""
    listed = [n for n, want in enumerate(wanted) if want.is_list and not want.allowed]
    bounds = [(wanted[n].entries_max, wanted[n].tail_max) for n in listed]
    # Mostly all rows, and then they need no copy.
    rows = [picked[n] for n in listed]
    lists = encode(logits if rows == [*range(len(logits))] else logits[rows], bounds)
    found = dict(zip(listed, lists, strict=True))
    return [
        _output(logits[row], want, found.get(n))
        for n, (row, want) in enumerate(zip(picked, wanted, strict=True))
    ]


def _output(row: NDArray[np.float32], wanted: Wanted, data: bytes | None) -> Output | None:
    if wanted.allowed:
        return encode_allowed(row, wanted.allowed, wanted.entries_max, wanted.tail_max)
    if wanted.is_list and data is None:
        return None
    try:
        return data, _target(row, wanted.target) if wanted.target is not None else None
    except LocalError:
        return None


def _target(row: NDArray[np.float32], token: int) -> int:
    """The code of the log-probability of `token` under softmax(row). LocalError if the row is no
    distribution."""
    mass = log_mass(row)
    if not math.isfinite(mass):
        raise LocalError(f"the largest logit is {mass}: the model's output is broken")
    return encode_target(mass - float(row[token]))
