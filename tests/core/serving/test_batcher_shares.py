"""Laws of the batcher when several peers ask: whatever they do, the owner has its turn and nobody
more than a fair share."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from swarmllm.core.serving.answers import BUSY, NEED, REFUSED, SCORES, Answer
from swarmllm.core.serving.batcher import STRANGERS_MAX
from swarmllm.core.serving.session import DECODE_MAX, Session
from swarmllm.core.serving.shares import owners_places
from tests.core.serving.paper_model import VOCABULARY, Desk

OWNER = "me"
PEERS = [OWNER, "a", "b", "c"]
POISON = VOCABULARY - 1


class SharedEngine(RuleBasedStateMachine):
    """Peers order, close and step at will; `asked` are orders without an answer."""

    @initialize(places=st.integers(1, 6))
    def begin(self, places: int) -> None:
        self.desk = Desk(sessions_max=places, context_max=90, batch_max=48, idle_s=1.0, owner=OWNER)
        self.desk.model.seconds_per_row = 0.01
        self.desk.model.poison = POISON
        self.places = places
        self.asked: set[int] = set()
        self.left_out = False

    def told(self, answers: list[Answer]) -> None:
        for kind, order, *_ in answers:
            assert kind in {SCORES, NEED, BUSY, REFUSED}
            self.asked.remove(order)

    @rule(
        peer=st.sampled_from(PEERS),
        session=st.integers(0, 7),
        length=st.sampled_from([1, 3, DECODE_MAX, 40, 80]),
        token=st.sampled_from([1, 2, 3, POISON]),
    )
    def order(self, peer: str, session: int, length: int, token: int) -> None:
        batcher = self.desk.batcher
        is_new = batcher.places.holds((peer, session)) is None
        order = self.desk.order(session, [token] * length, peer=peer)
        self.asked.add(order.id)
        answers = batcher.submit(order)
        self.told(answers)
        if is_new and order.id in {answer[1] for answer in answers}:
            held = Counter(key[0] for key in batcher.places.sessions)
            if peer == OWNER:
                assert held[OWNER] >= owners_places(self.places)
            else:
                assert held[OWNER] <= owners_places(self.places)
                assert all(
                    count <= held[peer] + 1 for other, count in held.items() if other != OWNER
                )

    @rule()
    def step(self) -> None:
        batcher = self.desk.batcher
        before = batcher._step
        sessions: list[Session] = list(batcher.places.sessions.values())
        heads = {id(s): s.orders[0].left for s in sessions if s.orders}
        waits = any(s.key[0] == OWNER and s.orders for s in sessions)
        self.told(self.desk.step())
        self.desk.check_cells()
        if batcher._step == before:
            return
        worked = [s for s in sessions if s.served == batcher._step]
        is_decode = all(heads.get(id(s), 0) <= DECODE_MAX for s in worked)
        with_owner = any(s.key[0] == OWNER for s in worked)
        if is_decode and any(
            s.key[0] == OWNER and 0 < heads.get(id(s), 0) <= DECODE_MAX for s in sessions
        ):
            assert with_owner
        left_out = waits and not with_owner
        assert not (left_out and self.left_out), "two steps in a row without the owner, who waited"
        self.left_out = left_out

    @rule(peer=st.sampled_from(PEERS), session=st.integers(0, 7))
    def close(self, peer: str, session: int) -> None:
        self.told(self.desk.batcher.close((peer, session)))

    @rule(seconds=st.sampled_from([0.01, 0.5, 3.0]))
    def wait(self, seconds: float) -> None:
        self.desk.clock.now += seconds

    @invariant()
    def everything_is_bounded(self) -> None:
        if not hasattr(self, "desk"):
            return
        batcher = self.desk.batcher
        assert batcher.waiting == len(self.asked) <= STRANGERS_MAX + 64
        assert len(batcher.places.sessions) <= self.places
        assert 0 <= batcher.places.free(self.desk.clock.now) <= self.places

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            self.told(self.desk.run())
            assert not self.asked, "every order gets one answer"


TestSharedEngine = SharedEngine.TestCase


def saturate(desk: Desk, peer: str, count: int, length: int = 3) -> None:
    for session in range(count):
        desk.batcher.submit(desk.order(session, [session + 1] * length, peer=peer))


def test_an_owner_that_comes_to_an_engine_full_of_one_strangers_sessions_is_in_the_next_step() -> (
    None
):
    desk = Desk(sessions_max=4, owner=OWNER)
    saturate(desk, "stranger", 4)
    desk.step()
    saturate(desk, "stranger", 4, length=4)
    [(kind, _, retry_ms)] = desk.batcher.submit(desk.order(0, [7, 7], peer=OWNER))
    assert kind == BUSY
    assert retry_ms > 0, "whoever gave way must not come back at once"
    own = desk.last_id
    answers: list[Answer] = []
    for _ in range(2):  # Two tokens, beside others with as many.
        answers += desk.step()
        assert desk.batcher.places.sessions[OWNER, 0].served == desk.batcher._step
    assert own in {answer[1] for answer in answers if answer[0] == SCORES}


def test_a_stranger_that_comes_gets_a_place_of_whoever_has_most_and_that_is_its_newest() -> None:
    desk = Desk(sessions_max=4, owner=OWNER)
    for session in range(4):
        desk.batcher.submit(desk.order(session, [session + 1] * 30, peer="greedy"))
        desk.clock.now += 0.01
    [(kind, order, _)] = desk.batcher.submit(desk.order(0, [9] * 3, peer="newcomer"))
    assert (kind, order) == (BUSY, 4)
    assert desk.batcher.places.holds(("newcomer", 0)) == 0


def test_one_peer_may_have_a_whole_engine_that_nobody_else_wants() -> None:
    desk = Desk(sessions_max=4, owner=OWNER)
    for session in range(4):
        assert desk.batcher.submit(desk.order(session, [1, 2], peer="stranger")) == []
    assert [kind for kind, *_ in desk.run()] == [SCORES] * 4


def test_the_owners_session_is_not_taken_while_it_waits_for_others_experts() -> None:
    desk = Desk(sessions_max=2, idle_s=1.0, owner=OWNER)
    for peer in (OWNER, "a"):
        desk.batcher.submit(desk.order(0, [1, 2], peer=peer))
    desk.run()
    desk.clock.now += 60
    assert desk.batcher.submit(desk.order(0, [1, 2], peer="b")) == []
    desk.run()
    assert desk.batcher.places.holds((OWNER, 0)) == 2
    assert desk.batcher.places.holds(("a", 0)) is None


def test_long_drafts_of_strangers_do_not_make_one_long_step_when_the_owner_is_about() -> None:
    desk = Desk(sessions_max=8, context_max=90, batch_max=512, owner=OWNER)
    # 50 tokens of prompt a second, as a model of 8 B on a laptop.
    desk.model.seconds_per_row = 0.02
    desk.batcher.submit(desk.order(0, [1] * 40, peer=OWNER))
    desk.run()
    for session in range(7):
        desk.batcher.submit(desk.order(session, [2] * DECODE_MAX, peer="stranger"))
    begun = desk.clock.now
    desk.step()
    assert desk.clock.now - begun <= 0.02 * 32


def test_a_text_that_makes_no_numbers_is_refused_and_others_in_its_step_are_answered() -> None:
    desk = Desk(sessions_max=4, owner=OWNER)
    desk.model.poison = POISON
    desk.batcher.submit(desk.order(0, [1, 2], peer="a"))
    desk.batcher.submit(desk.order(0, [1, POISON], targets=[0], peer="b"))
    desk.batcher.submit(desk.order(0, [1, 3], peer="c"))
    assert sorted((order, kind) for kind, order, *_ in desk.run()) == [
        (1, SCORES),
        (2, REFUSED),
        (3, SCORES),
    ]
    assert desk.batcher.broken == 1
    assert desk.batcher.places.holds(("b", 0)) is None, "a cache full of it is of no use"
