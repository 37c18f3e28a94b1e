"""Does llama.cpp agree with itself? One context, computed through the engine's own batching in four
shapes, compared position by position.

Replicas that batch differently must give the same distribution, or greedy answers fork and audits
accuse the honest. What the engine does about it costs speed, so what it buys is measured: the same
comparison with and without its reproducible setting.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarmllm.adapters.llama.stepping import shape_of, step
from swarmllm.core.serving.answers import SCORES
from swarmllm.core.serving.batcher import Batcher
from swarmllm.core.serving.session import Order
from swarmllm.wire import context

SHAPES: Final = ("one at a time", "chunks of 7", "one batch", "beside another")
# Tokens: 18 chunks of seven; batches long enough for the kernels that llama.cpp keeps for many
# rows.
LENGTH: Final = 126
COMPARED: Final = 42  # The last positions: so many rows of logits fit into one batch.

Logits = npt.NDArray[np.float32]


def compare(
    model: Any, tokens: Sequence[int], beside: Sequence[int], context_max: int
) -> list[dict[str, float | str]]:
    """For each shape but the first: the largest difference of any log-probability, and mean and
    largest total variation, from the first shape. The model needs two sequences and a context
    longer than `tokens`."""
    found: list[dict[str, float | str]] = []
    first: npt.NDArray[np.float64] | None = None
    for shape, chunk in zip(SHAPES, (1, 7, len(tokens), 1), strict=True):
        logs = _log_softmax(
            _compute(model, tokens, beside if shape == SHAPES[-1] else (), chunk, context_max)
        )
        if first is None:
            first = logs
            continue
        tv = 0.5 * np.abs(np.exp(logs) - np.exp(first)).sum(axis=1)
        found.append(
            {
                "shape": shape,
                "max_nats": float(np.abs(logs - first).max()),
                "mean_tv": float(tv.mean()),
                "max_tv": float(tv.max()),
            }
        )
    return found


def _compute(
    model: Any, tokens: Sequence[int], beside: Sequence[int], chunk: int, context_max: int
) -> Logits:
    """Logits float32[COMPARED, V] of the last positions (fewer if there are no more), computed
    `chunk` tokens at a time, and with `beside` each step together with one of another session."""
    taken: dict[str, list[Logits]] = {"ours": [], "theirs": []}

    def encode(rows: Logits, bounds: Sequence[tuple[int, int]]) -> list[bytes | None]:
        return [row.astype("<f4").tobytes() for row in rows]

    batcher = Batcher(shape_of(model), 2, context_max, 0.0)
    hashes = {"ours": context.EMPTY, "theirs": context.EMPTY}
    texts = {"theirs": beside, "ours": tokens} if beside else {"ours": tokens}
    number = 0
    for start in range(0, len(tokens), chunk):
        for name, text in texts.items():
            part = list(text[start : start + chunk])
            number += 1
            order = Order(
                number,
                (name, 1),
                0,
                start,
                hashes[name],
                part,
                _wanted(start, len(part), len(text)),
                [],
                1,
                0,
                time.monotonic(),
            )
            batcher.submit(order)
            for token in part:
                hashes[name] = context.extend(hashes[name], token)
        expected = {number: "ours", number - 1: "theirs"}
        answered = 0
        while answered < len(texts):
            for answer in step(batcher, model, encode, time.monotonic):
                assert answer[0] == SCORES, f"the engine answered {answer[0]}"
                taken[expected[answer[1]]] += [np.frombuffer(data, "<f4") for data in answer[2]]
                answered += 1
    for name in texts:
        batcher.close((name, 1))
    # Nothing waits: the cache is cleared for the next shape.
    step(batcher, model, encode, time.monotonic)
    return np.stack(taken["ours"])


def _wanted(start: int, count: int, length: int) -> list[int]:
    """Which of `count` tokens from `start` on are among the last COMPARED of `length`."""
    return [i for i in range(count) if start + i >= length - COMPARED]


def _log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    top = wide.max(axis=1, keepdims=True)
    with np.errstate(under="ignore"):
        result: npt.NDArray[np.float64] = (
            wide - top - np.log(np.exp(wide - top).sum(axis=1, keepdims=True))
        )
    return result
