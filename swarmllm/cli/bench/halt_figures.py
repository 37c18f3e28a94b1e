"""From halts to measurements: percentiles over all nodes and halts, what was to be reached, and
what this machine's cores allow.

The least that is possible is told beside each time: the CPU time that all nodes together need to
set their flags, spread over all cores without a pause. On a machine for each node the same work
would take one node's share of it, and the distance between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from rich.table import Table

from swarmllm.adapters.limits import cores
from swarmllm.cli.bench.halt_cycle import Cycle
from swarmllm.cli.bench.halt_swarm import Scenario
from swarmllm.cli.bench.report import Measurement
from swarmllm.cli.operators.drill import summary
from swarmllm.cli.screen import Line

P99_GOAL_MS: Final = 600.0
MAX_GOAL_MS: Final = 1_000.0
GOALS: Final = {"p99": P99_GOAL_MS, "max": MAX_GOAL_MS}
# What other programs may take of the machine during a halt that is called undisturbed.
QUIET_CORES: Final = 0.25
TURN_GOAL_MS: Final = 100.0  # Of any node's event loop, whatever hostile peers do.


@dataclass
class Result:
    """What was measured of one swarm in one scenario so far."""

    scenario: Scenario
    nodes: int
    neighbours: float = 0.0
    idle_cpu: float = 0.0  # Cores that all nodes together take at rest.
    cycles: list[Cycle] = field(default_factory=list)
    flooded: dict[str, int] = field(default_factory=dict)

    @property
    def quiet(self) -> list[Cycle]:
        """The halts during which this machine did little else. Flooders are programs of ours that
        count as others."""
        return [
            cycle
            for cycle in self.cycles
            if self.scenario.flooders or cycle.others_cores <= QUIET_CORES
        ]

    @property
    def cpu_to_flag_ms(self) -> float:
        """Of one node (mean) at one halt (median): from just before publication to its flag."""
        return 1000 * median(cycle.cpu_to_flag_s for cycle in self.cycles) / self.nodes

    @property
    def cpu_ms(self) -> float:
        """The same without what it takes at rest, until the disk, relays and acknowledgements are
        done, too."""
        return 1000 * median(cycle.cpu_s for cycle in self.cycles) / self.nodes


def measurements(result: Result, plain: Result | None) -> list[Measurement]:
    """`plain`: a swarm without streams, whose CPU time is the halt's alone. None while there is
    none: then its own counts."""
    if not result.cycles:
        return []
    sheet = _Sheet(result, plain if plain is not None and plain.cycles else result)
    _flags(sheet)
    if result.scenario.streaming:
        _tokens(sheet)
    if result.scenario.frozen:
        _after_freeze(sheet)
    _machine(sheet)
    _aftermath(sheet)
    if result.scenario.streaming:
        _writing_rate(sheet)
    else:
        _cpu(sheet)
    return sheet.found


class _Sheet:
    """The measurements of one scenario, as they are found."""

    def __init__(self, result: Result, basis: Result) -> None:
        scenario = result.scenario
        self.result, self.cycles, self.scenario = result, result.cycles, scenario
        self.found: list[Measurement] = []
        self.parameters: dict[str, object] = {
            "scenario": scenario.name,
            "nodes": result.nodes,
            "halts": len(result.cycles),
        }
        # All nodes need this much CPU time before the last has set its flag.
        self.least_ms = result.nodes * basis.cpu_to_flag_ms / cores()

    def times(
        self,
        name: str,
        values: Sequence[float],
        goals: dict[str, float] | None = None,
        least: float | None = None,
    ) -> None:
        """Percentiles of `values`, in milliseconds; nothing if there are none."""
        least = self.least_ms if least is None else least
        for what, value in (summary(values) if values else {}).items():
            self.found.append(
                Measurement(
                    name,
                    value,
                    "ms",
                    least,
                    self.parameters | {"of": what},
                    (goals or {}).get(what),
                    _details(self.result),
                )
            )

    def one(
        self,
        name: str,
        value: float,
        unit: str,
        least: float = 0.0,
        goal: float | None = None,
        of: str | None = None,
    ) -> None:
        parameters = self.parameters | ({} if of is None else {"of": of})
        self.found.append(Measurement(name, value, unit, least, parameters, goal))


def _flags(sheet: _Sheet) -> None:
    """From the order to the flag of each node."""
    cycles, quiet = sheet.cycles, sheet.result.quiet
    every = [ms for cycle in cycles for ms in cycle.flags]
    sheet.times("halt: order to flag, each node", every, GOALS)
    if 0 < len(quiet) < len(cycles):
        undisturbed = [ms for cycle in quiet for ms in cycle.flags]
        sheet.times("halt: order to flag, undisturbed halts", undisturbed)
        if sheet.scenario.streaming:
            last = [ms for cycle in quiet for ms in cycle.last_tokens]
            sheet.times("halt: order to last token, undisturbed halts", last)
    _cut_off(sheet)
    latest = [max(cycle.flags, default=0.0) for cycle in cycles]
    sheet.times("halt: order to the last flag", latest)


def _cut_off(sheet: _Sheet) -> None:
    """Nodes without any connection cannot receive the order: they count with all others, and are
    told besides."""
    cut_off = [ms for cycle in sheet.cycles for ms in cycle.cut_off]
    if not cut_off:
        return
    sheet.times("halt: order to flag, nodes that were cut off meanwhile", cut_off, least=0.0)
    sheet.one("halt: nodes that were cut off meanwhile", len(cut_off), "nodes")
    late = sum(cycle.late_cut_off for cycle in sheet.cycles)
    sheet.one("halt: tokens and scores after 1 s by nodes that were cut off", late, "tokens")


def _tokens(sheet: _Sheet) -> None:
    """From the order to the last token that each node made."""
    last = [ms for cycle in sheet.cycles for ms in cycle.last_tokens]
    sheet.times("halt: order to last token, each node", last, GOALS)
    late = sum(cycle.late for cycle in sheet.cycles)
    sheet.one("halt: tokens and scores after 1 s", late, "tokens", goal=0.0)


def _after_freeze(sheet: _Sheet) -> None:
    """Nodes that were suspended while the order went round, from when they go on."""
    cycles = sheet.cycles
    # No goal: after the longest pauses peers have given it up, and it has to find them first.
    sheet.times("halt: SIGCONT to flag, each node", [ms for cycle in cycles for ms in cycle.thawed])
    after = sum(cycle.thawed_tokens for cycle in cycles)
    late = sum(cycle.thawed_late for cycle in cycles)
    sheet.one("halt: tokens and scores after SIGCONT", after, "tokens")
    sheet.one("halt: tokens and scores later than 1 s after SIGCONT", late, "tokens", goal=0.0)


def _machine(sheet: _Sheet) -> None:
    """How busy this machine and its nodes' event loops were meanwhile."""
    cycles = sheet.cycles
    busy = median(cycle.busy_cores for cycle in cycles)
    sheet.one("cores busy from the order to the last flag", busy, "cores", float(cores()))
    gaps = [cycle.gap_ms for cycle in cycles]
    sheet.times("event loop: longest turn of any node, by the clock", gaps)
    turns = [cycle.turn_ms for cycle in cycles]
    goals = {"max": TURN_GOAL_MS} if sheet.scenario.flooders else {}
    sheet.times("event loop: longest turn of any node, CPU time", turns, goals, least=0.0)


