"""Laws of serving: every Score gets exactly one answer, strangers' work is bounded, and who is gone takes its work along."""

from __future__ import annotations

from swarmllm.core.events import CloseSession, EngineLoad, ModelCard, RunScore, Send, SessionKey
from swarmllm.core.serving import ROUNDS_MAX, ROUNDS_PER_PEER_MAX, SESSIONS_PER_PEER_MAX, Serving
from swarmllm.messages import (
    NO_CONTROL,
    REFUSED_CONTEXT,
    REFUSED_ENGINE,
    REFUSED_MODEL,
    REFUSED_SESSION,
    REFUSED_VOCABULARY,
    Busy,
    Close,
    Need,
    Open,
    PeerId,
    Refused,
    Score,
)

PEER = PeerId("a")
MODEL, VOCABULARY = b"m" * 32, b"v" * 32


def serving() -> Serving:
    found = Serving()
    found.card = ModelCard("m", MODEL, VOCABULARY, 512, 1, 100)
    found.load = EngineLoad(0, 4, 4, 50.0)
    return found


def opening(session: int = 1, model: bytes = MODEL, vocabulary: bytes = VOCABULARY) -> Open:
    return Open(session, model, vocabulary, NO_CONTROL)


def score(session: int = 1, number: int = 0, base: int = 0) -> Score:
    return Score(session, number, 0, base, bytes(8), (1,), (0,), (), 256, 0, NO_CONTROL)


def test_an_opened_session_is_run_and_answered_once() -> None:
    side = serving()
    assert side.received(PEER, opening()) == []
    [run] = side.received(PEER, score())
    assert isinstance(run, RunScore)
    assert run.key == SessionKey(PEER, 1)
    reply = Need(1, 0, 0)
    assert side.scored(run.order, reply) == [Send(PEER, reply)]
    assert side.scored(run.order, reply) == []


def test_what_does_not_fit_is_refused_with_its_reason() -> None:
    cases = [
        (opening(model=bytes(32)), score(), REFUSED_MODEL),
        (opening(vocabulary=bytes(32)), score(), REFUSED_VOCABULARY),
        (opening(), score(session=2), REFUSED_SESSION),
        (opening(), score(base=100), REFUSED_CONTEXT),
    ]
    for first, second, code in cases:
        side = serving()
        side.received(PEER, first)
        assert side.received(PEER, second) == [Send(PEER, Refused(second.session, 0, code))]


def test_without_an_engine_everything_is_refused() -> None:
    side = serving()
    side.received(PEER, opening())
    side.engine_lost()
    assert side.received(PEER, score()) == [Send(PEER, Refused(1, 0, REFUSED_ENGINE))]


def test_open_rounds_of_one_peer_are_bounded_by_busy() -> None:
    side = serving()
    side.received(PEER, opening())
    for number in range(ROUNDS_PER_PEER_MAX):
        [effect] = side.received(PEER, score(number=number))
        assert isinstance(effect, RunScore)
    [refusal] = side.received(PEER, score(number=99))
    assert isinstance(refusal, Send)
    assert isinstance(refusal.message, Busy)
    side.received(PeerId("b"), opening())
    [other] = side.received(PeerId("b"), score())
    assert isinstance(other, RunScore), "one greedy peer must not keep others out"


def test_greedy_peers_leave_places_in_the_queue_for_those_who_have_none() -> None:
    side = serving()
    peers = [PeerId(f"greedy {n}") for n in range(12)]
    for peer in peers:
        side.received(peer, opening())
    for number in range(ROUNDS_PER_PEER_MAX):
        for peer in peers:
            side.received(peer, score(number=number))
    assert side.rounds_open < ROUNDS_MAX
    side.received(PeerId("newcomer"), opening())
    [run] = side.received(PeerId("newcomer"), score())
    assert isinstance(run, RunScore)


def test_sessions_of_one_peer_are_bounded_and_the_oldest_goes() -> None:
    side = serving()
    for session in range(SESSIONS_PER_PEER_MAX):
        assert side.received(PEER, opening(session)) == []
    assert side.received(PEER, opening(10_000)) == [CloseSession(SessionKey(PEER, 0))]


def test_a_lost_peer_frees_its_sessions_and_its_answers_are_dropped() -> None:
    side = serving()
    side.received(PEER, opening())
    [run] = side.received(PEER, score())
    assert isinstance(run, RunScore)
    assert side.lost(PEER) == [CloseSession(SessionKey(PEER, 1))]
    assert side.scored(run.order, Need(1, 0, 0)) == [CloseSession(SessionKey(PEER, 1))], "the round began a new cache"
    assert side.rounds_open == 0


def test_close_frees_the_cache_once() -> None:
    side = serving()
    side.received(PEER, opening())
    assert side.received(PEER, Close(1)) == [CloseSession(SessionKey(PEER, 1))]
    assert side.received(PEER, Close(1)) == []
