"""DHT advertising: what the DHT is told of the local expert, and when it is asked for those of
others.

What was told is taken back as soon as the expert is gone or the node is stopped: the network would
else tell it again, for as long as the node lives. Entries that others keep meanwhile lead to a node
that says by its capacity record that it has no place.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from typing import Final

from swarmllm.core.effects import Advertise, LookUp, Withdraw
from swarmllm.core.facts import Fact, OwnExpertChanged, TokensAllowed, TokensForbidden
from swarmllm.core.inputs import Input, PeerConnected, TimerFired
from swarmllm.core.part import Part, Told
from swarmllm.core.peers.roster import Roster
from swarmllm.messages import PeerId

SOON_S: Final = 1.0  # After a new peer: several tend to come together.


class Advertising(Part):
    """Intervals in seconds, each spread by +-20 %. Look-ups end where `look_up_below` experts are
    known."""

    inputs = (PeerConnected, OwnExpertChanged, TokensAllowed, TokensForbidden)

    def __init__(
        self,
        roster: Roster,
        connected: Collection[PeerId],
        rng: random.Random,
        advertise_every_s: float,
        look_up_every_s: float,
        look_up_below: int,
    ) -> None:
        self._roster, self._rng = roster, rng
        self._peers = connected
        self._advertise_every_s, self._look_up_every_s, self._look_up_below = (
            advertise_every_s,
            look_up_every_s,
            look_up_below,
        )
        self._advertise_at = self._look_up_at = math.inf
        self._told = b""  # The vocabulary that the DHT has our expert under; empty: it has none.

    def handle(self, event: Input | Fact, now: float) -> Told:
        match event:
            case TimerFired():
                return self.timer(bool(self._peers), now)
            case PeerConnected():
                self.connected(now)
            case OwnExpertChanged(what="places"):
                pass  # The DHT is not told how busy it is.
            case _:
                self.changed(now)
        return ()

    def next_deadline(self) -> float:
        return min(self._advertise_at, self._look_up_at)

    def connected(self, now: float) -> None:
        """The first peer makes the DHT useful."""
        self._advertise_at = min(self._advertise_at, now + SOON_S)
        self._look_up_at = min(self._look_up_at, now + SOON_S)

    def changed(self, now: float) -> None:
        """There is news of our own expert: it came, went, moved, was stopped or may start again."""
        self._advertise_at = now

    def timer(self, has_peers: bool, now: float) -> list[Advertise | Withdraw | LookUp]:
        effects: list[Advertise | Withdraw | LookUp] = []
        if now >= self._advertise_at:
            effects += self._advertise(has_peers, now)
        if now >= self._look_up_at:
            self._look_up_at = now + self._spread(self._look_up_every_s)
            wanted = self._roster.fingerprint
            if wanted and not self._roster.knows(self._look_up_below, now):
                effects.append(LookUp(wanted))
        return effects

    def _advertise(self, has_peers: bool, now: float) -> list[Advertise | Withdraw]:
        record = self._roster.dht_record()
        self._advertise_at = math.inf  # Until there is an expert to advertise and somebody to tell.
        if record is None:
            told, self._told = self._told, b""
            return [Withdraw(told)] if told else []
        if not has_peers:
            return []
        self._told = record.vocab_fingerprint
        self._advertise_at = now + self._spread(self._advertise_every_s)
        return [Advertise(record)]

    def _spread(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.8, 1.2)
