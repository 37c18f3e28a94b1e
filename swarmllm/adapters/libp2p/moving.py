"""Moving from a connection through a relay to a direct one, without losing what was asked.

For a while there are two links to one peer. A session moves when nothing of it is under way: then
no message of it can overtake another. What was asked on the old link is answered there; the next
question goes over the new one. The old link ends when nothing is open on it any more and it was
quiet for a moment, and at the latest after three quiet seconds: whatever is answered later goes
over the new link, where the asker expects it as well (PUNCH-4).

Holes close again, some as soon as they were opened, and nothing on a connection says so. While both
links are there, a peer that answers on the old one and not on the new one shows it: the new link
ends, and the old one is the one to use again. It does not end before the new one has just answered.
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
# For an answer on the new link, and then for one on the old link. Where the way is longer nothing
# is concluded, for the relay's is longer still.
SIGN_S: Final = 1.0


def moves_to(old: Link, new: Link) -> bool:
    """Whether `new` is to take the place of `old` without a loss."""
    return old.is_relayed and not new.is_relayed and not old.is_over


class Moves:
    """The links that are being left, one for each peer. `back` makes one the one to use again,
    `gone` is told of a new one that has ended with nothing to go back to."""

    def __init__(
        self,
        us: PeerId,
        nursery: trio.Nursery,
        back: Callable[[Link], None],
        gone: Callable[[Link], None],
    ) -> None:
        self._us, self._nursery, self._back, self._gone = us, nursery, back, gone
        self._old: dict[PeerId, Link] = {}  # At most one for each link that there is.
        self._undecided: set[Link] = set()  # Likewise.
        self.moved = 0
        """How many links have given way to direct ones so far."""
        self.on_moved: Callable[[Link], None] = lambda _: None
        """For gossip, which sends over this link from then on."""

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

    def decides(self, link: Link) -> bool:
        """The link in use has ended. Whether the one before it may still be there: then this says
        what comes now, by `back` or `gone`."""
        old = self._old.get(link.peer)
        if old is None or old is link or old.is_over or link.is_farewell:
            return False
        self._undecided.add(link)
        return True

    async def _leave(self, old: Link, new: Link) -> None:
        try:
            await self._until_left(old, new)
            if new.is_over and new not in self._undecided:
                # What moved there is gone, and the peer with it.
                old.end("the direct connection in its place is gone")
            elif new.is_over and await old.is_alive(SIGN_S):
                old.is_last_resort = True
                self._back(old)
            elif new.is_over:
                old.end("no answer, and the direct connection in its place is gone")
                self._gone(new)
        finally:
            self._undecided.discard(new)
            if self._old.get(old.peer) is old:
                del self._old[old.peer]

    async def _until_left(self, old: Link, new: Link) -> None:
        """Until one of them has ended."""
        work = old.work
        assert work is not None
        began_at = trio.current_time()
        while not old.is_over and not new.is_over:
            await trio.sleep(LOOK_S)
            if not await new.is_alive(SIGN_S):
                # Once more: where a process stood still for a second, the first answer was late.
                if await old.is_alive(SIGN_S) and not await new.is_alive(SIGN_S):
                    new.end("no answer on it, and one through the relay", abort=True)
                continue
            quiet_s = trio.current_time() - max(work.last_at, began_at)
            if quiet_s >= (QUIET_S if work.is_open else SETTLED_S) and self._us < old.peer:
                old.end("moved to a direct connection", goodbye=DOUBLE)
