"""What the records on a host count: the laws `RecordsHeld` and `Weighed`.

`RecordsHeld`  a host holds no record that nobody may have signed there
`Weighed`      each proposal has the tier of its action, the votes of voters, and is void exactly
               for the reasons of the design

They see a miscount at the step at which it happens, whether or not it carries anything: what comes
of it is for `governance_laws`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmllm.core.governance.outcome import Outcome, Standing
from swarmllm.testing.world.governance_checks import GovernanceLaw, records_of
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.referee import (
    HALT_TOOK,
    NO_AGENTS_MATTER,
    PHASE_FORBIDS,
    REVERTED,
    WORSE,
    Refused,
    Verdict,
)

if TYPE_CHECKING:
    from swarmllm.testing.world.world import World


class RecordsHeld(GovernanceLaw):
    """Of every record that a host holds the referee says that it counts."""

    SIGNATURE: Final = "every record that is held is signed by the one whom it names"
    ROLE: Final = "every record that is held is of one who may sign it"
    SWARM: Final = "no record of another swarm is held"
    CHARTER: Final = "no record of another charter is held"

    def begin(self, world: World) -> None:
        super().begin(world)
        self._digests: dict[int, bytes] = {}
        self._good: dict[int, set[bytes]] = {}

    def stepped(self, host: Host, event: object) -> None:
        machine = self.machine(host)
        if machine is None or machine.damage or machine.mandate is None:
            return
        if self._digests.get(host.number) == machine.replica.digest:
            return
        self._digests[host.number] = machine.replica.digest
        version = machine.mandate.version
        good = self._good.setdefault(version, set())
        for record in records_of(machine):
            if record not in good:
                read = self.bench.referee(self.world, version).read(record)
                if isinstance(read, Refused):
                    law = getattr(self, read.name)
                    raise self.broken(law, host, f"{read.value} ({record.hex()[-16:]})")
                good.add(record)


class Weighed(GovernanceLaw):
    """How each proposal stands on a host is what the referee makes of the records there."""

    TIER: Final = "each proposal has the tier of its action"
    COUNT: Final = "the votes of voters count, one each, and no others"
    PASSES: Final = "a proposal passes with the votes of its tier"
    AGENT: Final = "an agent's proposal counts only where and while the phase lets it deploy"
    WORSE: Final = "what canaries found worse is void"
    REVERT: Final = "a revert takes its proposal out"
    TAKEN_BACK: Final = "a halt takes the last changes back"
    NO_MORE: Final = "a halt takes nothing back but the last changes"
    REASON: Final = "nothing is void without a reason"

    def begin(self, world: World) -> None:
        super().begin(world)
        self._judged: dict[int, Outcome] = {}

    def stepped(self, host: Host, event: object) -> None:
        machine = self.machine(host)
        if machine is None or machine.damage or machine.mandate is None:
            return
        outcome = machine.outcome
        # A new one is made whenever anything has changed; of an order it hears at the next tick.
        if outcome is None or outcome is self._judged.get(host.number):
            return
        if machine._digest != machine.switch.state.digest:
            return
        self._judged[host.number] = outcome
        verdict = self.bench.verdict(self.world, machine)
        for id, standing in outcome.standings.items():
            self._is_weighed(host, id, standing, verdict)

    def _is_weighed(self, host: Host, id: bytes, standing: Standing, verdict: Verdict) -> None:
        name, tier = f"proposal {id.hex()[:8]}", verdict.tiers.get(id)
        if standing.decision.tier != tier:
            raise self.broken(self.TIER, host, f"{name}: {standing.decision.tier}, not {tier}")
        if standing.yes != verdict.yes[id]:
            raise self.broken(self.COUNT, host, f"{name}: {standing.yes}, not {verdict.yes[id]}")
        if standing.passed != (id in verdict.passed):
            raise self.broken(
                self.PASSES, host, f"{name}: {standing.yes} of {standing.needs}, tier {tier}"
            )
        reason = verdict.void.get(id, "")
        # What takes a revert out is no matter: it has done what it does.
        if bool(standing.void) != bool(reason) and verdict.matters[id].thing is not None:
            law = LAW_OF_REASON[reason] if reason else self._too_much(standing.void)
            said = standing.void or "not void"
            raise self.broken(law, host, f"{name}: {said}; the referee: {reason or 'not void'}")

    def _too_much(self, void: str) -> str:
        return self.NO_MORE if void == HALT_TOOK else self.REASON


LAW_OF_REASON: Final = {
    PHASE_FORBIDS: Weighed.AGENT,
    NO_AGENTS_MATTER: Weighed.AGENT,
    WORSE: Weighed.WORSE,
    REVERTED: Weighed.REVERT,
    HALT_TOOK: Weighed.TAKEN_BACK,
}
