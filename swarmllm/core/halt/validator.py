"""The validator of halt records: the state decides about charters, halts and resumes, `Beacons`
about signs of life.

Most records that arrive are held already: every neighbour passes on every record, gossip brings it
again, and a flood consists of nothing else. Those are recognised by their bytes, before anything is
decoded.
"""

from __future__ import annotations

from swarmllm.core.halt.beacons import Beacons
from swarmllm.core.halt.charter import Rejected
from swarmllm.core.halt.link import Link
from swarmllm.core.halt.state import Applied, HaltState, Known, Outcome, validate_opened
from swarmllm.errors import RemoteError
from swarmllm.messages import Charter, Live
from swarmllm.wire.envelope import Verify
from swarmllm.wire.signed import SignedRecord, open_record


class Validator:
    """`unix_ms_at_zero` as in `core.halt.machine.HaltMachine`."""

    def __init__(self, verify: Verify, unix_ms_at_zero: int) -> None:
        self.beacons = Beacons()
        self._verify = verify
        self._unix_ms_at_zero = unix_ms_at_zero
        # The records of `_held_by`, by their bytes; bounded as a state is.
        self._held: dict[bytes, SignedRecord] = {}
        self._held_by: HaltState | None = None

    def outcome(self, state: HaltState, data: bytes, link: Link | None, now: float) -> Outcome:
        """`link`: the one that it came over; None by gossip or by hand."""
        held = self._find(state, data)
        try:
            opened = open_record(data) if held is None else held
        except RemoteError as fault:
            return Rejected(str(fault), penalise=True)
        if isinstance(opened.record, Charter) and link is not None:
            link.version = max(opened.record.version, link.version or 0)  # Whoever sends it has it.
        if held is not None:
            return Known()
        if isinstance(opened.record, Live):
            heard = self.beacons.hear(
                state, opened, self._verify, self._unix_ms_at_zero + now * 1_000, now
            )
            return Applied(opened, state) if heard is None else heard
        return validate_opened(
            state, opened, self._verify, link.version if link is not None else None
        )

    def _find(self, state: HaltState, data: bytes) -> SignedRecord | None:
        if state is not self._held_by:
            self._held = {one.data: one for one in (*state.charters, *state.halts, *state.resumes)}
            self._held_by = state
        return self._held.get(data)
