"""A governed world from beginning to end: everything of `testing.world.run`, and governance on
every host, in half an hour of faults and as long as reviews and canaries take after them.

    outcome = run_governed(7)             a small swarm; Broken, or whatever else it raises
    outcome = run_governed(7, LARGE)      fifty hosts, and an author who floods them with 10,000

**Safety**: all laws of worlds without governance, and those of `governance_laws` and
`witness_laws`. **Liveness**:
once faults are over a new proposal is voted for, and in force everywhere; and what is in force is
the same everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from swarmllm.core.governance.mandate import DEFAULTS, pack_bounds, pack_values
from swarmllm.core.governance.progress import REPORT_S
from swarmllm.core.node import NodeConfig
from swarmllm.core.part import Part
from swarmllm.core.settings.table import BY_CODE, SHUFFLE_INTERVAL
from swarmllm.messages import Range
from swarmllm.messages.governance import GovernanceTerms, SetSetting
from swarmllm.testing.operators import Operator
from swarmllm.testing.world.checks import Broken, laws_of
from swarmllm.testing.world.governance_bounds import GovernanceIsQuiet
from swarmllm.testing.world.governance_checks import in_force
from swarmllm.testing.world.governance_faults import Killer
from swarmllm.testing.world.governance_forgeries import CODES
from swarmllm.testing.world.governance_laws import (
    GOVERNANCE_LAWS,
    PinsAreKept,
    SettingsAgree,
    governance_laws,
)
from swarmllm.testing.world.governance_schemes import SchemingFaults
from swarmllm.testing.world.government import Filed, Government
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.laws import all_laws
from swarmllm.testing.world.recorder import Recorder
from swarmllm.testing.world.roles import HONEST
from swarmllm.testing.world.run import RESUME_S, SETTLE_S, Outcome, outcome_of
from swarmllm.testing.world.scenario import Member, Scenario, draw
from swarmllm.testing.world.witness_laws import WITNESS_LAWS
from swarmllm.testing.world.witnesses import Logs
from swarmllm.testing.world.world import FINGERPRINT, World

GOVERNED_SEEDS: Final = (9, 10, 11, 12)
"""Governed worlds that `scripts/check` runs."""
HOUR_S: Final = 3_600.0
LOOK_EVERY_S: Final = 30.0
QUIET_S: Final = 240.0
SILENT_S: Final = 10.0  # For a cut to be noticed.
WORKS_S: Final = 60.0  # For proposal and votes to be everywhere.


@dataclass(frozen=True, slots=True)
class Size:
    """`hosts` at least and at most; `flood`: proposals of a flooding author; `gap_s` between two
    things that happen, on average; seconds with faults."""

    hosts: tuple[int, int]
    faulty_s: tuple[float, float]
    gap_s: tuple[float, float]
    flood: int


SMALL: Final = Size((3, 7), (300.0, 1_500.0), (3.0, 12.0), 200)
LARGE: Final = Size((50, 50), (1_800.0, 1_800.0), (4.0, 4.0), 10_000)
SIZES: Final = {"small": SMALL, "large": LARGE}
PROPOSES: Final = "once faults are over, somebody can propose"
VOTES_ARRIVE: Final = "once faults are over, votes reach everybody"


@dataclass(frozen=True, slots=True)
class Governed:
    """What a governed world came to, beside what any world comes to."""

    outcome: Outcome
    filed: int
    passed: int
    in_force: int
    kills: int
    quiet_bytes_per_s: float
    checkpoints: int
    """Logs whose every entry is under a checkpoint at the end."""
    cosigned: int
    """Cosignatures under those."""
    tampered: int
    """Logs of two histories, or put back."""
    alarms: int


def draw_governed(seed: int, size: Size = SMALL) -> Scenario:
    """As `draw`, with so many hosts, and for so long."""
    rng = random.Random(f"{seed} governed drawing")
    drawn = draw(seed)
    wanted = rng.randint(*size.hosts)
    members = [drawn.members[number % len(drawn.members)] for number in range(wanted)]
    pins = {BY_CODE[CODES[0]]: BY_CODE[CODES[0]].bounds.high}
    for number, member in enumerate(members):
        # Places of their own, and owners with a mind of their own.
        is_pinned = rng.random() < 0.2
        spec = replace(member.spec, place=None, pins=pins if is_pinned else {})
        behaviour = HONEST if number < 2 else member.behaviour
        members[number] = Member(replace(spec, model=spec.model or 0), behaviour)
    link = replace(drawn.link, bytes_per_s=max(drawn.link.bytes_per_s, 2e6))
    return replace(
        drawn,
        members=tuple(members),
        link=link,
        faulty_s=rng.uniform(*size.faulty_s),
        gap_s=rng.uniform(*size.gap_s),
    )


def draw_government(seed: int, scenario: Scenario) -> Government:
    rng = random.Random(f"{seed} government")
    electorate = rng.choice((1, 3, 3, 5))
    agent_hosts = rng.choice(((), (0,), (0, 1)))
    code, other = rng.sample(CODES, 2)
    rule = BY_CODE[code]
    bounds = {code: Range(rule.bounds.low, (rule.bounds.low + rule.bounds.high) // 2)}
    values = {SHUFFLE_INTERVAL.code: SHUFFLE_INTERVAL.bounds.high}
    if rng.random() < 0.5:
        values[other] = BY_CODE[other].bounds.low
    terms: GovernanceTerms = replace(
        DEFAULTS,
        agent=tuple(sorted(Operator(f"host {number}").public_key for number in agent_hosts)),
        minor_threshold=rng.randint(1, min(electorate, 3)),
        review_h=1,
        canary_permille=rng.choice((0, 10, 300)),
        canary_s=rng.choice((0, 60, 300)),
        phase=rng.choice((0, 0, 3, 4)),
        phase_experts=(0, 1, 1, 2),
        stable_days=0,
        unattended=rng.randint(0, 1),
        bounds=pack_bounds(bounds if rng.random() < 0.5 else {}),
        values=pack_values(values),
    )
    unwilling = frozenset(
        number
        for number in range(len(scenario.members))
        if number not in agent_hosts and rng.random() < 0.1
    )
    return Government(f"governed {seed}", electorate, agent_hosts, terms, unwilling)


def draw_logs(seed: int, scenario: Scenario) -> Logs:
    """In some worlds one host keeps two histories; never one of the agents'."""
    rng = random.Random(f"{seed} logs")
    hosts = len(scenario.members)
    forks = hosts >= 4 and rng.random() < 0.5
    return Logs((rng.randrange(2, hosts),) if forks else ())


