"""`swarmllm bench world`: how long does it take to simulate a swarm for an hour, with requests and
churn, on one core?

Everything that makes a world slow is in it: a thousand real nodes that shuffle their records, half
of them replaced within three hours, answers of sixteen tokens by three experts, and, unless it is
left out, the kill switch with its streams. The least that is possible is an event queue that does
nothing: the same number of events, planned and taken out of the heap, without anybody who handles
them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from swarmllm.cli.bench.report import Measurement, Report, table
from swarmllm.cli.guard import OK
from swarmllm.cli.output import answer, people
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.errors import UsageError
from swarmllm.testing.world import VOCABULARY, Host, LinkModel, Spec, World
from swarmllm.testing.world.event_queue import EventQueue

NODES, MINUTES, REQUESTS = 1_000, 60.0, 1_000.0
NODES_MAX: Final = 20_000
GOAL_S: Final = 60.0  # For a thousand nodes and an hour.
SCALE_S, SHAPE = 3.66 * 3600, 0.608  # Weibull sessions, as seen in IPFS.
STARTS_EVERY_S: Final = 0.02
SETTLE_S: Final = 30.0
SLICE_S: Final = 10.0
MODELS: Final = 8
ORDER: Final = GenerateRequest(
    tuple(range(1, 17)), k=3, max_tokens=16, sampling=Sampling(0.7), vocab_size=VOCABULARY
)


@dataclass(frozen=True, slots=True)
class Plan:
    """`requests` are per hour, of the whole swarm."""

    nodes: int
    minutes: float
    requests: float
    halts: bool
    seed: int

    def __post_init__(self) -> None:
        if not 10 <= self.nodes <= NODES_MAX:
            raise UsageError(f"--nodes is {self.nodes}, and it must be from 10 to {NODES_MAX}")
        if not 0 < self.minutes <= 1_440:
            raise UsageError(
                f"--minutes is {self.minutes:g}, and it must be above 0 and at most 1440"
            )
        if not 0 <= self.requests <= 1_000_000:
            raise UsageError(
                f"--requests is {self.requests:g}, and it must be from 0 to 1000000 an hour"
            )


@dataclass
class Busy:
    """The world of a plan, and who comes, goes and asks in it."""

    plan: Plan
    world: World = field(init=False)
    left: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        self.world = World(
            self.plan.seed, link=LinkModel(near_s=0.02, span_s=0.1), halts=self.plan.halts
        )
        self._rng = random.Random(f"{self.plan.seed} busy")

    def settle(self) -> None:
        """All start, and find each other."""
        for number in range(self.plan.nodes):
            self._plan_end(self.world.add(Spec(model=number % MODELS)), is_first=True)
            self.world.run_for(STARTS_EVERY_S)
        self.world.run_for(SETTLE_S)
        if self.plan.requests:
            self._ask()

    def run(self, say: Callable[[str], None]) -> None:
        until = self.world.now + 60 * self.plan.minutes
        began = self.world.now
        while self.world.now < until:
            self.world.run_until(min(until, self.world.now + SLICE_S))
            say(
                f"minute {(self.world.now - began) / 60:.1f} of {self.plan.minutes:g},"
                f" {self.world.event_queue.done:,} events"
            )
        self.tokens = sum(len(answer.tokens) for answer in self.world.answers)

    def _plan_end(self, host: Host, *, is_first: bool) -> None:
        rest_s = self._rng.weibullvariate(SCALE_S, SHAPE)
        if is_first:  # Met in the middle of a session, and likelier of a long one.
            rest_s = (
                SCALE_S
                * self._rng.gammavariate(1 + 1 / SHAPE, 1.0) ** (1 / SHAPE)
                * self._rng.random()
            )
        self.world.event_queue.after(rest_s, self._replace, host)

    def _replace(self, host: Host) -> None:
        self._rng.choice(
            (self.world.crash, self.world.crash, self.world.lose_power, self.world.leave)
        )(host)
        self.left += 1
        self._plan_end(
            self.world.add(Spec(model=self._rng.randrange(MODELS), load_s=5.0)), is_first=False
        )

    def _ask(self) -> None:
        host = self._rng.choice(self.world.hosts)
        if host.alive:
            self.world.ask(host, ORDER)
        self.world.event_queue.after(self._rng.expovariate(self.plan.requests / 3600), self._ask)


def bench_world(plan: Plan, *, as_json: bool) -> int:
    console = people()
    report = Report(as_json=as_json)
    busy = Busy(plan)
    with console.status("starting") as status:
        began = time.process_time()
        busy.settle()
        settled, before = time.process_time(), busy.world.event_queue.done
        busy.run(status.update)
        ended = time.process_time()
    events = busy.world.event_queue.done - before
    parameters = {
        "nodes": plan.nodes,
        "minutes": plan.minutes,
        "requests_per_h": plan.requests,
        "kill_switch": plan.halts,
    }
    details = {
        "left": busy.left,
        "answers": len(busy.world.answers),
        "tokens": busy.tokens,
        "events": events,
    }
    goal = GOAL_S * plan.nodes / NODES * plan.minutes / MINUTES
    report.add(
        Measurement(
            "simulated time, CPU", ended - settled, "s", bare_s(events), parameters, goal, details
        )
    )
    report.add(
        Measurement("start of all nodes, CPU", settled - began, "s", bare_s(before), parameters)
    )
    if not as_json:
        answer().print(table(report.measurements))
        answer().print(
            f"{events:,} events at {1e6 * (ended - settled) / max(1, events):.0f} µs,"
            f" {busy.left} nodes left and were replaced, "
            f"{len(busy.world.answers)} answers with {busy.tokens:,} tokens"
        )
    return OK


def bare_s(events: int) -> float:
    """What an event queue takes for so many events that nobody handles."""
    event_queue, sample = EventQueue(), max(1, min(events, 200_000))
    began = time.process_time()
    for number in range(sample):
        event_queue.at(number * 0.37 % 1.0, _nothing)
    event_queue.run_until(2.0)
    return (time.process_time() - began) * events / sample


def _nothing() -> None:
    """An event without consequences."""
