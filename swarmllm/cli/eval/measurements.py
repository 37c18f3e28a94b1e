"""What is measured besides scores, as records: tails, truncation, the wire, acceptance, escalation,
sweeps, batch shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmllm.cli.eval.findings import Kind
from swarmllm.cli.eval.statistics import Estimate
from swarmllm.cli.eval.texts import MIXED

Record = dict[str, Any]


def lists_of(kinds: Mapping[str, Kind], experts: Sequence[str]) -> Iterator[Record]:
    """Truncation to 256 entries and quantisation for the wire, for each expert and text; and of
    their pool."""
    for text, kind in kinds.items():
        for k, expert in enumerate(experts):
            tails = np.concatenate([answer.lists.tails[:, k] for answer in kind.answers])
            held = np.concatenate([answer.lists.held[:, k] for answer in kind.answers])
            exact, tv, nats, shift = (
                np.concatenate([answer.wire[i, :, k] for answer in kind.answers]) for i in range(4)
            )
            yield {
                "name": "truncation",
                "text": text,
                "expert": expert,
                "tail_mean": _r(tails.mean()),
                "tail_p95": _r(np.percentile(tails, 95)),
                "tv_mean": _r(exact.mean()),
                "nats_mean": _r(-np.log1p(-np.minimum(exact, 1 - 1e-9)).mean()),
                "target_outside_share": _r(1 - held.mean()),
                "positions": int(tails.size),
            }
            yield {
                "name": "wire_quantisation",
                "text": text,
                "expert": expert,
                "tv_mean": _r(tv.mean()),
                "tv_p95": _r(np.percentile(tv, 95)),
                "nats_mean": _r(nats.mean()),
                "target_shift_mean": _r(_mean(shift)),
                "target_shift_mean_abs": _r(_mean(np.abs(shift))),
                "positions": int(tv.size),
            }
        shifts = np.concatenate([answer.lists.pooled_shift for answer in kind.answers])
        tail = np.concatenate([answer.lists.pooled_tail for answer in kind.answers])
        yield {
            "name": "pooled_truncation",
            "text": text,
            "tail_mean": _r(tail.mean()),
            "tail_p95": _r(np.percentile(tail, 95)),
            "target_outside_share": _r(float(np.isnan(shifts).mean())),
            "target_shift_mean": _r(_mean(shifts)),
            "positions": int(tail.size),
        }


def alphas_of(kinds: Mapping[str, Kind], experts: Sequence[str]) -> Iterator[Record]:
    for text, kind in kinds.items():
        table = kind.alpha()
        for i, one in enumerate(experts):
            for j in range(i + 1, len(experts)):
                yield {
                    "name": "alpha",
                    "text": text,
                    "draft": one,
                    "target": experts[j],
                    "value": _r(table[i, j]),
                }
            yield {
                "name": "alpha",
                "text": text,
                "draft": one,
                "target": "ensemble",
                "value": _r(table[i, -1]),
            }


def curves_of(kinds: Mapping[str, Kind]) -> Iterator[Record]:
    for text, kind in kinds.items():
        for point in kind.curve():
            yield {
                "name": "adaptive_k",
                "text": text,
                "weights": point.weights,
                "signal": point.signal,
                "share": point.share,
                "experts_asked": _r(point.asked),
                **_estimated(point.nats),
                "versus_random": _r(point.difference_to_random.mean),
                "versus_random_ci95": [
                    _r(point.difference_to_random.low),
                    _r(point.difference_to_random.high),
                ],
            }


def sweeps_of(kinds: Mapping[str, Kind]) -> Iterator[Record]:
    fields = {
        "floor": ("uniform_share",),
        "soft_bayes": ("eta", "share"),
        "soft_bayes_floor": ("uniform_share",),
        "evidence": ("tokens",),
    }
    for text, kind in kinds.items():
        for (what, *settings), estimate in kind.sweep().items():
            yield {
                "name": "sweep",
                "of": what,
                "text": text,
                **dict(zip(fields[what], settings, strict=False)),
                **_estimated(estimate),
            }


def switches_of(kinds: Mapping[str, Kind]) -> Iterator[Record]:
    if MIXED in kinds:
        for method, points in kinds[MIXED].after_switch().items():
            for offset, estimate in points:
                yield {
                    "name": "after_switch",
                    "method": method,
                    "tokens_after": offset,
                    **_estimated(estimate),
                }


def shapes_of(expert: str, found: Mapping[str, Any], *, wanted_exact: bool) -> Iterator[Record]:
    """From `scoring.agree_with_itself`."""
    for shape in found["shapes"]:
        yield {
            "name": "batch_shape",
            "expert": expert,
            "reproducible": wanted_exact,
            "shape": shape["shape"],
            "against": "one at a time",
            **{name: float(f"{shape[name]:.3g}") for name in ("max_nats", "mean_tv", "max_tv")},
        }


def _estimated(estimate: Estimate) -> Record:
    return {"nats_per_token": _r(estimate.mean), "ci95": [_r(estimate.low), _r(estimate.high)]}


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Of those that are known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else 0.0


def _r(value: float | np.floating[Any]) -> float:
    return round(float(value), 6)
