"""`swarmllm bench halt`: how long after an order does the last token come, anywhere, and what
becomes of that under attack?

Real: processes, kill switch, disks, libp2p over loopback TCP. Scripted: engine and vocabulary
(`halt_host`), so that fifty nodes fit one machine; a real engine adds its own stop, which is
measured elsewhere (its worker is killed 50 ms after the flag). Not there: distance, except in the
scenario `slow`, and other machines: all nodes share these cores, so the same is measured with few
nodes as well and the CPU time of a halt is told beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.cli.bench import Say
from swarmllm.cli.bench.halt_cycle import idle_rate, one_halt, stream
from swarmllm.cli.bench.halt_figures import Result, measurements, sentences, table
from swarmllm.cli.bench.halt_swarm import NODES_MAX, SCENARIOS, Crew, Scenario, Swarm, open_swarm
from swarmllm.cli.bench.report import Report
from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import answer, people, print_record
from swarmllm.errors import UsageError

NODES, HALTS = 50, 1_000
NODES_QUICK, HALTS_QUICK = 12, 30
NODES_MIN: Final = 4
HALTS_MAX: Final = 100_000
USUAL: Final = ("plain", "streaming")
FEW: Final = 5  # The swarm beside it has so many times fewer nodes and a tenth of the halts.
SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Plan:
    nodes: int
    halts: int
    scenarios: tuple[Scenario, ...]


def plan_of(
    nodes: int | None, halts: int | None, scenarios: Sequence[str], *, every: bool, quick: bool
) -> Plan:
    """UsageError for a number or a name that makes no sense."""
    nodes = (NODES_QUICK if quick else NODES) if nodes is None else nodes
    halts = (HALTS_QUICK if quick else HALTS) if halts is None else halts
    if not NODES_MIN <= nodes <= NODES_MAX:
        raise UsageError(f"--nodes is {nodes}, and it must be from {NODES_MIN} to {NODES_MAX}")
    if not 1 <= halts <= HALTS_MAX:
        raise UsageError(f"--halts is {halts}, and it must be from 1 to {HALTS_MAX}")
    for name in scenarios:
        if name not in SCENARIOS:
            raise UsageError(
                f"--scenario {name!r} is not known; choose among {', '.join(SCENARIOS)}"
            )
    wanted = tuple(SCENARIOS) if every else tuple(scenarios) or USUAL
    return Plan(nodes, halts, tuple(SCENARIOS[name] for name in dict.fromkeys(wanted)))


def bench_halt(plan: Plan, *, as_json: bool) -> int:
    """Exit code 0 if everything was measured. What was measured before an interruption or a fault
    is told all the same."""
    console = people()
    results: list[Result] = []
    crews: list[Crew] = []
    with console.status("starting") as status:

        def say(text: str) -> None:
            status.update(text)

        async def body() -> int:
            for scenario, nodes, halts in _runs(plan):
                result = Result(scenario, nodes)
                results.append(result)
                await _run(result, halts, crews, say, as_json=as_json)
            return OK

        def kill() -> None:
            for crew in crews:
                crew.kill()

        try:
            code = run(body, at_force=kill)
        finally:
            status.stop()
            _tell(results, as_json=as_json)
    return code


def _runs(plan: Plan) -> list[tuple[Scenario, int, int]]:
    """(scenario, nodes, halts): first with few nodes, whose CPU times at rest belong to all others;
    the same scenarios as usual with them too, so that what many nodes on few cores cost each other
    can be seen."""
    few = plan.nodes // FEW
    names = (
        ("plain", *(s.name for s in plan.scenarios if s.name in USUAL)) if few >= NODES_MIN else ()
    )
    small = [(SCENARIOS[name], few, max(3, plan.halts // 10)) for name in dict.fromkeys(names)]
    return [*small, *((scenario, plan.nodes, plan.halts) for scenario in plan.scenarios)]


async def _run(result: Result, halts: int, crews: list[Crew], say: Say, *, as_json: bool) -> None:
    scenario = result.scenario
    async with open_swarm(scenario, result.nodes, crews, say, SEED) as swarm:
        result.neighbours = swarm.neighbours
        result.idle_cpu = await idle_rate(swarm)
        if scenario.streaming:
            say(f"{scenario.name}: until all writers write")
            await stream(swarm)
        for index in range(halts):
            last = (
                f", last: {max(result.cycles[-1].flags, default=0):.0f} ms" if result.cycles else ""
            )
            say(f"{scenario.name}, {result.nodes} nodes: halt {index + 1} of {halts}{last}")
            cycle = await one_halt(swarm, scenario, index, result.idle_cpu)
            result.cycles.append(cycle)
            if as_json:
                print_record(cycle.record(scenario, result.nodes))
        result.flooded = await _flooded(swarm)


async def _flooded(swarm: Swarm) -> dict[str, int]:
    return {host.name: int((await host.ask("report", "report"))["sent"]) for host in swarm.flooders}


def _tell(results: Sequence[Result], *, as_json: bool) -> None:
    plain = next((r for r in results if not r.scenario.streaming and r.cycles), None)
    report = Report(as_json=as_json)
    for result in results:
        for measurement in measurements(result, plain):
            report.add(measurement)
    if as_json or not report.measurements:
        return
    console = answer()
    console.print(table(report.measurements))
    for sentence in sentences(results):
        console.print(sentence, soft_wrap=True)
    goals = [m for m in report.measurements if m.goal is not None]
    console.print(f"{sum(bool(m.reached) for m in goals)} of {len(goals)} goals reached.")
