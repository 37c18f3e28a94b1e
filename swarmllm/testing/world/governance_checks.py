"""The base class of governance's laws, and what they ask of a host: what is in force there, and
which records it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.government import Government
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.referee import Force, Referee, Verdict

if TYPE_CHECKING:
    from swarmllm.testing.world.world import World

VERDICTS_MAX: Final = 512  # Kept, for hosts that hold the same.


def in_force(machine: GovernanceMachine) -> Force:
    """What is in force on a host, in the referee's words."""
    return {(target.kind, target.code): value for target, value in machine.changes.live.items()}


def records_of(machine: GovernanceMachine) -> list[bytes]:
    """Every record that a host holds."""
    return [record for case in machine.registry.cases.values() for record in case.records]


def referee_of(government: Government, world: World, version: int) -> Referee:
    """Of the charter of this version."""
    era = government.eras[version]
    return Referee(
        government.founders.swarm,
        [one.public_key for one in era.voters],
        [one.public_key for one in era.agents],
        era.terms,
        3,  # As the founders' charter has it.
        world.verify,
        version,
    )


class Bench:
    """What the referees say of the records on each host: one referee for each charter. Hosts that
    hold the same are judged once."""

    def __init__(self, government: Government) -> None:
        self.government = government
        self._referees: dict[int, Referee] = {}
        self._verdicts: dict[object, Verdict] = {}

    def referee(self, world: World, version: int) -> Referee:
        """Of the charter of this version."""
        found = self._referees.get(version)
        if found is None:
            found = referee_of(self.government, world, version)
            self._referees[version] = found
        return found

    def verdict(self, world: World, machine: GovernanceMachine) -> Verdict:
        """What is not released opens no phase there, and reverts nothing; the referee is told."""
        assert machine.mandate is not None
        cases, digest = machine.registry.cases, machine.switch.state.digest
        released = machine.progress.released & cases.keys()
        version = machine.mandate.version
        known = sorted((id, cases[id].digest, id in released) for id in cases)
        key = (version, *known, digest)
        found = self._verdicts.get(key)
        if found is None:
            if len(self._verdicts) > VERDICTS_MAX:
                self._verdicts.clear()
            referee = self.referee(world, version)
            found = referee.verdict(records_of(machine), digest)
            if found.passed - released:
                found = referee.verdict(records_of(machine), digest, released)
            self._verdicts[key] = found
        return found


class GovernanceLaw(Checker):
    """Laws of one world share a bench."""

    def __init__(self, government: Government, bench: Bench | None = None) -> None:
        self.government = government
        self.bench = bench or Bench(government)

    def machine(self, host: Host) -> GovernanceMachine | None:
        """Of a host that is up, and has got as far as governance."""
        part = self.government.parts.get(host.number)
        return part.machine if host.alive and part is not None else None
