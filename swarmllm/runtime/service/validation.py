"""What a validation needs of a running node: the snapshot of the swarm as it sees it, with the
recording of the last 24 hours; and taking a report that was made of it.

The simulations run in the process of whoever asks: they take a processor for minutes, which a node
that answers others has not got to give.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final

import trio

from swarmllm.core.agent.charter import grant_in
from swarmllm.core.governance.authoring import base_of
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.inputs import ReportOffered
from swarmllm.core.peers.view import NodeView
from swarmllm.core.settings.holder import Settings
from swarmllm.core.validation.part import RecordingPart
from swarmllm.core.validation.recording import rows_of
from swarmllm.core.validation.report import BYTES_MAX, VERDICTS, read_report
from swarmllm.core.validation.snapshot import fields_of, snapshot_of
from swarmllm.errors import UsageError
from swarmllm.messages.governance import SetSetting
from swarmllm.runtime.config.pins import setting_of
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.service.record import Record

OPS: Final = frozenset({"snapshot", "report"})


class ValidationService:
    def __init__(
        self,
        driver: Driver,
        recording: RecordingPart,
        governance: GovernanceMachine,
        settings: Settings,
        view: Callable[[], NodeView],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._driver = driver
        self._recording = recording
        self._governance = governance
        self._settings = settings
        self._view = view
        self._clock = clock

    async def call(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        """The record that answers one of `OPS`. UsageError for parameters that make no sense."""
        if op == "snapshot":
            yield self._snapshot(params)
        else:
            yield await self._report(params)

    def _snapshot(self, params: Mapping[str, object]) -> Record:
        """What a `core.validation.report.Case` takes beside the value."""
        setting = setting_of(str(params.get("setting", ""))[:80])
        changed = self._settings.changed_from_default()
        return record_of(
            "snapshot",
            setting=setting.key,
            base=self._base(setting.code).hex(),
            values={one.key: value for one, value in changed.items()},
            snapshot=fields_of(snapshot_of(self._view())),
            recording=rows_of(self._recording.recording(self._clock())),
            weights=dict(self._weights()),
        )

    async def _report(self, params: Mapping[str, object]) -> Record:
        """A report is read, and what it says is entered into the ledger. It is not repeated."""
        text = params.get("report")
        if not isinstance(text, str) or len(text) > BYTES_MAX:
            raise UsageError(
                f"the field 'report' is a validation report as text, of at most {BYTES_MAX} bytes"
            )
        report = read_report(text.encode())
        case, verdict = report.case, report.verdict
        offered = ReportOffered(
            report.digest, case.setting.code, case.value, VERDICTS.index(verdict)
        )
        await self._driver.feed(offered)
        return record_of(
            "report",
            digest=report.digest.hex(),
            verdict=verdict,
            why=report.why,
            base=self._base(case.setting.code).hex(),
        )

    def _weights(self) -> Mapping[str, float]:
        """Of the objective, where the charter has others than usual."""
        mandate = self._governance.mandate
        return grant_in(b"" if mandate is None else mandate.terms.ext).weights

    def _base(self, code: int) -> bytes:
        return base_of(self._governance, SetSetting(code, 0))
