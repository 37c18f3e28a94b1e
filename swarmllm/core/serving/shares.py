"""Fair shares of one engine: sessions, queue places and time, for the owner and for each peer that
asks. The rules of `admission`, `batcher` and `places`, in one place so that they cannot drift
apart.

Whoever lends a machine must not be kept out of it, and one stranger must not keep out the others.
So the owner counts as much as all strangers together, and strangers count by peer, however many
sessions each of them opens. (Many identities are many peers: no rule of one node can tell them from
a crowd, and so it is the owner's half that stands whatever they do.) Nothing is reserved for who is
not there: a single stranger may have all of an idle engine, and gives way when somebody comes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Final

PREFILL_SHARE: Final = 0.5  # Of each second, for the prompts of one peer while others wait;
# and how much of it may be saved up, or overdrawn while nobody else was there.
PREFILL_BURST_S: Final = 1.0
OWED_MAX_S: Final = 10.0  # Slow models take seconds for the shortest piece of a prompt.
# Peers with a budget that is not full; the one that worked longest ago is forgotten.
ACCOUNTS_MAX: Final = 1024


def fits(held: int, waiting: int, room: int) -> bool:
    """Whether a peer that has `held` of the `waiting` orders may add one to a queue of `room`
    places.

    Nobody may hold more than what is left free (dynamic thresholds, as in the shared memory of
    network switches): one peer gets half of a queue at most, eight that want all of it a ninth
    each, and the last places are for whoever has none.
    """
    return held < room - waiting


def owners_places(places: int) -> int:
    """How many of an engine's sessions its owner can have at once whatever others do: half, and
    never none."""
    return (places + 1) // 2


def gives_way(held: Mapping[str, int], newcomer: str, owner: str, places: int) -> str | None:
    """The peer that loses one of its sessions to the newcomer, when all `places` are taken; None:
    the newcomer has to wait.

    `held` is how many each peer has; among equals the first gives way. After every exchange the one
    who gave way still has at least as many as the other, so no two peers ever take a place from
    each other in turns.
    """
    strangers = {peer: count for peer, count in held.items() if peer != owner and count}
    most = max(strangers, key=strangers.__getitem__, default=None)
    if newcomer == owner:
        return most if held.get(owner, 0) < owners_places(places) else None
    if held.get(owner, 0) > owners_places(places):
        return owner
    return most if most is not None and strangers[most] >= held.get(newcomer, 0) + 2 else None


class Turns:
    """Whose work the next step does, where a step is either the next tokens of many sessions or a
    piece of one prompt.

    While both kinds wait they take turns, within two bounds. The owner is owed as much time as was
    spent on steps without it while it waited, and it gets that before anybody else has a step
    without it; so it has at least every other step and half of the time. And the prompts of one
    stranger take at most `PREFILL_SHARE` of each second from others.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._prompt_turn = False
        # Peer: seconds of prefill left, and when that was.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.owed_s = 0.0

    def left_s(self, peer: str, now: float) -> float:
        """How much of its prefill budget the peer has left; negative if it worked ahead while
        nobody else was there."""
        left, at = self._left.get(peer, (PREFILL_BURST_S, now))
        return min(PREFILL_BURST_S, left + max(0.0, now - at) * PREFILL_SHARE)

    def is_prompt_next(
        self, decodes: Collection[str], prompts: Collection[str], now: float
    ) -> bool:
        """Whether the next step is a piece of a prompt; `decodes` and `prompts` are the peers that
        wait for each kind."""
        if not prompts or not decodes:
            return bool(prompts)
        if self.owed_s > 0 and (self._owner in decodes) != (self._owner in prompts):
            return self._owner in prompts
        may = (
            peer == self._owner or self.left_s(peer, now) > 0 or set(decodes) <= {peer}
            for peer in prompts
        )
        return self._prompt_turn and any(may)

    def rank(self, peer: str, now: float) -> tuple[bool, float]:
        """The key by which prompts are sorted: the owner's first, then that of whoever has used
        least lately."""
        return peer != self._owner, -self.left_s(peer, now)

    def worked(
        self,
        peers: Collection[str],
        waiting: Collection[str],
        is_prompt: bool,
        seconds: float,
        now: float,
    ) -> None:
        """A step was done for `peers` while `waiting` had work that waited (those peers
        included)."""
        self._prompt_turn = not is_prompt
        if self._owner in peers:
            self.owed_s = max(0.0, self.owed_s - seconds)
        elif self._owner in waiting:
            self.owed_s = min(OWED_MAX_S, self.owed_s + seconds)
        if is_prompt:
            for peer in peers:
                self._left[peer] = max(-PREFILL_BURST_S, self.left_s(peer, now) - seconds), now
                self._left.move_to_end(peer)
            while len(self._left) > ACCOUNTS_MAX:
                self._left.popitem(last=False)
