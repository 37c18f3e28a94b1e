"""A simulated expert: whose rounds are computed when, and what comes out.

The engine works in steps, as the real one does (continuous batching): a step takes every session that waits, one round each, and lasts
`step_s + per_session_s * sessions + per_token_s * tokens caught up`. What comes out is drawn from the model's seed.

`QuickModel` speaks a small vocabulary and has only so many states; a text's state is a hash of it. So each list is made once and used
often, and a world of a thousand nodes spends its time on decisions instead of on made-up numbers. Replicas still give the same bytes for
the same text, and another text still gives another distribution, which is all that the machines can see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.core.events import EngineLoad, SessionKey
from swarmllm.messages import REFUSED_ENGINE, Busy, ExpertReply, Refused, Score
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.world.agenda import Agenda

WAITING_MAX: Final = 256  # As the real engine's queue.
BUSY_MS: Final = 50
STATES: Final = 64
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
"""The bundled demo expert on two cores, fitted to `swarmllm bench --only engine`: 152, 415 and 602 tokens/s at 1, 8 and 16 sessions."""
LAPTOP_8B: Final = Service(0.110, 0.006, 0.030)
"""LLaMA-3-8B at 4 bits where each step reads 4.7 GB of weights at some 43 GB/s: a laptop of today; 30 tokens of prompt a second."""
DESKTOP_8B: Final = Service(0.014, 0.0008, 0.0005)
"""The same on a graphics card with 360 GB/s."""
SERVICES: Final = {"demo": DEMO, "laptop-8b": LAPTOP_8B, "desktop-8b": DESKTOP_8B}


class QuickModel(ScriptedModel):
    """A `ScriptedModel` of `STATES` states; `shared` keeps what replicas would compute again."""

    def __init__(
        self, name: str, seed: int, shared: dict[tuple[int, int, int], bytes], context_max: int, sessions_max: int
    ) -> None:
        super().__init__(name, seed, VOCABULARY, context_max, sessions_max)
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


class SimEngine:
    """`done` is called with every order and its answer, `load_changed` when there is something to tell others."""

    def __init__(
        self,
        agenda: Agenda,
        model: ScriptedModel,
        service: Service,
        done: Callable[[int, ExpertReply], None],
        load_changed: Callable[[EngineLoad], None],
    ) -> None:
        self.model = model
        self.service = service
        self.served = 0
        self._agenda = agenda
        self._done, self._load_changed = done, load_changed
        self._waiting: deque[tuple[int, SessionKey, Score]] = deque()
        self._batch: list[tuple[int, SessionKey, Score]] = []
        self._is_stopped = False
        self.is_down = False
        self._life = 0  # Counts stops and deaths: what was being computed before one is void after it.
        self._free = model.load.sessions_free

    @property
    def load(self) -> EngineLoad:
        load = self.model.load
        return EngineLoad(len(self._waiting), load.sessions_free, load.sessions_max, self.service.tokens_per_s(load.sessions_max))

    def submit(self, order: int, key: SessionKey, request: Score) -> None:
        if self._is_stopped or self.is_down:
            self._refuse(order, request)
        elif len(self._waiting) >= WAITING_MAX:
            self._agenda.after(0.0, self._done, order, Busy(request.session, request.round, BUSY_MS))
        else:
            self._waiting.append((order, key, request))
            if not self._batch:
                self._begin()

    def close(self, key: SessionKey) -> None:
        """Orders that still wait are answered: nobody may hang on one."""
        dropped = [one for one in self._waiting if one[1] == key]
        if dropped:
            self._waiting = deque(one for one in self._waiting if one[1] != key)
            for order, _, request in dropped:
                self._agenda.after(0.0, self._done, order, Busy(request.session, request.round, 0))
        self.model.close(key)
        self._tell_load()

    def stop(self) -> None:
        """No more of what waits or runs is ever answered: whoever asked has been told that everything ended."""
        self._is_stopped = True
        self._life += 1
        self._waiting.clear()
        self._batch = []

    def resume(self) -> None:
        self._is_stopped = False

    def fail(self) -> None:
        """The worker process died: its caches are gone, and whatever waits, runs or comes is refused until `revive`."""
        self.is_down = True
        self._life += 1
        lost = [*self._batch, *self._waiting]
        self._batch = []
        self._waiting.clear()
        self.model.forget()
        for order, _, request in lost:
            self._refuse(order, request)

    def revive(self) -> None:
        self.is_down = False
        self._free = self.model.load.sessions_free

    def _refuse(self, order: int, request: Score) -> None:
        self._agenda.after(0.0, self._done, order, Refused(request.session, request.round, REFUSED_ENGINE))

    def _begin(self) -> None:
        """The next step: of each session that waits its first round."""
        seen: set[SessionKey] = set()
        later: deque[tuple[int, SessionKey, Score]] = deque()
        tokens = 0
        for one in self._waiting:
            if one[1] in seen or len(seen) >= self.model.load.sessions_max:
                later.append(one)
                continue
            seen.add(one[1])
            self._batch.append(one)
            tokens += len(one[2].tokens) - 1
        self._waiting = later
        service = self.service
        seconds = service.step_s + service.per_session_s * len(self._batch) + service.per_token_s * tokens
        self._agenda.after(seconds, self._finish, self._life)

    def _finish(self, life: int) -> None:
        if life != self._life:
            return
        batch, self._batch = self._batch, []
        for order, key, request in batch:
            reply = self.model.score(key, request)
            self.served += 1
            self._done(order, reply)
            if life != self._life:
                return  # An answer may bring about a halt.
        self._tell_load()
        if self._waiting and not self._batch:
            self._begin()

    def _tell_load(self) -> None:
        free = self.model.load.sessions_free
        if free != self._free:
            self._free = free
            self._load_changed(self.load)
