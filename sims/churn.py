"""If nodes come and go all the time, which share of the answers is finished, how fast, and what
does the reader notice of it?

Sessions are Weibull with shape 0.608, scaled so that the share `churn` of the nodes leaves in an
hour, and begin in equilibrium; or they are those of a trace that somebody measured (`--trace
FILE.csv`, with a header `node,start_s,end_s` or `node,online_s,offline_s`). Whoever leaves is
replaced at that moment by a newcomer with another identity and an empty disk, who needs `load_s` to
load its model: the swarm keeps its size, and newcomers are the likeliest to leave again. (Absences
have a mean of fifteen hours, so who comes back within an hour is nearly as strange to the others as
who is new.) With a trace, nodes come and go as it says, under their own identities and with their
disks. Of the departures `crash` end with a reset of all connections, `power` without a word, and
the rest with a goodbye.

Those who ask run no expert and stay, so an answer that does not finish was lost by the swarm.
`untouched` is the share of answers during which none of the experts at work left: what would have
finished if, as in a chain of machines, losing any of them ended an answer.

    python sims/churn.py --sweep churn=0,0.1,0.2,0.3,0.4,0.5,0.6 --sweep extra=0,1,2
    python sims/churn.py --sweep k=1,2,4,8 --churn 0.3
    python sims/churn.py --sweep tokens=64,256,1024 --churn 0.3

The claim to beat is the estimate that the project began with: 80 % finish at 30 % churn.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from swarmllm.errors import UsageError
from swarmllm.messages import PeerId
from swarmllm.sims.crowd import (
    CONTEXT_MAX,
    Asking,
    Request,
    add_askers,
    add_experts,
    measure,
    untouched,
)
from swarmllm.sims.sessions import SESSIONS, Spell, Weibull, read_trace, repeat, sessions_of_rate
from swarmllm.sims.study import Lines, Parameter, Parameters, Result, Results, Study, Summary, main
from swarmllm.testing.world import SERVICES, Host, LinkModel, Spec, World

SETTLE_S: Final = 60.0
# One way 20 to 170 ms, a continent and an ocean; with jitter.
LINK: Final = LinkModel(near_s=0.02, span_s=0.15)
CLAIM: Final = 0.8


class Comings:
    """Who leaves when, and how; who comes instead."""

    def __init__(self, world: World, p: Parameters) -> None:
        self.world = world
        self.gone_at: dict[PeerId, float] = {}
        self.departures = 0
        self._p = p
        self._rng = random.Random(f"{world.seed} comings")
        self._sessions: Weibull | None = None

    def spec(self, number: int) -> Spec:
        p = self._p
        return Spec(
            model=number % p["models"],
            service=SERVICES[p["service"]],
            context_max=CONTEXT_MAX,
            load_s=p["load_s"],
        )

    def begin(self, experts: Sequence[Host]) -> None:
        """From now on the nodes that are there come and go as the model has it."""
        if self._p["churn"] > 0:
            self._sessions = sessions_of_rate(self._p["churn"], SESSIONS.shape)
            for host in experts:
                self.world.event_queue.after(
                    self._sessions.draw_rest(self._rng), self._replace, host
                )

    def _replace(self, host: Host) -> None:
        assert self._sessions is not None
        self.leave(host)
        newcomer = self.world.add(self.spec(self._rng.randrange(self._p["models"])))
        self.world.event_queue.after(self._sessions.draw(self._rng), self._replace, newcomer)

    def follow(self, host: Host, spells: Sequence[Spell], since_s: float) -> None:
        """A node comes and goes as a trace says, whose time `since_s` is now."""
        for start, end in spells:
            if end > since_s and not (start <= since_s and host.alive):
                self.world.event_queue.after(start - since_s, self.world.start, host)
            if end > since_s:
                self.world.event_queue.after(end - since_s, self.leave, host)

    def leave(self, host: Host) -> None:
        how, p = self._rng.random(), self._p
        self.gone_at[host.peer] = self.world.now
        self.departures += 1
        if how < p["crash"]:
            self.world.crash(host)
        elif how < p["crash"] + p["power"]:
            self.world.lose_power(host)
        else:
            self.world.leave(host)


def point(p: Parameters, seed: int) -> Results:
    world = World(seed, link=LINK, halts=False)
    comings = Comings(world, p)
    if p["trace"]:
        ended_s = _play(world, comings, p)
    else:
        experts = add_experts(
            world, [replace(comings.spec(i), load_s=1.0) for i in range(p["experts"])]
        )
        ended_s = float("inf")
    askers = add_askers(world, p["askers"])
    world.run_for(SETTLE_S)
    if not p["trace"]:
        comings.begin(experts)
    before, began_at = comings.departures, world.now
    asking = Asking(world, askers, Request(p["k"], p["extra"], p["tokens"]), each=p["answers"])
    asking.run(ended_s - world.now)
    hours = (world.now - began_at) / 3600
    return {
        **measure([a for a in asking.answers if a.ends], p["k"]),
        "untouched": untouched(asking.answers, comings.gone_at),
        "hours": hours,
        "left_per_hour": (comings.departures - before)
        / hours
        / max(1, sum(h.engine is not None for h in world.alive())),
    }


def _play(world: World, comings: Comings, p: Parameters) -> float:
    """Hosts for the nodes of the trace, from a moment of it that the seed draws; when it ends."""
    spells = repeat(read_trace(Path(p["trace"])), p["experts"], world.rng)
    last_s = max((end for one in spells for _, end in one), default=0.0)
    since_s = world.rng.uniform(0.0, max(0.0, last_s - 3600 * p["trace_hours"]))
    hosts = [world.add(comings.spec(i), starts=False) for i in range(len(spells))]
    for host, one in zip(hosts, spells, strict=True):
        comings.follow(host, one, since_s)
    return min(last_s - since_s, 3600 * float(p["trace_hours"]))


def check(p: Parameters) -> None:
    if p["crash"] + p["power"] > 1:
        raise UsageError(
            f"--crash {p['crash']:g} and --power {p['power']:g} are more than all departures"
            " together"
        )
    if p["models"] > p["experts"]:
        raise UsageError(f"--models {p['models']} are more than --experts {p['experts']}")
    if p["trace"] and p["churn"] > 0:
        raise UsageError("--churn and --trace both say who leaves when: with a trace, --churn 0")
    if p["trace"]:
        read_trace(Path(p["trace"]))


def says(found: Sequence[Summary]) -> str:
    answers = sum(len(s.seeds) * s.get("answers") for s in found)
    finished = sum(len(s.seeds) * s.get("answers") * s.get("finished") for s in found)
    lost = answers - finished
    # With none of n lost, the share that is lost is below 3 / n with 95 % confidence.
    most = (
        lost + 1.96 * lost**0.5 if lost >= 5 else (3.0, 4.74, 6.3, 7.75, 9.15)[round(lost)]
    ) / answers
    worst = min(found, key=lambda s: s.get("untouched"))
    slowest = max(found, key=lambda s: s.get("pause_max_s"))
    if worst.get("untouched") < 1:
        without = (
            "if losing any expert at work ended an answer,"
            f" only {100 * worst.get('untouched'):.0f} % would have been at a churn of"
            f" {worst.parameters['churn']:g} per hour"
        )
    else:
        without = (
            "no expert at work left during any of them, so this says little about churn:"
            " see more --answers, or a higher --churn"
        )
    return (
        f"{finished:.0f} of {answers:.0f} answers were finished (with 95 % confidence at least"
        f" {100 * (1 - most):.1f} % are); {without};"
        f" the longest pause between two tokens was {slowest.get('pause_max_s'):.1f} s."
    )


STUDY: Final = Study(
    module="swarmllm.sims.churn",
    parameters=(
        Parameter(
            "churn",
            0.3,
            "share of the nodes that leaves in an hour",
            unit="per hour",
            low=0,
            high=100,
        ),
        Parameter("k", 4, "experts whose lists make a token", low=1, high=32),
        Parameter("extra", 1, "more experts asked as insurance", low=0, high=32),
        Parameter("tokens", 256, "tokens of an answer", low=2, high=16_000),
        Parameter("experts", 40, "nodes that run one", low=1, high=2000),
        Parameter("models", 8, "different models among them", low=1, high=2000),
        Parameter("service", "laptop-8b", "what the experts run on", choices=tuple(SERVICES)),
        Parameter("askers", 4, "who ask, one answer at a time", low=1, high=1000),
        Parameter("answers", 3, "answers that each of them asks for", low=1, high=100_000),
        Parameter(
            "crash", 0.5, "share of the departures with a reset of all connections", low=0, high=1
        ),
        Parameter("power", 0.25, "share of the departures without a word", low=0, high=1),
        Parameter("load_s", 20.0, "until a newcomer's model is loaded", "s", low=0, high=3600),
        Parameter("trace", "", "CSV file of who was online when, in place of the model"),
        Parameter("trace_hours", 1.0, "of the trace to play", "h", low=0.01, high=1000),
    ),
    results=(
        Result("answers", "that ended"),
        Result("finished", "share of the answers that were written to their end", digits=4),
        Result("untouched", "share of the answers during which no expert at work left", digits=3),
        Result("tokens_per_s", "of one answer", digits=2),
        Result("recoveries", "failovers per answer", digits=2),
        Result("thin_tokens", "share of the tokens made by fewer than K", digits=4),
        Result("pause_p99_s", "99th percentile of the time between two tokens", "s", digits=2),
        Result("pause_max_s", "the longest", "s", digits=2),
        Result("left_per_hour", "departures per node and hour, as they came out", digits=2),
        Result("pause_p50_s", "median of the time between two tokens", "s", table=False),
        Result("hours", "simulated", "h", table=False),
    ),
    point=point,
    sweep={"churn": (0.0, 0.15, 0.3, 0.45, 0.6)},
    plots=(
        Lines(
            "finished",
            "Answers that are written to their end",
            "churn",
            ("finished",),
            "share of the answers",
            guide="untouched",
            limit=(CLAIM, "the project's first estimate at 30 % churn"),
        ),
        Lines("speed", "Tokens per second of one answer", "churn", ("tokens_per_s",), "tokens/s"),
        Lines(
            "pauses",
            "How long a token lets one wait",
            "churn",
            ("pause_p50_s", "pause_p99_s", "pause_max_s"),
            "s",
            log="y",
        ),
    ),
    check=check,
    says=says,
)

if __name__ == "__main__":
    sys.exit(main("churn"))
