"""Run the planted faults of `swarmllm simulate agent` for every proposer, models among them, and
write the table of docs/agent.md.

    python -m scripts.agent_study run OUT [--fault NAME] [--proposer NAME] [--seed N]
    python -m scripts.agent_study sizes OUT          some faults in swarms of 20, 50 and 200 nodes
    python -m scripts.agent_study tasks OUT          a task of each type on its planted case
    python -m scripts.agent_study rank OUT           where models put what mends a fault
    python -m scripts.agent_study table OUT

Everything that was computed is kept in OUT, so what is interrupted goes on where it was. Proposers
that propose the same share a validation. The models are the bundled experts, in this process.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from swarmllm.core.agent.observation import observe
from swarmllm.core.agent.proposers import Proposer, Situation
from swarmllm.core.agent.tasks import TaskType
from swarmllm.core.settings.setting import Setting
from swarmllm.core.validation.statistics import LOOKS, PAIRS_MIN
from swarmllm.sims.agent import PROPOSERS
from swarmllm.sims.frame.store import Store
from swarmllm.sims.planted.faults import BY_NAME, FAULTS, SIZED, SIZES, Fault, sized
from swarmllm.sims.planted.loop import BOUNDS, look, simulated
from swarmllm.sims.planted.tasks import run_task
from swarmllm.sims.planted.trial import Trial

if TYPE_CHECKING:
    from scripts.agent_model import ModelProposer

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "agent.md"
RESULTS: Final = ROOT / "sims" / "planted" / "results.json"
BEGIN: Final = "<!-- made by scripts/agent_study.py -->"
END: Final = "<!-- end -->"
SEED: Final = 77
SECOND: Final = 78  # Of rules alone, for some of the faults.
VALIDATIONS: Final = 10
FRESH: Final = 12
FRESH_SIZED: Final = 12


def model_proposers() -> dict[str, Callable[[], ModelProposer]]:
    """Loaded when one is asked for."""
    from scripts.agent_model import EXPERTS, ModelProposer, Pool

    def made(name: str, experts: tuple[str, ...]) -> ModelProposer:
        return ModelProposer(name, Pool(experts))

    return {
        "ops": lambda: made("ops", ("ops",)),
        "ensemble": lambda: made("ensemble", EXPERTS),
    }


MODELS: Final = ("ops", "ensemble")
ALL: Final = (*PROPOSERS, *MODELS)
SHOWN: Final = ("rules_search", "rules", "search", "random", *MODELS)
Results = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What each trial gets; `pairs` of seeds in each test of a validation, at most."""

    seed: int = SEED
    validations: int = VALIDATIONS
    pairs: int = PAIRS_MIN
    fresh: int = FRESH

    def key(self, proposer: str) -> str:
        return f"trial {proposer} {self.seed} {self.validations} {self.fresh} {self.pairs}"


def run(out: Path, faults: list[Fault], proposers: list[str], plan: Plan) -> None:
    for fault in faults:
        for name in proposers:
            store = Store(out / fault.name)
            key = plan.key(name)
            if store.get(key) is None:
                made: Proposer | ModelProposer
                made = PROPOSERS[name]() if name in PROPOSERS else model_proposers()[name]()
                planned = plan.seed, plan.validations, plan.fresh, plan.pairs
                found = Trial(fault, made, *planned).run(store)
                found["calls"] = float(getattr(made, "calls", 0))
                store.add(key, {"results": found})
                sys.stdout.write(f"{fault.name} {name} {json.dumps(found)}\n")
                sys.stdout.flush()
            store.close()


def sizes() -> list[Fault]:
    return [sized(BY_NAME[name], nodes) for name in SIZED for nodes in SIZES]


def sizes_page(found: Results) -> list[str]:
    """The share that is won back, by fault and size, beside the loss; empty if none was run."""
    if not any(found.values()):
        return []
    lines = [
        "| fault | " + " | ".join(f"{nodes} nodes: loss, %; won back" for nodes in SIZES) + " |",
        "|---|" + "---:|" * len(SIZES),
    ]
    for name in SIZED:
        its = [found.get(f"{name}_{nodes}", {}).get("rules_search") for nodes in SIZES]
        cells = [f"{o['loss']:.0f}; {100 * o['won_back']:.0f} %" if o else "" for o in its]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def run_tasks(out: Path, seed: int) -> None:
    store = Store(out / "tasks")
    for kind in TaskType:
        if store.get(f"task {kind} {seed}") is None:
            found = asdict(run_task(kind, seed, partial(simulated, store=store)))
            store.add(f"task {kind} {seed}", {"results": found})
            sys.stdout.write(f"{json.dumps(found)}\n")
            sys.stdout.flush()
    store.close()


