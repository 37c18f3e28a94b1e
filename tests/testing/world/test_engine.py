"""Laws of a simulated expert: it is as fast as the real one was measured, computes together what
waits, and answers everything once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from swarmllm.core.serving.batcher import CHUNK_S, STRANGERS_MAX
from swarmllm.core.serving.places import IDLE_S
from swarmllm.core.values import EngineLoad, SessionKey
from swarmllm.messages import (
    REFUSED_ENGINE,
    Busy,
    ExpertReply,
    Need,
    PeerId,
    Refused,
    Score,
    Scores,
)
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.world.engine import (
    DEMO,
    SPREAD,
    VOCABULARY,
    QuickModel,
    Service,
    Shared,
    SimEngine,
)
from swarmllm.testing.world.event_queue import EventQueue
from swarmllm.wire import context

PEER = PeerId("asker")
OWNER = PeerId("owner")


class Bench:
    """An engine, and whoever asks it: `on_answer` is told of every answer."""

    def __init__(self, service: Service = DEMO, sessions_max: int = 16) -> None:
        self.event_queue = EventQueue()
        self.answers: list[tuple[float, int, ExpertReply]] = []
        self.loads: list[EngineLoad] = []
        model = QuickModel("m", 1, {}, 4096, sessions_max)
        self.engine = SimEngine(
            self.event_queue, model, service, self._done, self.loads.append, OWNER
        )
        self.on_answer: Any = None
        self.orders = 0

    def _done(self, order: int, reply: ExpertReply) -> None:
        self.answers.append((self.event_queue.now, order, reply))
        if self.on_answer is not None:
            self.on_answer(order, reply)

    def ask(
        self,
        session: int,
        text: tuple[int, ...],
        base: int = 0,
        round_: int = 0,
        peer: PeerId = PEER,
    ) -> int:
        self.orders += 1
        digest = context.digests(text)[base]
        tokens = text[base:]
        score = Score(
            session, round_, 0, base, digest, tokens, (len(tokens) - 1,), (), 256, 0, bytes(8)
        )
        self.engine.submit(self.orders, SessionKey(peer, session), score)
        return self.orders

    def kinds(self) -> list[type]:
        return [type(reply) for _, _, reply in self.answers]


@pytest.mark.parametrize(
    ("sessions", "tokens_per_s", "off"), [(1, 152, 0.03), (8, 415, 0.22), (16, 602, 0.03)]
)
def test_the_demo_expert_is_as_fast_as_it_was_measured(
    sessions: int, tokens_per_s: float, off: float
) -> None:
    bench = Bench()
    texts: dict[int, tuple[int, ...]] = {session: (session,) for session in range(sessions)}

    def go_on(order: int, reply: ExpertReply) -> None:
        session = reply.session
        texts[session] += (1,)
        bench.ask(session, texts[session], base=len(texts[session]) - 1)

    bench.on_answer = go_on
    for session, text in texts.items():
        bench.ask(session, text)
    bench.event_queue.run_until(5.0)
    assert set(bench.kinds()) == {Scores}
    assert len(bench.answers) / 5.0 == pytest.approx(tokens_per_s, rel=off)


def test_what_waits_is_computed_together() -> None:
    bench = Bench(Service(1.0, 0.1, 0.0))
    bench.ask(1, (1,))
    bench.ask(2, (2,))
    bench.ask(3, (3,))
    bench.event_queue.run_until(10.0)
    assert [(round(at, 9), order) for at, order, _ in bench.answers] == [
        (1.1, 1),
        (2.3, 2),
        (2.3, 3),
    ]


def test_several_positions_cost_what_the_service_says_of_tokens_and_come_together() -> None:
    """As when a draft is verified: one step, and a part of one for each position beyond the
    first."""
    bench = Bench(Service(1.0, 0.1, 0.01))
    bench.ask(1, (1, 2, 3))
    bench.event_queue.run_until(10.0)
    began = bench.event_queue.now
    digest = context.digests((1, 2, 3))[-1]
    drafted = Score(1, 1, 0, 3, digest, (4, 5, 6, 7), (0, 1, 2, 3), (), 256, 0, bytes(8))
    bench.engine.submit(99, SessionKey(PEER, 1), drafted)
    bench.event_queue.run_until(20.0)
    at, order, reply = bench.answers[-1]
    assert (order, round(at - began, 9)) == (99, 1.13)
    assert isinstance(reply, Scores)
    assert len(reply.lists) == 4


def test_models_of_a_family_are_as_alike_as_they_are_said_to_be() -> None:
    def rows(likeness: float) -> npt.NDArray[np.float64]:
        models = [QuickModel("m", seed, {}, 4096, 16, likeness) for seed in (1, 2)]
        found = [[one.logits(bytes((state,))) for state in range(64)] for one in models]
        return np.array(found, dtype=np.float64).reshape(2, -1)

    for likeness in (0.0, 0.5, 0.9, 1.0):
        found = rows(likeness)
        assert np.asarray(np.corrcoef(found))[0, 1] == pytest.approx(likeness, abs=0.05)
        assert found.std() == pytest.approx(SPREAD, rel=0.05)


def test_a_long_prompt_takes_its_tokens_and_holds_up_nobody_for_long() -> None:
    bench = Bench(Service(0.01, 0.0, 0.001))
    bench.ask(1, tuple(number % VOCABULARY for number in range(2000)))
    bench.event_queue.run_until(0.3)
    short = bench.ask(2, (1,))
    bench.event_queue.run_until(20.0)
    done = {order: at for at, order, _ in bench.answers}
    assert done[1] == pytest.approx(2.0, rel=0.15)
    assert done[short] < 0.3 + 0.6
    assert CHUNK_S < 0.6


def test_what_is_missing_is_said_before_anything_is_computed() -> None:
    bench = Bench(Service(1.0, 0.0, 0.0))
    bench.ask(1, (1, 2, 3), base=2)
    bench.event_queue.run_until(10.0)
    assert bench.kinds() == [Need]


def test_nobody_is_refused_a_place_that_somebody_left_idle() -> None:
    bench = Bench(sessions_max=1)
    bench.ask(1, (1,))
    bench.event_queue.run_until(1.0)
    bench.ask(2, (2,))
    bench.event_queue.run_until(1.0 + IDLE_S)
    bench.ask(2, (2,))
    bench.event_queue.run_until(20.0)
    assert bench.kinds() == [Scores, Busy, Scores]


def test_nobody_has_more_of_its_queue_than_is_left_free() -> None:
    bench = Bench()
    for _ in range(STRANGERS_MAX // 2 + 3):
        bench.ask(1, (1,))
    bench.event_queue.run_until(0.0)
    assert bench.kinds() == [Busy] * 3


def test_the_owner_is_in_the_next_step_although_a_stranger_has_every_place() -> None:
    bench = Bench(Service(1.0, 0.0, 0.0), sessions_max=4)
    for session in range(4):
        for _ in range(3):
            bench.ask(session, (session,))
    bench.event_queue.run_until(0.5)
    own = bench.ask(1, (9,), peer=OWNER)
    bench.event_queue.run_until(2.1)
    [(at, reply)] = [(at, reply) for at, order, reply in bench.answers if order == own]
    assert at == pytest.approx(2.0)
    assert isinstance(reply, Scores)
    bench.event_queue.run_until(20.0)
    assert len(bench.answers) == 13, "every order gets one answer"


def test_a_newcomer_gets_a_place_of_whoever_has_most() -> None:
    bench = Bench(Service(1.0, 0.0, 0.0), sessions_max=4)
    for session in range(4):
        bench.ask(session, (session,))
    new = bench.ask(1, (9,), peer=PeerId("newcomer"))
    bench.event_queue.run_until(5.0)
    assert {order: type(reply) for _, order, reply in bench.answers}[new] is Scores
    assert sorted(kind.__name__ for kind in bench.kinds()) == ["Busy", *["Scores"] * 4]


def test_stop_leaves_nothing_and_resume_begins_anew() -> None:
    bench = Bench()
    bench.ask(1, (1,))
    bench.ask(2, (2,))
    bench.engine.stop()
    bench.event_queue.run_until(10.0)
    assert bench.answers == []
    bench.ask(1, (1,))
    bench.event_queue.run_until(11.0)
    assert bench.kinds() == [Refused]
    bench.engine.resume()
    bench.ask(1, (1,))
    bench.event_queue.run_until(12.0)
    assert bench.kinds() == [Refused, Scores]


def test_whatever_a_dead_worker_had_is_refused_and_its_caches_are_gone() -> None:
    bench = Bench()
    bench.ask(1, (1, 2))
    bench.event_queue.run_until(1.0)
    bench.ask(1, (1, 2, 3), base=2)
    bench.ask(2, (1,))
    bench.engine.fail()
    bench.ask(3, (1,))
    bench.event_queue.run_until(2.0)
    assert bench.kinds() == [Scores, Refused, Refused, Refused]
    assert all(
        reply.code == REFUSED_ENGINE for _, _, reply in bench.answers if isinstance(reply, Refused)
    )
    bench.engine.revive()
    bench.ask(1, (1, 2, 3), base=2)
    bench.event_queue.run_until(3.0)
    assert bench.kinds()[-1] is Need


def test_whoever_closes_a_session_leaves_no_order_behind() -> None:
    bench = Bench()
    for _ in range(3):
        bench.ask(1, (1,))
    bench.engine.close(SessionKey(PEER, 1))
    bench.event_queue.run_until(1.0)
    assert bench.kinds() == [Busy] * 3


def test_replicas_give_the_same_bytes_and_other_models_others() -> None:
    shared: Shared = {}
    digest = context.digests((1, 2, 3))[-1]
    one, two = (QuickModel("m", 1, shared, 4096, 1) for _ in range(2))
    other = QuickModel("m", 2, shared, 4096, 1)
    lists = [model.list_after(digest, 256, 0) for model in (one, two, other)]
    assert lists[0] == lists[1] != lists[2]
    assert QuickModel("m", 1, {}, 4096, 1).list_after(digest, 256, 0) == lists[0]
    assert isinstance(one, ScriptedModel)
