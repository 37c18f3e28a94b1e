"""What must hold of governance in every world whose hosts run it (`testing.world.government`).

`Justified`         nothing is in force without its gate (votes, review, canary), nothing is put
                    into force while halted, and a halt takes the last changes back
`OnceEach`          nothing is put into force twice without having been taken back between
`PinsAreKept`       what an owner has pinned never changes
`GovernanceBounded` every collection of governance keeps its bound, whoever floods it
`GovernanceIsQuiet` a host whose peers agree with it sends next to nothing
`SettingsAgree`     when nothing changes any more, the same is in force everywhere, on disk too, and
                    it is what the records say; what a halt took back is not among it

Who may decide what is worked out by `testing.world.referee`, which knows nothing of the code here
judged; each host is held to the records that it holds itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from swarmllm.core.effects import SendFrame
from swarmllm.core.governance import book, journal, phases, state_file
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.governance.state_file import load
from swarmllm.core.inputs import FrameReceived, RecordOffered
from swarmllm.core.settings.table import BY_CODE
from swarmllm.messages.declare import GOV
from swarmllm.messages.governance import OpenPhase
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.government import Government
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.network import CONNECTIONS_MAX
from swarmllm.testing.world.referee import HALT_TOOK, MAJOR, Force, Referee, Thing, Verdict

if TYPE_CHECKING:
    from swarmllm.core.effects import NodeEffect
    from swarmllm.testing.world.world import World

# Between a halt and the look at what it takes back lies no more than one look at the clock.
TAKEN_BACK_S: Final = 1.0
KEPT_MAX_S: Final = 14 * 86_400 + 600
TURN_S: Final = 1e-3  # What rounding does to a wait.
VERDICTS_MAX: Final = 512  # Kept, for hosts that hold the same.
LOOK_EVERY: Final = 64  # Steps of a host between two looks at its collections.
# The design allows 50 bytes per node and second. A digest a minute is less than one.
QUIET_BYTES_PER_S: Final = 50.0
QUIET_AFTER_S: Final = 60.0  # After the last difference between peers.


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


class GovernanceLaw(Checker):
    def __init__(self, government: Government) -> None:
        self.government = government

    def machine(self, host: Host) -> GovernanceMachine | None:
        """Of a host that is up, and has got as far as governance."""
        part = self.government.parts.get(host.number)
        return part.machine if host.alive and part is not None else None


class Memory:
    """What the law knows of one disk: `force` as it was last, `was` everything that was in force
    here, when each case was first here (the host's own clock) and when it had passed; `orders_at`
    says when the halt state changed last, and `tried` what a canary here has begun with."""

    def __init__(self) -> None:
        self.force: Force = {}
        self.was: set[tuple[Thing, bytes]] = set()
        self.seen: dict[bytes, float] = {}
        self.passed: dict[bytes, float] = {}
        self.tried: set[bytes] = set()
        self.key: object = None
        self.orders = b""
        self.orders_at = 0.0


class Justified(GovernanceLaw):
    """Whatever is in force on a host has its votes among the records that the host holds, and is
    not void by them. It came into force after its review and its canary, and not while the host was
    halted. A halt takes back at once, on every host that has heard it."""

    LAW: Final = "nothing is in force without its gate"
    HALTED: Final = "nothing is put into force while halted"
    TAKEN_BACK: Final = "a halt takes the last changes back"

    def begin(self, world: World) -> None:
        super().begin(world)
        self._referees: dict[int, Referee] = {}
        self._memories: dict[int, Memory] = {}
        self._off_s: dict[int, float] = {}
        self._verdicts: dict[object, Verdict] = {}

    def starting(self, host: Host) -> None:
        if not any(key.startswith("governance/") for key in host.disk.values):
            self._memories[host.number] = Memory()
        memory = self._memories[host.number]
        memory.force, memory.key = {}, None
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
                raise self.broken(self.LAW, host, f"{id.hex()[:8]} is tried out of turn")
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
        verdict = self._verdict(machine)
        for id in verdict.passed:
            memory.passed.setdefault(id, now)
        before, memory.force = memory.force, force
        self._settings_follow(host, force)
        for thing, (id, value) in force.items():
            if not id:
                continue
            self._has_votes(host, memory, verdict, thing, id, value)
            if before.get(thing) != (id, value) and (thing, id) not in memory.was:
                self._had_its_gates(host, machine, memory, verdict, thing, id)
            memory.was.add((thing, id))

    def _up(self, host: Host) -> float:
        """The host's own clock, less what its machine was off."""
        leapt_s = self.government.leapt_s.get(host.number, 0.0)
        return host.clock() + leapt_s - self._off_s.get(host.number, 0.0)

    def _verdict(self, machine: GovernanceMachine) -> Verdict:
        """What is not released opens no phase here, and reverts nothing; the referee is told."""
        cases, digest = machine.registry.cases, machine.switch.state.digest
        released = machine.progress.released & cases.keys()
        assert machine.mandate is not None
        version = machine.mandate.version
        if version not in self._referees:
            self._referees[version] = referee_of(self.government, self.world, version)
        referee = self._referees[version]
        known = sorted((id, cases[id].digest, id in released) for id in cases)
        key = (version, *known, digest)
        found = self._verdicts.get(key)
        if found is None:
            if len(self._verdicts) > VERDICTS_MAX:
                self._verdicts.clear()
            found = referee.verdict(records_of(machine), digest)
            if found.passed - released:
                found = referee.verdict(records_of(machine), digest, released)
            self._verdicts[key] = found
        return found

    def _settings_follow(self, host: Host, force: Force) -> None:
        for code, setting in BY_CODE.items():
            _, value = force.get(("setting", code), (b"", (setting.default,)))
            if host.settings.get(setting) != value[0]:
                raise self.broken(
                    self.LAW, host, f"{setting.key} is {host.settings.get(setting)}, not {value[0]}"
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
            raise self.broken(self.LAW, host, f"{name}: nobody signed that")
        if id not in verdict.passed:
            said = f"{len(matter.votes)} voted, tier {verdict.tiers.get(id)}"
            raise self.broken(self.LAW, host, f"{name}: it has not passed ({said})")
        if thing[0] != "phase" and value != _value_of(matter.action):
            raise self.broken(self.LAW, host, f"{name}: that was not voted on")
        # Orders are heard by the kill switch first; governance looks at the next tick.
        if id in verdict.void and self.world.now > memory.orders_at + TAKEN_BACK_S:
            law = self.TAKEN_BACK if verdict.void[id] == HALT_TOOK else self.LAW
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
            raise self.broken(self.LAW, host, f"{name}: reviewed for {waited_s:.1f} s")
        if isinstance(matter.action, OpenPhase):
            phase = matter.action.phase
            experts = len(machine.census.peers(host.clock()))
            if experts < terms.phase_experts[phase - 1]:
                raise self.broken(self.LAW, host, f"{name}: opened with {experts} experts")
            if phase > 1 and not any(matter.proposal.evidence):
                raise self.broken(self.LAW, host, f"{name}: opened without a report")
        if thing[0] == "setting" and terms.canary_permille and terms.canary_s:
            since_s = now - memory.passed[id] + TURN_S
            is_due = not era.agents and since_s >= terms.canary_s
            if not (is_due or matter.reports or id in memory.tried):
                raise self.broken(self.LAW, host, f"{name}: no canary has tried it")

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


def _value_of(action: Any) -> tuple[int, ...]:
    return (action.value,) if hasattr(action, "value") else (action.low, action.high)


def _lot(id: bytes, peer: str) -> float:
    """Between 0 and 1: a hash over the change and the node's id."""
    return int.from_bytes(sha256(id + peer.encode()).digest()[:8], "big") / 2**64


class OnceEach(GovernanceLaw):
    """The journal, which lasts as long as the disk, has each change once between two takings back,
    and each entry begins where the last one on the same thing ended."""

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
        standing: dict[str, bytes] = {}
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
            elif standing.get(entry.what) == entry.proposal:
                raise self.broken(self.LAW, host, f"{entry} again")
            else:
                standing[entry.what] = entry.proposal


class PinsAreKept(Checker):
    """The node reads its owner's value, whatever the swarm has set."""

    LAW: Final = "a pinned value never changes"

    def stepped(self, host: Host, event: object) -> None:
        for setting, value in host.spec.pins.items():
            if host.alive and host.settings[setting] != setting.read(value):
                raise self.broken(self.LAW, host, f"{setting} is read as {host.settings[setting]}")


class GovernanceBounded(GovernanceLaw):
    LAW: Final = "every collection of governance keeps its bound"

    def begin(self, world: World) -> None:
        super().begin(world)
        self._steps: dict[int, int] = {}

    def stepped(self, host: Host, event: object) -> None:
        if not isinstance(event, FrameReceived | RecordOffered):
            return
        steps = self._steps[host.number] = self._steps.get(host.number, 0) + 1
        if steps % LOOK_EVERY == 0:
            self._look(host)

    def settled(self) -> None:
        for host in self.world.alive():
            self._look(host)

    def _look(self, host: Host) -> None:
        machine = self.machine(host)
        if machine is None or machine.damage:
            return
        for name, size, bound in self._collections(host, machine):
            if size > bound:
                raise self.broken(self.LAW, host, f"{name}: {size} > {bound}")

    def _collections(
        self, host: Host, machine: GovernanceMachine
    ) -> Iterator[tuple[str, int, int]]:
        found, outcome = machine.registry.book, machine.outcome
        if found is not None and outcome is not None:
            opened: dict[bytes, int] = {}
            for id, case in found.cases.items():
                standing = outcome.standings[id]
                if book.is_open(case, standing):
                    author = case.proposal.author
                    opened[author] = opened.get(author, 0) + 1
            keys = len(self.government.voters) + len(self.government.agents)
            for author, count in opened.items():
                yield f"open proposals of {author.hex()}", count, 4
            yield "open proposals", sum(opened.values()), 256
            # Open ones, and as many that their authors withdrew, beside those that have passed.
            passed = sum(
                book.has_carried(case, outcome.standings[id]) for id, case in found.cases.items()
            )
            yield "proposals", len(found.cases) - passed, 8 * keys
            yield "passed proposals", passed, book.PASSED_MAX
            yield "names of closed proposals", len(found._closed), book.CLOSED_MAX
            says = max((len(case.says) for case in found.cases.values()), default=0)
            yield (
                "records of a proposal",
                says,
                1 + 3 * len(self.government.voters) + (2 * len(self.government.agents) + 1),
            )
            courses = machine.progress.courses
            yield "courses", len(courses), len(found.cases)
            ages = [
                round(course.seen.read(host.clock()))
                for id, course in courses.items()
                if id in found.cases
                and not book.has_carried(found.cases[id], outcome.standings[id])
            ]
            # A process that was down finds out at its first look.
            yield "seconds that an open proposal is kept", max(ages, default=0), KEPT_MAX_S
        yield "links", len(machine.replica._links), CONNECTIONS_MAX
        yield "news", len(machine.registry.news), 0
        yield "journal", len(machine.changes.journal.entries), journal.ENTRIES_MAX
        yield "census", len(machine.census._heard), phases.HEARD_MAX
        yield "slots", len(machine._writing.slots), state_file.SLOTS_MAX
        kept = [key for key in host.disk.values if key.startswith("governance/")]
        yield "values on disk", len(kept), state_file.SLOTS_MAX + 1
        yield "costs", len(machine.progress._costs_s), 256


class GovernanceIsQuiet(GovernanceLaw):
    """Once all peers of a host hold what it holds, it sends a digest now and then. What peers that
    differ for good (one has dropped what the other keeps) send each other is bounded, too."""

    LAW: Final = "an idle host sends next to nothing"

    def begin(self, world: World) -> None:
        super().begin(world)
        self._bytes: dict[int, int] = {}
        self._since = 0.0

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        sent = 0
        for effect in effects:
            if isinstance(effect, SendFrame) and effect.channel == GOV:
                sent += len(self.world.encoded(effect.message))
        if sent:
            self._bytes[host.number] = self._bytes.get(host.number, 0) + sent

    def start(self) -> None:
        """From now on nobody does anything."""
        self._bytes, self._since = {}, self.world.now

    def settled(self) -> None:
        seconds = self.world.now - self._since
        if not self._since or seconds < QUIET_AFTER_S:
            return
        for host in self.world.alive():
            rate = self._bytes.get(host.number, 0) / seconds
            if rate > QUIET_BYTES_PER_S:
                raise self.broken(self.LAW, host, f"{rate:.0f} bytes a second, and nothing happens")

    @property
    def most(self) -> float:
        """Bytes a second of the host that sent most."""
        return max(self._bytes.values(), default=0) / max(1e-9, self.world.now - self._since)


class SettingsAgree(GovernanceLaw):
    """Hosts that pass nothing on may keep to themselves what they alone were told; they, too, go by
    all that they hold."""

    LAW: Final = "the same is in force everywhere when nothing changes"

    def settled(self) -> None:
        version = max(self.government.eras)
        referee = referee_of(self.government, self.world, version)
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
        saved, _ = load(host.disk.values.get)
        written: Force = {(t.kind, t.code): value for t, value in saved.in_force.items()}
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


def _said(found: tuple[bytes, tuple[int, ...]] | None) -> str:
    return "not set" if found is None else f"{found[1]} by {found[0].hex()[:8] or 'the charter'}"


def governance_laws(government: Government) -> tuple[Checker, ...]:
    """One of each, for one world."""
    of_governance = (law(government) for law in GOVERNANCE_LAWS)
    return (*of_governance, PinsAreKept())


GOVERNANCE_LAWS: Final[tuple[type[GovernanceLaw], ...]] = (
    Justified,
    OnceEach,
    GovernanceBounded,
    GovernanceIsQuiet,
    SettingsAgree,
)
