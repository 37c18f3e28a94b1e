"""What can happen in a governed world beside all else: people and agents propose, vote, change
their minds and lie; records are forged, played back, and poured in by the thousand; clocks are set;
processes die while governance writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from swarmllm.core.effects import Commit
from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.tiers import Action
from swarmllm.core.settings.table import BY_CODE
from swarmllm.messages.declare import GOV
from swarmllm.messages.governance import (
    ClosePhase,
    Observe,
    OpenPhase,
    Revert,
    SetBounds,
    SetDefaultModel,
    SetFeature,
    SetRecords,
    SetSetting,
    Suggest,
    Vote,
)
from swarmllm.testing.operators import Operator
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.effects import COMMIT_S
from swarmllm.testing.world.faults import Faults
from swarmllm.testing.world.governance_forgeries import CODES, forged_records
from swarmllm.testing.world.government import Filed, Government
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.scenario import Scenario
from swarmllm.testing.world.witnesses import Logs
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import sign_record

if TYPE_CHECKING:
    from swarmllm.core.effects import NodeEffect
    from swarmllm.testing.world.world import World

DAY_S: Final = 86_400.0
YEAR_S: Final = 365 * DAY_S
FLOOD_EVERY_S: Final = 0.02


class GovernedFaults(Faults):
    """`flood` is how many proposals one author pours in when it comes to that."""

    def __init__(
        self,
        world: World,
        scenario: Scenario,
        government: Government,
        logs: Logs,
        flood: int = 200,
    ) -> None:
        self.government = government
        self.logs = logs
        self.flood_size = flood
        super().__init__(world, scenario)

    def _weight(self, name: str) -> float:
        often = OFTEN.get(name)
        return super()._weight(name) if often is None else often

    # --- proposals and votes ----------------------------------------------------------------------

    def propose(self, host: Host) -> None:
        if not self.government.may_act(host):
            return
        government, rng = self.government, self.rng
        is_agents = bool(government.agents) and rng.random() < 0.3
        author = rng.choice(government.agents if is_agents else government.voters)
        tier = rng.choice((None, None, None, 0, 2, 3, 4))
        action = self._action(host)
        if rng.random() < 0.1:
            self.file_unknown(host, author)
        else:
            has_evidence = rng.random() < 0.9
            government.propose(host, author, action, tier=tier, has_evidence=has_evidence)

    def vote(self, host: Host) -> None:
        case = self._any_case(host)
        if case is not None:
            voter = self.rng.choice(self.government.voters)
            self.government.vote(host, voter, case.id, yes=self.rng.random() < 0.8)

    def support(self, host: Host) -> None:
        """All voters vote yes, each through some host that has heard of it."""
        case = self._any_case(host)
        if case is None:
            return
        for voter in self.government.voters:
            near = [one for one in self.world.alive() if self.government.has(one, case.id)]
            if near:
                self.government.vote(self.rng.choice(near), voter, case.id)

    def vote_early(self, host: Host) -> None:
        """At a host that may not have heard of the proposal, and whatever it says of it."""
        if self.government.may_act(host) and self.government.filed:
            filed = self.rng.choice(self.government.filed[-6:])
            voter = self.rng.choice(self.government.voters)
            self.government.offer(host, self.government.plain_vote(voter, filed.id))

    def vote_twice(self, host: Host) -> None:
        """For it here, against it there."""
        case = self._any_case(host)
        others = [one for one in self.world.alive() if self.government.may_act(one)]
        if case is not None and others:
            voter = self.rng.choice(self.government.voters)
            for yes in (True, False):
                record = self.government.plain_vote(voter, case.id, yes=yes)
                self.government.offer(self.rng.choice(others), record)

    def withdraw(self, host: Host) -> None:
        case = self._any_case(host)
        if case is not None:
            people = [*self.government.voters, *self.government.agents]
            self.government.withdraw(host, self.rng.choice(people), case.id)

    def revert(self, host: Host) -> None:
        """One that is in force here."""
        if not self.government.may_act(host):
            return
        live = [id for id, _ in self.government.machine(host).changes.live.values() if id]
        if live:
            author = self.rng.choice([*self.government.voters, *self.government.agents])
            self.government.propose(host, author, Revert(self.rng.choice(live)))

    # --- those who should not ---------------------------------------------------------------------

    def play_back(self, host: Host) -> None:
        """Something that was signed long ago, by hand or to a peer."""
        if self.government.may_act(host) and self.government.signed:
            self._push(host, self.rng.choice(self.government.signed))

    def forge_governance(self, host: Host) -> None:
        """Everything that could carry a case which has not passed, at once and to everybody."""
        if not self.government.may_act(host):
            return
        outcome = self.government.machine(host).outcome
        standings = {} if outcome is None else outcome.standings
        open_ones = [id for id, one in standings.items() if not one.passed]
        target = self.rng.choice(open_ones) if open_ones else bytes(32)
        for record in forged_records(self.government, target, self.rng.randrange(10**6)):
            self._push(host, record)

    def flood(self, host: Host) -> None:
        """One author signs thousands, and pours them over the peers of a host, half as gossip."""
        if self.government.may_act(host):
            author = self.rng.choice([*self.government.voters, *self.government.agents])
            self._pour(host, host.life, author, 0)

    def _pour(self, host: Host, life: int, author: Operator, number: int) -> None:
        if host.life != life or not host.alive or number >= self.flood_size:
            return
        peers = list(host.connections)
        if peers and not host.frozen:
            machine = self.government.machine(host)
            action = encode(SetSetting(CODES[number % len(CODES)], number % 7))
            record = sign_record(
                self.government.undrafted(host, author, action, seq=1 + number),
                [(author.public_key, author.sign)],
            )
            peer, network = peers[number // 2 % len(peers)], self.world.network
            if number % 2:
                network.whisper(host, peer, record, GOV)
            else:
                network.tell(host, peer, encode(SetRecords(machine.registry.scope, (record,))), GOV)
        self.world.event_queue.after(FLOOD_EVERY_S, self._pour, host, life, author, number + 1)

    def set_clock(self, host: Host) -> None:
        """From its next start on its wall clock is up to a year wrong, either way."""
        host.spec = replace(host.spec, skew_s=self.rng.uniform(-YEAR_S, YEAR_S))

    # --- the end ----------------------------------------------------------------------------------

    def end(self) -> None:
        """Agents' nodes come back, too: without them no change is promoted."""
        for number in self.government.agent_hosts:
            host = self.world.hosts[number]
            if not host.alive:
                self.world.start(host)
        super().end()

    # --- who and what -----------------------------------------------------------------------------

    def _any_case(self, host: Host) -> Case | None:
        cases = self.government.cases(host) if self.government.may_act(host) else []
        return self.rng.choice(cases) if cases else None

    def _action(self, host: Host) -> Action:
        rng = self.rng
        code = rng.choice(CODES)
        rule = BY_CODE[code]
        low, high = rule.bounds.low, rule.bounds.high
        kind = rng.randrange(12)
        if kind == 0:
            return SetBounds(code, low, rng.randint(low, high))
        if kind == 1:
            return OpenPhase(rng.randint(1, 4))
        if kind == 2:
            return ClosePhase(rng.randint(0, 3))
        if kind == 3:
            return SetSetting(code, rng.randint(0, 2 * rule.limits.high))
        if kind == 4:
            return rng.choice(
                (
                    Observe(0),
                    Suggest(encode(SetSetting(code, low))),
                    SetFeature("dreams", 1),
                    SetDefaultModel("another", bytes(32)),
                )
            )
        return SetSetting(code, rng.randint(low, high))

    def file_unknown(self, host: Host, author: Operator) -> Filed | None:
        """An action that no version knows, at a tier of its author's fancy."""
        action = encode(Vote(bytes(32), 1, bytes(32), bytes(16), 1, self.rng.randrange(999)))
        return self.government.file(
            host,
            author,
            self.government.undrafted(host, author, action, tier=self.rng.randint(0, 4)),
        )

    def _push(self, host: Host, record: bytes) -> None:
        """By hand, or over the wire to each peer, as frame or as gossip."""
        how = self.rng.randrange(3)
        if how == 0:
            self.government.offer(host, record)
            return
        scope = self.government.machine(host).registry.scope
        for peer in list(host.connections):
            if how == 1:
                frame = encode(SetRecords(scope, (record,)))
                self.world.network.tell(host, peer, frame, GOV)
            else:
                self.world.network.whisper(host, peer, record, GOV)


