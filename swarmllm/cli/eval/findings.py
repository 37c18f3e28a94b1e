"""From documents to numbers: means over a text kind with their intervals, each beside the best
single expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.cli.eval import adaptive
from swarmllm.cli.eval.analysis import Answer
from swarmllm.cli.eval.names import ADAPTIVE, EXPERT, TUNED, order_of
from swarmllm.cli.eval.statistics import Bootstrap, Estimate
from swarmllm.cli.eval.texts import MIXED, SINGLE

Floats = npt.NDArray[np.float64]

# Of tokens that all experts are asked about, in the tables; the curve has the others.
HEADLINE_SHARE: Final = 0.3
SWITCH_BIN, SWITCH_REACH = 8, 96  # Tokens: as far as every segment reaches.


@dataclass(frozen=True, slots=True)
class Score:
    """`nats` per token. `difference` to the best single expert of this text, in hindsight
    (negative: better than it). `asked`: mean experts per token. `setting`: what was best for a
    tuned baseline."""

    method: str
    text: str
    nats: Estimate
    difference: Estimate
    tokens: int
    documents: int
    asked: float
    setting: str | None = None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    weights: str
    signal: str
    share: float
    asked: float
    nats: Estimate
    difference_to_random: Estimate


class Kind:
    """All documents of one text kind."""

    def __init__(self, text: str, answers: Sequence[Answer], experts: int, seed: int) -> None:
        self.text, self.answers, self.experts = text, answers, experts
        self.tokens: Floats = np.array([float(answer.scored) for answer in answers])
        self._bootstrap = Bootstrap(len(answers), seed)
        self.settings: dict[str, str] = {}
        self.totals = self._totals()
        self.asked: dict[str, float] = {}
        for name, weights in zip(ADAPTIVE, adaptive.WEIGHTS, strict=True):
            spent = [answer.curve[weights, "entropy", HEADLINE_SHARE] for answer in answers]
            self.totals[name] = np.array([one.nats for one in spent])
            self.asked[name] = sum(one.asked for one in spent) / float(self.tokens.sum())
            chance = [answer.curve[weights, "random", HEADLINE_SHARE] for answer in answers]
            self.totals[f"random {name}"] = np.array([one.nats for one in chance])

    def _totals(self) -> dict[str, Floats]:
        """Nats in all, float64[documents], by method; of the tuned ones the best setting."""
        names = [
            name
            for name in self.answers[0].nats
            if all(name in answer.nats for answer in self.answers)
        ]
        found = {name: np.array([answer.nats[name] for answer in self.answers]) for name in names}
        for tuned in TUNED:
            variants = [name for name in names if name.startswith(tuned + " ")]
            best = min(variants, key=lambda name: float(found[name].sum()))
            self.settings[tuned] = best.removeprefix(tuned + " ")
            found[tuned] = found[best]
            for name in variants:
                del found[name]
        return found

    @cached_property
    def best_single(self) -> str:
        """In hindsight."""
        return min(
            (f"{EXPERT}{k}" for k in range(self.experts)),
            key=lambda name: float(self.totals[name].sum()),
        )

    @property
    def best_totals(self) -> Floats:
        return self.totals[self.best_single]

    def estimate(self, totals: Floats) -> Estimate:
        return self._bootstrap.ratio(totals, self.tokens)

    def difference(self, method: str, other: str) -> Estimate:
        """Nats per token; negative if `method` is better."""
        return self.estimate(self.totals[method] - self.totals[other])

    def scores(self) -> list[Score]:
        return [
            Score(
                method=name,
                text=self.text,
                nats=self.estimate(self.totals[name]),
                difference=self.estimate(self.totals[name] - self.best_totals),
                tokens=int(self.tokens.sum()),
                documents=len(self.answers),
                asked=self._asked(name),
                setting=self.settings.get(name),
            )
            for name in order_of(self.experts)
            if name in self.totals
        ]

    def _asked(self, method: str) -> float:
        """Of the methods that pick one expert by its prompt perplexity, only what the answer itself
        costs."""
        lone = method.startswith(EXPERT) or method in {
            "prompt_perplexity",
            "label",
            "label_oracle",
            "running_perplexity",
        }
        return 1.0 if lone else self.asked.get(method, float(self.experts))

    def curve(self) -> list[CurvePoint]:
        found = []
        for weights, signal, share in self.answers[0].curve:
            spent = [answer.curve[weights, signal, share] for answer in self.answers]
            nats = np.array([one.nats for one in spent])
            at_random = np.array(
                [answer.curve[weights, "random", share].nats for answer in self.answers]
            )
            asked = sum(one.asked for one in spent) / float(self.tokens.sum())
            found.append(
                CurvePoint(
                    weights,
                    signal,
                    share,
                    asked,
                    self.estimate(nats),
                    self.estimate(nats - at_random),
                )
            )
        return found

    def sweep(self) -> dict[tuple[str, float, float], Estimate]:
        keys = [
            key
            for key in self.answers[0].sweeps
            if all(key in answer.sweeps for answer in self.answers)
        ]
        # Scored from the longest evidence on, so that all lengths are judged on the same tokens.
        shortened = {"evidence"}
        found = {}
        for key in keys:
            totals = np.array([answer.sweeps[key] for answer in self.answers])
            tokens = (
                np.array([_after_longest(answer) for answer in self.answers])
                if key[0] in shortened
                else self.tokens
            )
            found[key] = self._bootstrap.ratio(totals, tokens)
        return found

    def after_switch(self) -> dict[str, list[tuple[float, Estimate]]]:
        """(tokens after a switch, nats) for each method that was kept token by token."""
        names = [
            name
            for name in self.answers[0].series
            if all(name in answer.series for answer in self.answers)
        ]
        found: dict[str, list[tuple[float, Estimate]]] = {name: [] for name in names}
        for begin in range(0, SWITCH_REACH, SWITCH_BIN):
            cells = [_switched(answer, begin) for answer in self.answers]
            counts = np.array([float(len(cell)) for cell in cells])
            if counts.sum() == 0:
                continue
            for name in names:
                totals = np.array(
                    [
                        float(a.series[name][cell].sum())
                        for a, cell in zip(self.answers, cells, strict=True)
                    ]
                )
                found[name].append((begin + SWITCH_BIN / 2, self._bootstrap.ratio(totals, counts)))
        return {name: points for name, points in found.items() if points}

    def alpha(self) -> Floats:
        """float64[K, K + 1], the ensemble last."""
        found: Floats = np.concatenate([answer.lists.alpha for answer in self.answers]).mean(axis=0)
        return found


def _after_longest(answer: Answer) -> float:
    from swarmllm.cli.eval.methods import EVIDENCE

    return float(max(0, len(answer.document.tokens) - EVIDENCE[-1]))


def _switched(answer: Answer, begin: int) -> npt.NDArray[np.intp]:
    """Indices into the scored tokens that lie `begin` to `begin` + SWITCH_BIN tokens after a
    switch, and before the next one."""
    prompt = len(answer.document.tokens) - answer.scored
    starts = [start for start, _ in answer.document.segments]
    found: list[int] = []
    for start, end in zip(starts[1:], [*starts[2:], len(answer.document.tokens)], strict=True):
        found += range(max(prompt, start + begin), min(end, start + begin + SWITCH_BIN))
    return np.array(found, np.intp) - prompt


class SingleDomain(Kind):
    """All texts of one domain together. The best single expert is each domain's own."""

    def __init__(self, kinds: Sequence[Kind], experts: int, seed: int) -> None:
        super().__init__(
            SINGLE, [answer for kind in kinds for answer in kind.answers], experts, seed
        )
        self._best = np.concatenate([kind.best_totals for kind in kinds])

    @property
    def best_totals(self) -> Floats:
        return self._best


def kinds_of(
    answers: Sequence[Answer], names: Sequence[str], experts: int, seed: int
) -> dict[str, Kind]:
    """Text kinds by name, in order: each domain, all domains together if there are several, and
    mixed."""
    found = {
        name: Kind(name, [a for a in answers if a.document.text == name], experts, seed)
        for name in names
    }
    single = [kind for name, kind in found.items() if name != MIXED]
    if len(single) > 1:
        mixed: Mapping[str, Kind] = {MIXED: found.pop(MIXED)} if MIXED in found else {}
        found[SINGLE] = SingleDomain(single, experts, seed)
        found |= mixed
    return found
