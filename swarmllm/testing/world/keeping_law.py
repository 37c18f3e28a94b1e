"""What whoever hands a record in is told: the law `KeptIsOnDisk`, that what is said to be on disk
is there, and that nobody waits long to hear it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmllm.core.effects import RecordChecked, RecordKept
from swarmllm.core.governance.state_file import load
from swarmllm.core.halt.charter import Rejected
from swarmllm.core.inputs import RecordOffered
from swarmllm.messages.declare import GOV
from swarmllm.testing.world.governance_checks import GovernanceLaw, records_of
from swarmllm.testing.world.host import Host

if TYPE_CHECKING:
    from swarmllm.core.effects import NodeEffect
    from swarmllm.testing.world.world import World

# A write, one behind it, and a second until what failed is tried again.
ANSWER_WITHIN_S: Final = 5.0


class KeptIsOnDisk(GovernanceLaw):
    """Each record that was handed in and taken is answered once: it is on disk, or cannot be
    written there now."""

    LAW: Final = "what is said to be on disk is there"
    ANSWERED: Final = "whoever hands a record in is answered"

    def begin(self, world: World) -> None:
        super().begin(world)
        self._offered: dict[tuple[int, int, int], bytes] = {}
        self._waiting: dict[tuple[int, int, int], tuple[bytes, float]] = {}

    def starting(self, host: Host) -> None:
        for found in (self._offered, self._waiting):
            for key in [key for key in found if key[0] == host.number]:
                del found[key]  # The node died before it answered.

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        if isinstance(event, RecordOffered) and event.channel == GOV and event.forwarder is None:
            self._offered[host.number, host.life, event.check] = event.record
        for effect in effects:
            if isinstance(effect, RecordChecked):
                self._checked(host, effect)
            elif isinstance(effect, RecordKept):
                self._answered(host, effect)

    def _checked(self, host: Host, effect: RecordChecked) -> None:
        """At once, or later if the node holds inputs back."""
        key = (host.number, host.life, effect.check)
        record = self._offered.pop(key, None)
        if record is not None and not isinstance(effect.outcome, Rejected):
            self._waiting[key] = (record, self.world.now)

    def _answered(self, host: Host, effect: RecordKept) -> None:
        found = self._waiting.pop((host.number, host.life, effect.check), None)
        if found is None:
            raise self.broken(self.ANSWERED, host, f"offer {effect.check} was answered twice")
        machine = self.machine(host)
        if effect.fault or machine is None or found[0] not in records_of(machine):
            return  # What says nothing new is not held, and was not written.
        _, cases = load(host.disk.values.get)
        if not any(found[0] in records for records in cases.values()):
            raise self.broken(self.LAW, host, f"a record of {len(found[0])} bytes is not")

    def settled(self) -> None:
        for (number, life, check), (_, since) in self._waiting.items():
            host = self.world.hosts[number]
            is_awake = host.alive and not host.frozen and host.life == life
            if is_awake and self.world.now > since + ANSWER_WITHIN_S:
                raise self.broken(self.ANSWERED, host, f"offer {check} was not, since {since:.1f}")
