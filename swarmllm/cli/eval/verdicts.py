"""Generates the report's conclusions from the measured numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.cli.eval.findings import Kind
from swarmllm.cli.eval.names import (
    ADAPTIVE,
    BASELINES,
    EXPERT,
    LONE,
    OURS,
    RUNNING,
    WHOLE,
    title_of,
)
from swarmllm.cli.eval.statistics import Estimate
from swarmllm.cli.eval.texts import MIXED, SINGLE

CLOSE_SHARE: Final = 0.01  # On text of one domain: within this share of the best expert.


@dataclass(frozen=True, slots=True)
class Verdict:
    """`holds` is None where the numbers cannot tell (the interval lies on both sides)."""

    name: str
    method: str
    text: str
    holds: bool | None
    sentence: str


def verdicts(kinds: Mapping[str, Kind], experts: Sequence[str]) -> list[Verdict]:
    """On mixed text: whoever pools all experts against everything, adaptive K against whatever asks
    one expert and against chance with the same budget. On each single domain: each of our methods
    against its best expert."""
    if len(experts) < 2:
        return []
    found = []
    if MIXED in kinds:
        mixed = kinds[MIXED]
        single = [f"{EXPERT}{k}" for k in range(mixed.experts)]
        for method in WHOLE:
            found.append(
                _against(
                    mixed,
                    method,
                    experts,
                    [*single, *(b for b in BASELINES if b in mixed.totals)],
                    "beats_all",
                )
            )
        found.append(_against(mixed, "em_soft_bayes", experts, list(RUNNING), "beats_running"))
        for method in ADAPTIVE:
            found.append(
                _against(
                    mixed,
                    method,
                    experts,
                    [*single, *(b for b in LONE if b in mixed.totals)],
                    "beats_single",
                )
            )
            found.append(_against(mixed, method, experts, [f"random {method}"], "beats_random"))
    for method in OURS:
        found += [
            _close(kind, method, experts)
            for text, kind in kinds.items()
            if text not in {MIXED, SINGLE}
        ]
    return found


WHOM: Final = {
    "beats_all": "every single expert and every baseline",
    "beats_running": "the baselines that also follow the text",
    "beats_single": "every single expert and every baseline that asks one",
    "beats_random": "asking as often at random",
}


def _against(
    kind: Kind, method: str, experts: Sequence[str], others: Sequence[str], name: str
) -> Verdict:
    """Against all of them means against the best of them, and with certainty only if no interval
    reaches 0."""
    differences = {other: kind.difference(method, other) for other in others}
    strongest = max(differences, key=lambda other: differences[other].mean)
    worst = differences[strongest]
    sure = all(difference.high < 0 for difference in differences.values())
    holds = True if sure else False if worst.low > 0 else None
    verb = {True: "beats", False: "does not beat", None: "cannot be told from"}[holds]
    of_them = (
        f" against the strongest of them, {title_of(strongest, experts)}" if len(others) > 1 else ""
    )
    asked = (
        f" with {kind.asked[method]:.2f} experts asked per token" if method in kind.asked else ""
    )
    sentence = (
        f"On {kind.text} text {title_of(method, experts)}{asked} {verb} {WHOM[name]}:"
        f" {signed(worst)} nats per token{of_them}."
    )
    return Verdict(name, method, kind.text, holds, sentence)


def _close(kind: Kind, method: str, experts: Sequence[str]) -> Verdict:
    best = kind.best_single
    difference = kind.difference(method, best)
    base = kind.estimate(kind.totals[best]).mean
    share = difference.mean / base
    holds = share <= CLOSE_SHARE
    sentence = (
        f"On {kind.text} text {title_of(method, experts)} is {'' if holds else 'not '}within"
        f" {CLOSE_SHARE:.0%} of the best expert ({title_of(best, experts)}): {100 * share:+.2f} %"
        f" [{100 * difference.low / base:+.2f}, {100 * difference.high / base:+.2f}]."
    )
    return Verdict("close_to_best", method, kind.text, holds, sentence)


def signed(estimate: Estimate) -> str:
    return f"{estimate.mean:+.3f} ± {estimate.half:.3f}"