def _aftermath(sheet: _Sheet) -> None:
    cycles = sheet.cycles
    missed = sum(cycle.missed for cycle in cycles)
    sheet.one("halt: nodes that missed it", missed, "nodes", goal=0.0)
    on_disk = [cycle.on_disk_ms for cycle in cycles]
    sheet.times("halt: order to all neighbours' disks", on_disk)
    sheet.times("resume: to the last node", [cycle.resumed_ms for cycle in cycles])


def _writing_rate(sheet: _Sheet) -> None:
    rate, pace = median(cycle.rate for cycle in sheet.cycles), sheet.scenario.pace
    # What one session alone would get.
    alone = 1 / (pace.step_s + pace.session_s) if pace.step_s else rate
    sheet.one("tokens per second and writer before the order", rate, "tokens/s", alone)


def _cpu(sheet: _Sheet) -> None:
    """What a halt costs without any other load, and so the part of a time that is this machine's
    few cores."""
    to_flag = sheet.result.cpu_to_flag_ms
    sheet.one("CPU time of a node to its flag", to_flag, "ms", to_flag, of="p50")
    sheet.one("CPU time of a node for a halt", sheet.result.cpu_ms, "ms", to_flag, of="p50")


def _details(result: Result) -> dict[str, object]:
    tokens, pooled = sum(c.tokens for c in result.cycles), sum(c.pooled for c in result.cycles)
    return {
        "cores": cores(),
        "neighbours": round(result.neighbours, 1),
        "idle_cores": round(result.idle_cpu, 3),
        "cpu_per_halt_and_node_ms": round(result.cpu_ms, 2),
        "cpu_to_flag_per_node_ms": round(result.cpu_to_flag_ms, 2),
        "others_cores": round(median(cycle.others_cores for cycle in result.cycles), 2),
        "undisturbed": len(result.quiet),
        "writers": min(result.nodes, result.scenario.writers_max)
        if result.scenario.streaming
        else 0,
        "tokens_seen": tokens,
        "tokens_per_s_and_writer": round(median(cycle.rate for cycle in result.cycles), 2),
        "experts_per_token": round(pooled / tokens, 2) if tokens else 0.0,
        "flooders_sent": result.flooded,
    }


