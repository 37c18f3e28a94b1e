"""A double of a running node: the questions about the kill switch on a real socket, answered from a
real halt state.

Records are judged by the core, so what the commands send must hold; peers and what they acknowledge
are as the test says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from swarmllm.adapters.operator_keys import verify
from swarmllm.adapters.record_files import read_sheets
from swarmllm.core.halt.charter import charter_hash
from swarmllm.core.halt.state import Applied, HaltState, records_of, validate
from swarmllm.runtime.service.halt_fields import outcome_fields, state_fields
from swarmllm.wire.signed import open_record
from tests.cli.socket_node import Record, SocketNode


class FakeNode(SocketNode):
    """In the data folder `folder`, under the charters of a file. `mood` is how it misbehaves:
    silent, dies, garbage, short, halves, full (its disk)."""

    def __init__(self, folder: Path, charter: Path) -> None:
        super().__init__(folder)
        charters = tuple(open_record(sheet.data) for sheet in read_sheets(charter))
        self.state = HaltState(charter_hash(charters[0]), charters)
        self.peers = ["12D3KooWpeer1", "12D3KooWpeer2", "12D3KooWpeer3"]
        self.silent_peers = 0
        self.mood = ""
        self.asked: list[Record] = []

    def lines(self, question: Record) -> Iterator[bytes]:
        self.asked.append(question)
        for record in self._answers(question):
            text = "no JSON" if self.mood == "garbage" else json.dumps(record)
            yield text.encode() + b"\n"

    def _answers(self, question: Record) -> Iterator[Record]:
        match question["op"]:
            case "halt_status":
                status = self._status()
                if self.mood == "short":
                    del status["swarm"]
                yield status
            case "halt_export":
                yield {
                    "event": "control_records",
                    "records": [data.hex() for data in records_of(self.state)],
                }
            case "halt_publish":
                yield from self._publish(question)
            case "stop_here":
                self.state = replace(self.state, stopped_here=True)
                yield self._status()
            case "start_here":
                self.state = replace(self.state, stopped_here=False, lost=False)
                yield self._status()
            case other:
                raise AssertionError(f"a node knows no question {other!r}")

    def _publish(self, question: Record) -> Iterator[Record]:
        if self.mood == "dies":
            return
        outcomes = [self._take(bytes.fromhex(record)) for record in question["records"]]
        if self.mood == "halves":
            outcomes = outcomes[:-1]
        yield {
            "event": "imported",
            "outcomes": outcomes,
            "digest": self.state.digest.hex(),
            "peers": len(self.peers),
        }
        acknowledging = self.peers[: len(self.peers) - self.silent_peers]
        for at, peer in enumerate(acknowledging):
            yield {"event": "ack", "peer": peer, "ms": 10.0 * (at + 1)}
        yield {
            "event": "end",
            "acknowledged": len(acknowledging),
            "peers": len(self.peers),
            "ms": 10.0 * len(acknowledging),
        }

    def _take(self, data: bytes) -> Record:
        outcome = validate(self.state, data, verify)
        if isinstance(outcome, Applied):
            self.state = outcome.state
        return outcome_fields(outcome)

    def _status(self) -> Record:
        return {
            "event": "halt_status",
            "time": 1.0,
            **state_fields(self.state),
            "durable": self.mood != "full",
            "peers": self.peers,
            "acknowledged": self.peers[: len(self.peers) - self.silent_peers],
        }
