"""A simulated expert: whose rounds are computed when, and what comes out.

The engine works in steps, as the real one does (`adapters.llama.batcher`): a step is either the next tokens of as many sessions as wait
(`step_s + per_session_s * sessions + per_token_s * tokens beyond one each`) or one chunk of one prompt (`step_s + per_token_s * tokens`);
when both kinds wait they take turns, so that a long prompt stalls nobody for longer than a chunk. A session keeps its place until it is
closed, or has been idle for a while and another one wants it, or its peer has to give way; with all places taken the answer is Busy. How
places and turns are shared is `core.shares`'s to say, here and there. What comes out is drawn from the model's seed.

`QuickModel` speaks a small vocabulary and has only so many states; a text's state is a hash of it. So each list is made once and used
often, and a world of a thousand nodes spends its time on decisions instead of on made-up numbers. Replicas still give the same bytes for
the same text, and another text still gives another distribution, which is all that the machines can see.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.core.events import EngineLoad, SessionKey
from swarmllm.core.shares import Turns, fits, gives_way, owners_places
from swarmllm.messages import REFUSED_ENGINE, Busy, ExpertReply, PeerId, Refused, Score
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.world.agenda import Agenda

WAITING_MAX: Final = 1024  # Here and below: as the real engine.
STRANGERS_MAX: Final = 512
DECODE_MAX: Final = 16  # Tokens up to which a round is a decode step and not a prompt.
CHUNK_S: Final = 0.1  # How long a prompt, or drafts, may hold up others,
CHUNK_OWNER_S: Final = 0.05  # the owner of the machine,
CHUNK_ALONE_S: Final = 0.5  # and how long where nobody has been lately.
CHUNK_MIN, CHUNK_MAX = 32, 512
LIVELY_S: Final = 2.0
IDLE_S: Final = 5.0
RETRY_MIN_S, RETRY_MAX_S = 0.02, 5.0
STATES: Final = 64
PARAMS: Final = 8_000_000_000  # What every model says of its size.
VOCABULARY: Final = 64


@dataclass(frozen=True, slots=True)
class Service:
    """How long a step takes, in seconds."""

    step_s: float
    per_session_s: float
    per_token_s: float

    def tokens_per_s(self, sessions: int) -> float:
        return sessions / (self.step_s + self.per_session_s * sessions)


DEMO: Final = Service(0.0052, 0.00134, 0.0004)
"""The bundled demo expert on two cores, fitted to `swarmllm bench --only engine`: 152 and 602 tokens/s at 1 and 16 sessions. In between
it is somewhat too fast: 502 at 8, where 415 were measured."""
LAPTOP_8B: Final = Service(0.110, 0.020, 0.020)
"""LLaMA-3-8B at 4 bits where each step reads 4.7 GB of weights at some 43 GB/s: a laptop of today. A token more in a step is computed in
20 ms, whether it is another session's or a prompt's: 50 tokens of prompt a second."""
DESKTOP_8B: Final = Service(0.014, 0.0008, 0.0005)
"""The same on a graphics card with 360 GB/s."""
SERVICES: Final = {"demo": DEMO, "laptop-8b": LAPTOP_8B, "desktop-8b": DESKTOP_8B}


class QuickModel(ScriptedModel):
    """A `ScriptedModel` of `STATES` states; `shared` keeps what replicas would compute again."""

    def __init__(
        self, name: str, seed: int, shared: dict[tuple[int, int, int], bytes], context_max: int, sessions_max: int
    ) -> None:
        super().__init__(name, seed, VOCABULARY, context_max, sessions_max)
        self.card = replace(self.card, n_params=PARAMS)
        self._shared = shared
        self._rows: dict[int, npt.NDArray[np.float32]] = {}

    def logits(self, digest: bytes) -> npt.NDArray[np.float32]:
        state = digest[0] % STATES
        row = self._rows.get(state)
        if row is None:
            row = self._rows[state] = super().logits(bytes((state,)))
        return row

    def list_after(self, digest: bytes, entries_max: int, tail_max: int) -> bytes:
        key = (self.seed, digest[0] % STATES, entries_max)
        found = self._shared.get(key)
        if found is None:
            found = self._shared[key] = super().list_after(digest, entries_max, tail_max)
        return found


@dataclass(slots=True)
class _Order:
    number: int
    request: Score
    left: int  # Tokens still to be computed.


@dataclass(slots=True)
class _Session:
    orders: deque[_Order]
    used_at: float
    begun_at: float
    served: int = 0  # The step in which it was served last.


class SimEngine:
    """`done` is called with every order and its answer, `load_changed` when there is something to tell others."""

    def __init__(
        self,
        agenda: Agenda,
        model: ScriptedModel,
        service: Service,
        done: Callable[[int, ExpertReply], None],
        load_changed: Callable[[EngineLoad], None],
        owner: PeerId = PeerId(""),  # noqa: B008  A name, and no work.
    ) -> None:
        self.model = model
        self.service = service
        self.served = 0
        self.refused = 0
        """Rounds that were answered with Busy."""
        self.busy_s = 0.0
        """How long it has computed."""
        self._agenda = agenda
        self._done, self._load_changed = done, load_changed
        self._sessions: OrderedDict[SessionKey, _Session] = OrderedDict()  # Who was heard of longest ago comes first.
        self._places = model.load.sessions_max
        self._waiting = 0
        self._batch: list[tuple[SessionKey, _Session, _Order, int]] = []
        self._owner, self._turns = owner, Turns(owner)
        self._steps = 0
        self._is_stopped = False
        self._is_finishing = (
            False  # Answers are being given: whoever asks again at once belongs to the next step, together with others.
        )
        self.is_down = False
        self._life = 0  # Counts stops and deaths: what was being computed before one is void after it.
        self._free = self._places

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(self._waiting, self._sessions_free(), self._places, self.service.tokens_per_s(self._places))

    def submit(self, order: int, key: SessionKey, request: Score) -> None:
        if self._is_stopped or self.is_down:
            self._answer(order, Refused(request.session, request.round, REFUSED_ENGINE))
            return
        session = (self._sessions.get(key) or self._begin_session(key)) if self._has_room(key.peer) else None
        if session is None:
            self.refused += 1
            self._answer(order, Busy(request.session, request.round, round(1000 * self._retry_s())))
            return
        session.orders.append(_Order(order, request, len(request.tokens)))
        session.used_at = self._agenda.now
        self._sessions.move_to_end(key)
        self._waiting += 1
        if not self._batch and not self._is_finishing:
            self._begin()

    def _has_room(self, peer: PeerId) -> bool:
        if peer == self._owner:
            return self._waiting < WAITING_MAX
        held = sum(len(session.orders) for key, session in self._sessions.items() if key.peer == peer)
        own = sum(len(session.orders) for key, session in self._sessions.items() if key.peer == self._owner)
        return fits(held, self._waiting - own, STRANGERS_MAX)

    def close(self, key: SessionKey) -> None:
        self._end_session(key, 0)
        self._tell_load()

    def _end_session(self, key: SessionKey, retry_ms: int) -> None:
        """Whatever of it waits is answered: nobody may hang on a session that is over."""
        session = self._sessions.pop(key, None)
        if session is not None:
            self._waiting -= len(session.orders)
            for order in session.orders:
                self._answer(order.number, Busy(order.request.session, order.request.round, retry_ms))
            session.orders.clear()
        self.model.close(key)

    def stop(self) -> None:
        """No more of what waits or runs is ever answered: whoever asked has been told that everything ended."""
        self._is_stopped = True
        self._life += 1
        for session in self._sessions.values():
            session.orders.clear()
        self._waiting = 0
        self._batch = []

    def resume(self) -> None:
        self._is_stopped = False

    def fail(self) -> None:
        """The worker process died: its caches are gone, and whatever waits, runs or comes is refused until `revive`."""
        self.is_down = True
        self._life += 1
        lost = [order for session in self._sessions.values() for order in session.orders]
        self._sessions.clear()
        self._waiting, self._batch = 0, []
        self.model.forget()
        for order in lost:
            self._answer(order.number, Refused(order.request.session, order.request.round, REFUSED_ENGINE))

    def revive(self) -> None:
        self.is_down = False
        self._free = self._sessions_free()

    # --- sessions ------------------------------------------------------------------------------------------------------------

    def _begin_session(self, key: SessionKey) -> _Session | None:
        if len(self._sessions) >= self._places:
            going = next((k for k, s in self._sessions.items() if self._is_idle(k, s, key.peer)), None) or self._giving_way(
                key.peer
            )
            if going is None:
                return None
            self._end_session(going, round(1000 * self._retry_s()))
        session = self._sessions[key] = _Session(deque(), self._agenda.now, self._agenda.now)
        return session

    def _giving_way(self, newcomer: PeerId) -> SessionKey | None:
        """Of the peer that has to give way: what it has left idle, else what it began last."""
        peer = gives_way(Counter(key.peer for key in self._sessions), newcomer, self._owner, self._places)
        its = [key for key in self._sessions if key.peer == peer]
        idle = [key for key in its if not self._sessions[key].orders]
        return idle[0] if idle else max(its, key=lambda key: self._sessions[key].begun_at, default=None)

    def _is_idle(self, key: SessionKey, session: _Session, newcomer: str = "") -> bool:
        """Idle enough to go; the owner's do not, for others, as long as it has no more than its half."""
        if session.orders or self._agenda.now - session.used_at < IDLE_S:
            return False
        if key.peer != self._owner or newcomer == self._owner:
            return True
        return sum(key.peer == self._owner for key in self._sessions) > owners_places(self._places)

    def _sessions_free(self) -> int:
        return self._places - sum(not self._is_idle(key, session) for key, session in self._sessions.items())

    def _retry_s(self) -> float:
        """When the session that will be idle first will be."""
        soonest = min((s.used_at for s in self._sessions.values()), default=self._agenda.now) + IDLE_S - self._agenda.now
        return min(RETRY_MAX_S, max(RETRY_MIN_S, soonest))

    # --- steps ---------------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The next step, if anything waits."""
        self._answer_needs()
        heads = [(key, session, session.orders[0]) for key, session in self._sessions.items() if session.orders]
        decodes = [head for head in heads if head[2].left <= DECODE_MAX]
        prompts = [head for head in heads if head[2].left > DECODE_MAX]
        if not heads:
            return
        service, now = self.service, self._agenda.now
        is_prompt = self._turns.is_prompt_next([key.peer for key, _, _ in decodes], [key.peer for key, _, _ in prompts], now)
        if is_prompt:
            key, session, order = min(prompts, key=lambda head: (self._turns.rank(head[0].peer, now), head[1].served))
            size = min(order.left, CHUNK_MAX, self._rows_within(key, session))
            self._batch = [(key, session, order, size)]
            seconds = service.step_s + service.per_token_s * size
        else:
            count = len(decodes)
            rows = self._rows_within(decodes[0][0], decodes[0][1]) if any(order.left > 1 for *_, order in decodes) else count
            self._batch = [(key, session, order, min(order.left, max(1, rows // count))) for key, session, order in decodes]
            more = sum(size for *_, size in self._batch) - count
            seconds = service.step_s + service.per_session_s * count + service.per_token_s * more
        self._turns.worked({part[0].peer for part in self._batch}, {head[0].peer for head in heads}, is_prompt, seconds, now)
        self.busy_s += seconds
        self._agenda.after(seconds, self._finish, self._life)

    def _answer_needs(self) -> None:
        """Whoever builds on what is not there learns it before anything is computed."""
        for key, session in self._sessions.items():
            while session.orders and session.orders[0].request.base > self.model.holds(key):
                order = session.orders.popleft()
                self._waiting -= 1
                self._answer(order.number, self.model.score(key, order.request))

    def _rows_within(self, key: SessionKey, session: _Session) -> int:
        """How much may be computed in one go for this session, so that it holds up others for no longer than it should."""
        others = [
            other.peer
            for other, its in self._sessions.items()
            if its is not session and (its.orders or self._agenda.now - its.used_at < LIVELY_S)
        ]
        seconds = CHUNK_S if others else CHUNK_ALONE_S
        if key.peer != self._owner and self._owner in others:
            seconds = CHUNK_OWNER_S
        return max(CHUNK_MIN, int(seconds / max(self.service.per_token_s, 1e-9)))

    def _finish(self, life: int) -> None:
        if life != self._life:
            return
        batch, self._batch = self._batch, []
        self._steps += 1
        finished: list[tuple[SessionKey, _Order]] = []
        for key, session, order, size in batch:
            if not session.orders or session.orders[0] is not order:
                continue  # Its session was closed meanwhile.
            session.served = self._steps
            session.used_at = self._agenda.now
            order.left -= size
            if not order.left:
                session.orders.popleft()
                self._waiting -= 1
                finished.append((key, order))
        self._is_finishing = True
        for key, order in finished:
            if life == self._life:  # An answer may bring about a halt.
                self.served += 1
                self._done(order.number, self.model.score(key, order.request))
        self._is_finishing = False
        if life != self._life:
            return
        self._tell_load()
        if not self._batch:
            self._begin()

    def _answer(self, order: int, reply: ExpertReply) -> None:
        """Not at once: this may be in the middle of an input, and inputs never nest."""
        self._agenda.after(0.0, self._done_if, self._life, order, reply)

    def _done_if(self, life: int, order: int, reply: ExpertReply) -> None:
        if life == self._life or isinstance(reply, Refused):
            self._done(order, reply)

    def _tell_load(self) -> None:
        free = self._sessions_free()
        if free != self._free:
            self._free = free
            self._load_changed(self.load)
