"""One swarm's story: it runs, one thing is changed, it runs again under the same seed, and the
difference decides whether it stays so."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from scripts.ops_grammar import say
from scripts.ops_rules import Finding, detect
from scripts.ops_schema import SETTINGS, Proposal, tier_of
from scripts.ops_worlds import Run, Settings, World, make_world, run

HIGHER_IS_BETTER = frozenset({"tokens_per_s", "agreement", "experts_known"})
TELLING = 0.05  # A relative change below this is none.
PRICE = 0.15  # Of tokens/s, and of bytes: what a change may cost before it counts as a bad one ...
GUARDS = ("tokens_per_s", "bytes_per_token", "short_rounds")  # ... in any of these.

Verdict = Literal["helped", "cost", "nothing", "worse"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One simulated value of a setting (or the change itself) and what was measured with it."""

    value: int | None
    run: Run


@dataclass(frozen=True, slots=True)
class Episode:
    """A world's whole story; `others` are findings that were left alone. `after` is empty for a
    proposal only to watch."""

    world: World
    before: Run
    finding: Finding
    others: tuple[Finding, ...]
    proposal: Proposal
    after: tuple[Trial, ...]
    verdict: Verdict
    best: int | None  # Of a trial's values: the one to keep, or none.


def change(before: float, after: float) -> float:
    """Relative; from nothing to something counts as a doubling."""
    if before == 0:
        return 0.0 if after == 0 else 1.0
    return (after - before) / before


def gain(metric: str, before: Run, after: Run) -> float:
    """Relative change for the better."""
    moved = change(before.metrics[metric], after.metrics[metric])
    return moved if metric in HIGHER_IS_BETTER else -moved


def verdict_on(proposal: Proposal, before: Run, after: Run) -> Verdict:
    """By the first metric that the proposal expects to move, and by what else it cost."""
    target = proposal.expect[0][0]
    gained = gain(target, before, after)
    if after.finished < before.finished or gained < -TELLING:
        return "worse"
    if gained < TELLING:
        return "nothing"
    return (
        "cost"
        if any(gain(guard, before, after) < -PRICE for guard in GUARDS if guard != target)
        else "helped"
    )


def price(proposal: Proposal, before: Run, after: Run) -> str:
    """The guard that moved furthest for the worse."""
    return min(
        (g for g in GUARDS if g != proposal.expect[0][0]), key=lambda g: gain(g, before, after)
    )


def _changed(s: Settings, proposal: Proposal, value: int) -> Settings:
    return replace(s, **{proposal.subject: value})


def live(number: int, seed: int) -> Episode:
    """One world: run it, find what is wrong, change one thing, run it again."""
    world = make_world(number, seed)
    before = run(world)
    rng = random.Random(f"choice/{seed}/{number}")
    findings = detect(before)
    finding = findings[0] if len(findings) == 1 or rng.random() < 0.75 else findings[1]
    others = tuple(f for f in findings if f is not finding)
    proposal = rng.choices(finding.remedies, [4.0, *(1.5 for _ in finding.remedies[1:])])[0]
    proposal = replace(proposal, because=say(rng, proposal.because))
    if proposal.action == "set" and rng.random() < 0.12:
        proposal = _as_trial(finding, proposal)
    match proposal.action:
        case "watch":
            return Episode(world, before, finding, others, proposal, (), "nothing", None)
        case "pause":
            after = run(world, without=proposal.subject)
            return Episode(
                world,
                before,
                finding,
                others,
                proposal,
                (Trial(None, after),),
                verdict_on(proposal, before, after),
                None,
            )
        case _:
            runs = tuple(
                Trial(v, run(world, _changed(world.settings, proposal, v))) for v in proposal.values
            )
    target = proposal.expect[0][0]
    order: tuple[Verdict, ...] = ("helped", "cost", "nothing", "worse")
    ranked = sorted(
        runs,
        key=lambda t: (
            order.index(verdict_on(proposal, before, t.run)),
            -gain(target, before, t.run),
        ),
    )
    verdict = verdict_on(proposal, before, ranked[0].run)
    return Episode(
        world,
        before,
        finding,
        others,
        proposal,
        runs,
        verdict,
        ranked[0].value if verdict in ("helped", "cost") else None,
    )


def _as_trial(finding: Finding, proposal: Proposal) -> Proposal:
    """The same idea, but simulated with several values before anybody decides."""
    setting, before = SETTINGS[proposal.subject], proposal.before or 0
    step = 1 if proposal.values[0] > before else -1
    wanted = {r.values[0] for r in finding.remedies if r.subject == proposal.subject} | {
        proposal.values[0],
        proposal.values[0] + step,
    }
    values = tuple(sorted(v for v in wanted if setting.low <= v <= setting.high and v != before))[
        :3
    ]
    return replace(proposal, action="try", values=values, tier=tier_of("try", proposal.subject))
