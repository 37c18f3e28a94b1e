"""All control links of one node: whom to ask when, and how many agree. Looked for only after something may have changed, because the
questions come with every input and the changes hardly ever."""

from __future__ import annotations

import math
from typing import Final

from swarmllm.core.control_link import Link, Sync
from swarmllm.core.halt import HaltState
from swarmllm.messages import PeerId

SEVERAL: Final = 2  # Links that are all gone at once: that is our own line, and not a peer that left.


class Links(dict[PeerId, Link]):
    """By peer. Whoever changes a link, or the state that they are compared with, calls `touched`."""

    def __init__(self) -> None:
        super().__init__()
        self.adrift = Sync(done=True)  # Since the last of several links to our swarm was lost.
        self._kin_most = 0  # How many there were since there was none.
        self._ask_at: float | None = math.inf

    def touched(self) -> None:
        self._ask_at = None

    def close(self, peer: PeerId, state: HaltState, now: float) -> None:
        """The stream to a peer is gone. With the last of several to our swarm any order may pass us by."""
        self._kin_most = max(self._kin_most, len(self.kin(state)))
        self.pop(peer, None)
        self.touched()
        if not self.kin(state):
            if self._kin_most >= SEVERAL:
                self.adrift = Sync(started_at=now)
            self._kin_most = 0

    def ask_at(self, state: HaltState) -> float:
        """When a peer that differs from this state is asked next; infinite if none does."""
        if self._ask_at is None:
            asked = (link.asked_at + link.ask_every_s for link in self.values() if link.differs(state))
            self._ask_at = min(asked, default=math.inf)
        return self._ask_at

    def is_forked(self, peer: PeerId) -> bool:
        link = self.get(peer)
        return link is not None and link.forked

    def kin(self, state: HaltState) -> list[PeerId]:
        """Peers of the same swarm, in the order in which their streams were opened."""
        return [peer for peer, link in self.items() if link.swarm == state.swarm]

    def count(self, state: HaltState) -> tuple[int, int]:
        """How many are of this swarm, or have not said yet, and how many have this very state."""
        found = [link for link in self.values() if link.swarm in (None, state.swarm)]
        return len(found), sum(link.digest == state.digest for link in found)
