"""Beacons (a dead man's switch): under a charter with beacons, a node that has heard none for their
time to live stops.

A sign counts from when it was received, on our own clock, so a wrong wall clock cannot keep a node
running longer. Its `issued_ms` can only make it count less: one that is already too old by the wall
clock is void, so that somebody who cut us off cannot feed us signs that they saved up. A node whose
clock is far ahead therefore stops, and one whose clock is far behind is fooled for as long as the
saved signs last.
"""

from __future__ import annotations

import math
from typing import Final

from swarmllm.core.halt.charter import Rejected
from swarmllm.core.halt.state import HaltState, Known
from swarmllm.errors import RemoteError
from swarmllm.messages import Charter, Live
from swarmllm.wire.envelope import Verify
from swarmllm.wire.signed import SignedRecord, good_signers, key_id

# Clocks of ordinary machines without time service drift by so much in some months.
CLOCK_SKEW_S: Final = 120.0


class Beacons:
    """The newest sign of each beacon key: at most as many as a charter has keys in that role."""

    def __init__(self) -> None:
        self._seqs: dict[bytes, int] = {}
        self._alive_until = -math.inf

    def hear(
        self, state: HaltState, opened: SignedRecord, verify: Verify, unix_ms: float, now: float
    ) -> Known | Rejected | None:
        """None if the sign is good and new, so that it should be relayed."""
        live = opened.record
        assert isinstance(live, Live)
        charter = state.charter
        if live.swarm != state.swarm:
            return Rejected(
                f"Live for swarm {live.swarm.hex()[:16]}, not {state.swarm.hex()[:16]}",
                penalise=True,
            )
        if charter is None or live.charter_version != state.version:
            ahead = live.charter_version > state.version
            return Rejected(
                f"Live under charter {live.charter_version}, not {state.version}",
                penalise=False,
                ask=ahead,
            )
        by_id = {key_id(key): key for key in charter.beacon}
        if live.key not in by_id:
            return Rejected(
                f"key {live.key.hex()} is no beacon of charter {charter.version}", penalise=True
            )
        if not charter.beacon_ttl_s or live.seq <= self._seqs.get(live.key, 0):
            return Known()
        try:
            good_signers(opened, frozenset({by_id[live.key]}), verify)
        except RemoteError as fault:
            return Rejected(str(fault), penalise=True)
        ttl_s = min(live.ttl_s, charter.beacon_ttl_s)
        if live.issued_ms + (ttl_s + CLOCK_SKEW_S) * 1_000 < unix_ms:
            return Rejected(
                "Live is older than its time to live by this machine's clock", penalise=False
            )
        self._seqs = {key: seq for key, seq in self._seqs.items() if key in by_id} | {
            live.key: live.seq
        }
        self._alive_until = max(self._alive_until, now + ttl_s)
        return None

    def silent(self, charter: Charter | None, now: float) -> str:
        """The sentence that halts us; empty while a beacon lives, or where they are off."""
        if charter is None or not charter.beacon_ttl_s or now < self._alive_until:
            return ""
        return f"no beacon has been heard for its time to live ({charter.beacon_ttl_s} s at most)"

    def next_deadline(self, charter: Charter | None, now: float) -> float:
        """When `silent` will next have something to say."""
        on = charter is not None and charter.beacon_ttl_s and now < self._alive_until
        return self._alive_until if on else math.inf
