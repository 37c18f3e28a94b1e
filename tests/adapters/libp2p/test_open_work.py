"""What is open on a link: a session moves when nothing of it is under way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.libp2p.open_work import SESSIONS_MAX, OpenWork
from swarmllm.messages import Busy, Close, Open, Score

NEVER = bytes(8)


def opened(session: int) -> Open:
    return Open(session, bytes(32), bytes(32), NEVER)


def score(session: int, number: int = 0) -> Score:
    return Score(session, number, 0, 0, NEVER, (1,), (0,), (), 16, 0, NEVER)


def test_an_opening_is_under_way_until_the_first_answer_and_each_question_until_its_own() -> None:
    work = OpenWork(0.0)
    work.sent(opened(1), 1.0)
    assert work.asks(1)
    work.sent(score(1), 1.0)
    work.sent(score(1, 1), 2.0)
    work.received(Busy(1, 0, 0), 3.0)
    assert work.asks(1)
    work.received(Busy(1, 1, 0), 4.0)
    assert not work.asks(1)
    assert not work.is_open
    assert work.last_at == 4.0


def test_what_the_peer_asks_is_owed_until_it_is_answered_or_given_up() -> None:
    work = OpenWork(0.0)
    work.received(score(7), 1.0)
    assert work.owes(7)
    assert not work.asks(7)  # Sessions of ours have numbers of their own.
    work.sent(Busy(7, 0, 0), 2.0)
    assert not work.owes(7)
    work.received(score(7, 1), 3.0)
    work.received(Close(7), 4.0)
    assert not work.is_open


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
def test_a_session_is_open_exactly_while_more_was_asked_than_answered(
    steps: list[tuple[int, bool]],
) -> None:
    work, waits = OpenWork(0.0), dict.fromkeys(range(4), 0)
    for session, asks in steps:
        if asks:
            work.sent(score(session), 0.0)
            waits[session] += 1
        elif waits[session]:
            work.received(Busy(session, 0, 0), 0.0)
            waits[session] -= 1
        assert [work.asks(one) for one in waits] == [count > 0 for count in waits.values()]


def test_a_peer_that_opens_sessions_for_ever_costs_no_more_than_so_many() -> None:
    work = OpenWork(0.0)
    for session in range(3 * SESSIONS_MAX):
        work.received(opened(session), 0.0)
    assert len(work._owed) == SESSIONS_MAX
