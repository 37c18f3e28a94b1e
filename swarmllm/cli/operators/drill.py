"""`swarmllm halt drill`: how long does a halt take to reach every node? Found out on a swarm that
exists for nothing else.

The nodes are processes like any other, under a charter whose keys are thrown away afterwards; each
halt is published through another of them. The clock of one machine stamps both ends: just before
the order goes to the publisher's socket, and in each node when it tells that it has halted (to the
millisecond). All nodes share this machine's cores, so a drill is slower than a swarm of as many
machines, and knows nothing of the distances between them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.cli.guard import OK, run
from swarmllm.cli.operators.publishing import START_S, hand_over
from swarmllm.cli.operators.throwaway_keys import Ring
from swarmllm.cli.output import answer, notice, print_record
from swarmllm.cli.processes import Fleet, NodeProcess, kill_all, open_fleet
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import Silence
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.service.record import Record

SWARM: Final = "drill"  # A name of its own: nobody else's node is ever asked.
CONNECT_S: Final = 60.0
# Twenty times what is promised: past that the drill has failed, and says where.
HALT_S: Final = 20.0
WAIT_S: Final = 10.0  # For all acknowledgements.
LOOK_EVERY_S: Final = 0.2
BARS_MAX: Final = 12
BAR_CHARS: Final = 40


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds from publication: of every node at every halt, of the last node at each halt,
    and of the last acknowledgement."""

    each: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    on_disk: list[float] = field(default_factory=list)
    resumed: list[float] = field(default_factory=list)


def drill(config: Config, nodes: int, halts: int, *, as_json: bool) -> int:
    """Exit code 0 if every node halted and resumed every time; LocalError names the first that did
    not."""
    fleets: list[Fleet] = []
    times = Times()

    async def body() -> int:
        with temporary_folder() as folder:
            async with open_fleet(folder) as fleet:
                fleets.append(fleet)
                with Silence(f"{nodes} nodes start") as silence:
                    await _drill(
                        config, fleet, folder, nodes, halts, times, silence, as_json=as_json
                    )
        return OK

    code = run(body, at_force=lambda: kill_all(fleets))
    if len(times.resumed) == halts:
        _report(times, nodes, halts, as_json=as_json)
    return code


async def _drill(
    config: Config,
    fleet: Fleet,
    folder: Path,
    nodes: int,
    halts: int,
    times: Times,
    silence: Silence,
    *,
    as_json: bool,
) -> None:
    ring = Ring()
    file = ring.write(folder / "charter")
    notice(f"Starting {nodes} nodes without models, on this machine alone.")
    await _start(config, fleet, file, nodes)
    silence.at(f"{halts} halts of {nodes} nodes")
    for index in range(halts):
        publisher = fleet.nodes[index % nodes]
        order, data = ring.halt()
        began_at = time.time()
        delivery = await hand_over(publisher.folder, [data], WAIT_S, as_json=False)
        if delivery.refused:
            raise LocalError(f"{publisher.name} refused the order: {delivery.refused[0]}")
        halted = [
            await node.wait_for("halted", HALT_S, partial(_is_order, order.seq), "its halt")
            for node in fleet.nodes
        ]
        spent = [max(0.0, 1000 * (float(record["time"]) - began_at)) for record in halted]
        times.each.extend(spent)
        times.last.append(max(spent))
        times.on_disk.append(delivery.ms)
        if as_json:
            ms = [round(one, 1) for one in spent]
            print_record(
                {
                    "event": "halt",
                    "index": index,
                    "by": publisher.peer,
                    "seq": order.seq,
                    "ms": ms,
                    "last_ms": max(ms),
                }
            )
        # Each told of its start as of a resume.
        before = {node.name: len(_resumes(node)) for node in fleet.nodes}
        began_at = time.time()
        await hand_over(publisher.folder, [ring.resume(order)], WAIT_S, as_json=False)
        back = [await _resumed(node, before[node.name]) for node in fleet.nodes]
        times.resumed.append(max(0.0, 1000 * (max(back) - began_at)))


def _is_order(seq: int, record: Record) -> bool:
    return record.get("seq") == seq


