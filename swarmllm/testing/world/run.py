"""One seed's world from beginning to end, in two phases: with faults, where nothing bad may ever
happen, and after them, where something good must.

    outcome = run(7)                              Broken, or whatever else it raises, is a finding
    run(7, tell=print)                            the same with its whole transcript

**Safety**, while machines die and orders come and go: all laws of `testing.world.laws`.
**Liveness**, once faults are off: after `SETTLE_S` tables agree and nothing lingers; every host
finds an expert, and finishes a request; an order reaches everybody, and once it is lifted everybody
works again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from swarmllm.core.settings.holder import NONE, Values
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.testing.world.audit_laws import NobodyIsWronged
from swarmllm.testing.world.checks import Broken, laws_of
from swarmllm.testing.world.engine import VOCABULARY
from swarmllm.testing.world.faults import Faults
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.laws import TextIsKept, all_laws
from swarmllm.testing.world.recorder import Recorder
from swarmllm.testing.world.roles import HONEST, Answer, Spec
from swarmllm.testing.world.scenario import Scenario, draw
from swarmllm.testing.world.world import World

# Longer than any backoff that the faulty phase can have led to, and than a record of the dead is
# believed.
SETTLE_S: Final = 130.0
HALT_S: Final = 4.0  # For an order to reach everybody, lost frames and all.
# And to be lifted: two hosts that differ ask each other every 10 s at the latest.
RESUME_S: Final = 20.0
CHECK_SEEDS: Final = (0, 4, 6, 8, 10, 11, 12, 13, 14, 16, 17, 19, 20, 24, 26, 27, 29, 49, 52, 53)
"""Worlds that together break a law for every bug of `scripts/plant_world_bugs.py`, and are quickly
run."""
FINISHES: Final = "once faults are over, every request is finished"
REACHES: Final = "once faults are over, an order reaches everybody"
STARTS: Final = "once an order is lifted, everybody starts again"
FINISH_S: Final = 120.0
TOKENS: Final = 12


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a world came to; two runs of one seed are equal in all of it."""

    seed: int
    digest: str
    hosts: int
    events: int
    simulated_s: float
    ends: dict[str, int]
    halted: int
    """How often a host was halted."""
    drafting: int
    """Answers in which something was drafted, ..."""
    accepted: int
    """... and the tokens that came of drafts."""


def run(
    seed: int,
    tell: Callable[[str], None] | None = None,
    settings: Values = NONE,
    *,
    audits: bool = False,
) -> Outcome:
    """Broken if a law does not hold in the world of this seed. `settings`: what the swarm has
    set. `audits`: whether hosts audit each other's experts; then nobody may be wronged."""
    return Run(draw(seed), tell, settings, audits=audits).run()


def outcome_of(world: World, digest: str) -> Outcome:
    ends: dict[str, int] = {}
    for answer in world.answers:
        reason = answer.end.reason if answer.end is not None else "died with its host"
        ends[reason] = ends.get(reason, 0) + 1
    drafts = [end for answer in world.answers for end in answer.ends]
    return Outcome(
        seed=world.seed,
        digest=digest,
        hosts=len(world.hosts),
        events=world.event_queue.done,
        simulated_s=world.now,
        ends=dict(sorted(ends.items())),
        halted=len(world.halts_heard),
        drafting=sum(end.drafted > 0 for end in drafts),
        accepted=sum(end.accepted for end in drafts),
    )


def laws(*, audits: bool = False) -> tuple[str, ...]:
    """The names of all laws that such a world is judged by."""
    more = (NobodyIsWronged,) if audits else ()
    return (*laws_of(*all_laws(), TextIsKept, *more), FINISHES, REACHES, STARTS)


