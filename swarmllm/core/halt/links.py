"""The link table of the kill switch: which peers to ask when, and how many agree. Looked for only
after something may have changed, because the questions come with every input and the changes hardly
ever."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from swarmllm.core.halt.link import SYNC_ALONE_S, Link, Sync
from swarmllm.core.halt.state import HaltState
from swarmllm.messages import PeerId

# A link that held for so long is a peer's that stays; who flaps is not missed.
KNOWN_AFTER_S: Final = 8.0
KNOWN_MAX: Final = 256  # As many as there are connections.
ISOLATED_BURST: Final = 6.0  # Waits of five seconds in a row, whatever happens to our line ...
# ... and one more after so long: less than a hundredth of the time.
ISOLATED_EVERY_S: Final = 600.0
# Links that are all gone at once: that is our own line, and not a peer that left.
SEVERAL: Final = 2


class Links(dict[PeerId, Link]):
    """By peer. Whoever changes a link, or the state that they are compared with, calls `touched`.

    Being isolated makes a node wait, so strangers must not be able to bring it about by coming and
    going: only peers count whose link once held for `KNOWN_AFTER_S`, a wait that has begun is not
    begun anew, and there are only so many of them. Nor can strangers end it by repeating our own
    digest: only those same peers are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.isolated = Sync(done=True)  # Since the last of several links to our swarm was lost.
        # Of our swarm, and once here for long; the last one lost comes last.
        self._known: OrderedDict[PeerId, None] = OrderedDict()
        self._same_swarm_most = 0  # How many of them there were since there was none.
        self._waits, self._waits_at = ISOLATED_BURST, -math.inf
        self._ask_at: float | None = math.inf

    def touched(self) -> None:
        self._ask_at = None

    def close(self, peer: PeerId, state: HaltState, now: float) -> None:
        """The stream to a peer is gone. With the last of several to our swarm any order may pass us
        by."""
        for one in self.same_swarm(state):
            if now >= self[one].opened_at + KNOWN_AFTER_S:
                self._known[one] = None
                self._known.move_to_end(one)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        self._same_swarm_most = max(
            self._same_swarm_most, sum(one in self._known for one in self.same_swarm(state))
        )
        self.pop(peer, None)
        self.touched()
        if any(one in self._known for one in self.same_swarm(state)):
            return
        if (
            self._same_swarm_most >= SEVERAL
            and not self._waits_already(now)
            and self._may_wait(now)
        ):
            self.isolated = Sync(started_at=now)
        self._same_swarm_most = 0

    def _waits_already(self, now: float) -> bool:
        return not self.isolated.done and now < self.isolated.started_at + SYNC_ALONE_S

    def _may_wait(self, now: float) -> bool:
        passed = max(0.0, now - self._waits_at)
        self._waits, self._waits_at = (
            min(ISOLATED_BURST, self._waits + passed / ISOLATED_EVERY_S),
            max(now, self._waits_at),
        )
        if self._waits < 1:
            return False
        self._waits -= 1
        return True

    def ask_at(self, state: HaltState) -> float:
        """When a peer that differs from this state is asked next; infinite if none does."""
        if self._ask_at is None:
            asked = (
                link.asked_at + link.ask_every_s for link in self.values() if link.differs(state)
            )
            self._ask_at = min(asked, default=math.inf)
        return self._ask_at

    def is_forked(self, peer: PeerId) -> bool:
        link = self.get(peer)
        return link is not None and link.forked

    def same_swarm(self, state: HaltState) -> list[PeerId]:
        """Peers of the same swarm, in the order in which their streams were opened."""
        return [peer for peer, link in self.items() if link.swarm == state.swarm]

    def count(self, state: HaltState, *, known_only: bool = False) -> tuple[int, int]:
        """How many are of this swarm, or have not said yet, and how many have this very state;
        `known_only`: of those that once stayed."""
        found = [
            link
            for peer, link in self.items()
            if link.swarm in (None, state.swarm) and (not known_only or peer in self._known)
        ]
        return len(found), sum(link.digest == state.digest for link in found)
