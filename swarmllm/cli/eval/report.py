"""Everything that was found, in one place: what records, tables, pages and pictures are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmllm.cli.eval.experts import Expert
from swarmllm.cli.eval.findings import Kind, Score
from swarmllm.cli.eval.measurements import Record
from swarmllm.cli.eval.names import record_name
from swarmllm.cli.eval.plan import Plan
from swarmllm.cli.eval.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Report:
    """`seconds` by part of the work; `fresh` counts pairs of document and model that were not in
    the cache, of `pairs`."""

    plan: Plan
    experts: tuple[Expert, ...]
    kinds: Mapping[str, Kind]
    scores: tuple[Score, ...]
    measurements: tuple[Record, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    fresh: int
    pairs: int
    command: str
    version: str
    texts: bytes  # The digest of the corpora.

    @property
    def names(self) -> list[str]:
        return [expert.name for expert in self.experts]

    def measured(self, name: str, **fields: object) -> list[Record]:
        """The measurements of that name, and with those fields."""
        return [
            m
            for m in self.measurements
            if m["name"] == name and all(m.get(key) == value for key, value in fields.items())
        ]

    def score(self, method: str, text: str) -> Score | None:
        return next((s for s in self.scores if s.method == method and s.text == text), None)


def score_record(score: Score, kinds: Mapping[str, Kind], experts: Sequence[str]) -> Record:
    found: dict[str, Any] = {
        "event": "score",
        "method": record_name(score.method, experts),
        "text": score.text,
        "nats_per_token": round(score.nats.mean, 5),
        "ci95": [round(score.nats.low, 5), round(score.nats.high, 5)],
        "tokens": score.tokens,
        "documents": score.documents,
        "versus_best_single": round(score.difference.mean, 5),
        "versus_best_single_ci95": [
            round(score.difference.low, 5),
            round(score.difference.high, 5),
        ],
        "best_single": record_name(kinds[score.text].best_single, experts),
        "experts_asked": round(score.asked, 3),
    }
    return found | ({"setting": score.setting} if score.setting is not None else {})


def verdict_record(verdict: Verdict) -> Record:
    return {
        "event": "verdict",
        "name": verdict.name,
        "method": verdict.method,
        "text": verdict.text,
        "holds": verdict.holds,
        "sentence": verdict.sentence,
    }


def summary_record(report: Report) -> Record:
    return {
        "event": "summary",
        "ok": True,
        "models": [
            {"name": e.name, "digest": e.digest, "n_params": e.n_params, "domains": list(e.domains)}
            for e in report.experts
        ],
        "documents": {text: len(kind.answers) for text, kind in report.kinds.items()},
        "best_single": {
            text: record_name(kind.best_single, report.names) for text, kind in report.kinds.items()
        },
        "verdicts": {f"{v.name} {v.method} {v.text}": v.holds for v in report.verdicts},
        "notes": list(report.notes),
        "seconds": {part: round(seconds, 1) for part, seconds in report.seconds.items()},
        "computed": report.fresh,
        "cached": report.pairs - report.fresh,
        "seed": report.plan.seed,
        "texts": report.texts.hex(),
    }