def table(found: Sequence[Measurement]) -> Table:
    """One row for each thing that was measured in a scenario, its p50, p99 and max beside each
    other."""
    shown = Table(
        title="halts, in milliseconds unless it says otherwise",
        title_justify="left",
        pad_edge=False,
    )
    shown.add_column("what")
    for heading in ("p50", "p99", "max", "least"):
        shown.add_column(heading, justify="right")
    shown.add_column("goal")
    rows: dict[tuple[object, ...], list[Measurement]] = {}
    for one in found:
        of = one.parameters
        rows.setdefault((of["scenario"], of["nodes"], of["halts"], one.name), []).append(one)
    last: tuple[object, ...] = ()
    for (scenario, nodes, halts, name), ones in rows.items():
        if (scenario, nodes) != last:
            shown.add_section()
            shown.add_row(
                Line().append(str(scenario), "bold").append(f": {nodes} nodes, {halts} halts")
            )
            last = (scenario, nodes)
        values = {str(one.parameters.get("of", "all")): one for one in ones}
        cells = [_cell(values.get(of)) for of in ("p50", "p99", "max")]
        if not any(cells):
            cells[0] = _cell(values["all"])
        goals = [_goal(of, one) for of, one in values.items() if one.goal is not None]
        shown.add_row(f"  {name}", *cells, f"{ones[0].ceiling:.0f}", Line(", ").join(goals))
    return shown


def _cell(one: Measurement | None) -> str:
    if one is None:
        return ""
    if one.unit in {"cores", "tokens/s"}:
        return f"{one.value:.2f}"
    return f"{one.value:.1f}" if one.unit == "ms" and one.value < 10 else f"{one.value:.0f}"


def _goal(of: str, one: Measurement) -> Line:
    colour, verdict = ("green", "reached") if one.reached else ("red", "missed")
    return Line(f"{of} ").append(f"≤ {one.goal:.0f} {verdict}", colour)


def sentences(results: Sequence[Result]) -> list[str]:
    """What the figures owe to this machine, for people."""
    plain = [result for result in results if not result.scenario.streaming and result.cycles]
    found = [
        (
            f"{result.scenario.name}, {result.nodes} nodes:"
            f" during {len(result.cycles) - len(result.quiet)} of {len(result.cycles)} halts other"
            f" programs took more than {QUIET_CORES} cores."
        )
        for result in results
        if len(result.quiet) < len(result.cycles)
    ]
    for result in plain:
        whole_ms = result.nodes * result.cpu_to_flag_ms / cores()
        found.append(
            f"{result.nodes} nodes on {cores()} cores: {result.cpu_to_flag_ms:.1f} ms of CPU time"
            f" per node until its flag is set, so {whole_ms:.0f} ms if the cores did nothing else;"
            f" {result.cpu_ms:.1f} ms per node until everything is told and on disk."
        )
    return found
