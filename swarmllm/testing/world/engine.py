"""A simulated expert: the batcher of the real engine, over a model that only takes time.

What is computed when, and who waits for whom, is `core.serving.batcher`'s to say, here as in the
worker; this is the loop around it on the world's event queue. A step takes `step_s + per_session_s
* sessions + per_token_s * tokens beyond one each`, or for a chunk of a prompt `step_s + per_token_s
* tokens`. What comes out is drawn from the model's seed.

`QuickModel` speaks a small vocabulary and has only so many states; a text's state is a hash of it.
So each list is made once and used often, and a world of a thousand nodes spends its time on
decisions instead of on made-up numbers. Replicas still give the same bytes for the same text, and
another text still gives another distribution, which is all that the machines can see.

Models of one world are a family: by its `likeness` a model shares its logits with all others, from
nothing (0: what one of them says has nothing to do with what another says) to everything (1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.core.serving.answers import BUSY, Answer, LoadNews, reply_of
from swarmllm.core.serving.batcher import Batcher
from swarmllm.core.serving.places import IDLE_S
from swarmllm.core.serving.planning import OUTPUTS_MAX, Batch, Output, Shape, Wanted
from swarmllm.core.serving.session import Order
from swarmllm.core.values import EngineLoad, SessionKey
from swarmllm.messages import (
    REFUSED_ENGINE,
    ExpertReply,
    PeerId,
    Refused,
    Score,
    ScoreAllowed,
    ScoreDraft,
)
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.world.event_queue import EventQueue

STATES: Final = 64
PARAMS: Final = 8_000_000_000  # What every model says of its size.
VOCABULARY: Final = 64
FAMILY: Final = 0xFA311  # The seed of what all models of a world have in common.
SPREAD: Final = 3.0  # Standard deviation of the logits, as of every `ScriptedModel`.


@dataclass(frozen=True, slots=True)
class Service:
    """How long a step takes, in seconds."""

    step_s: float
    per_session_s: float
    per_token_s: float

    def tokens_per_s(self, sessions: int) -> float:
        return sessions / (self.step_s + self.per_session_s * sessions)

    def seconds(self, batch: Batch) -> float:
        """How long the batch takes; a row that bridges a gap costs what a session costs."""
        if batch.is_prompt:
            return self.step_s + self.per_token_s * batch.tokens
        more = batch.tokens - len(batch.parts)
        return (
            self.step_s
            + self.per_session_s * (len(batch.parts) + len(batch.bridged))
            + self.per_token_s * more
        )


DEMO: Final = Service(0.0052, 0.00134, 0.0004)
"""The bundled demo expert on two cores, fitted to `swarmllm bench --only engine`: 152 and 602
tokens/s at 1 and 16 sessions. In between it is somewhat too fast: 502 at 8, where 415 were
measured."""
LAPTOP_8B: Final = Service(0.110, 0.020, 0.020)
"""LLaMA-3-8B at 4 bits where each step reads 4.7 GB of weights at some 43 GB/s: a laptop of today.
A token more in a step is computed in 20 ms, whether it is another session's or a prompt's: 50
tokens of prompt a second."""
DESKTOP_8B: Final = Service(0.014, 0.0008, 0.0005)
"""The same on a graphics card with 360 GB/s."""
NOTEBOOK_8B: Final = Service(0.047, 0.004, 0.004)
"""The same on a notebook whose graphics share a memory of 100 GB/s: 250 tokens of prompt a
second."""
LAPTOP_1B: Final = Service(0.010, 0.002, 0.002)
"""A model of 1B at 4 bits (0.8 GB) at 80 GB/s."""
SERVICES: Final = {
    "demo": DEMO,
    "laptop-8b": LAPTOP_8B,
    "desktop-8b": DESKTOP_8B,
    "notebook-8b": NOTEBOOK_8B,
    "laptop-1b": LAPTOP_1B,
}


def family_logits(state: int) -> npt.NDArray[np.float64]:
    """What all models of a world have in common in this state."""
    return np.random.default_rng([FAMILY, state]).standard_normal(VOCABULARY) * SPREAD


def state_of(digest: bytes) -> int:
    """The state of every `QuickModel` after the text with this digest."""
    return digest[0] % STATES


Shared = dict[tuple[int, float, int, int], bytes]
"""Lists by seed, likeness, state, and how many entries they may have."""


class QuickModel(ScriptedModel):
    """A `ScriptedModel` of `STATES` states; `shared` keeps what replicas would compute again.
    `likeness`: the share of the variance of its logits that is common to the family."""

    def __init__(
        self,
        name: str,
        seed: int,
        shared: Shared,
        context_max: int,
        sessions_max: int,
        likeness: float = 0.0,
    ) -> None:
        super().__init__(name, seed, VOCABULARY, context_max, sessions_max)
        self.card = replace(self.card, n_params=PARAMS)
        self.likeness = likeness
        self._shared = shared
        self._rows: dict[int, npt.NDArray[np.float32]] = {}

    def logits(self, digest: bytes) -> npt.NDArray[np.float32]:
        state = state_of(digest)
        row = self._rows.get(state)
        if row is None:
            row = super().logits(bytes((state,)))
            if self.likeness:
                common = math.sqrt(self.likeness) * family_logits(state)
                row = (common + math.sqrt(1 - self.likeness) * row).astype(np.float32)
            self._rows[state] = row
        return row

    def list_after(self, digest: bytes, entries_max: int, tail_max: int) -> bytes:
        key = (self.seed, self.likeness, state_of(digest), entries_max)
        found = self._shared.get(key)
        if found is None:
            found = self._shared[key] = super().list_after(digest, entries_max, tail_max)
        return found


class SimEngine:
    """`done` is called with every order and its answer, `load_changed` when there is something to
    tell others."""

    def __init__(
        self,
        event_queue: EventQueue,
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
        self.is_down = False
        self._event_queue = event_queue
        self._done, self._load_changed = done, load_changed
        self._owner = owner
        self._places = model.load.sessions_max
        self._open: dict[int, Score] = {}  # Orders that somebody waits for.
        self._batch: Batch | None = None
        self._is_stopped = False
        # Answers are being given: whoever asks again at once belongs to the next step, together
        # with others.
        self._is_finishing = False
        # Counts stops and deaths: what was being computed before one is void after it.
        self._life = 0
        # Counts the waits for sessions that use to be back at once; an earlier one is void.
        self._alarm = 0
        self._start_worker()

    def _start_worker(self) -> None:
        """With empty caches, and a first idea of its speed from one token alone, as the real one
        has it from its warm-up."""
        context_max = self.model.card.context_max
        shape = Shape(
            self.model.card.vocab_size, context_max + 1, outputs_max=max(OUTPUTS_MAX, self._places)
        )
        self._batcher = Batcher(shape, self._places, context_max, IDLE_S, self._owner)
        self._batcher.rates.decode = self.service.tokens_per_s(1)
        self._news = LoadNews()
        self._batch = None

    @property
    def load(self) -> EngineLoad:
        free = self._batcher.places.free(self._event_queue.now)
        return EngineLoad(len(self._open), free, self._places, self._batcher.rates.decode)

    def submit(self, order: int, key: SessionKey, request: Score) -> None:
        if self._is_stopped or self.is_down:
            self._later(order, Refused(request.session, request.round, REFUSED_ENGINE))
            return
        self._open[order] = request
        text = request.epoch, request.base, request.context_hash, list(request.tokens)
        wanted = list(request.answer), list(request.targets), request.entries_max, request.tail_max
        allowed = request.allowed if isinstance(request, ScoreAllowed) else b""
        steps = request.steps if isinstance(request, ScoreDraft) else 0
        asked = (*text, *wanted, self._event_queue.now, allowed, steps)
        for answer in self._batcher.submit(Order(order, (key.peer, key.session), *asked)):
            self.refused += answer[0] == BUSY and answer[1] == order
            self._tell_later(answer)
        self._wake()

    def close(self, key: SessionKey) -> None:
        for answer in self._batcher.close((key.peer, key.session)):
            self._tell_later(answer)
        self._tell_load()

    def stop(self) -> None:
        """No more of what waits or runs is ever answered: whoever asked has been told that
        everything ended."""
        self._is_stopped = True
        self._life += 1
        if self._batch is not None:
            self._batcher.abandon(self._batch)
            self._batch = None
        for order in self._open:
            self._batcher.cancel(order)
        self._open.clear()

    def resume(self) -> None:
        """What had begun before the stop is computed to its end, though nobody waits for it."""
        self._is_stopped = False
        self._wake()

    def fail(self) -> None:
        """The worker process died: its caches are gone, and whatever waits, runs or comes is
        refused until `revive`."""
        self.is_down = True
        self._life += 1
        for order, request in self._open.items():
            self._later(order, Refused(request.session, request.round, REFUSED_ENGINE))
        self._open.clear()
        self._start_worker()

    def revive(self) -> None:
        self.is_down = False

    # --- steps ------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Begin the next step, now or when those that use to be back at once have had their
        chance."""
        if (
            self._batch is not None
            or self._is_finishing
            or self._is_stopped
            or self.is_down
            or not self._batcher.waiting
        ):
            return
        self._alarm += 1
        patience_s = self._batcher.patience_s(self._event_queue.now)
        if patience_s > 0:
            self._event_queue.after(patience_s, self._begin, self._life, self._alarm)
        else:
            self._begin(self._life, self._alarm)

    def _begin(self, life: int, alarm: int) -> None:
        if (life, alarm) != (self._life, self._alarm) or self._batch is not None:
            return
        batch = self._batcher.plan(self._event_queue.now)
        self._batcher.take_edits()  # There are no cells: what the sessions hold says all.
        for answer in batch.answers if batch is not None else ():
            self._tell_later(answer)
        if batch is None or not batch.parts:
            self._tell_load()
            return
        self._batch = batch
        seconds = self.service.seconds(batch)
        self.busy_s += seconds
        self._event_queue.after(seconds, self._finish, self._life)

    def _finish(self, life: int) -> None:
        batch = self._batch
        if life != self._life or batch is None:
            return
        self._batch = None
        now = self._event_queue.now
        outputs = [self._output(wanted) for wanted in batch.wanted]
        answers = self._batcher.commit(batch, outputs, now - batch.begun_at, now)
        self._is_finishing = True
        for kind, order, *rest in answers:
            request = self._open.pop(order, None)
            if life == self._life and request is not None:  # An answer may bring about a halt.
                self.served += 1
                self._done(order, reply_of(kind, rest, request))
        self._is_finishing = False
        if life == self._life:
            self._tell_load()
            self._wake()

    def _output(self, wanted: Wanted) -> Output:
        if wanted.allowed:
            return self.model.list_among(wanted.digest, wanted.allowed, wanted.entries_max)
        data = (
            self.model.list_after(wanted.digest, wanted.entries_max, wanted.tail_max)
            if wanted.is_list
            else None
        )
        return data, self.model.target_after(
            wanted.digest, wanted.target
        ) if wanted.target is not None else None

    def _tell_later(self, answer: Answer) -> None:
        kind, order, *rest = answer
        request = self._open.pop(order, None)
        if request is not None:
            self._later(order, reply_of(kind, rest, request))

    def _later(self, order: int, reply: ExpertReply) -> None:
        """Not at once: this may be in the middle of an input, and inputs never nest."""
        self._event_queue.after(0.0, self._done_if, self._life, order, reply)

    def _done_if(self, life: int, order: int, reply: ExpertReply) -> None:
        if life == self._life or isinstance(reply, Refused):
            self._done(order, reply)

    def _tell_load(self) -> None:
        load = self.load
        if self._news.is_worth_telling(load.sessions_free, load.tokens_per_s):
            self._load_changed(load)
