"""Continuous batching: every step is one batch made from all sessions that wait, and every order gets exactly one answer.

A step is either a decode batch (the next token, or a short draft, of as many sessions as possible) or one chunk of one prompt; when both
kinds wait they take turns, so that a long prompt stalls nobody for longer than a chunk. Within a kind the owner comes first, then the peer
that was served longest ago. How slots, places in the queue and time are shared among peers is `core.shares`'s to say, which rows go
together `planning`'s. None of this knows llama.cpp, threads or clocks: the model is a port and the time an argument.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from swarmllm.adapters.llama.planning import Model, Plan, chunk, group, rows_of
from swarmllm.adapters.llama.rows import Stopped
from swarmllm.adapters.llama.session import DECODE_MAX, Key, Order, Session, common
from swarmllm.core.shares import Turns, fits, gives_way, owners_places
from swarmllm.errors import LocalError
from swarmllm.messages import REFUSED_CONTEXT, REFUSED_OUTPUT, REFUSED_SESSION, REFUSED_VOCABULARY

ORDERS_MAX: Final = 1024  # Waiting in all;
STRANGERS_MAX: Final = 512  # and of strangers, which is the node's own bound as well.
SHARE_MIN: Final = 16  # Tokens: copying a cache must save more than it costs.
CHUNK_S: Final = 0.1  # How long a prompt, or drafts, may hold up others,
CHUNK_OWNER_S: Final = 0.05  # the owner of the machine,
CHUNK_ALONE_S: Final = 0.5  # and how long it may hold up somebody who comes when nobody was there.
CHUNK_MIN: Final = 32
LIVELY_S: Final = 2.0  # A session that was served this recently will soon be back.
PATIENCE_SHARE: Final = 0.25  # Of a decode step, to have more sessions in the next one;
PATIENCE_MAX_S: Final = 0.005  # no more than a requester in the same machine needs.
RETRY_MIN_S, RETRY_MAX_S = 0.02, 5.0
SMOOTHING: Final = 0.2  # Weight of the newest measurement.
TARGET_STEPS: Final = 1024  # Per nat, see `messages.Scores`.

SCORES, NEED, BUSY, REFUSED = "scores", "need", "busy", "refused"
Answer = tuple[Any, ...]
"""SCORES, order, lists, target_logprobs, queue_us, compute_us; NEED, order, have; BUSY, order, retry_after_ms; REFUSED, order, code."""


Encode = Callable[[NDArray[np.float32], int, int], bytes]
"""`wire.sparse.encode_logits`."""


class Batcher:
    """`context_max` is at most `model.cells` - 1: one cell stays free for a row that is forgotten at once. `owner` is the peer whose
    machine this is."""

    def __init__(
        self,
        model: Model,
        encode: Encode,
        clock: Callable[[], float],
        sessions_max: int,
        context_max: int,
        idle_s: float,
        owner: str = "",
    ) -> None:
        assert context_max < model.cells, f"{context_max} tokens in {model.cells} cells"
        self._model, self._encode, self._clock = model, encode, clock
        self._sessions_max, self._context_max, self._idle_s = sessions_max, context_max, idle_s
        self._sessions: OrderedDict[Key, Session] = OrderedDict()  # Least recently used first.
        self._by_slot: dict[int, Session] = {}
        self._waiting = 0
        self._step = 0
        self._owner, self._turns = owner, Turns(owner)
        self.broken = 0  # Orders whose logits were no numbers.
        self._step_s = 0.0  # How long a decode step takes.
        self.decode_rate = 0.0  # Tokens/s of all sessions together, while decoding.
        self._prompt_rate = 0.0  # Tokens/s of a prefill.

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def sessions_free(self) -> int:
        """Sessions that could begin now: empty slots, and those whose session has been idle for long enough."""
        now = self._clock()
        return self._sessions_max - sum(not self._evictable(session, "", now) for session in self._sessions.values())

    @property
    def free_slot(self) -> int | None:
        """The lowest slot that holds nothing."""
        return next((i for i in range(self._sessions_max) if i not in self._by_slot), None)

    def holds(self, key: Key) -> int | None:
        """Tokens in the cache for this session; None if it has no slot."""
        session = self._sessions.get(key)
        return len(session.tokens) if session is not None else None

    # --- orders come and go --------------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> list[Answer]:
        """Queue an order, or answer it at once; and answer those that it makes stale."""
        code = self._fault(order)
        if code:
            return [(REFUSED, order.id, code)]
        if not self._has_room(order.key[0]):
            return [(BUSY, order.id, round(RETRY_MAX_S * 1000))]
        stale: list[Answer] = []
        session = self._sessions.get(order.key)
        if session is None:
            session, stale = self._begin(order.key, order.arrived_at)
        if session is None:
            return [(BUSY, order.id, round(self._retry_s(order.arrived_at) * 1000))]
        if order.epoch < session.epoch:
            return [(BUSY, order.id, 0)]
        if order.epoch > session.epoch:
            stale += self._drop(session, 0)
            session.epoch = order.epoch
        session.orders.append(order)
        session.absence_s = order.arrived_at - session.answered_at
        self._waiting += 1
        self._touch(session, order.arrived_at)
        return stale

    def _has_room(self, peer: str) -> bool:
        if peer == self._owner:
            return self._waiting < ORDERS_MAX
        held = own = 0
        for session in self._sessions.values():
            held += len(session.orders) if session.key[0] == peer else 0
            own += len(session.orders) if session.key[0] == self._owner else 0
        return fits(held, self._waiting - own, STRANGERS_MAX)

    def close(self, key: Key) -> list[Answer]:
        """The session is over. Orders that still wait are answered: nobody may hang on one."""
        session = self._sessions.get(key)
        if session is None:
            return []
        dropped = self._drop(session, 0)
        self._end(session)
        return dropped

    def cancel(self, order_id: int) -> None:
        """Drop an order that has not begun; it gets no answer, since nobody waits for one."""
        for session in self._sessions.values():
            for order in session.orders:
                if order.id == order_id and order.started_at is None:
                    session.orders.remove(order)
                    self._waiting -= 1
                    return

    def _fault(self, order: Order) -> int:
        """The code to refuse a senseless order with, or 0. The codec has checked the ranges; what reaches llama.cpp is checked here."""
        count = len(order.tokens)
        if order.base + count > self._context_max:
            return REFUSED_CONTEXT
        if max(order.tokens) >= self._model.vocab_size or min(order.tokens) < 0:
            return REFUSED_VOCABULARY
        ends = order.wanted and (order.wanted[0] < 0 or order.wanted[-1] >= count)
        if ends or (order.targets and max(order.targets) >= count - 1):
            return REFUSED_SESSION
        return 0

    def _drop(self, session: Session, retry_ms: int) -> list[Answer]:
        dropped: list[Answer] = [(BUSY, order.id, retry_ms) for order in session.orders]
        self._waiting -= len(dropped)
        session.orders.clear()
        return dropped

    def patience_s(self) -> float:
        """How long the next step should wait for sessions that were just answered and use to be back at once.

        Without this, the first of 16 requesters would always be computed alone, at the price of all 16. One that is far away is
        not waited for: its last absence was longer than the wait may be.
        """
        limit = min(PATIENCE_MAX_S, PATIENCE_SHARE * self._step_s)
        now = self._clock()
        back_at = (s.answered_at + limit for s in self._sessions.values() if not s.orders and s.absence_s <= limit)
        return max(back_at, default=now) - now

    # --- slots ---------------------------------------------------------------------------------------------------------------

    def _begin(self, key: Key, now: float) -> tuple[Session | None, list[Answer]]:
        """A slot for a new session, and what those are told whose session gave way to it."""
        told: list[Answer] = []
        if len(self._sessions) >= self._sessions_max:
            going = next((s for s in self._sessions.values() if self._evictable(s, key[0], now)), None) or self._giving_way(
                key[0]
            )
            if going is None:
                return None, []
            told = self._drop(going, round(self._retry_s(now) * 1000))
            self._end(going)
        slot = self.free_slot
        assert slot is not None
        session = self._sessions[key] = self._by_slot[slot] = Session(key, slot, now, begun_at=now)
        return session, told

    def _giving_way(self, newcomer: str) -> Session | None:
        """Of the peer that has to give way: what it has left idle, else what it began last, of which the least has been computed."""
        peer = gives_way(Counter(key[0] for key in self._sessions), newcomer, self._owner, self._sessions_max)
        its = [s for s in self._sessions.values() if s.key[0] == peer]
        idle = [s for s in its if not s.orders]
        return idle[0] if idle else max(its, key=lambda s: s.begun_at, default=None)

    def _end(self, session: Session) -> None:
        del self._sessions[session.key], self._by_slot[session.slot]
        self._model.forget(session.slot, 0)

    def _evictable(self, session: Session, newcomer: str, now: float) -> bool:
        """Whether it is idle enough to go; the owner's do not, for others, as long as it has no more than its half."""
        if session.orders or now - session.used_at < self._idle_s:
            return False
        if session.key[0] != self._owner or newcomer == self._owner:
            return True
        return sum(key[0] == self._owner for key in self._sessions) > owners_places(self._sessions_max)

    def _retry_s(self, now: float) -> float:
        """When the session that will be idle first will be."""
        soonest = min(s.used_at for s in self._sessions.values()) + self._idle_s - now
        return min(RETRY_MAX_S, max(RETRY_MIN_S, soonest))

    def _touch(self, session: Session, now: float) -> None:
        session.used_at = now
        self._sessions.move_to_end(session.key)

    # --- one step ------------------------------------------------------------------------------------------------------------

    def step(self) -> list[Answer]:
        """Compute one batch if anything waits. Nothing has changed if it raises `Stopped`."""
        now = self._clock()
        answers = [answer for session in list(self._sessions.values()) for answer in self._start(session, now)]
        plan = self._plan(now)
        if plan is None:
            return answers
        rows, wanted = rows_of(plan, self._by_slot, self._model.rows_min)
        waiting = {s.key[0] for s in self._sessions.values() if s.orders}
        peers = {s.key[0] for s, _ in plan.parts}
        try:
            logits = self._model.decode(rows)
        except Stopped:
            self._restore(plan)
            return answers
        self._step += 1
        self._measure(plan, self._clock() - now)
        answers += self._commit(plan, logits, wanted)
        end = self._clock()
        self._turns.worked(peers, waiting, plan.is_prompt, end - now, end)
        return answers

    def _start(self, session: Session, now: float) -> list[Answer]:
        """Begin the first order of the session if none is under way: check what it builds on, and rewind the cache to it."""
        answers: list[Answer] = []
        while session.orders and session.orders[0].started_at is None:
            order = session.orders[0]
            held = len(session.tokens)
            if order.base > held:
                answers.append((NEED, order.id, held))
            elif session.digests[order.base] != order.context_hash:
                # Where the contexts part cannot be told from one hash; with everything resent, equal tokens cost no work.
                answers.append((NEED, order.id, 0))
            else:
                order.started_at = now
                self._rewind(session, order)
                if order.left:
                    break
                answers.append(self._finish(session, order, now))
                continue
            session.orders.popleft()
            self._waiting -= 1
        return answers

    def _rewind(self, session: Session, order: Order) -> None:
        """Keep of the cache what the order has in common with it; take the rest from another session if one has more."""
        keep = min(order.reusable, common(session.tokens[order.base :], order.tokens))
        if order.base + keep < SHARE_MIN and order.reusable >= SHARE_MIN:
            text = [*session.tokens[: order.base], *order.tokens[: order.reusable]]
            shared, _, donor = max(
                ((common(s.tokens, text), -s.slot, s) for s in self._by_slot.values() if s is not session), default=(0, 0, None)
            )
            if donor is not None and shared - order.base >= SHARE_MIN:
                self._model.copy(donor.slot, session.slot)
                session.tokens, session.digests = donor.tokens[:shared], donor.digests[: shared + 1]
                keep = shared - order.base
        order.done = keep
        session.cut(order.base + keep)
        self._model.forget(session.slot, order.base + keep)

    # --- what goes into the batch --------------------------------------------------------------------------------------------

    def _plan(self, now: float) -> Plan | None:
        ready = [(s, s.orders[0].left) for s in self._sessions.values() if s.orders]
        decodes = [s for s, left in ready if left <= DECODE_MAX]
        prompts = [s for s, left in ready if left > DECODE_MAX]
        if self._turns.is_prompt_next([s.key[0] for s in decodes], [s.key[0] for s in prompts], now):
            first = min(prompts, key=lambda s: (self._turns.rank(s.key[0], now), s.served, s.orders[0].id))
            return chunk(first, self._rows_within(first, now), self._model)
        if not decodes:
            return None
        served: dict[str, int] = {}
        for session in self._sessions.values():
            served[session.key[0]] = max(session.served, served.get(session.key[0], 0))
        decodes.sort(key=lambda s: (s.key[0] != self._owner, served[s.key[0]], s.served, s.orders[0].id))
        return group(decodes, self._rows_within(decodes[0], now), self._model)

    def _rows_within(self, session: Session, now: float) -> int:
        """How many rows a step for this session may have, so that it holds up others for no longer than they should be."""
        others = [s for s in self._sessions.values() if s is not session and (s.orders or now - s.used_at < LIVELY_S)]
        seconds = CHUNK_S if others else CHUNK_ALONE_S
        if session.key[0] != self._owner and any(s.key[0] == self._owner for s in others):
            seconds = CHUNK_OWNER_S
        return max(CHUNK_MIN, int(self._prompt_rate * seconds))

    # --- what comes out of it ------------------------------------------------------------------------------------------------

    def _restore(self, plan: Plan) -> None:
        """Forget whatever the batch put into the cache beyond what the sessions are known to hold."""
        for session, _ in plan.parts:
            self._model.forget(session.slot, len(session.tokens))
        for slot in plan.bridged:
            idle = self._by_slot.get(slot)
            self._model.forget(slot, len(idle.tokens) if idle is not None else 0)

    def _commit(self, plan: Plan, logits: NDArray[np.float32], wanted: list[int]) -> list[Answer]:
        picked = iter(wanted)
        answers = []
        broken: list[Session] = []
        for session, size in sorted(plan.parts, key=lambda part: part[0].slot):
            order = session.orders[0]
            end = order.done + size
            is_sound = True
            while order.next_wanted < len(order.wanted) and order.wanted[order.next_wanted] < end:
                is_sound &= self._answer_row(order, order.wanted[order.next_wanted], logits[next(picked)])
                order.next_wanted += 1
            session.extend(order.tokens[order.done : end])
            order.done = end
            session.served = self._step
            if not is_sound:
                broken.append(session)
            elif order.left == 0:
                answers.append(self._finish(session, order, self._clock()))
        if plan.bridged or len(plan.parts) == 1:  # Only these have rows that nobody wanted in the cache.
            self._restore(plan)
        return answers + [answer for session in broken for answer in self._give_up(session)]

    def _answer_row(self, order: Order, index: int, row: NDArray[np.float32]) -> bool:
        """Whether the row says anything: what is no number cannot be answered with."""
        try:
            if len(order.lists) < len(order.answer) and order.answer[len(order.lists)] == index:
                order.lists.append(self._encode(row, order.entries_max, order.tail_max))
            done = len(order.target_logprobs)
            if done < len(order.targets) and order.targets[done] == index:
                order.target_logprobs.append(_target(row, order.tokens[index + 1]))
        except LocalError:
            return False
        return True

    def _give_up(self, session: Session) -> list[Answer]:
        """The model has no answer to this text. That is no reason to keep it from others; the cache, full of the same, goes."""
        self.broken += 1
        order = session.orders.popleft()
        self._waiting -= 1
        others = self._drop(session, 0)
        self._end(session)
        return [(REFUSED, order.id, REFUSED_OUTPUT), *others]

    def _finish(self, session: Session, order: Order, now: float) -> Answer:
        session.orders.popleft()
        self._waiting -= 1
        self._touch(session, now)
        session.answered_at = now
        assert order.started_at is not None
        queued, computed = order.started_at - order.arrived_at, now - order.started_at
        targets = b"".join(value.to_bytes(2, "big") for value in order.target_logprobs)
        return (SCORES, order.id, order.lists, targets, _microseconds(queued), _microseconds(computed))

    def _measure(self, plan: Plan, seconds: float) -> None:
        tokens = sum(size for _, size in plan.parts)
        if seconds <= 0:
            return
        rate = tokens / seconds
        if plan.is_prompt:
            self._prompt_rate += (rate - self._prompt_rate) * (SMOOTHING if self._prompt_rate else 1)
        else:
            self.decode_rate += (rate - self.decode_rate) * (SMOOTHING if self.decode_rate else 1)
            self._step_s += (seconds - self._step_s) * (SMOOTHING if self._step_s else 1)


def _microseconds(seconds: float) -> int:
    return min(2**32 - 1, max(0, round(seconds * 1e6)))


def _target(row: NDArray[np.float32], token: int) -> int:
    """-1024 times the log-probability of `token` under softmax(row), at most 65535. LocalError if the row is no distribution."""
    top = float(row.max())
    if not math.isfinite(top):
        raise LocalError(f"the largest logit is {top}: the model's output is broken")
    with np.errstate(under="ignore"):
        mass = float(np.exp(row - top).sum(dtype=np.float64))
    return round(min(65_535.0, max(0.0, (top + math.log(mass) - float(row[token])) * TARGET_STEPS)))
