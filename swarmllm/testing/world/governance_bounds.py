"""What governance may cost a host, whatever others do: the laws `GovernanceBounded`, that every
collection keeps its bound, whoever floods it, `GovernanceIsQuiet`, that a host whose peers agree
with it sends next to nothing, and `LooksAreFew`, that no node looks at its clock for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from swarmllm.core.effects import SendFrame
from swarmllm.core.governance import book, journal, phases, state_file
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.inputs import FrameReceived, RecordOffered, TimerFired
from swarmllm.messages.declare import GOV
from swarmllm.testing.world.governance_checks import GovernanceLaw
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.network import CONNECTIONS_MAX

if TYPE_CHECKING:
    from swarmllm.core.effects import NodeEffect
    from swarmllm.testing.world.world import World

KEPT_MAX_S: Final = 14 * 86_400 + 600
LOOK_EVERY: Final = 64  # Steps of a host between two looks at its collections.
# The design allows 50 bytes per node and second. A digest a minute is less than one.
QUIET_BYTES_PER_S: Final = 50.0
QUIET_AFTER_S: Final = 60.0  # After the last difference between peers.
LOOKS_MAX: Final = 5_000  # In a second: a node with much to do has some hundreds.


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
            # What passed without votes is open again once the phase is closed.
            alone = self._unattended(machine)
            for author, count in opened.items():
                bound = book.UNATTENDED_MAX if author in alone else 4
                yield f"open proposals of {author.hex()}", count, bound
            again = sum(opened[author] for author in opened.keys() & alone)
            yield "open proposals", sum(opened.values()) - again, 256
            # Open ones, and as many that their authors withdrew, beside those that have passed.
            passed = sum(
                book.has_carried(case, outcome.standings[id]) for id, case in found.cases.items()
            )
            yield "proposals", len(found.cases) - passed - again, 8 * keys
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
        yield "slots", len(machine.writing.slots), state_file.SLOTS_MAX
        kept = [key for key in host.disk.values if key.startswith("governance/")]
        yield "values on disk", len(kept), state_file.SLOTS_MAX + 1
        yield "costs", len(machine.progress._costs_s), 256

    def _unattended(self, machine: GovernanceMachine) -> frozenset[bytes]:
        """The agents whose changes need no votes in phase 4."""
        mandate = machine.mandate
        alone = mandate is not None and mandate.terms.unattended
        return frozenset(one.id for one in self.government.agents) if alone else frozenset()


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


class LooksAreFew(GovernanceLaw):
    """A deadline that has passed already is looked at again at once, and again."""

    LAW: Final = "no node looks at its clock for ever"

    def begin(self, world: World) -> None:
        super().begin(world)
        self._looks: dict[int, tuple[int, int]] = {}

    def stepped(self, host: Host, event: object) -> None:
        if isinstance(event, TimerFired):
            second = int(self.world.now)
            since, looks = self._looks.get(host.number, (second, 0))
            looks = looks + 1 if since == second else 1
            self._looks[host.number] = second, looks
            if looks > LOOKS_MAX:
                raise self.broken(self.LAW, host, f"{looks} times within a second")
