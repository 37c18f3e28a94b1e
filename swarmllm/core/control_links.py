"""All control links of one node: whom to ask when, and how many agree. Looked for only after something may have changed, because the
questions come with every input and the changes hardly ever."""

from __future__ import annotations

import math

from swarmllm.core.control_link import Link
from swarmllm.core.halt import HaltState
from swarmllm.messages import PeerId


class Links(dict[PeerId, Link]):
    """By peer. Whoever changes a link, or the state that they are compared with, calls `touched`."""

    def __init__(self) -> None:
        super().__init__()
        self._ask_at: float | None = math.inf

    def touched(self) -> None:
        self._ask_at = None

    def ask_at(self, state: HaltState) -> float:
        """When a peer that differs from this state is asked next; infinite if none does."""
        if self._ask_at is None:
            asked = (link.asked_at + link.ask_every_s for link in self.values() if link.differs(state))
            self._ask_at = min(asked, default=math.inf)
        return self._ask_at

    def kin(self, state: HaltState) -> list[PeerId]:
        """Peers of the same swarm, in the order in which their streams were opened."""
        return [peer for peer, link in self.items() if link.swarm == state.swarm]

    def count(self, state: HaltState) -> tuple[int, int]:
        """How many are of this swarm, or have not said yet, and how many have this very state."""
        found = [link for link in self.values() if link.swarm in (None, state.swarm)]
        return len(found), sum(link.digest == state.digest for link in found)
