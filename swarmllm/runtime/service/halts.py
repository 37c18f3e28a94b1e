"""The operators' questions at a running node: what halts it, what it holds, take these records,
stop here, start here.

Records are taken in like those from the network, with the same checks; being asked locally gives
nobody a right that a signature does not. Only the owner's own stop needs none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Final

import trio

from swarmllm.core.events import AckHeard, HaltEvent, StateSaved
from swarmllm.core.halt.state import Outcome, records_of
from swarmllm.core.inputs import OwnerStarts, OwnerStops
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages import CHARTER_RECORD_MAX, PeerId
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.halt_performer import HaltPerformer
from swarmllm.runtime.service.fields import records_in
from swarmllm.runtime.service.halt_fields import outcome_fields, state_fields
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.service.record import Record

OPS: Final = frozenset({"halt_status", "halt_export", "halt_publish", "stop_here", "start_here"})
RECORDS_MAX: Final = 128  # A chain of charters, and a halt and a resume for each key.
WAIT_S: Final = 3.0  # For acknowledgements; a peer that takes longer is not going to.
WAIT_MAX_S: Final = 60.0
DISK_S: Final = 2.0
ACKS_MAX: Final = 1024  # Unread; connections are fewer.


class HaltService:
    def __init__(
        self, driver: Driver, orders: HaltPerformer, peers: Callable[[], tuple[PeerId, ...]]
    ) -> None:
        self._driver = driver
        self._orders = orders
        self._peers = peers

    async def call(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        """The records that answer one of `OPS`. UsageError for parameters that make no sense."""
        match op:
            case "halt_status":
                yield self._status()
            case "halt_export":
                yield record_of(
                    "control_records",
                    records=[one.hex() for one in records_of(self._orders.machine.state)],
                )
            case "halt_publish":
                given = records_in(params, "halt record", CHARTER_RECORD_MAX, RECORDS_MAX)
                async with aclosing(self._publish(given, _wait_s(params))) as records:
                    async for record in records:
                        yield record
            case "stop_here":
                self._driver.act(OwnerStops())
                await self._remembered()
                yield self._status()
            case "start_here":
                self._driver.act(OwnerStarts())
                await self._remembered()
                yield self._status()
            case other:
                raise UsageError(
                    f"the node knows no op {other[:40]!r} of the kill switch;"
                    f" it knows {', '.join(sorted(OPS))}"
                )

    async def _remembered(self) -> None:
        """Until what was just decided is on disk, or the disk has had its time: a start counts only
        then."""
        machine, saved = self._orders.machine, trio.Event()
        if machine.durable == machine.state:
            return
        stop_listening = self._orders.listen(
            lambda event: saved.set() if isinstance(event, StateSaved) else None
        )
        try:
            with trio.move_on_after(DISK_S):
                await saved.wait()
        finally:
            stop_listening()

    def _status(self) -> Record:
        machine = self._orders.machine
        state, durable = machine.state, machine.durable
        return record_of(
            "halt_status",
            **state_fields(state) | {"halted": list(machine.halted)},
            durable=durable is not None
            and durable.digest == state.digest
            and durable.stopped_here == state.stopped_here,
            peers=sorted(self._peers()),
            same_swarm=sorted(
                one for one in self._orders.links if machine.swarm_of(one) == state.swarm
            ),
            acknowledged=sorted(machine.acknowledged),
        )

    async def _publish(self, records: list[bytes], wait_s: float) -> AsyncGenerator[Record]:
        sender, receiver = trio.open_memory_channel[tuple[PeerId, float]](ACKS_MAX)

        def note(event: HaltEvent) -> None:
            if isinstance(event, AckHeard):
                try:
                    sender.send_nowait((event.peer, trio.current_time()))
                # Nobody reads this; the count at the end is right all the same.
                except trio.WouldBlock:
                    return

        stop_listening = self._orders.listen(note)
        try:
            began_at = trio.current_time()
            outcomes = [self._driver.import_halt_record(record) for record in records]
            asked = frozenset(self._orders.links)
            digest = self._orders.machine.digest.hex()
            yield record_of(
                "imported",
                outcomes=[_outcome(one) for one in outcomes],
                digest=digest,
                peers=len(asked),
            )
            deadline, last_s = trio.current_time() + wait_s, 0.0
            told: set[PeerId] = set()
            while not asked <= told:
                ack: tuple[PeerId, float] | None = None
                with trio.move_on_at(deadline):
                    ack = await receiver.receive()
                if ack is None:
                    break
                peer, at = ack
                if peer in asked and peer not in told:
                    told.add(peer)
                    last_s = at - began_at
                    yield record_of("ack", peer=peer, ms=round(last_s * 1000, 3))
            yield record_of(
                "end", acknowledged=len(told), peers=len(asked), ms=round(last_s * 1000, 3)
            )
        finally:
            stop_listening()


def _wait_s(params: Mapping[str, object]) -> float:
    value = params.get("wait_s", WAIT_S)
    if (
        not isinstance(value, (int, float))
        or isinstance(value, bool)
        or not 0 <= value <= WAIT_MAX_S
    ):
        raise UsageError(
            f"the field 'wait_s' is {str(value)[:40]};"
            f" it must be a number of seconds from 0 to {WAIT_MAX_S:.0f}"
        )
    return float(value)


def _outcome(outcome: Outcome | None) -> dict[str, str]:
    if outcome is None:
        raise LocalError(
            "this node runs without a kill switch; ask one that `swarmllm join` started"
        )
    return outcome_fields(outcome)
