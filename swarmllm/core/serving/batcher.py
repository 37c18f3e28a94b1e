"""Continuous batching: every step is one batch made from all sessions that wait, and every order
gets exactly one answer.

A step is either a decode batch (the next token, or a short draft, of as many sessions as possible)
or one chunk of one prompt; when both kinds wait they take turns, so that a long prompt stalls
nobody for longer than a chunk. Within a kind the owner comes first, then the peer that was served
longest ago. How slots, places in the queue and time are shared among peers is `shares`'s to say,
which rows go together `planning`'s. None of this knows a model, threads or clocks: what to compute
is a `Batch`, what came out of it comes back in `commit`, and the time is an argument. The worker
runs it over llama.cpp, the simulated world over a model that only takes time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from swarmllm.core.serving.answers import BUSY, NEED, REFUSED, SCORES, Answer
from swarmllm.core.serving.places import RETRY_MAX_S, Places
from swarmllm.core.serving.planning import (
    Batch,
    Edit,
    Forget,
    Output,
    Part,
    Shape,
    chunk,
    group,
    wanted_of,
)
from swarmllm.core.serving.session import DECODE_MAX, Key, Order, Session
from swarmllm.core.serving.shares import Turns, fits
from swarmllm.messages import REFUSED_CONTEXT, REFUSED_OUTPUT, REFUSED_SESSION, REFUSED_VOCABULARY
from swarmllm.wire.token_set import largest

ORDERS_MAX: Final = 1024  # Waiting in all;
STRANGERS_MAX: Final = 512  # and of strangers, which is the node's own bound as well.
CHUNK_S: Final = 0.1  # How long a prompt, or drafts, may hold up others,
CHUNK_OWNER_S: Final = 0.05  # the owner of the machine,
CHUNK_ALONE_S: Final = 0.5  # and how long it may hold up somebody who comes when nobody was there.
CHUNK_MIN: Final = 32
LIVELY_S: Final = 2.0  # A session that was served this recently will soon be back.
PATIENCE_SHARE: Final = 0.25  # Of a decode step, to have more sessions in the next one;
PATIENCE_MAX_S: Final = 0.005  # no more than a requester in the same machine needs.
SMOOTHING: Final = 0.2  # Weight of the newest measurement.


class Rates:
    """How fast the model is: tokens/s of all sessions together, of their next tokens (`decode`) and
    of prompts; seconds of a decode step. 0: not measured."""

    def __init__(self) -> None:
        self.decode = self.prompt = self.step_s = 0.0

    def measure(self, batch: Batch, seconds: float) -> None:
        if seconds <= 0:
            return
        rate = batch.tokens / seconds
        if batch.is_prompt:
            self.prompt = _smoothed(self.prompt, rate)
        else:
            self.decode, self.step_s = _smoothed(self.decode, rate), _smoothed(self.step_s, seconds)


def _smoothed(before: float, newest: float) -> float:
    return before + (newest - before) * (SMOOTHING if before else 1)


class Batcher:
    """`context_max` is at most `shape.cells` - 1: one cell stays free for a row that is forgotten
    at once. `owner` is the peer whose machine this is.

    Whoever drives it calls `plan`; makes the edits of `take_edits` to the model's cache; computes
    the batch; and says what came of it with `commit`, or `abandon` if nothing did; and makes the
    edits of that. One batch at a time. Orders may come and go meanwhile.
    """

    def __init__(
        self, shape: Shape, sessions_max: int, context_max: int, idle_s: float, owner: str = ""
    ) -> None:
        assert context_max < shape.cells, f"{context_max} tokens in {shape.cells} cells"
        self._shape, self._context_max, self._owner = shape, context_max, owner
        self.places = Places(sessions_max, idle_s, owner)
        self._turns = Turns(owner)
        self._waiting = 0
        self._step = 0
        self._is_computing = False
        self.broken = 0  # Orders whose logits were no numbers.
        self.rates = Rates()

    @property
    def waiting(self) -> int:
        return self._waiting

    def take_edits(self) -> list[Edit]:
        """What is to be done to the model's cache, in this order, before it computes anything
        else."""
        edits, self.places.edits = self.places.edits, []
        return edits

    # --- orders come and go -----------------------------------------------------------------------

    def submit(self, order: Order) -> list[Answer]:
        """Queue an order, or answer it at once; and answer those that it makes stale."""
        code = _fault(order, self._shape.vocab_size, self._context_max)
        if code:
            return [(REFUSED, order.id, code)]
        if not self._has_room(order.key[0]):
            return [(BUSY, order.id, round(RETRY_MAX_S * 1000))]
        stale: list[Answer] = []
        session = self.places.sessions.get(order.key)
        if session is None:
            session, stale = self._begin(order.key, order.arrived_at)
        if session is None:
            return [(BUSY, order.id, round(self.places.retry_s(order.arrived_at) * 1000))]
        if order.epoch < session.epoch:
            return [(BUSY, order.id, 0)]
        if order.epoch > session.epoch:
            stale += self._drop(session, 0)
            session.epoch = order.epoch
        session.orders.append(order)
        session.absence_s = order.arrived_at - session.answered_at
        self._waiting += 1
        self.places.touch(session, order.arrived_at)
        return stale

    def _has_room(self, peer: str) -> bool:
        if peer == self._owner:
            return self._waiting < ORDERS_MAX
        held = own = 0
        for session in self.places.sessions.values():
            held += len(session.orders) if session.key[0] == peer else 0
            own += len(session.orders) if session.key[0] == self._owner else 0
        return fits(held, self._waiting - own, STRANGERS_MAX)

    def close(self, key: Key) -> list[Answer]:
        """The session is over. Orders that still wait are answered: nobody may hang on one."""
        session = self.places.sessions.get(key)
        if session is None:
            return []
        dropped = self._drop(session, 0)
        self.places.end(session)
        return dropped

    def cancel(self, order_id: int) -> None:
        """Drop an order that has not begun; it gets no answer, since nobody waits for one."""
        for session in self.places.sessions.values():
            for order in session.orders:
                if order.id == order_id and order.started_at is None:
                    session.orders.remove(order)
                    self._waiting -= 1
                    return

    def _drop(self, session: Session, retry_ms: int) -> list[Answer]:
        dropped: list[Answer] = [(BUSY, order.id, retry_ms) for order in session.orders]
        self._waiting -= len(dropped)
        session.orders.clear()
        return dropped

    def patience_s(self, now: float) -> float:
        """How long the next step should wait for sessions that were just answered and use to be
        back at once.

        Without this, the first of 16 requesters would always be computed alone, at the price of all
        16. One that is far away is not waited for: its last absence was longer than the wait may
        be.
        """
        limit = min(PATIENCE_MAX_S, PATIENCE_SHARE * self.rates.step_s)
        back_at = (
            s.answered_at + limit
            for s in self.places.sessions.values()
            if not s.orders and s.absence_s <= limit
        )
        return max(back_at, default=now) - now

    def _begin(self, key: Key, now: float) -> tuple[Session | None, list[Answer]]:
        """A slot for a new session, and what those are told whose session gave way to it."""
        told: list[Answer] = []
        if self.places.is_full:
            going = self.places.loser(key[0], now)
            if going is None:
                return None, []
            told = self._drop(going, round(self.places.retry_s(now) * 1000))
            self.places.end(going)
        return self.places.begin(key, now), told

    # --- one step ---------------------------------------------------------------------------------

    def plan(self, now: float) -> Batch | None:
        """The next batch; None if nothing waits."""
        assert not self._is_computing, "the batch before is neither committed nor abandoned"
        sessions = [session for session in self.places.sessions.values() if session.orders]
        if not sessions:
            return None
        batch = Batch(now, [answer for session in sessions for answer in self._start(session, now)])
        self._fill(batch, [session for session in sessions if session.orders], now)
        self._is_computing = bool(batch.parts)
        return batch

    def _start(self, session: Session, now: float) -> list[Answer]:
        """Begin the first order of the session if none is under way: check what it builds on, and
        rewind the cache to it."""
        answers: list[Answer] = []
        while session.orders and session.orders[0].started_at is None:
            order = session.orders[0]
            held = len(session.tokens)
            if order.base > held:
                answers.append((NEED, order.id, held))
            elif session.digests[order.base] != order.context_hash:
                # Where the contexts part cannot be told from one hash; with everything resent,
                # equal tokens cost no work.
                answers.append((NEED, order.id, 0))
            else:
                order.started_at = now
                self.places.rewind(session, order)
                if order.left:
                    break
                answers.append(self._finish(session, order, now))
                continue
            session.orders.popleft()
            self._waiting -= 1
        return answers

    # --- what goes into the batch -----------------------------------------------------------------

    def _fill(self, batch: Batch, ready: list[Session], now: float) -> None:
        decodes = [s for s in ready if s.orders[0].left <= DECODE_MAX]
        prompts = [s for s in ready if s.orders[0].left > DECODE_MAX]
        batch.waiting = frozenset(s.key[0] for s in ready)
        batch.is_prompt = self._turns.is_prompt_next(
            [s.key[0] for s in decodes], [s.key[0] for s in prompts], now
        )
        if batch.is_prompt:
            first = min(
                prompts, key=lambda s: (self._turns.rank(s.key[0], now), s.served, s.orders[0].id)
            )
            batch.parts = chunk(first, self._rows_within(first, now), self._shape)
        elif decodes:
            served: dict[str, int] = {}
            for session in self.places.sessions.values():
                served[session.key[0]] = max(session.served, served.get(session.key[0], 0))
            decodes.sort(
                key=lambda s: (s.key[0] != self._owner, served[s.key[0]], s.served, s.orders[0].id)
            )
            batch.parts, between = group(decodes, self._rows_within(decodes[0], now), self._shape)
            batch.bridged = [(slot, self.places.held(slot)) for slot in between]
        batch.wanted = wanted_of(batch.parts)

    def _rows_within(self, session: Session, now: float) -> int:
        """How many rows a step for this session may have, so that it holds up others for no longer
        than they should be."""
        others = [
            s
            for s in self.places.sessions.values()
            if s is not session and (s.orders or now - s.used_at < LIVELY_S)
        ]
        seconds = CHUNK_S if others else CHUNK_ALONE_S
        if session.key[0] != self._owner and any(s.key[0] == self._owner for s in others):
            seconds = CHUNK_OWNER_S
        return max(CHUNK_MIN, int(self.rates.prompt * seconds))

    # --- what comes out of it ---------------------------------------------------------------------

    def abandon(self, batch: Batch) -> None:
        """The batch was not computed, or not to its end: nothing of it counts, and its orders wait
        again."""
        self._is_computing = False
        self._restore(batch)

    def _restore(self, batch: Batch) -> None:
        """Forget whatever the batch put into the cache beyond what the sessions are known to
        hold."""
        slots = [*(part.session.slot for part in batch.parts), *(slot for slot, _ in batch.bridged)]
        self.places.edits += (Forget(slot, self.places.held(slot)) for slot in slots)

    def commit(
        self, batch: Batch, outputs: Sequence[Output | None], seconds: float, now: float
    ) -> list[Answer]:
        """What came out of the batch, for each of `batch.wanted`; None for logits that are no
        numbers. `seconds`: how long the model took.

        An order that is gone meanwhile, with its session or for a newer epoch, has been answered.
        """
        self._is_computing = False
        self._step += 1
        self.rates.measure(batch, seconds)
        given = iter(outputs)
        answers: list[Answer] = []
        broken: list[Session] = []
        # Only the others have rows that nobody wanted in the cache.
        is_clean = not batch.bridged and len(batch.parts) > 1
        for part in batch.parts:
            is_sound = self._keep_outputs(part, given)
            session, order = part.session, part.order
            if (
                self.places.by_slot.get(session.slot) is not session
                or not session.orders
                or session.orders[0] is not order
            ):
                is_clean = False
                continue
            session.tokens += order.tokens[order.done : order.done + part.size]
            session.digests += part.digests
            order.done += part.size
            session.served = self._step
            if not is_sound:
                broken.append(session)
            elif order.left == 0 and order.steps:
                order.go_on(self._shape.vocab_size)
            elif order.left == 0:
                answers.append(self._finish(session, order, now))
        if not is_clean:
            self._restore(batch)
        answers += [answer for session in broken for answer in self._give_up(session)]
        peers = {part.session.key[0] for part in batch.parts}
        self._turns.worked(peers, batch.waiting, batch.is_prompt, now - batch.begun_at, now)
        return answers

    def _keep_outputs(self, part: Part, given: Iterator[Output | None]) -> bool:
        """Take the part's outputs; whether all of them say anything: what is no number cannot be
        answered with."""
        order, is_sound = part.order, True
        end = order.done + part.size
        while order.next_wanted < len(order.wanted) and order.wanted[order.next_wanted] < end:
            output = next(given)
            order.next_wanted += 1
            if output is None:
                is_sound = False
                continue
            data, target = output
            if data is not None:
                order.lists.append(data)
            if target is not None:
                order.target_logprobs.append(target)
        return is_sound

    def _give_up(self, session: Session) -> list[Answer]:
        """The model has no answer to this text. That is no reason to keep it from others; the
        cache, full of the same, goes."""
        self.broken += 1
        order = session.orders.popleft()
        self._waiting -= 1
        others = self._drop(session, 0)
        self.places.end(session)
        return [(REFUSED, order.id, REFUSED_OUTPUT), *others]

    def _finish(self, session: Session, order: Order, now: float) -> Answer:
        session.orders.popleft()
        self._waiting -= 1
        self.places.touch(session, now)
        session.answered_at = now
        assert order.started_at is not None
        queued, computed = order.started_at - order.arrived_at, now - order.started_at
        targets = b"".join(value.to_bytes(2, "big") for value in order.target_logprobs)
        return (
            SCORES,
            order.id,
            order.lists,
            targets,
            _microseconds(queued),
            _microseconds(computed),
        )


def _fault(order: Order, vocab_size: int, context_max: int) -> int:
    """The code to refuse a senseless order with, or 0. The codec has checked the ranges; what
    reaches the model is checked here."""
    count = len(order.tokens)
    if order.base + count + order.steps > context_max:
        return REFUSED_CONTEXT
    if max(order.tokens) >= vocab_size or min(order.tokens) < 0:
        return REFUSED_VOCABULARY
    if order.allowed and largest(order.allowed) >= vocab_size:
        return REFUSED_VOCABULARY
    ends = order.wanted and (order.wanted[0] < 0 or order.wanted[-1] >= count)
    if ends or (order.targets and max(order.targets) >= count - 1):
        return REFUSED_SESSION
    return 0


def _microseconds(seconds: float) -> int:
    return min(2**32 - 1, max(0, round(seconds * 1e6)))
