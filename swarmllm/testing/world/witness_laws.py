"""What must hold of ledgers that witness each other, in every world whose hosts run them
(`testing.world.witnesses`).

`HonestLogsAreBelieved` an honest log raises no alarm, and no doubt of its own, however its host was
                        restarted, cut off, or its frames were lost and doubled
`TamperingIsFound`      two histories, or an earlier copy that was put back, are found by a witness,
                        or by the log's own node from what a witness shows it
`LogsAreWitnessed`      when nothing changes any more, each log has a checkpoint of all its entries,
                        and whoever has a neighbour has his signature under it
`WitnessesAreBounded`   every collection of a witness keeps its bound
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmllm.core.effects import DoubtLedger, KeepAlarm, Penalise
from swarmllm.core.inputs import FrameReceived
from swarmllm.core.ledger import witness
from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.own_log import CHECKPOINT_AFTER_S
from swarmllm.core.ledger.part import LedgerPart
from swarmllm.errors import RemoteError
from swarmllm.messages import LEDGER, NOTE_MAX
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.network import CONNECTIONS_MAX
from swarmllm.testing.world.witnesses import Logs, held_size
from swarmllm.wire.checkpoint import open_checkpoint, open_cosignature

if TYPE_CHECKING:
    from swarmllm.core.effects import NodeEffect

WRITES_S: Final = 10.0  # For a checkpoint to be on disk, and cosigned.
LOOK_EVERY: Final = 64  # Frames of a host between two looks at its collections.


class WitnessLaw(Checker):
    def __init__(self, logs: Logs) -> None:
        self.logs = logs

    def part(self, host: Host) -> LedgerPart:
        return self.logs.parts[host.number]


class HonestLogsAreBelieved(WitnessLaw):
    LAW: Final = "an honest log raises no alarm"

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        by_frame = isinstance(event, FrameReceived) and event.channel == LEDGER
        for effect in effects:
            match effect:
                case KeepAlarm(peer=peer):
                    log = self.world.host_of(peer)
                    if self.logs.is_honest(log):
                        alarm = self.part(host).view(host.clock()).alarms
                        raise self.broken(self.LAW, log, f"{host.peer} says {dict(alarm)[peer]}")
                case DoubtLedger(sentence=sentence):
                    if self.logs.is_honest(host):
                        raise self.broken(self.LAW, host, sentence)
                case Penalise(peer=peer, reason=reason) if by_frame:
                    if self.logs.is_honest(self.world.host_of(peer)):
                        raise self.broken(self.LAW, self.world.host_of(peer), reason)
                case _:
                    pass


class TamperingIsFound(WitnessLaw):
    LAW: Final = "a log that was tampered with is found out"

    def settled(self) -> None:
        hosts = self.world.alive()
        for host in hosts:
            watching = [one for one in hosts if one is not host and self.logs.is_honest(one)]
            if any(host.peer in self._alarms(one) for one in watching):
                continue
            if host.number in self.logs.forking and self._is_seen_twice(host, watching):
                raise self.broken(self.LAW, host, "its two histories raised no alarm")
            knew = self.logs.put_back.get(host.number, frozenset())
            near = [one for one in watching if one.number in knew and one.peer in host.connections]
            if near and not self.part(host).view(host.clock()).fault:
                why = f"an earlier copy was put back, and {near[0].peer} held more of it"
                raise self.broken(self.LAW, host, why)

    def _alarms(self, host: Host) -> set[str]:
        return {peer for peer, _ in self.part(host).view(host.clock()).alarms}

    def _is_seen_twice(self, host: Host, watching: list[Host]) -> bool:
        """Whether of each history somebody holds a checkpoint, and both are connected to others."""
        deceived = self.logs.second[host.number].deceived
        shown = {
            deceived.get(one.peer, False)
            for one in watching
            if held_size(one, host) and one.peer in host.connections
        }
        return len(shown) == 2


class LogsAreWitnessed(WitnessLaw):
    LAW: Final = "a log is signed and witnessed when nothing changes"

    def settled(self) -> None:
        for host in self.world.alive():
            if not self.logs.is_honest(host):
                continue
            ledger = host.disk.ledger
            if not ledger.size:
                raise self.broken(self.LAW, host, "its ledger is empty")
            size = ledger.size
            try:
                signed = open_checkpoint(ledger.note, self.world.verify, NOTE_MAX).checkpoint
            except RemoteError as fault:
                raise self.broken(self.LAW, host, str(fault)) from fault
            if signed.root != ledger.root_at(signed.size) or self._is_late(host, signed.size):
                raise self.broken(self.LAW, host, f"{signed.size} of {size} entries are signed")
            near = [
                peer
                for peer, connection in host.connections.items()
                if LEDGER in connection.channels and self.logs.is_honest(self.world.host_of(peer))
            ]
            cosigned = ledger.cosignatures.items()
            lines = [line for (at, _), line in cosigned if at == signed.size]
            if near and not lines:
                raise self.broken(self.LAW, host, f"none of {len(near)} neighbours cosigned")
            for line in lines:
                open_cosignature(line.decode(), signed, self.world.verify)  # Or it raises.

    def _is_late(self, host: Host, signed: int) -> bool:
        """Whether the first entry beyond the checkpoint should be under one by now."""
        if signed == host.disk.ledger.size:
            return False
        now_ms = host.boot_ms + 1_000 * (self.world.now - host.started_at)
        waited_s = (now_ms - read_leaf(host.disk.ledger.leaves[signed]).at_ms) / 1_000
        return waited_s > CHECKPOINT_AFTER_S + WRITES_S


class WitnessesAreBounded(WitnessLaw):
    LAW: Final = "every collection of a witness keeps its bound"

    def __init__(self, logs: Logs) -> None:
        super().__init__(logs)
        self._frames: dict[int, int] = {}

    def stepped(self, host: Host, event: object) -> None:
        if not isinstance(event, FrameReceived) or event.channel != LEDGER:
            return
        frames = self._frames[host.number] = self._frames.get(host.number, 0) + 1
        if frames % LOOK_EVERY == 0 and host.alive:
            self._look(host)

    def settled(self) -> None:
        for host in self.world.alive():
            self._look(host)

    def _look(self, host: Host) -> None:
        watching = self.part(host)._witness
        for name, size, bound in (
            ("logs watched", len(watching.watched), witness.HEADS_MAX),
            ("alarms", len(watching.alarms), witness.ALARMS_MAX),
            ("neighbours", len(watching.connected), CONNECTIONS_MAX),
            ("proofs being made", len(self.part(host)._proving), CONNECTIONS_MAX),
        ):
            if size > bound:
                raise self.broken(self.LAW, host, f"{name}: {size} > {bound}")


WITNESS_LAWS: Final = (
    HonestLogsAreBelieved,
    TamperingIsFound,
    LogsAreWitnessed,
    WitnessesAreBounded,
)
