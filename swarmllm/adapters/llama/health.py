"""Health check of a loaded model: its logits must be finite and must differ. Weights full of NaN
load without a complaint, and so does a file that a converter broke. And how fast it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from swarmllm.adapters.llama.stepping import Model, Stopped
from swarmllm.core.serving.rows import Rows

PROBES: Final = 4
SAMPLE_S: Final = 1.0
SAMPLE_STEPS: Final = 32  # Enough for a figure; small models need no second for it.


def fault_of(logits: NDArray[np.float32], vocab_size: int) -> str:
    """What is wrong with one row of logits, in a few words; empty if a distribution can be made of
    it. -inf is an impossible token."""
    if logits.shape != (1, vocab_size):
        return f"its output has the shape {logits.shape}, and not (1, {vocab_size})"
    top, bottom = float(logits.max()), float(logits.min())
    if np.isnan(top):
        return f"{int(np.isnan(logits).sum())} of its {vocab_size} logits are no numbers (NaN)"
    if np.isinf(top):
        return f"its largest logit is {top}"
    if top == bottom and vocab_size > 1:
        return f"all of its logits are {top:g}"
    return ""


def probe_tokens(vocab_size: int) -> list[int]:
    """Tokens from all over the vocabulary: a damaged stretch of the embeddings shows for some texts
    only."""
    return [i * (vocab_size - 1) // (PROBES - 1) for i in range(PROBES)]


def probe(model: Model, slot: int, token: int) -> str:
    """Let the model answer one token in an empty slot; what is wrong with the answer, or nothing.
    `Stopped` passes through."""
    logits = model.decode(Rows([token], [0], [slot], [True]))
    model.forget(slot, 0)
    return fault_of(logits, model.vocab_size)


def sample_speed(model: Model, slot: int, context: int, clock: Callable[[], float]) -> float:
    """Tokens/s of one session, decoded token after token in an empty slot for a second at most; 0
    if that was stopped. `context`: tokens that the slot may hold."""
    begun, steps = clock(), 0
    try:
        while steps < min(SAMPLE_STEPS, context) and clock() - begun < SAMPLE_S:
            model.decode(Rows([steps % model.vocab_size], [steps], [slot], [True]))
            steps += 1
    except Stopped:
        return 0.0
    finally:
        model.forget(slot, 0)
    return steps / max(clock() - begun, 1e-9)