def tasks_page(tasks: dict[str, Any]) -> list[str]:
    lines = [
        "| task | planted case | result | actionable | simulations |",
        "|---|---|---|---|---:|",
    ]
    for kind, one in tasks.items():
        shown = f"`{kind}` | `{one['case']}` | {one['result']}"
        yes = "yes" if one["is_actionable"] else "no"
        lines.append(f"| {shown} | {yes} | {one['validations']} |")
    return lines


def rank(out: Path, faults: list[Fault], models: Sequence[str], seed: int) -> None:
    """The place of the first change that goes from the fault towards what is healthy, among all
    that a search could propose; `chance` is where it is to be expected in a list without order."""
    for name in models:
        proposer = model_proposers()[name]()
        for fault in faults:
            store = Store(out / fault.name)
            if store.get(f"rank {name} {seed}") is None:
                looked = look(fault.place, fault.values, seed)
                seen = observe(looked.recording, looked.snapshot)
                ranked = proposer.ranking(Situation(seen, fault.values, BOUNDS, ()))
                places = [n for n, one in enumerate(ranked, 1) if mends(fault, *one)]
                chance = (len(ranked) + 1) / (len(places) + 1)
                found = {"place": places[0], "of": len(ranked), "chance": chance}
                store.add(f"rank {name} {seed}", {"results": found})
                sys.stdout.write(f"{fault.name} {name} {json.dumps(found)}\n")
                sys.stdout.flush()
            store.close()


def mends(fault: Fault, setting: Setting[Any], value: int) -> bool:
    """Whether this is a step of the planted setting in the right direction."""
    if setting not in fault.values:
        return False
    now, healthy = fault.values[setting], fault.healthy.get(setting, setting.default)
    return now < value if now < healthy else value < now


def collect_ranks(out: Path, seed: int) -> Results:
    """By model and fault."""
    found: Results = {name: {} for name in MODELS}
    for fault in FAULTS:
        store = Store(out / fault.name)
        for name in MODELS:
            if (held := store.get(f"rank {name} {seed}")) is not None:
                found[name][fault.name] = dict(held)
        store.close()
    return found


def second_page(second: Results) -> list[str]:
    its = {fault: trials["rules"] for fault, trials in second.items() if "rules" in trials}
    if not its:
        return []
    shown = ", ".join(f"`{fault}` {100 * one['won_back']:.0f} %" for fault, one in its.items())
    mended = sum(one["mended"] for one in its.values())
    return [f"With a second seed, rules mend {mended:.0f} of {len(its)} that were run: {shown}."]