def restart_canary(faults: GovernedFaults, host: Host) -> None:
    """The process of one that tries a change dies, and is started at once."""
    for one in faults.world.alive():
        courses = faults.government.machine(one).progress.courses.values()
        if not one.frozen and any(course.trial == "running" for course in courses):
            faults.world.crash(one)
            faults.world.start(one)
            return


def be_away(faults: GovernedFaults, host: Host) -> None:
    """A process is stopped, and started again days or weeks later, on a machine that was up."""
    down = [one for one in faults.world.hosts if not one.alive and one.machine_up]
    if down:
        one = faults.rng.choice(down)
        faults.government.leap(one, faults.rng.choice((1, 15)) * DAY_S)
        faults.world.start(one)


def put_back_ledger(faults: GovernedFaults, host: Host) -> None:
    """Of one host its owner puts an earlier copy of the ledger in place, while it is down."""
    size, agents = host.disk.ledger.size, faults.government.agent_hosts
    is_first = not faults.logs.put_back and host.number not in faults.logs.forking
    if not host.alive and size and is_first and host.number > 1 and host.number not in agents:
        faults.logs.put_back_copy(host, faults.rng.randrange(size))


class Killer(Checker):
    """Kills a process while governance writes, with this chance at each write, until `is_over`."""

    def __init__(self, chance: float) -> None:
        self.chance = chance
        self.is_over = False
        self.kills = 0

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        rng = self.world.rng
        for effect in effects:
            if isinstance(effect, Commit) and not self.is_over and rng.random() < self.chance:
                within_s = COMMIT_S * (len(effect.values) + 0.5)
                life = host.life
                self.world.event_queue.after(rng.uniform(0, within_s), self._kill, host, life)

    def _kill(self, host: Host, life: int) -> None:
        if host.life == life and not self.is_over:
            self.kills += 1
            self.world.crash(host)


OFTEN: Final = {
    **{"propose": 3.0, "support": 2.0, "vote": 1.0},
    **{"vote_twice": 0.5, "forge_governance": 0.5, "play_back": 0.5},
}
GOVERNED: Final[dict[str, Callable[[GovernedFaults, Host], None]]] = {
    "propose": GovernedFaults.propose,
    "vote": GovernedFaults.vote,
    "support": GovernedFaults.support,
    "vote_early": GovernedFaults.vote_early,
    "vote_twice": GovernedFaults.vote_twice,
    "withdraw": GovernedFaults.withdraw,
    "revert": GovernedFaults.revert,
    "play_back": GovernedFaults.play_back,
    "forge_governance": GovernedFaults.forge_governance,
    "flood": GovernedFaults.flood,
    "set_clock": GovernedFaults.set_clock,
    "restart_canary": restart_canary,
    "be_away": be_away,
    "put_back_ledger": put_back_ledger,
}
GovernedFaults.further = dict(GOVERNED)
