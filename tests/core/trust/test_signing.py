"""An expert signs what it has answered: once, and only what it was asked in that session."""

from __future__ import annotations

from swarmllm.core.effects import Send
from swarmllm.core.facts import PeerGone, SessionAnswered, TokensForbidden
from swarmllm.core.inputs import AskingEnded, Input, Received
from swarmllm.core.serving.admission import SESSIONS_PER_PEER_MAX
from swarmllm.core.trust.signing import SessionSigning
from swarmllm.core.trust.transcript import Chain, begin
from swarmllm.messages import (
    Close,
    Open,
    PeerId,
    Score,
    Scores,
    SessionRecord,
    SessionSigned,
    SignSession,
)
from swarmllm.wire.codec import decode, encode

PEER, OTHER = PeerId("one"), PeerId("other")
DIGEST = bytes(range(32))


class Bench:
    def __init__(self) -> None:
        self.part = SessionSigning(encode)

    def hears(self, event: Input | SessionAnswered | PeerGone | TokensForbidden) -> None:
        assert self.part.handle(event, 0.0) == ()

    def opens(self, session: int = 3, peer: PeerId = PEER) -> None:
        self.hears(Received(peer, Open(session, DIGEST, DIGEST, bytes(8)), 88))

    def answers(self, session: int = 3, peer: PeerId = PEER) -> tuple[Score, Scores]:
        score = Score(session, 1, 0, 0, bytes(8), (1, 2), (1,), (), 8, 0, bytes(8))
        scores = Scores(session, 1, 0, (b"list",), b"", 5, 6, bytes(8))
        self.hears(SessionAnswered(peer, score, scores))
        return score, scores

    def signs(self, session: int = 3, peer: PeerId = PEER) -> SessionRecord | None:
        (told,) = self.part.handle(Received(peer, SignSession(session), 9), 0.0)
        assert isinstance(told, Send)
        assert isinstance(told.message, SessionSigned)
        assert (told.peer, told.message.session) == (peer, session)
        sealed = told.message.sealed
        return decode(sealed, (SessionRecord,)) if sealed else None


def test_the_record_is_of_all_that_was_answered() -> None:  # EXPERT-17
    bench, chain = Bench(), Chain(DIGEST, begin(3, DIGEST))
    bench.opens()
    for _ in range(4):
        chain.add(*bench.answers())
    assert bench.signs() == SessionRecord(3, DIGEST, 4, chain.link)


def test_a_session_is_signed_once_and_not_continued() -> None:
    bench = Bench()
    bench.opens()
    bench.answers()
    assert bench.signs() is not None
    assert bench.signs() is None
    bench.answers()
    assert bench.signs() is None


def test_what_was_never_opened_or_answered_is_not_signed() -> None:
    bench = Bench()
    assert bench.signs() is None
    bench.opens()
    assert bench.signs() is None
    bench.opens()
    bench.answers()
    assert bench.signs(peer=OTHER) is None
    assert bench.signs(session=4) is None
    assert bench.signs() is not None


def test_an_end_of_any_kind_forgets_the_session() -> None:
    for end in (
        Received(PEER, Close(3), 5),
        PeerGone(PEER, "gone"),
        AskingEnded(PEER),
        TokensForbidden(("stop",), by_order=True),
    ):
        bench = Bench()
        bench.opens()
        bench.answers()
        bench.hears(end)
        assert bench.signs() is None


def test_one_peer_has_a_bounded_number_and_the_oldest_goes() -> None:
    bench = Bench()
    bench.opens(0, OTHER)
    bench.answers(0, OTHER)
    for session in range(SESSIONS_PER_PEER_MAX + 1):
        bench.opens(session)
        bench.answers(session)
    assert bench.signs(0) is None
    assert bench.signs(1) is not None
    assert bench.signs(0, OTHER) is not None
