"""What must hold of governance in every world whose hosts run it (`testing.world.government`).

`RecordsHeld`       no record is held that nobody may have signed (`record_laws`)
`Weighed`           each proposal has its tier, its votes, and is void for a reason (`record_laws`)
`Justified`         nothing is in force without its gate (votes, review, canary, what is written),
                    nothing is put into force while halted, and a halt takes the last changes back
`OnceEach`          nothing is put into force twice without having been taken back between
`PinsAreKept`       what an owner has pinned never changes
`KeptIsOnDisk`      what is said to be on disk is there, and soon (`keeping_law`)
`GovernanceBounded` every collection keeps its bound, whoever floods it (`governance_bounds`)
`GovernanceIsQuiet` a host whose peers agree with it sends next to nothing (`governance_bounds`)
`LooksAreFew`       no node looks at its clock for ever (`governance_bounds`)
`SettingsAgree`     when nothing changes any more, the same is in force everywhere, on disk too, and
                    it is what the records say; what a halt took back is not among it

Who may decide what is worked out by `testing.world.referee`, which knows nothing of the code here
judged; each host is held to the records that it holds itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.governance.state_file import STATE_KEY, Saved, load, read_state
from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.settings.table import BY_CODE
from swarmllm.messages.governance import ClosePhase, Enacted, OpenPhase
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.governance_bounds import (
    GovernanceBounded,
    GovernanceIsQuiet,
    LooksAreFew,
)
from swarmllm.testing.world.governance_checks import (
    Bench,
    GovernanceLaw,
    in_force,
    records_of,
)
from swarmllm.testing.world.government import Government
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.keeping_law import KeptIsOnDisk
from swarmllm.testing.world.record_laws import RecordsHeld, Weighed
from swarmllm.testing.world.referee import HALT_TOOK, MAJOR, Force, Referee, Thing, Valued, Verdict
from swarmllm.wire.codec import decode

if TYPE_CHECKING:
    from swarmllm.testing.world.world import World

# Between a halt and the look at what it takes back lies no more than one look at the clock.
TAKEN_BACK_S: Final = 1.0
TURN_S: Final = 1e-3  # What rounding does to a wait.


class Memory:
    """What the law knows of one disk: `force` as it was last, `was` everything that was in force
    here, when each case was first here (the host's own clock) and when it had passed; `orders_at`
    says when the halt state changed last, and `tried` what a canary here has begun with. `starts`:
    nothing was looked at yet in this life."""

    def __init__(self) -> None:
        self.force: Force = {}
        self.was: set[tuple[Thing, bytes]] = set()
        self.seen: dict[bytes, float] = {}
        self.passed: dict[bytes, float] = {}
        self.tried: set[bytes] = set()
        self.starts = True
        self.key: object = None
        self.orders = b""
        self.orders_at = 0.0


class Justified(GovernanceLaw):
    """Whatever is in force on a host has its votes among the records that the host holds, and is
    not void by them. It came into force after its review and its canary, when disk and ledger had
    it, and not while the host was halted. A halt takes back at once, on every host that has heard
    it."""

    PROPOSED: Final = "nothing is in force that nobody proposed"
    VOTES: Final = "nothing is in force without its votes"
    VOID: Final = "nothing void is in force"
    REVIEW: Final = "nothing large is in force before its review"
    PHASE: Final = "no phase is opened before it is due"
    CLOSES: Final = "closing a phase opens none"
    CANARY: Final = "no setting is in force before a canary has tried it"
    HALTED: Final = "nothing is put into force while halted"
    TAKEN_BACK: Final = "a halt takes the last changes back"
    WRITTEN: Final = "nothing is in force before disk and ledger have it"
    FOLLOWED: Final = "a node goes by the settings in force"

    def begin(self, world: World) -> None:
        super().begin(world)
        self._memories: dict[int, Memory] = {}
        self._off_s: dict[int, float] = {}

    def starting(self, host: Host) -> None:
        if not any(key.startswith("governance/") for key in host.disk.values):
            self._memories[host.number] = Memory()
        memory = self._memories[host.number]
        memory.force, memory.key, memory.starts = {}, None, True
        if not host.machine_up and host.died_at >= 0:
            off_s = (self.world.now - host.died_at) * host.spec.drift
            self._off_s[host.number] = self._off_s.get(host.number, 0.0) + off_s

    def stepped(self, host: Host, event: object) -> None:
        machine = self.machine(host)
        if machine is None or machine.damage or machine.mandate is None:
            return
        memory, force = self._memories[host.number], in_force(machine)
        state = machine.switch.state
        is_due = self.world.now > memory.orders_at + TAKEN_BACK_S
        # Once more after that time.
        trials = {id for id, one in machine.progress.courses.items() if one.trial == "running"}
        for id in trials - memory.tried:
            if not self._is_canary(host, machine, id):
                raise self.broken(self.CANARY, host, f"{id.hex()[:8]} is tried out of turn")
        memory.tried |= trials
        key = (machine.replica.digest, state.digest, len(force), is_due)
        if key == memory.key and force == memory.force:
            return
        memory.key = key
        if state.digest != memory.orders:
            memory.orders, memory.orders_at = state.digest, self.world.now
        now = self._up(host)
        for id in machine.registry.cases:
            memory.seen.setdefault(id, now)
        verdict = self.bench.verdict(self.world, machine)
        for id in verdict.passed:
            memory.passed.setdefault(id, now)
        before, memory.force = memory.force, force
        self._settings_follow(host, force)
        for thing, (id, value) in force.items():
            if not id:
                continue
            self._has_votes(host, memory, verdict, thing, id, value)
            if before.get(thing) != (id, value):
                if (thing, id) not in memory.was:
                    self._had_its_gates(host, machine, memory, verdict, thing, id)
                if not memory.starts and _goes_on(before.get(thing), (id, value), verdict):
                    self._is_written(host, thing, id, value)
            memory.was.add((thing, id))
        memory.starts = False

    def _up(self, host: Host) -> float:
        """The host's own clock, less what its machine was off."""
        leapt_s = self.government.leapt_s.get(host.number, 0.0)
        return host.clock() + leapt_s - self._off_s.get(host.number, 0.0)

    def _settings_follow(self, host: Host, force: Force) -> None:
        for code, setting in BY_CODE.items():
            _, value = force.get(("setting", code), (b"", (setting.default,)))
            if host.settings.get(setting) != value[0]:
                raise self.broken(
                    self.FOLLOWED,
                    host,
                    f"{setting.key} is {host.settings.get(setting)}, not {value[0]}",
                )

    def _has_votes(
        self,
        host: Host,
        memory: Memory,
        verdict: Verdict,
        thing: Thing,
        id: bytes,
        value: tuple[int, ...],
    ) -> None:
        name = f"{thing[0]} {thing[1]} = {value} by {id.hex()[:8]}"
        matter = verdict.matters.get(id)
        if matter is None or matter.thing != thing:
            raise self.broken(self.PROPOSED, host, f"{name}: nobody signed that")
        if id not in verdict.passed:
            said = f"{len(matter.votes)} voted, tier {verdict.tiers.get(id)}"
            raise self.broken(self.VOTES, host, f"{name}: it has not passed ({said})")
        if thing[0] != "phase" and value != _value_of(matter.action):
            raise self.broken(self.PROPOSED, host, f"{name}: that was not voted on")
        # Orders are heard by the kill switch first; governance looks at the next tick.
        if id in verdict.void and self.world.now > memory.orders_at + TAKEN_BACK_S:
            law = self.TAKEN_BACK if verdict.void[id] == HALT_TOOK else self.VOID
            raise self.broken(law, host, f"{name}: {verdict.void[id]}")

    def _had_its_gates(
        self,
        host: Host,
        machine: GovernanceMachine,
        memory: Memory,
        verdict: Verdict,
        thing: Thing,
        id: bytes,
    ) -> None:
        assert machine.mandate is not None
        era = self.government.eras[machine.mandate.version]
        matter, terms = verdict.matters[id], era.terms
        name = f"{thing[0]} {thing[1]} by {id.hex()[:8]}"
        now = self._up(host)
        if machine.switch.state.reasons:
            raise self.broken(self.HALTED, host, f"{name} while {machine.switch.state.reasons[0]}")
        waited_s = now - memory.seen[id] + TURN_S
        if verdict.tiers[id] == MAJOR and waited_s < terms.review_h * 3600:
            raise self.broken(self.REVIEW, host, f"{name}: reviewed for {waited_s:.1f} s")
        if isinstance(matter.action, OpenPhase):
            phase = matter.action.phase
            experts = len(machine.census.peers(host.clock()))
            if experts < terms.phase_experts[phase - 1]:
                raise self.broken(self.PHASE, host, f"{name}: opened with {experts} experts")
            if phase > 1 and not any(matter.proposal.evidence):
                raise self.broken(self.PHASE, host, f"{name}: opened without a report")
        expected = verdict.force.get(thing)
        if isinstance(matter.action, ClosePhase) and expected is not None and expected[0] == id:
            phase = machine.changes.phase
            if phase > expected[1][0]:
                raise self.broken(self.CLOSES, host, f"{name}: {phase}, not {expected[1][0]}")
        if thing[0] == "setting" and terms.canary_permille and terms.canary_s:
            since_s = now - memory.passed[id] + TURN_S
            is_due = not era.agents and since_s >= terms.canary_s
            if not (is_due or matter.reports or id in memory.tried):
                raise self.broken(self.CANARY, host, f"{name}: no canary has tried it")

    def _is_written(self, host: Host, thing: Thing, id: bytes, value: tuple[int, ...]) -> None:
        """By its own state, and by what its ledger has of this proposal."""
        name = f"{thing[0]} {thing[1]} = {value} by {id.hex()[:8]}"
        state = host.disk.values.get(STATE_KEY)
        if state is None or _written_in(read_state(state)).get(thing) != (id, value):
            raise self.broken(self.WRITTEN, host, f"{name} is not on disk")
        said = " to ".join(map(str, value))
        if not any((entry.proposal, entry.new) == (id, said) for entry in _enacted(host)):
            raise self.broken(self.WRITTEN, host, f"{name} is not in the ledger")

    def _is_canary(self, host: Host, machine: GovernanceMachine, id: bytes) -> bool:
        if host.number in self.government.unwilling:
            return False
        if host.number in self.government.agent_hosts:
            return True
        lot = _lot(id, host.peer)
        assert machine.mandate is not None
        if lot < machine.mandate.terms.canary_permille / 1000:
            return True
        known = machine.census.peers(host.clock())
        return all(lot <= _lot(id, peer) for peer in known)


def _goes_on(before: Valued | None, after: Valued, verdict: Verdict) -> bool:
    """Whether `after` is put into force. It is taken back to, at once, if `before` is void, or if
    it is the same phase case, by which the phase is lower now."""
    if before is None or not before[0]:
        return True
    if before[0] == after[0]:
        return after[1] > before[1]
    return before[0] in verdict.passed and before[0] not in verdict.void


def _written_in(saved: Saved) -> Force:
    """What is in force by the state of a host."""
    return {(target.kind, target.code): value for target, value in saved.in_force.items()}


def _enacted(host: Host) -> Iterator[Enacted]:
    """What the ledger of a host says that was put into force there, the newest first."""
    for data in reversed(host.disk.ledger.leaves):
        leaf = read_leaf(data)
        if leaf.kind in (LedgerKind.ENACTMENT, LedgerKind.PHASE):
            entry = decode(leaf.payload, (Enacted,))
            if not entry.why:
                yield entry


def _value_of(action: Any) -> tuple[int, ...]:
    return (action.value,) if hasattr(action, "value") else (action.low, action.high)


def _lot(id: bytes, peer: str) -> float:
    """Between 0 and 1: a hash over the change and the node's id."""
    return int.from_bytes(sha256(id + peer.encode()).digest()[:8], "big") / 2**64


class OnceEach(GovernanceLaw):
    """The journal, which lasts as long as the disk, has each change once between two takings back,
    and each entry begins where the last one on the same thing ended. A phase can be in force by one
    proposal, and then another phase by the same: what that builds on may come later."""

    LAW: Final = "nothing is put into force twice"

    def begin(self, world: World) -> None:
        super().begin(world)
        self._numbers: dict[int, tuple[int, int]] = {}

    def stepped(self, host: Host, event: object) -> None:
        machine = self.machine(host)
        if machine is None or machine.damage:
            return
        number = machine.changes.journal.next_number
        if self._numbers.get(host.number) == (host.life, number):
            return
        self._numbers[host.number] = (host.life, number)
        standing: dict[str, tuple[bytes, str]] = {}
        last: dict[str, str] = {}
        for entry in machine.changes.journal.entries:
            if last.get(entry.what, entry.old) != entry.old:
                raise self.broken(
                    self.LAW, host, f"{entry} begins with {entry.old}, not {last[entry.what]}"
                )
            last[entry.what] = entry.new
            if not entry.proposal:
                continue
            if entry.taken_back:
                standing.pop(entry.what, None)
            elif standing.get(entry.what) == (entry.proposal, entry.new):
                raise self.broken(self.LAW, host, f"{entry} again")
            else:
                standing[entry.what] = (entry.proposal, entry.new)


class PinsAreKept(Checker):
    """The node reads its owner's value, whatever the swarm has set."""

    LAW: Final = "a pinned value never changes"

    def stepped(self, host: Host, event: object) -> None:
        for setting, value in host.spec.pins.items():
            if host.alive and host.settings[setting] != setting.read(value):
                raise self.broken(self.LAW, host, f"{setting} is read as {host.settings[setting]}")


class SettingsAgree(GovernanceLaw):
    """Hosts that pass nothing on may keep to themselves what they alone were told; they, too, go by
    all that they hold."""

    LAW: Final = "the same is in force everywhere when nothing changes"

    def settled(self) -> None:
        version = max(self.government.eras)
        referee = self.bench.referee(self.world, version)
        hosts = self.world.alive()
        told = {
            record
            for host in hosts
            if host.behaviour.relays(host)
            for record in records_of(self.government.machine(host))
        }
        for host in hosts:
            machine = self.government.machine(host)
            if host.ledger_fault:
                continue  # What cannot be recorded there is not put into force there.
            if machine.damage or machine.obstacle:
                raise self.broken(self.LAW, host, f"governance is suspended: {machine.obstacle}")
            if machine.mandate is None or machine.mandate.version != version:
                raise self.broken(self.LAW, host, f"charter {version} is not in force")
            self._goes_by(host, machine, referee, sorted(told.union(records_of(machine))))

    def _goes_by(
        self, host: Host, machine: GovernanceMachine, referee: Referee, records: list[bytes]
    ) -> None:
        """What is in force there, and on its disk, and what its settings are, by these records."""
        verdict = referee.verdict(records, machine.switch.state.digest)
        if own := self._found_worse(machine):
            ripe = verdict.matters.keys() - own
            verdict = referee.verdict(records, machine.switch.state.digest, ripe)
        expected, force = verdict.force, in_force(machine)
        if force != expected:
            raise self.broken(self.LAW, host, _differ(force, expected))
        written = _written_in(load(host.disk.values.get)[0])
        if written != expected:
            raise self.broken(self.LAW, host, f"on disk, {_differ(written, expected)}")
        for code, setting in BY_CODE.items():
            _, value = expected.get(("setting", code), (b"", (setting.default,)))
            if host.settings.get(setting) != value[0]:
                raise self.broken(self.LAW, host, f"{setting} is {host.settings.get(setting)}")

    def _found_worse(self, machine: GovernanceMachine) -> set[bytes]:
        """What a canary on the host itself has taken back, where no agents decide for all."""
        if self.government.agents:
            return set()
        courses = machine.progress.courses
        return {id for id, course in courses.items() if course.trial == "worse"}


def _differ(force: Force, expected: Force) -> str:
    for thing in sorted(force.keys() | expected.keys()):
        if force.get(thing) != expected.get(thing):
            return (
                f"{thing[0]} {thing[1]} is {_said(force.get(thing))},"
                f" and by the records {_said(expected.get(thing))}"
            )
    return "nothing differs"


def _said(found: Valued | None) -> str:
    return "not set" if found is None else f"{found[1]} by {found[0].hex()[:8] or 'the charter'}"


def governance_laws(government: Government) -> tuple[Checker, ...]:
    """One of each, for one world."""
    bench = Bench(government)
    of_governance = (law(government, bench) for law in GOVERNANCE_LAWS)
    return (*of_governance, PinsAreKept())


GOVERNANCE_LAWS: Final[tuple[type[GovernanceLaw], ...]] = (
    RecordsHeld,
    Weighed,
    Justified,
    OnceEach,
    KeptIsOnDisk,
    GovernanceBounded,
    GovernanceIsQuiet,
    LooksAreFew,
    SettingsAgree,
)