def governed_laws() -> tuple[str, ...]:
    """The names of all laws that a governed world is judged by, governance's own first."""
    own = laws_of(*GOVERNANCE_LAWS, PinsAreKept, *WITNESS_LAWS)
    return (*own, PROPOSES, VOTES_ARRIVE, *laws_of(*all_laws()))


def run_governed(
    seed: int, size: Size = SMALL, tell: Callable[[str], None] | None = None
) -> Governed:
    """Broken if a law does not hold in the governed world of this seed."""
    return GovernedRun(seed, size, tell).run()


class GovernedRun:
    def __init__(self, seed: int, size: Size, tell: Callable[[str], None] | None = None) -> None:
        self.scenario = draw_governed(seed, size)
        self.government = draw_government(seed, self.scenario)
        self.rng = random.Random(f"{seed} governed trial")
        self.recorder = Recorder(tell)
        self.killer = Killer(self.rng.choice((0.0, 0.02, 0.1)))
        self.logs = draw_logs(seed, self.scenario)
        laws = governance_laws(self.government)
        self.quiet = next(law for law in laws if isinstance(law, GovernanceIsQuiet))
        self.agree = next(law for law in laws if isinstance(law, SettingsAgree))
        self.world = World(
            seed,
            link=self.scenario.link,
            overlay=replace(self.scenario.overlay, pings_s=0.0),
            config=NodeConfig(FINGERPRINT, look_up_every_s=300.0),
            founders=self.government.founders,
            named_by_keys=True,
            parts=self._parts,
            checkers=(
                *all_laws(),
                *laws,
                *(law(self.logs) for law in WITNESS_LAWS),
                self.killer,
            ),
            recorder=self.recorder,
        )
        self.faults = SchemingFaults(
            self.world, self.scenario, self.government, self.logs, size.flood
        )

    def run(self) -> Governed:
        world, government = self.world, self.government
        for member in self.scenario.members:
            world.add(member.spec, member.behaviour)
        world.run_for(30.0)
        government.tell_terms(world.hosts[0])
        self._be_faulty()
        self.killer.is_over = True
        self.faults.end()
        world.run_for(RESUME_S)
        self.faults.lift_everything()
        world.run_for(RESUME_S)
        self.faults.abandon_everything()
        government.tell_terms(world.alive()[0])
        world.run_for(SETTLE_S)
        last = self._govern_again()
        self._wait_out()
        world.run_for(QUIET_S)
        self.quiet.start()
        world.run_for(QUIET_S)
        world.settled()
        self._is_in_force(last)
        found = self._outcome()
        if self.rng.random() < 0.5:
            self._rotate()
        return found

    def _parts(self, host: Host) -> tuple[Part, ...]:
        return (*self.government.part(host), self.logs.part(host))

    def _be_faulty(self) -> None:
        ends_at = self.world.now + self.scenario.faulty_s
        while self.world.now < ends_at:
            self.world.run_for(self.rng.expovariate(1 / self.scenario.gap_s))
            self.faults.happen()

    def _govern_again(self) -> Filed:
        """A change that everybody wants, on top of whatever was changed before."""
        world, government = self.world, self.government
        setting = BY_CODE[CODES[-1]]
        for host in world.alive():
            for voter in government.voters:
                self._clear_desk(host, voter)
                action = SetSetting(setting.code, self.rng.randint(*_ends(setting.bounds)))
                filed = government.propose(host, voter, action)
                if filed is not None:
                    world.run_for(WORKS_S)
                    self._everybody_votes(filed)
                    return filed
        obstacle = government.machine(host).obstacle or "nobody may"
        raise self._broken(PROPOSES, host, obstacle)

    def _clear_desk(self, host: Host, voter: Operator) -> None:
        """Whoever has flooded everybody withdraws what is still open of it here."""
        for case in self.government.cases(host):
            if case.proposal.author == voter.id:
                self.government.withdraw(host, voter, case.id)

    def _everybody_votes(self, filed: Filed) -> None:
        for voter in self.government.voters:
            near = [
                host
                for host in self.world.alive()
                if filed.id in self.government.machine(host).registry.cases
            ]
            self.government.vote(self.rng.choice(near), voter, filed.id)

    def _wait_out(self) -> None:
        """Until all agree, and for no longer than reviews and all canaries in turn can take."""
        terms, agents = self.government.terms, len(self.government.agents)
        canary_s = terms.canary_s + REPORT_S
        ends_at = self.world.now + terms.review_h * HOUR_S * 1.05 + (1 + agents) * canary_s + 120.0
        while self.world.now < ends_at:
            self.world.run_for(LOOK_EVERY_S)
            try:
                self.agree.settled()
            except Broken:
                continue
            return

    def _rotate(self) -> None:
        """A new charter, while a third of the hosts is cut off: one voter is another one, and what
        is to stay in force stands in the terms. Nothing signed under the old one counts any more,
        though somebody plays all of it back."""
        world, government = self.world, self.government
        newcomer = Operator(f"voter of {world.seed}")
        code, rule = CODES[1], BY_CODE[CODES[1]]
        values = {SHUFFLE_INTERVAL.code: SHUFFLE_INTERVAL.bounds.high, code: rule.bounds.high}
        terms = replace(government.terms, values=pack_values(values), bounds=())
        lifts = {who: seq for who, seq in enumerate(self.faults.seqs) if seq}
        charter = government.rotate(lifts, [newcomer, *government.voters[1:]], terms)
        world.partition([world.alive()[1::3]])
        world.run_for(SILENT_S)
        world.publish(world.alive()[0], charter)
        world.run_for(1.0)
        government.tell_terms(world.alive()[0])
        world.run_for(WORKS_S)
        world.heal()
        world.run_for(SETTLE_S)
        patient = self.rng.choice(world.alive())
        for record in government.signed:  # All of it to one of them, where it would add up.
            for host in (patient, self.rng.choice(world.alive())):
                government.offer(host, record)
        world.run_for(SETTLE_S)
        for law in world.checkers:
            if not isinstance(law, GovernanceIsQuiet):
                law.settled()

    def _is_in_force(self, last: Filed) -> None:
        for host in self.world.alive():
            machine = self.government.machine(host)
            outcome = machine.outcome
            standing = None if outcome is None else outcome.standings.get(last.id)
            if standing is None or not standing.passed:
                raise self._broken(VOTES_ARRIVE, host, f"{standing}")

    def _outcome(self) -> Governed:
        world = self.world
        machine = self.government.machine(world.alive()[0])
        assert machine.outcome is not None
        return Governed(
            outcome_of(world, self.recorder.digest),
            filed=len(self.government.filed),
            passed=sum(one.passed for one in machine.outcome.standings.values()),
            in_force=sum(bool(id) for id, _ in in_force(machine).values()),
            kills=self.killer.kills,
            quiet_bytes_per_s=self.quiet.most,
            **self._of_ledgers(),
        )

    def _of_ledgers(self) -> dict[str, int]:
        world, logs = self.world, self.logs
        views = [logs.parts[host.number].view(host.clock()) for host in world.alive()]
        return {
            "checkpoints": sum(bool(view.size) and view.checkpoint == view.size for view in views),
            "cosigned": sum(len(view.witnesses) for view in views),
            "tampered": len(logs.forking | logs.put_back.keys()),
            "alarms": sum(len(view.alarms) for view in views),
        }

    def _broken(self, law: str, host: Host, why: str) -> Broken:
        return Broken(
            f"{law}: {host.peer}, at {self.world.now:.6f} s: {why} (seed {self.world.seed})"
        )


def _ends(bounds: Range) -> tuple[int, int]:
    return bounds.low, bounds.high
