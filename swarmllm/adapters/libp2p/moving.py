"""Moving from a connection through a relay to a direct one, without losing what was asked.

For a while there are two links to one peer. A session moves when nothing of it is under way: then
no message of it can overtake another. What was asked on the old link is answered there; the next
question goes over the new one. The old link ends when nothing is open on it any more and it was
quiet for a moment, and at the latest after three quiet seconds: whatever is answered later goes
over the new link, where the asker expects it as well (PUNCH-4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from swarmllm.adapters.libp2p.channel_lane import ChannelLane
from swarmllm.adapters.libp2p.link import Link
from swarmllm.adapters.libp2p.open_work import is_reply, is_request
from swarmllm.messages import ExpertMessage, PeerId
from swarmllm.messages.goodbye import DOUBLE

LOOK_S: Final = 0.25
# For the peer to have seen its own Pong on the new link, and to ask there from now on.
SETTLED_S: Final = 1.0
QUIET_S: Final = 3.0


def moves_to(old: Link, new: Link) -> bool:
    """Whether `new` is to take the place of `old` without a loss."""
    return old.is_relayed and not new.is_relayed and not old.is_over


class Moves:
    """The links that are being left, one for each peer."""

    def __init__(self, us: PeerId, nursery: trio.Nursery) -> None:
        self._us, self._nursery = us, nursery
        self._old: dict[PeerId, Link] = {}  # At most one for each link that there is.
        self.moved = 0
        """How many links have given way to direct ones so far."""
        self.on_moved: Callable[[Link], None] = lambda _: None
        """For gossip, which sends over the new link from then on."""

    def begin(self, old: Link, new: Link) -> None:
        self._old[old.peer] = old
        self.moved += 1
        self._nursery.start_soon(self._leave, old, new)
        self.on_moved(new)

    def take_over(self, link: Link, channel: str) -> None:
        """A stream of this channel comes up on `link`: it takes the place of the one on the link
        that is being left, and whoever listens to the channel hears of no gap."""
        old = self._old.get(link.peer)
        if old is not None and old is not link and channel in old.channels:
            old.channels[channel].hand_over()

    def lane(self, link: Link, channel: str) -> ChannelLane:
        """Where a frame of this channel goes: on the old link until the new one's stream is up."""
        old = self._old.get(link.peer)
        if old is not None and not link.channels[channel].is_up and channel in old.channels:
            return old.channels[channel]
        return link.channels[channel]

    def is_left(self, link: Link) -> bool:
        """Whether this link is the old one of a peer that is moving; what comes there counts."""
        return self._old.get(link.peer) is link

    def way(self, message: ExpertMessage, link: Link) -> Link:
        """The link that this message takes: `link`, the one to use, or the one that is being
        left."""
        old = self._old.get(link.peer)
        if old is None or old.is_over or old.work is None:
            return link
        if is_request(message):
            return old if old.work.asks(message.session) else link
        if is_reply(message):
            return old if old.work.owes(message.session) else link
        return link

    async def _leave(self, old: Link, new: Link) -> None:
        work = old.work
        assert work is not None
        try:
            began_at = trio.current_time()
            while not old.is_over and not new.is_over:
                await trio.sleep(LOOK_S)
                quiet_s = trio.current_time() - max(work.last_at, began_at)
                if quiet_s >= (QUIET_S if work.is_open else SETTLED_S) and self._us < old.peer:
                    old.end("moved to a direct connection", goodbye=DOUBLE)
            # The new one is gone: so is what moved there, and the peer with it.
            old.end("the direct connection in its place is gone")
        finally:
            if self._old.get(old.peer) is old:
                del self._old[old.peer]