async def _start(config: Config, fleet: Fleet, charter: Path, nodes: int) -> None:
    """All of them, each connected to the first. LocalError if one is not within the time."""
    flags = [
        "--model",
        "none",
        "--no-lan",
        "--listen",
        "127.0.0.1",
        "--port",
        "0",
        "--swarm",
        SWARM,
    ]
    flags += ["--charter", str(charter), "--cache-dir", str(config.cache_dir)]
    first = await fleet.start("node 1", flags)
    ready = await first.wait_for("ready", START_S)
    for number in range(2, nodes + 1):
        await fleet.start(f"node {number}", [*flags, "--peer", str(ready["invite"])])
    for node in fleet.nodes:
        # They load their vocabularies all at once.
        await node.wait_for("ready", START_S + 5 * nodes)
    with trio.move_on_after(CONNECT_S):
        while len((await ask(first.folder, "halt_status"))["peers"]) < nodes - 1:  # noqa: ASYNC110  It tells only when asked.
            await trio.sleep(LOOK_EVERY_S)
        return
    raise LocalError(
        f"the {nodes} nodes were not connected within {CONNECT_S:.0f} s; try --nodes with fewer"
    )


def _resumes(node: NodeProcess) -> list[Record]:
    return [record for record in node.records if record.get("event") == "resumed"]


async def _resumed(node: NodeProcess, before: int) -> float:
    """When (Unix time) the node told that it resumed, once it has done so more often than
    `before`."""
    with trio.move_on_after(HALT_S):
        while len(found := _resumes(node)) <= before:
            await node.change()
        return float(found[before]["time"])
    raise LocalError(f"{node.name} did not resume within {HALT_S:.0f} s{node.last_words()}")


# --- the report -----------------------------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(values: Sequence[float]) -> dict[str, float]:
    return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values)}


def histogram(values: Sequence[float]) -> list[str]:
    """Lines of text: from - to, how many, and a bar. The steps are equal, of 1, 2 or 5 times a
    power of ten milliseconds."""
    low, high = min(values), max(values)
    step = 10.0 ** math.floor(math.log10(max(1.0, (high - low) / BARS_MAX)))
    step = next(
        size
        for size in (step, 2 * step, 5 * step, 10 * step, 20 * step)
        if (high // size) - (low // size) < BARS_MAX
    )
    first = math.floor(low / step)
    counts = [0] * (math.floor(high / step) - first + 1)
    for value in values:
        counts[math.floor(value / step) - first] += 1
    width = len(f"{(first + len(counts)) * step:.0f}")
    lines = []
    for at, count in enumerate(counts):
        span = f"{(first + at) * step:{width}.0f} - {(first + at + 1) * step:{width}.0f} ms"
        lines.append(f"{span}  {count:5d}  {'#' * math.ceil(BAR_CHARS * count / max(counts))}")
    return lines


def _report(times: Times, nodes: int, halts: int, *, as_json: bool) -> None:
    rows = [
        ("a node halted", "halt_node", times.each),
        ("every node halted", "halt_every_node", times.last),
        ("on disk everywhere", "halt_on_disk", times.on_disk),
        ("every node resumed", "resume_every_node", times.resumed),
    ]
    if as_json:
        for _, name, values in rows:
            for what, value in summary(values).items():
                parameters = {"nodes": nodes, "halts": halts}
                print_record(
                    {
                        "event": "measurement",
                        "name": f"{name}_{what}",
                        "value": round(value, 1),
                        "unit": "ms",
                        "parameters": parameters,
                    }
                )
        print_record({"event": "summary", "ok": True, "nodes": nodes, "halts": halts})
        return
    console = answer()
    console.line()
    console.print(Line(f"{halts} halts of {nodes} nodes, milliseconds from publication", "bold"))
    for title, _, values in rows:
        found = summary(values)
        console.print(
            f"  {title:20} p50 {found['p50']:6.0f}   p99 {found['p99']:6.0f}   max"
            f" {found['max']:6.0f}",
            soft_wrap=True,
        )
    console.line()
    console.print(Line(f"every node at every halt ({len(times.each)})", "bold"))
    for row in histogram(times.each):
        console.print(f"  {row}", soft_wrap=True)