def ranks_page(ranks: Results) -> list[str]:
    lines = [
        "| model | faults | place of the first change that mends, mean | by chance |"
        " earlier than chance |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, found in ranks.items():
        its = list(found.values())
        if its:
            place, chance = fmean(o["place"] for o in its), fmean(o["chance"] for o in its)
            earlier = sum(one["place"] < one["chance"] for one in its)
            lines.append(
                f"| {name} | {len(its)} | {place:.0f} of {its[0]['of']:.0f} | {chance:.0f} |"
                f" {earlier} of {len(its)} |"
            )
    return lines


def collect_tasks(out: Path, seed: int) -> dict[str, Any]:
    store = Store(out / "tasks")
    found = {str(kind): store.get(f"task {kind} {seed}") for kind in TaskType}
    store.close()
    return {kind: dict(one) for kind, one in found.items() if one is not None}


def collect(out: Path, plan: Plan, faults: Sequence[Fault] = FAULTS) -> Results:
    """By fault and proposer. A trial that had more validations and used no more than these is the
    same with these."""
    found: Results = {}
    for fault in faults:
        store = Store(out / fault.name)
        trials = {name: _trial(store, plan, name) for name in ALL}
        found[fault.name] = {name: dict(one) for name, one in trials.items() if one is not None}
        store.close()
    return found


def _trial(store: Store, plan: Plan, name: str) -> Mapping[str, float] | None:
    for validations in range(plan.validations, VALIDATIONS + 1):
        held = store.get(replace(plan, validations=validations).key(name))
        if held is not None and held["validations_used"] <= plan.validations:
            return held
    return None


def page(results: Results, validations: int) -> str:
    names = [name for name in SHOWN if any(name in one for one in results.values())]
    lines = [
        "| fault | loss, % | " + " | ".join(names) + " |",
        "|---|---:|" + "---:|" * len(names),
    ]
    for fault, trials in results.items():
        if not trials:
            continue
        loss = next(iter(trials.values()))["loss"]
        shares = [f"{100 * trials[n]['won_back']:.0f} %" if n in trials else "" for n in names]
        lines.append(f"| `{fault}` | {loss:.0f} | " + " | ".join(shares) + " |")
    common = {fault: one for fault, one in results.items() if set(names) <= set(one)}
    said = (
        f"Over the {len(common)} faults that all of them had, with at most {validations}"
        " validations each:"
    )
    return "\n".join([*lines, "", said, "", *_summary(common, names)])


def _summary(results: Results, names: list[str]) -> list[str]:
    lines = [
        "| proposer | mended | actionable | improving | won back | validations | model calls |"
        " simulated hours |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in names:
        its = [trials[name] for trials in results.values() if name in trials]
        suggested = sum(one["suggested"] for one in its)

        def share(what: str, its: list[dict[str, float]] = its, of: float = suggested) -> str:
            return f"{100 * sum(one[what] * one['suggested'] for one in its) / max(1, of):.0f} %"

        won = sum(max(0.0, one["won_back"]) for one in its) / max(1, len(its))
        lines.append(
            f"| {name} | {sum(one['mended'] for one in its):.0f} of {len(its)} |"
            f" {share('actionable')} | {share('improving')} | {100 * won:.0f} % |"
            f" {sum(one['validations_used'] for one in its):.0f} |"
            f" {sum(one['calls'] for one in its):.0f} |"
            f" {sum(one['simulated_s'] for one in its) / 3600:.0f} |"
        )
    return lines


def write_page(kept: dict[str, Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    parts = (
        [page(kept["faults"], kept["validations"])],
        sizes_page(kept["sizes"]),
        second_page(kept["second"]),
        ranks_page(kept["ranks"]),
        tasks_page(kept["tasks"]),
    )
    made = "\n\n".join("\n".join(part) for part in parts if part)
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("run", "sizes", "tasks", "rank", "table"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--fault", choices=tuple(BY_NAME), action="append")
    parser.add_argument("--proposer", choices=ALL, action="append")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--validations", type=int, default=VALIDATIONS)
    parser.add_argument("--pairs", type=int, choices=tuple(LOOKS), default=PAIRS_MIN)
    options: Any = parser.parse_args()
    if options.what == "run":
        faults = [BY_NAME[name] for name in options.fault or BY_NAME]
        plan = Plan(options.seed, options.validations, options.pairs)
        run(options.out, faults, options.proposer or list(ALL), plan)
        return
    if options.what == "rank":
        models = [name for name in options.proposer or MODELS if name in MODELS]
        faults = [BY_NAME[name] for name in options.fault or BY_NAME]
        rank(options.out, faults, models, options.seed)
        return
    if options.what == "sizes":
        run(options.out, sizes(), ["rules_search"], Plan(options.seed, fresh=FRESH_SIZED))
        return
    if options.what == "tasks":
        run_tasks(options.out, options.seed)
        return
    plan = Plan(options.seed, options.validations)
    earlier = json.loads(RESULTS.read_text(encoding="utf-8"))  # For what OUT has nothing of.
    second = collect(options.out, Plan(SECOND))
    kept = {
        "validations": plan.validations,
        "faults": collect(options.out, plan),
        "sizes": collect(options.out, Plan(options.seed, fresh=FRESH_SIZED), sizes()),
        "second": second if any(second.values()) else earlier["second"],
        "tasks": collect_tasks(options.out, options.seed) or earlier["tasks"],
        "ranks": collect_ranks(options.out, options.seed),
    }
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    write_page(kept)


if __name__ == "__main__":
    main()
