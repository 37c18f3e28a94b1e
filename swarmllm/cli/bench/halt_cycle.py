"""One halt and its resume: published through one node's socket as an operator does, timed at every
node, and lifted again.

The clock starts just before the order goes to the publisher's socket. It stops, for each node, in
the call that sets its flag, and for tokens when the last one is read by whoever asked for it, or
the last score is sent. Whatever comes between the order and the resume is looked at, however late.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import trio

from swarmllm.cli.bench.halt_swarm import Host, Scenario, Swarm, linked, now
from swarmllm.cli.operators.publishing import hand_over
from swarmllm.errors import LocalError
from swarmllm.runtime.service.record import Record

# Twenty times what is promised; a node that takes longer counts as one that missed the order.
HALT_S: Final = 20.0
RUN_S: Final = 90.0  # For all to run again: lost frames are asked for again after up to 10 s.
TOKEN_S: Final = 30.0
ACKS_S: Final = 10.0
LEAD_S: Final = 1.0  # For so long before the order tokens are counted: under what load it comes.
# Without tokens, until the resume before it is acknowledged and everywhere by gossip, too (0.3 s
# later).
REST_S: Final = 0.6
LOOK_S: Final = 1.5  # How long after the order tokens are looked for at least.
LATE_S: Final = 1.0
FREEZE_S: Final = 0.3  # Stopped for so long before the order goes out,
FROZEN_S: Final = 1.5  # and for so long after it;
LONG_S: Final = 8.0  # at every fifth halt for so long that their peers have given them up.
LONG_EVERY: Final = 5
# Afterwards, until the swarm is connected as before: what is promised is for those that are.
LINKS_S: Final = 30.0
THAWED_S: Final = 1.2  # How long after the last flag the tokens of thawed nodes are looked for.
# From order to order: more would exceed the 8 halt frames per second that a peer has.
PACE_S: Final = 1.2
IDLE_S: Final = 2.0
JIFFY_S: Final = 0.01  # The steps in which the kernel counts what cores do.


@dataclass
class Cycle:
    """Milliseconds from publication; CPU times are sums over all nodes.

    `flags`: of each node that was awake and halted; `missed` ones did not in time. `cut_off`: those
    of nodes that no halt stream led to at some moment between the order and their flag, and
    `late_cut_off` their part of `late`. `last_tokens`: of each awake node (0: none after
    publication). `late`: tokens and scores after more than 1 s, by nodes that were awake. `thawed`:
    from SIGCONT to the flag of each frozen node; `thawed_tokens`: tokens and scores of theirs after
    SIGCONT, `thawed_late` those more than 1 s after it. `others_cores`: what other programs took of
    this machine. `rate`: tokens per second that each writer wrote just before the order (mean).
    `gap_ms`: the longest turn of any awake node's event loop, as the clock says, and `turn_ms` in
    its own processor time. `busy_cores`: how many cores were not idle from the order to the last
    flag.
    """

    index: int
    by: str
    flags: list[float] = field(default_factory=list)
    cut_off: list[float] = field(default_factory=list)
    missed: int = 0
    last_tokens: list[float] = field(default_factory=list)
    late: int = 0
    late_cut_off: int = 0
    thawed: list[float] = field(default_factory=list)
    thawed_tokens: int = 0
    thawed_late: int = 0
    on_disk_ms: float = 0.0
    acknowledged: int = 0
    resumed_ms: float = 0.0
    tokens: int = 0
    pooled: int = 0
    cpu_to_flag_s: float = 0.0
    cpu_s: float = 0.0
    others_cores: float = 0.0
    rate: float = 0.0
    busy_cores: float = 0.0
    gap_ms: float = 0.0
    turn_ms: float = 0.0

    def record(self, scenario: Scenario, nodes: int) -> Record:
        return {
            "event": "halt",
            "scenario": scenario.name,
            "nodes": nodes,
            "index": self.index,
            "by": self.by,
            "flag_ms": [round(one, 1) for one in self.flags],
            "cut_off_ms": [round(one, 1) for one in self.cut_off],
            "missed": self.missed,
            "last_token_ms": round(max(self.last_tokens, default=0.0), 1),
            "late_tokens": self.late,
            "late_cut_off": self.late_cut_off,
            "thawed_ms": [round(one, 1) for one in self.thawed],
            "thawed_tokens": self.thawed_tokens,
            "thawed_late": self.thawed_late,
            "on_disk_ms": round(self.on_disk_ms, 1),
            "resumed_ms": round(self.resumed_ms, 1),
            "tokens": self.tokens,
            "cpu_to_flag_ms": round(1000 * self.cpu_to_flag_s, 2),
            "cpu_ms": round(1000 * self.cpu_s, 2),
            "others_cores": round(self.others_cores, 2),
            "busy_cores": round(self.busy_cores, 2),
            "tokens_per_s": round(self.rate, 2),
            "gap_ms": round(self.gap_ms, 1),
            "turn_ms": round(self.turn_ms, 1),
        }


async def idle_rate(swarm: Swarm) -> float:
    """Seconds of CPU time per second that all nodes together take while nobody asks for
    anything."""
    await _marks(swarm)
    began_at = now()
    await trio.sleep(IDLE_S)
    reports = await swarm.reports()
    return sum(float(report["cpu_s"]) for report in reports.values()) / (now() - began_at)


async def stream(swarm: Swarm) -> None:
    """Let the writers write, for as long as they may. LocalError if one cannot."""
    await swarm.each(_order_stream, swarm.writers)
    if dumb := await swarm.wait(
        lambda host: "token" in host.events, TOKEN_S + RUN_S, swarm.writers
    ):
        raise LocalError(
            f"{dumb[0].name} and {len(dumb) - 1} more wrote no token within {TOKEN_S + RUN_S:.0f}"
            " s; try --nodes with fewer"
        )


async def one_halt(swarm: Swarm, scenario: Scenario, index: int, idle_cpu: float) -> Cycle:
    hosts = swarm.hosts
    publisher, lifter = (swarm.publishers[(index + i) % len(swarm.publishers)] for i in (0, 1))
    frozen = swarm.rng.sample(
        [h for h in hosts if h is not publisher], round(scenario.frozen * len(hosts))
    )
    awake = [host for host in hosts if host not in frozen]
    cycle = Cycle(index, publisher.name)
    await _marks(swarm)
    await trio.sleep(LEAD_S if scenario.streaming else REST_S)
    before = await _marks(swarm)
    cycle.rate = sum(mark["tokens"] / mark["seconds"] for mark in before.values()) / len(
        swarm.writers
    )
    marked_at, busy_s = now(), _busy_s()
    if frozen:
        for host in frozen:
            host.signal(signal.SIGSTOP)
        await trio.sleep(FREEZE_S)
    order, data = swarm.ring.halt()
    async with trio.open_nursery() as nursery:
        published_at, busy_at = now(), _busy_s()
        # Those that are frozen do not acknowledge.
        nursery.start_soon(
            _publish, publisher.folder, data, ACKS_S if not frozen else FROZEN_S, cycle
        )
        missed = await swarm.wait(lambda host: host.at("halted") > published_at, HALT_S, awake)
        flagged_at, flagged_busy = now(), _busy_s()
    cycle.missed += len(missed)
    cycle.busy_cores = (flagged_busy - busy_at) / max(JIFFY_S, flagged_at - published_at)
    cycle.flags = [
        1000 * (host.at("halted") - published_at) for host in awake if host not in missed
    ]
    look_s = LOOK_S
    if frozen:
        look_s = LONG_S if index % LONG_EVERY == LONG_EVERY - 1 else FROZEN_S
    if scenario.streaming:
        await trio.sleep(max(0.0, published_at + look_s - now()))
    thawed_at = now()
    await _thaw(swarm, frozen, thawed_at, cycle)
    window_s = now() - marked_at
    reports = await swarm.reports()
    _count(cycle, awake, reports, published_at)
    cycle.others_cores = max(0.0, _busy_s() - busy_s - cycle.cpu_s) / window_s
    # At rest there may have been more to do: flooders flood on.
    cycle.cpu_s = max(0.0, cycle.cpu_s - idle_cpu * window_s)
    cycle.thawed_tokens = sum(_after(reports[host.name], thawed_at) for host in frozen)
    cycle.thawed_late = sum(_after(reports[host.name], thawed_at + LATE_S) for host in frozen)
    await _resume(swarm, scenario, cycle, swarm.ring.resume(order), lifter)
    if frozen:
        await linked(swarm, LINKS_S)
    await trio.sleep(max(0.0, published_at + PACE_S - now()))
    return cycle


def _busy_s() -> float:
    """Seconds that all cores together were not idle since the machine started; 10 ms are its
    smallest step."""
    times = psutil.cpu_times()
    return float(
        sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
    )


async def _marks(swarm: Swarm) -> dict[str, Record]:
    return await swarm.answers("mark", "marked")


async def _order_stream(host: Host) -> None:
    await host.order("stream", on=True)


async def _publish(folder: Path, data: bytes, wait_s: float, cycle: Cycle) -> None:
    delivery = await hand_over(folder, [data], wait_s, as_json=False)
    if delivery.refused:
        raise LocalError(f"{cycle.by} refused the order: {delivery.refused[0]}")
    cycle.on_disk_ms, cycle.acknowledged = delivery.ms, delivery.acknowledged


async def _thaw(swarm: Swarm, frozen: Sequence[Host], thawed_at: float, cycle: Cycle) -> None:
    if not frozen:
        return
    for host in frozen:
        host.signal(signal.SIGCONT)
    missed = await swarm.wait(lambda host: host.at("halted") > thawed_at, HALT_S, frozen)
    cycle.missed += len(missed)
    cycle.thawed = [1000 * (host.at("halted") - thawed_at) for host in frozen if host not in missed]
    await trio.sleep(THAWED_S)


def _after(report: Record, moment: float) -> int:
    return sum(at > moment for at in (*report["tokens"], *report["scores"]))


def was_cut_off(report: Record, begun_at: float, ended_at: float) -> bool:
    """Whether no halt stream led to the node at some moment in between: no order could reach it
    then."""
    return any(since <= ended_at and until >= begun_at for since, until in report["cut"])


def _count(
    cycle: Cycle, awake: Sequence[Host], reports: dict[str, Record], published_at: float
) -> None:
    for host in awake:
        report = reports[host.name]
        last = max((*report["tokens"], *report["scores"]), default=published_at)
        cycle.last_tokens.append(max(0.0, 1000 * (last - published_at)))
        late = _after(report, published_at + LATE_S)
        cycle.late += late
        flag_at = host.at("halted")
        if flag_at > published_at and was_cut_off(report, published_at, flag_at):
            cycle.cut_off.append(1000 * (flag_at - published_at))
            cycle.late_cut_off += late
        cycle.gap_ms = max(cycle.gap_ms, 1000 * float(report["gap_s"]))
        cycle.turn_ms = max(cycle.turn_ms, 1000 * float(report["turn_s"]))
    for report in reports.values():
        cycle.tokens += len(report["tokens"])
        cycle.pooled += int(report["pooled"])
        cycle.cpu_to_flag_s += float(report["cpu_to_flag_s"])
        cycle.cpu_s += float(report["cpu_s"])


async def _resume(
    swarm: Swarm, scenario: Scenario, cycle: Cycle, data: bytes, through: Host
) -> None:
    """With both signatures. LocalError if not all run again in time."""
    began_at = now()
    delivery = await hand_over(through.folder, [data], 0.0, as_json=False)
    if delivery.refused:
        raise LocalError(f"{through.name} refused the resume: {delivery.refused[0]}")
    if halted := await swarm.wait(lambda host: host.at("running") > began_at, RUN_S):
        raise LocalError(
            f"{halted[0].name} and {len(halted) - 1} more did not resume within {RUN_S:.0f} s"
        )
    cycle.resumed_ms = 1000 * (max(host.at("running") for host in swarm.hosts) - began_at)
    if scenario.streaming:
        await swarm.wait(lambda host: host.at("token") > began_at, TOKEN_S, swarm.writers)
