"""Continuous batching: every step is one batch made from all sessions that wait, and every order gets exactly one answer.

A step is either a decode batch (the next token, or a short draft, of as many sessions as possible) or one chunk of one prompt; when both
kinds wait they take turns, so that a long prompt stalls nobody for longer than a chunk. Within a kind, who was served longest ago
comes first. All policy is here and none of it knows llama.cpp, threads or clocks: the model is a port and the time an argument.

llama.cpp computes sequences of consecutive numbers in one go and each gap as a batch of its own, which reads all weights again. So
sessions take the lowest free slot, and narrow gaps are bridged by a row that nobody wants, put behind what the idle slot holds and
forgotten at once. In the same way a lone row gets company where the model needs it to be exact (`rows_min`).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from swarmllm.adapters.llama.rows import Rows, Stopped
from swarmllm.adapters.llama.session import DECODE_MAX, Key, Order, Session, common
from swarmllm.messages import REFUSED_CONTEXT, REFUSED_SESSION, REFUSED_VOCABULARY

ORDERS_MAX: Final = 1024  # Waiting in all; the node's own bound is half of it.
SHARE_MIN: Final = 16  # Tokens: copying a cache must save more than it costs.
GAP_MAX: Final = 2  # Idle slots that are worth bridging: a row without logits is cheaper than reading the weights once more.
CHUNK_S: Final = 0.1  # How long a prompt may hold up others,
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


class Model(Protocol):
    """`llama_api.LlamaModel`, or a double."""

    vocab_size: int
    cells: int
    batch_max: int
    outputs_max: int
    rows_min: int

    def decode(self, rows: Rows) -> NDArray[np.float32]: ...

    def forget(self, slot: int, start: int) -> None: ...

    def copy(self, source: int, target: int) -> None: ...


Encode = Callable[[NDArray[np.float32], int, int], bytes]
"""`wire.sparse.encode_logits`."""


@dataclass(slots=True)
class _Plan:
    """A batch: `parts` are (session, how many tokens of its current order); `bridged` are idle slots with one row each."""

    parts: list[tuple[Session, int]]
    is_prompt: bool
    bridged: list[int] = field(default_factory=list)


class Batcher:
    """`context_max` is at most `model.cells` - 1: one cell stays free for a row that is forgotten at once."""

    def __init__(
        self, model: Model, encode: Encode, clock: Callable[[], float], sessions_max: int, context_max: int, idle_s: float
    ) -> None:
        assert context_max < model.cells, f"{context_max} tokens in {model.cells} cells"
        self._model, self._encode, self._clock = model, encode, clock
        self._sessions_max, self._context_max, self._idle_s = sessions_max, context_max, idle_s
        self._sessions: OrderedDict[Key, Session] = OrderedDict()  # Least recently used first.
        self._by_slot: dict[int, Session] = {}
        self._waiting = 0
        self._step = 0
        self._prompt_turn = False
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
        return self._sessions_max - sum(not self._evictable(session, now) for session in self._sessions.values())

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
        if self._waiting >= ORDERS_MAX:
            return [(BUSY, order.id, round(RETRY_MAX_S * 1000))]
        session = self._sessions.get(order.key) or self._begin(order.key, order.arrived_at)
        if session is None:
            return [(BUSY, order.id, round(self._retry_s(order.arrived_at) * 1000))]
        if order.epoch < session.epoch:
            return [(BUSY, order.id, 0)]
        stale: list[Answer] = []
        if order.epoch > session.epoch:
            stale = self._drop(session)
            session.epoch = order.epoch
        session.orders.append(order)
        session.absence_s = order.arrived_at - session.answered_at
        self._waiting += 1
        self._touch(session, order.arrived_at)
        return stale

    def close(self, key: Key) -> list[Answer]:
        """The session is over. Orders that still wait are answered: nobody may hang on one."""
        session = self._sessions.get(key)
        if session is None:
            return []
        dropped = self._drop(session)
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

    def _drop(self, session: Session) -> list[Answer]:
        dropped: list[Answer] = [(BUSY, order.id, 0) for order in session.orders]
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

    def _begin(self, key: Key, now: float) -> Session | None:
        if len(self._sessions) >= self._sessions_max:
            oldest = next((s for s in self._sessions.values() if self._evictable(s, now)), None)
            if oldest is None:
                return None
            self._end(oldest)
        slot = next(i for i in range(self._sessions_max) if i not in self._by_slot)
        session = self._sessions[key] = self._by_slot[slot] = Session(key, slot, now)
        return session

    def _end(self, session: Session) -> None:
        del self._sessions[session.key], self._by_slot[session.slot]
        self._model.forget(session.slot, 0)

    def _evictable(self, session: Session, now: float) -> bool:
        return not session.orders and now - session.used_at >= self._idle_s

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
        rows, wanted = self._rows(plan)
        try:
            logits = self._model.decode(rows)
        except Stopped:
            self._restore(plan)
            self._prompt_turn = not self._prompt_turn  # The turn was not taken.
            return answers
        self._step += 1
        self._measure(plan, self._clock() - now)
        answers += self._commit(plan, logits, wanted)
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

    def _plan(self, now: float) -> _Plan | None:
        ready = [(s, s.orders[0].left) for s in self._sessions.values() if s.orders]
        decodes = sorted((s for s, left in ready if left <= DECODE_MAX), key=lambda s: (s.served, s.orders[0].id))
        prompts = sorted((s for s, left in ready if left > DECODE_MAX), key=lambda s: (s.served, s.orders[0].id))
        if not decodes and not prompts:
            return None
        take_prompt = bool(prompts) and (self._prompt_turn or not decodes)
        self._prompt_turn = not take_prompt
        return self._chunk(prompts[0], now) if take_prompt else self._group(decodes)

    def _chunk(self, session: Session, now: float) -> _Plan:
        """As much of one prompt as may be computed in one go."""
        lively = any(s is not session and (s.orders or now - s.used_at < LIVELY_S) for s in self._sessions.values())
        budget = self._prompt_rate * (CHUNK_S if lively else CHUNK_ALONE_S) or CHUNK_MIN
        order = session.orders[0]
        size = min(order.left, self._model.batch_max, max(CHUNK_MIN, int(budget)))
        return _Plan([(session, self._within_outputs(order, size, self._model.outputs_max))], is_prompt=True)

    def _group(self, decodes: list[Session]) -> _Plan:
        """The session that waited longest, and all around it that can be computed with it."""
        ready = {s.slot: s for s in decodes}
        first = decodes[0].slot
        low, high = self._reach(ready, first, -1), self._reach(ready, first, +1)
        chosen = [ready[slot] for slot in range(low, high + 1) if slot in ready]
        bridged = [slot for slot in range(low, high + 1) if slot not in ready]
        size = 1 if bridged else min(self._model.batch_max // len(chosen), *(s.orders[0].left for s in chosen))
        room = self._model.outputs_max // len(chosen)
        size = min(self._within_outputs(s.orders[0], size, room) for s in chosen)
        return _Plan([(s, size) for s in chosen], is_prompt=False, bridged=bridged)

    def _reach(self, ready: dict[int, Session], slot: int, way: int) -> int:
        """The last ready slot in direction `way` that no gap beyond `GAP_MAX` separates from `slot`, within the batch's size."""
        last, size = slot, self._model.batch_max // 2  # Both ways together.
        for other in range(slot + way, slot + way * size, way):
            if not 0 <= other < self._sessions_max or abs(other - last) > GAP_MAX + 1:
                break
            if other in ready:
                last = other
        return last

    def _within_outputs(self, order: Order, size: int, room: int) -> int:
        """At most `size` tokens, of which at most `room` have wanted logits."""
        beyond = order.next_wanted + room
        return min(size, order.wanted[beyond] - order.done) if beyond < len(order.wanted) else size

    def _rows(self, plan: _Plan) -> tuple[Rows, list[int]]:
        """The batch in the order of slots, and which of its rows with logits are really wanted (indices among those)."""
        rows = Rows()
        bridges = [(slot, self._by_slot.get(slot)) for slot in plan.bridged]
        parts = [(s.slot, s, size) for s, size in plan.parts] + [(slot, s, 0) for slot, s in bridges]
        for slot, session, size in sorted(parts, key=lambda part: part[0]):
            held = len(session.tokens) if session is not None else 0
            if size == 0 or session is None:
                rows.add(0, held, slot, False)
                continue
            order = session.orders[0]
            wanted = set(order.wanted[order.next_wanted : order.next_wanted + size])
            for i in range(order.done, order.done + size):
                rows.add(order.tokens[i], order.base + i, slot, i in wanted)
        real = [i for i, output in enumerate(rows.outputs) if output]
        if len(rows.tokens) < self._model.rows_min:
            rows.add(0, rows.positions[-1] + 1, rows.slots[-1], bool(real))
        elif 0 < len(real) < self._model.rows_min:
            rows.outputs[real[0] - 1 if real[0] > 0 else 1] = True
        shown = [i for i, output in enumerate(rows.outputs) if output]
        return rows, [n for n, i in enumerate(shown) if i in set(real)]

    # --- what comes out of it ------------------------------------------------------------------------------------------------

    def _restore(self, plan: _Plan) -> None:
        """Forget whatever the batch put into the cache beyond what the sessions are known to hold."""
        for session, _ in plan.parts:
            self._model.forget(session.slot, len(session.tokens))
        for slot in plan.bridged:
            idle = self._by_slot.get(slot)
            self._model.forget(slot, len(idle.tokens) if idle is not None else 0)

    def _commit(self, plan: _Plan, logits: NDArray[np.float32], wanted: list[int]) -> list[Answer]:
        picked = iter(wanted)
        answers = []
        for session, size in sorted(plan.parts, key=lambda part: part[0].slot):
            order = session.orders[0]
            end = order.done + size
            while order.next_wanted < len(order.wanted) and order.wanted[order.next_wanted] < end:
                self._answer_row(order, order.wanted[order.next_wanted], logits[next(picked)])
                order.next_wanted += 1
            session.extend(order.tokens[order.done : end])
            order.done = end
            session.served = self._step
            if order.left == 0:
                answers.append(self._finish(session, order, self._clock()))
        if plan.bridged or len(plan.parts) == 1:  # Only these have rows that nobody wanted in the cache.
            self._restore(plan)
        return answers

    def _answer_row(self, order: Order, index: int, row: NDArray[np.float32]) -> None:
        if len(order.lists) < len(order.answer) and order.answer[len(order.lists)] == index:
            order.lists.append(self._encode(row, order.entries_max, order.tail_max))
        done = len(order.target_logprobs)
        if done < len(order.targets) and order.targets[done] == index:
            order.target_logprobs.append(_target(row, order.tokens[index + 1]))

    def _finish(self, session: Session, order: Order, now: float) -> Answer:
        session.orders.popleft()
        self._waiting -= 1
        self._touch(session, now)
        session.answered_at = now
        assert order.started_at is not None
        queued, computed = order.started_at - order.arrived_at, now - order.started_at
        targets = b"".join(value.to_bytes(2, "big") for value in order.target_logprobs)
        return (SCORES, order.id, order.lists, targets, _microseconds(queued), _microseconds(computed))

    def _measure(self, plan: _Plan, seconds: float) -> None:
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
    """-1024 times the log-probability of `token` under softmax(row), at most 65535."""
    top = float(row.max())
    with np.errstate(under="ignore"):
        mass = float(np.exp(row - top).sum(dtype=np.float64))
    return min(65_535, max(0, round((top + math.log(mass) - float(row[token])) * TARGET_STEPS)))
