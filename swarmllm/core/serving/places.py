"""Engine slots: which session has which, and which session gives way to a new one."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from swarmllm.core.serving.planning import Copy, Edit, Forget
from swarmllm.core.serving.session import Key, Order, Session, common
from swarmllm.core.serving.shares import gives_way, owners_places

# After which a session may be evicted for a new one, unless the owner says otherwise.
IDLE_S: Final = 5.0
SHARE_MIN: Final = 16  # Tokens: copying a cache must save more than it costs.
RETRY_MIN_S, RETRY_MAX_S = 0.02, 5.0


class Places:
    """`count` slots; `owner` is the peer whose machine this is. A session that ends leaves an edit
    of the model's cache in `edits`, at most one a slot: an empty one leaves none."""

    def __init__(self, count: int, idle_s: float, owner: str) -> None:
        self._count, self._idle_s, self._owner = count, idle_s, owner
        self.sessions: OrderedDict[Key, Session] = OrderedDict()  # Least recently used first.
        self.by_slot: dict[int, Session] = {}
        self.edits: list[Edit] = []

    @property
    def free_slot(self) -> int | None:
        """The lowest slot that holds nothing."""
        return next((i for i in range(self._count) if i not in self.by_slot), None)

    @property
    def is_full(self) -> bool:
        return len(self.sessions) >= self._count

    def free(self, now: float) -> int:
        """Sessions that could begin now: empty slots, and those whose session has been idle for
        long enough."""
        return self._count - sum(
            not self._is_evictable(session, "", now) for session in self.sessions.values()
        )

    def holds(self, key: Key) -> int | None:
        """Tokens in the cache for this session; None if it has no slot."""
        session = self.sessions.get(key)
        return len(session.tokens) if session is not None else None

    def held(self, slot: int) -> int:
        """Tokens in the cache in this slot."""
        session = self.by_slot.get(slot)
        return len(session.tokens) if session is not None else 0

    def begin(self, key: Key, now: float) -> Session:
        """A session in the lowest free slot, of which there must be one."""
        slot = self.free_slot
        assert slot is not None
        session = self.sessions[key] = self.by_slot[slot] = Session(key, slot, now, begun_at=now)
        return session

    def end(self, session: Session) -> None:
        del self.sessions[session.key], self.by_slot[session.slot]
        if session.tokens:
            self.edits.append(Forget(session.slot, 0))

    @property
    def owner_waits(self) -> bool:
        """Whether something of the owner's waits to be computed."""
        sessions = self.sessions.values()
        return any(session.orders for session in sessions if session.key[0] == self._owner)

    def touch(self, session: Session, now: float) -> None:
        session.used_at = now
        self.sessions.move_to_end(session.key)

    def loser(self, newcomer: str, now: float) -> Session | None:
        """Whose session goes for one of this peer when all slots are taken: one that has been idle
        for long enough; else, of the peer that has to give way, what it has left idle, else what it
        began last, of which the least has been computed."""
        idle = next(
            (s for s in self.sessions.values() if self._is_evictable(s, newcomer, now)), None
        )
        if idle is not None:
            return idle
        peer = gives_way(
            Counter(key[0] for key in self.sessions), newcomer, self._owner, self._count
        )
        its = [s for s in self.sessions.values() if s.key[0] == peer]
        return next((s for s in its if not s.orders), None) or max(
            its, key=lambda s: s.begun_at, default=None
        )

    def _is_evictable(self, session: Session, newcomer: str, now: float) -> bool:
        """Whether it is idle enough to go; the owner's do not, for others, as long as it has no
        more than its half."""
        if session.orders or now - session.used_at < self._idle_s:
            return False
        if session.key[0] != self._owner or newcomer == self._owner:
            return True
        return sum(key[0] == self._owner for key in self.sessions) > owners_places(self._count)

    def retry_s(self, now: float) -> float:
        """When the session that will be idle first will be."""
        soonest = min(s.used_at for s in self.sessions.values()) + self._idle_s - now
        return min(RETRY_MAX_S, max(RETRY_MIN_S, soonest))

    def rewind(self, session: Session, order: Order) -> None:
        """Keep of the cache what the order has in common with it; take the rest from another
        session if one has more."""
        keep = min(order.reusable, common(session.tokens[order.base :], order.tokens))
        if order.base + keep < SHARE_MIN and order.reusable >= SHARE_MIN:
            text = [*session.tokens[: order.base], *order.tokens[: order.reusable]]
            shared, _, donor = max(
                (
                    (common(s.tokens, text), -s.slot, s)
                    for s in self.by_slot.values()
                    if s is not session
                ),
                default=(0, 0, None),
            )
            if donor is not None and shared - order.base >= SHARE_MIN:
                self.edits.append(Copy(donor.slot, session.slot))
                session.tokens, session.digests = donor.tokens[:shared], donor.digests[: shared + 1]
                keep = shared - order.base
        order.done = keep
        session.cut(order.base + keep)
        self.edits.append(Forget(session.slot, order.base + keep))