class Run:
    def __init__(
        self,
        scenario: Scenario,
        tell: Callable[[str], None] | None = None,
        settings: Values = NONE,
        *,
        audits: bool = False,
    ) -> None:
        self.scenario = scenario
        self.rng = random.Random(f"{scenario.seed} trial")
        self.recorder = Recorder(tell)
        world = self.world = World(
            scenario.seed,
            link=scenario.link,
            overlay=scenario.overlay,
            settings=settings,
            audits=audits,
            checkers=(*all_laws(), *((NobodyIsWronged(),) if audits else ())),
            recorder=self.recorder,
        )
        if scenario.is_one_text:
            text = TextIsKept(world.model(Spec(model=0)))
            text.begin(world)
            world.checkers = (*world.checkers, text)
        self.faults = Faults(world, scenario)

    def run(self) -> Outcome:
        self._begin()
        self._be_faulty()
        self.faults.end()
        self.world.run_for(RESUME_S)
        self.faults.lift_everything()
        self.world.run_for(RESUME_S)
        self.faults.abandon_everything()
        self.world.run_for(SETTLE_S)
        self.world.settled()
        self._finish_everywhere()
        if self.rng.random() < 0.5:
            self._halt_and_resume()
            self._finish_everywhere()
        return outcome_of(self.world, self.recorder.digest)

    # --- safety -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        for member in self.scenario.members:
            self.world.add(member.spec, member.behaviour)
            self.world.run_for(self.rng.choice((0.0, 0.0, 0.3)))

    def _be_faulty(self) -> None:
        ends_at = self.world.now + self.scenario.faulty_s
        while self.world.now < ends_at:
            self.world.run_for(self.rng.expovariate(1 / self.scenario.gap_s))
            self.faults.happen()

    # --- liveness ---------------------------------------------------------------------------------

    def _finish_everywhere(self) -> None:
        """One request at every honest host: it ends by length, whatever was before. Whoever has
        lied and is refused for it (EXPERT-4) is owed nothing for as long."""
        world = self.world
        prompt = tuple(self.rng.randrange(VOCABULARY) for _ in range(9))
        order = GenerateRequest(
            prompt,
            k=3,
            max_tokens=TOKENS,
            vocab_size=VOCABULARY,
            sampling=Sampling(temperature=0.0),
        )
        honest = [host for host in world.alive() if host.behaviour is HONEST]
        owed = [host for host in honest if not self._is_refused(host)]
        asked = [world.ask(host, order) for host in owed]
        world.run_for(FINISH_S, lambda: all(answer.ends for answer in asked))
        for answer in asked:
            if answer.end is None or answer.end.reason != "length":
                raise self._broken(
                    FINISHES,
                    answer.host,
                    f"{_said(answer)}",
                )

    def _is_refused(self, host: Host) -> bool:
        """Whether it lied while there were faults, and somebody has not forgotten that."""
        others = (other for other in self.world.alive() if other is not host)
        return host in self.faults.reformed and any(o.refuses(host.peer) for o in others)

    def _halt_and_resume(self) -> None:
        world, who = self.world, self.rng.randrange(3)
        origin = self.rng.choice([host for host in world.alive() if host.behaviour.relays(host)])
        self.faults.seqs[who] += 1
        world.publish(origin, world.founders.halt(self.faults.seqs[who], who))
        world.run_for(HALT_S)
        for host in world.alive():
            if not host.is_halted:
                raise self._broken(
                    REACHES,
                    host,
                    f"it runs {HALT_S:.0f} s later",
                )
        self.faults.lift_everything()
        world.run_for(RESUME_S)
        for host in world.alive():
            if host.is_halted:
                raise self._broken(
                    STARTS,
                    host,
                    str(host.node.view(host.clock()).halted),
                )

    def _broken(self, law: str, host: Host, why: str) -> Broken:
        return Broken(
            f"{law}: {host.peer}, at {self.world.now:.6f} s: {why} (seed {self.world.seed})"
        )


def _said(answer: Answer) -> str:
    end = answer.end
    if end is None:
        return f"request {answer.request} is at token {len(answer.tokens)} after {FINISH_S:.0f} s"
    return (
        f"request {answer.request} ended by {end.reason!r} after {len(answer.tokens)} tokens:"
        f" {end.error}"
    )
