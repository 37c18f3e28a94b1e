"""What the owner orders of a running node's ledger: an alarm has been looked at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final

import trio

from swarmllm.core.inputs import OwnerAcknowledges
from swarmllm.core.ledger.part import LedgerView
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages import PeerId
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.service.record import Record

OPS: Final = frozenset({"ledger_acknowledge"})
DISK_S: Final = 5.0
LOOK_EVERY_S: Final = 0.02


class LedgerService:
    """`view`: the ledger as it is now."""

    def __init__(self, driver: Driver, view: Callable[[], LedgerView]) -> None:
        self._driver = driver
        self._view = view

    async def call(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        """The record that answers one of `OPS`. UsageError for parameters that make no sense,
        LocalError if it could not be written down."""
        assert op in OPS
        log, digest = params.get("log"), params.get("alarm")
        if not isinstance(log, str) or not isinstance(digest, str) or len(digest) != 64:
            raise UsageError(
                "the fields 'log' and 'alarm' are the peer id of the log, and SHA-256 of the alarm"
                " about it in hexadecimal; correct them"
            )
        try:
            alarm = bytes.fromhex(digest)
        except ValueError as fault:
            raise UsageError(f"the field 'alarm' is not hexadecimal ({fault})") from fault
        await self._driver.feed(OwnerAcknowledges(alarm))
        with trio.move_on_after(DISK_S):
            while PeerId(log) not in self._view().acknowledged:  # noqa: ASYNC110  It tells when asked.
                await trio.sleep(LOOK_EVERY_S)
        if PeerId(log) not in self._view().acknowledged:
            why = self._view().fault or "this node holds no such alarm, or its disk is slow"
            raise LocalError(f"the acknowledgement could not be written down: {why}")
        yield record_of("ledger_acknowledge", log=log, alarm=digest)
