"""Laws of the simulated engine: it takes turns, keeps places and answers as the real one does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.events import SessionKey
from swarmllm.messages import NO_CONTROL, Busy, ExpertReply, Need, PeerId, Score, Scores
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.world.agenda import Agenda
from swarmllm.testing.world.engine import CHUNK_MIN, CHUNK_S, IDLE_S, Service, SimEngine
from swarmllm.wire import context

SERVICE = Service(0.1, 0.01, 0.02)


class Desk:
    """An engine, and what it answered when."""

    def __init__(self, places: int = 4) -> None:
        self.agenda = Agenda()
        self.answers: list[tuple[float, int, ExpertReply]] = []
        model = ScriptedModel(vocab_size=64, sessions_max=places)
        self.engine = SimEngine(self.agenda, model, SERVICE, self._done, lambda _load: None)
        self.asked = 0

    def _done(self, order: int, reply: ExpertReply) -> None:
        self.answers.append((self.agenda.now, order, reply))

    def ask(self, session: int, tokens: int, base: int = 0, have: tuple[int, ...] = ()) -> int:
        self.asked += 1
        digest = context.digests(have)[-1]
        ids = tuple(range(tokens))
        request = Score(session, self.asked, 0, base, digest, ids, (tokens - 1,), (), 64, 0, NO_CONTROL)
        self.engine.submit(self.asked, key(session), request)
        return self.asked

    def when(self, order: int) -> float:
        return next(at for at, number, _ in self.answers if number == order)


def key(session: int) -> SessionKey:
    return SessionKey(PeerId("asker"), session)


def test_a_long_prompt_stalls_others_for_no_more_than_a_chunk() -> None:
    desk = Desk()
    prompt = desk.ask(1, 600)
    desk.agenda.run_until(0.01)
    others = [desk.ask(session, 1) for session in (2, 3)]
    desk.agenda.run_until(100.0)
    chunk = max(CHUNK_MIN, int(CHUNK_S / SERVICE.per_token_s))
    first = CHUNK_MIN * SERVICE.per_token_s + SERVICE.step_s  # Nobody else was there when it began.
    step = SERVICE.step_s + 2 * SERVICE.per_session_s
    for other in others:
        assert desk.when(other) <= first + step + 1e-9
    assert desk.when(prompt) >= 600 * SERVICE.per_token_s
    assert desk.when(prompt) <= (600 / chunk + 1) * (SERVICE.step_s + chunk * SERVICE.per_token_s) + step


def test_who_comes_when_all_places_are_taken_is_told_to_come_again_and_gets_one_of_an_idle_session() -> None:
    desk = Desk(places=2)
    desk.ask(1, 1), desk.ask(2, 1)
    third = desk.ask(3, 1)
    desk.agenda.run_until(1.0)
    busy = next(reply for _, number, reply in desk.answers if number == third)
    assert isinstance(busy, Busy)
    assert busy.retry_after_ms <= 1000 * IDLE_S
    assert desk.engine.load.sessions_free == 0
    desk.agenda.run_until(2.0 + IDLE_S)
    assert desk.engine.load.sessions_free == 2
    again = desk.ask(3, 1)
    desk.agenda.run_until(3.0 + IDLE_S)
    assert isinstance(next(reply for _, number, reply in desk.answers if number == again), Scores)


def test_a_need_costs_no_time() -> None:
    desk = Desk()
    order = desk.ask(1, 200, base=5, have=(1, 2, 3, 4, 5))
    desk.agenda.run_until(1.0)
    assert isinstance(desk.answers[0][2], Need)
    assert desk.when(order) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("ask", "close", "wait")), st.integers(1, 4), st.integers(1, 80)), max_size=30))
def test_every_order_is_answered_once_whatever_is_closed(steps: list[tuple[str, int, int]]) -> None:
    desk = Desk(places=3)
    for kind, session, size in steps:
        if kind == "ask":
            desk.ask(session, size)
        elif kind == "close":
            desk.engine.close(key(session))
        else:
            desk.agenda.run_until(desk.agenda.now + size / 100)
    desk.agenda.run_until(desk.agenda.now + 1000.0)
    assert sorted(number for _, number, _ in desk.answers) == list(range(1, desk.asked + 1))
    assert desk.engine.load.queue_depth == 0
