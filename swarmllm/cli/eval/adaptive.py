"""One expert while it is sure, all when it is not: what a budget of experts buys, beside the same
budget spent at random.

At each token the expert with the largest weight is asked, and its list says how undecided it is.
Where the threshold lets the token through, all are asked and pooled. Four signals are tried: the
entropy of that list; the likeliest token's own surprise (`peak`); what the expert was surprised by
lately (`recent`: a text that left its domain shows there first); and entropy plus by how much more
it was surprised lately than it expected to be, which is nothing on average while it knows the text
(`excess`).
 With weights that go on learning, what the others thought of the tokens in between arrives when
 they
are asked again (they have to read these tokens anyway), so the weights used until then are those of
the last token that all were asked about. The threshold itself (`core.decoding.cascade`) begins
anew with each document, as it would with each answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.cli.eval.methods import learned, pooled, running_means, trajectory
from swarmllm.core.decoding.cascade import Cascade
from swarmllm.core.decoding.gate import floored

Floats = npt.NDArray[np.float64]

SHARES: Final = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
SIGNALS: Final = ("entropy", "peak", "recent", "excess", "random")
RECENT: Final = 8  # Tokens that count as lately.
WEIGHTS: Final = ("em", "em_soft_bayes")
# Mean of the random signal: about that of the others, so that the same threshold works.
RANDOM_NATS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Nats of all scored tokens, and how many times an expert was asked for one."""

    nats: float
    asked: float


def curve(
    logprobs: Floats, prompt: int, signals: dict[str, Floats], rng: np.random.Generator
) -> dict[tuple[str, str, float], Spent]:
    """By (weights, signal, share). `logprobs` float64[T, K] of the whole document; `signals`
    float64[T - prompt, K] for "entropy" and "peak"."""
    after = logprobs[prompt:]
    entropy = signals["entropy"]
    recent = -running_means(logprobs, prompt, RECENT)
    overrun = np.zeros_like(entropy)
    overrun[1:] = np.maximum(0.0, running_means(-after - entropy, 1, RECENT))
    start = learned(logprobs[:prompt])
    chance = np.repeat(rng.exponential(RANDOM_NATS, (len(after), 1)), after.shape[1], axis=1)
    table = {**signals, "recent": recent, "excess": entropy + overrun, "random": chance}
    paths = {
        "em": np.repeat(floored(start)[None], len(after), axis=0),
        "em_soft_bayes": trajectory(start, after),
    }
    found = {}
    for weights in WEIGHTS:
        nats = pooled(after, paths[weights])
        first = paths[weights].argmax(axis=1)
        for signal in SIGNALS:
            for share in SHARES:
                found[weights, signal, share] = _spend(
                    after, nats, first, table[signal], Cascade(share).widen
                )
    return found


def _spend(
    after: Floats,
    nats: Floats,
    first: npt.NDArray[np.intp],
    signal: Floats,
    widen: Callable[[float], bool],
) -> Spent:
    """`nats` are those of the whole pool, `first` who has the largest weight, at each token, if
    everything is known."""
    total, asked = 0.0, 0
    known = 0  # The last token that all were asked about.
    for t in range(len(after)):
        lone = first[known]
        if widen(float(signal[t, lone])):
            total += float(nats[t])
            asked += after.shape[1]
            known = t
        else:
            total -= float(after[t, lone])
            asked += 1
    return Spent(total, asked)
