"""A double of a running node: the questions about governance on a real socket, answered by the real
service over a real machine, whose disk confirms at once and whose clock is the test's."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.operator_keys import verify
from swarmllm.adapters.record_files import read_sheets
from swarmllm.adapters.terms_file import read_terms_file, terms_path
from swarmllm.core.effects import AppendToLedger, Commit, RecordChecked, RecordKept
from swarmllm.core.governance.authoring import base_of
from swarmllm.core.governance.canaries import Identity
from swarmllm.core.governance.changes import Changes
from swarmllm.core.governance.machine import GovernanceMachine, Options
from swarmllm.core.governance.steering import SettingsSteering
from swarmllm.core.halt.charter import charter_hash, private_charter
from swarmllm.core.halt.state import HaltState, records_of
from swarmllm.core.inputs import RecordOffered, ReportOffered
from swarmllm.core.peers.view import ExpertView, NodeView
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import BY_CODE, EXTRA
from swarmllm.core.validation.part import RecordingPart
from swarmllm.core.validation.report import Comparison, Report, encode_report
from swarmllm.errors import SwarmError
from swarmllm.messages import PeerId
from swarmllm.messages.declare import GOV
from swarmllm.messages.governance import SetSetting
from swarmllm.runtime.handing_in import HandingIn
from swarmllm.runtime.service.governance import GovernanceService
from swarmllm.runtime.service.halt_fields import state_fields
from swarmllm.runtime.service.json_events import error_record
from swarmllm.runtime.service.validation import OPS as VALIDATION_OPS
from swarmllm.runtime.service.validation import ValidationService
from swarmllm.wire.signed import SignedRecord, open_record, sign_record
from tests.cli.socket_node import Record, SocketNode
from tests.core.capacity.support import record as capacity_record
from tests.core.validation.cases import BETTER, case, report


class Switch:
    """A kill switch under the charters of a file (None: a private one), halted or not as the test
    says."""

    def __init__(self, charter: Path | None, own: KeyFile) -> None:
        charters: tuple[SignedRecord, ...]
        if charter is None:
            private = sign_record(private_charter(own.public_key), [(own.public_key, own.sign)])
            charters = (open_record(private),)
        else:
            charters = tuple(open_record(sheet.data) for sheet in read_sheets(charter))
        self.state = HaltState(charter_hash(charters[0]), charters)
        self.halted: tuple[str, ...] = ()


def view_of_experts() -> NodeView:
    """Four experts that this node is connected to, and has asked."""
    experts = tuple(
        ExpertView(
            *(PeerId(f"p{number}"), capacity_record(), True, False, False),
            *(5, 0.05, 0.02, 0.05),
        )
        for number in range(4)
    )
    peers = tuple(expert.peer for expert in experts)
    return NodeView(PeerId("own"), 1, None, None, (), peers, experts, 0, 0)


def write_report(node: GovernedNode, file: Path, value: int, result: Comparison = BETTER) -> Report:
    """A report on router.hedging_extra, as if it had been validated now."""
    base = base_of(node.machine, SetSetting(EXTRA.code, value))
    values = {EXTRA: node.settings.get(EXTRA)}
    made = report(case(EXTRA, value, base=base, values=values), result)
    file.write_bytes(encode_report(made))
    return made


class GovernedNode(SocketNode):
    """In the data folder `folder`. `mood` "lies": it drafts something else than was asked for;
    "old": it does not know what a draft is. `disk_fault`: why its disk cannot be written."""

    def __init__(self, folder: Path, charter: Path | None) -> None:
        super().__init__(folder)
        self.mood, self.now, self.disk_fault = "", 0.0, ""
        self.handing_in = HandingIn()
        own = ephemeral_key()
        self.switch, self.settings = Switch(charter, own), Settings()
        self.machine = GovernanceMachine(
            self.switch,
            Identity(PeerId("own"), own.public_key, own.sign),
            BY_CODE,
            Changes(SettingsSteering(self.settings), BY_CODE),
            verify,
            random.Random(1),
            lambda _: None,
            Options(waits_for_ledger=False),
        )
        self._perform(self.machine.start(self.now))
        if charter is not None and terms_path(charter).exists():
            self.act(RecordOffered(1, read_terms_file(terms_path(charter)), None, GOV))
        self.service = GovernanceService(
            self,  # type: ignore[arg-type]  # All that is asked of the driver is `act`.
            self.handing_in,
            self.machine,
            own,
            lambda: (PeerId("p1"), PeerId("p2")),
            lambda: 1_790_000_000_000,
            lambda: self.now,
        )

        self.recording = RecordingPart(29_000_000.0, self.now, lambda _: None)
        self.entered: list[Any] = []
        """What the recording part wrote into the ledger."""
        self.validation = ValidationService(
            *(self, self.recording, self.machine, self.settings),  # type: ignore[arg-type]
            view_of_experts,
            lambda: self.now,
        )

    async def feed(self, event: ReportOffered) -> None:
        self.entered += self.recording.handle(event, self.now)

    def act(self, event: RecordOffered) -> RecordChecked | None:
        return self._perform(self.machine.offered(event, self.now))

    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds
        self._perform(self.machine.timer(self.now))
        self._perform(self.machine.settle(self.now))

    def _perform(self, effects: Any) -> RecordChecked | None:
        checked = None
        for effect in effects:
            match effect:
                case Commit(number=number):
                    ok, fault = not self.disk_fault, self.disk_fault
                    self._perform(self.machine.confirmed(number, ok, self.now, fault))
                case AppendToLedger(number=number) if number:
                    self._perform(self.machine.confirmed(number, True, self.now))
                case RecordChecked():
                    checked = effect
                case RecordKept():
                    self.handing_in.kept(effect)
                case _:
                    continue
        return checked

    # --- the socket -------------------------------------------------------------------------------

    def lines(self, question: Record) -> Iterator[bytes]:
        for record in trio.run(self.asked, question.pop("op"), question):
            yield json.dumps(self._in_mood(record)).encode() + b"\n"

    async def asked(self, op: str, params: Record) -> list[Record]:
        """The records that answer, an error's included."""
        params.pop("v", None)
        if op.startswith("halt_"):
            return [self._halts(op)]
        try:
            service = self.validation if op in VALIDATION_OPS else self.service
            return [record async for record in service.call(op, params)]
        except SwarmError as error:
            return [error_record(error)]

    def _halts(self, op: str) -> Record:
        state = self.switch.state
        if op == "halt_export":
            return {"event": op, "records": [data.hex() for data in records_of(state)]}
        return {"event": op, "durable": True, **state_fields(state)}

    def _in_mood(self, record: Record) -> Record:
        if record["event"] == "draft" and self.mood == "lies":
            flipped = record["payload"].replace(b"honest".hex(), b"crooks".hex())
            return record | {"payload": flipped}
        if record["event"] == "draft" and self.mood == "old":
            return record | {"payload": "zz"}
        return record
