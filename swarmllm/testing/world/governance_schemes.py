"""Schemes in a governed world: several steps by people who know where one vote, one report or one
write decides. What `governance_faults` does at random seldom comes to that.

Each is one more thing that can happen (`SCHEMES`) to `SchemingFaults`, drawn as often as its weight
says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.outcome import Outcome
from swarmllm.messages.governance import (
    PHASE_MAX,
    CanaryReport,
    ClosePhase,
    OpenPhase,
    Revert,
    SetSetting,
)
from swarmllm.testing.operators import Operator
from swarmllm.testing.world.governance_faults import GOVERNED, GovernedFaults
from swarmllm.testing.world.governance_forgeries import CODES, forged_records
from swarmllm.testing.world.government import Filed
from swarmllm.testing.world.host import Host

HALT_AFTER_S: Final = 10.0
RESUME_AFTER_S: Final = 30.0
FULL_FOR_S: Final = 5.0
AWAY_S: Final = 15 * 86_400.0


def forge_the_last_vote(faults: GovernedFaults, host: Host) -> None:
    """A change has all its votes but one, and everything that could pass for that one is forged."""
    filed = _change(faults, host)
    if filed is None:
        return
    government, outcome = faults.government, _outcome(faults, host)
    needs = outcome.standings[filed.id].needs or 1
    for voter in faults.rng.sample(government.voters, len(government.voters))[: needs - 1]:
        government.offer(host, government.plain_vote(voter, filed.id))
    for record in forged_records(government, filed.id, faults.rng.randrange(10**6)):
        government.offer(host, record)


def carry_what_nobody_knows(faults: GovernedFaults, host: Host) -> None:
    """An action that this version does not know gets the votes of a minor one."""
    if not _is_governed(faults, host):
        return
    government = faults.government
    author = faults.rng.choice(government.voters)
    filed = faults.file_unknown(host, author)
    if filed is not None:
        for voter in government.voters[: government.terms.minor_threshold]:
            government.offer(host, government.plain_vote(voter, filed.id))


def carry_many_and_halt(faults: GovernedFaults, host: Host) -> None:
    """More minor changes than a halt takes back; then a halt, and a resume."""
    for code in faults.rng.sample(CODES, len(CODES)):
        filed = _change(faults, host, code)
        if filed is not None:
            _carry(faults, host, filed)
    queue = faults.world.event_queue
    queue.after(HALT_AFTER_S, faults.halt, host)
    queue.after(HALT_AFTER_S + RESUME_AFTER_S, _resume, faults)


def overstep(faults: GovernedFaults, host: Host) -> None:
    """An agent proposes in whatever phase it is, and is given all the votes; sometimes its phase is
    closed afterwards."""
    if not faults.government.agents:
        return
    filed = _change(faults, host, author=faults.rng.choice(faults.government.agents))
    if filed is None:
        return
    _carry(faults, host, filed)
    if faults.rng.random() < 0.3:
        _close(faults, host, faults.rng.randint(0, 2))


def close_upwards(faults: GovernedFaults, host: Host) -> None:
    """A phase is to be opened by the votes that closing one takes; sometimes one is opened before,
    so that its review ends below a later case."""
    if not _is_governed(faults, host):
        return
    now = _outcome(faults, host).phase
    if now < PHASE_MAX and faults.rng.random() < 0.5:
        author, action = faults.rng.choice(faults.government.voters), OpenPhase(now + 1)
        filed = faults.government.propose(host, author, action)
        if filed is not None:
            _carry(faults, host, filed)
    _close(faults, host, faults.rng.randint(min(now + 1, 3), 3))


def contradict_canaries(faults: GovernedFaults, host: Host) -> None:
    """An agent reports on a change that has passed, whatever its node found; sometimes one thing
    here, and the other there."""
    government, rng = faults.government, faults.rng
    if not government.agents or not _is_governed(faults, host):
        return
    outcome = _outcome(faults, host)
    passed = [
        case
        for case in government.cases(host)
        if outcome.standings[case.id].passed and isinstance(case.action, SetSetting)
    ]
    if not passed:
        return
    case, agent = rng.choice(passed), rng.choice(government.agents)
    first = rng.randrange(2)
    _report(faults, host, agent, case, first)
    if rng.random() < 0.4:
        _report(faults, rng.choice(faults.world.alive()), agent, case, 1 - first)


def revert_while_the_disk_is_full(faults: GovernedFaults, host: Host) -> None:
    """What is in force is overtaken, and then void, while its successor cannot be written."""
    if not _is_governed(faults, host):
        return
    here = min(_outcome(faults, host).phase, 3)
    first = _close(faults, host, here)
    if first is not None:
        faults.world.event_queue.after(
            FULL_FOR_S, _overtake_and_revert, faults, host, host.life, first, here
        )


def _overtake_and_revert(
    faults: GovernedFaults, host: Host, life: int, first: Filed, phase: int
) -> None:
    if host.life != life or not _is_governed(faults, host):
        return
    author = faults.rng.choice(faults.government.voters)
    host.disk.full = True
    _close(faults, host, phase)
    revert = faults.government.propose(host, author, Revert(first.id))
    if revert is not None:
        _carry(faults, host, revert)
    faults.world.event_queue.after(FULL_FOR_S, _empty, faults, host)


def _empty(faults: GovernedFaults, host: Host) -> None:
    host.disk.clear(faults.world.now)


def undo_and_be_away(faults: GovernedFaults, host: Host) -> None:
    """All vote for a change, and then against it, so that it has lost its votes and is kept for
    good; and its node is off for longer than an open one is kept."""
    filed = _change(faults, host)
    if filed is None:
        return
    for yes in (True, False):
        _carry(faults, host, filed, yes=yes)
    faults.world.event_queue.after(FULL_FOR_S, _be_away, faults, host, host.life)


def _be_away(faults: GovernedFaults, host: Host, life: int) -> None:
    if host.life == life and host.alive:
        faults.world.crash(host)
        faults.government.leap(host, AWAY_S)
        faults.world.start(host)


# --- steps ----------------------------------------------------------------------------------------


def _is_governed(faults: GovernedFaults, host: Host) -> bool:
    """Whether something can pass at this host now."""
    return faults.government.may_act(host) and not faults.government.machine(host).obstacle


def _outcome(faults: GovernedFaults, host: Host) -> Outcome:
    outcome = faults.government.machine(host).outcome
    assert outcome is not None
    return outcome


def _change(
    faults: GovernedFaults, host: Host, code: int | None = None, author: Operator | None = None
) -> Filed | None:
    """A minor change of a setting, on top of what is in force at this host."""
    if not _is_governed(faults, host):
        return None
    rng, government = faults.rng, faults.government
    code = rng.choice(CODES) if code is None else code
    within = _outcome(faults, host).bounds_of(government.machine(host).rules)(code)
    assert within is not None
    action = SetSetting(code, rng.randint(within.low, within.high))
    voter = rng.choice(government.voters)
    return government.propose(host, author or voter, action, drafted_for=voter)


def _close(faults: GovernedFaults, host: Host, phase: int) -> Filed | None:
    """A phase is closed down to this one, with all votes."""
    author = faults.rng.choice(faults.government.voters)
    filed = faults.government.propose(host, author, ClosePhase(phase))
    if filed is not None:
        _carry(faults, host, filed)
    return filed


def _carry(faults: GovernedFaults, host: Host, filed: Filed, *, yes: bool = True) -> None:
    """All vote yes, or no, at this host."""
    for voter in faults.government.voters:
        faults.government.offer(host, faults.government.plain_vote(voter, filed.id, yes=yes))


def _report(faults: GovernedFaults, host: Host, agent: Operator, case: Case, worse: int) -> None:
    government = faults.government
    if government.may_act(host):
        swarm = government.founders.swarm
        report = CanaryReport(swarm, 1, case.id, agent.id, worse, 40, 40, 1, 1 + worse, 0)
        government.offer(host, government.sign(agent, report))


def _resume(faults: GovernedFaults) -> None:
    if any(host.behaviour.relays(host) for host in faults.world.alive()):
        faults.lift_everything()


SCHEMES: Final[dict[str, Callable[[GovernedFaults, Host], None]]] = {
    "forge_the_last_vote": forge_the_last_vote,
    "carry_what_nobody_knows": carry_what_nobody_knows,
    "carry_many_and_halt": carry_many_and_halt,
    "overstep": overstep,
    "close_upwards": close_upwards,
    "contradict_canaries": contradict_canaries,
    "revert_while_the_disk_is_full": revert_while_the_disk_is_full,
    "undo_and_be_away": undo_and_be_away,
}
OFTEN: Final = {
    "forge_the_last_vote": 0.7,
    "carry_what_nobody_knows": 0.3,
    "carry_many_and_halt": 0.4,
    "overstep": 0.5,
    "close_upwards": 0.4,
    "contradict_canaries": 0.7,
    "revert_while_the_disk_is_full": 0.4,
    "undo_and_be_away": 0.3,
}


class SchemingFaults(GovernedFaults):
    """Whoever schemes is always among what happens: half of all other events are left out of each
    world."""

    further: ClassVar[dict[str, Callable[[Any, Host], None]]] = {**GOVERNED, **SCHEMES}

    def _weight(self, name: str) -> float:
        often = OFTEN.get(name)
        return super()._weight(name) if often is None else often
