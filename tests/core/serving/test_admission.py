"""Laws of serving: every Score gets exactly one answer, strangers' work is bounded, and who is gone
takes its work along."""

from __future__ import annotations

import random
from dataclasses import replace

from swarmllm.core.effects import CloseSession, Emit, RunScore, Send
from swarmllm.core.events import ServingPaused, ServingResumed
from swarmllm.core.facts import OwnExpertChanged
from swarmllm.core.inputs import (
    AskingEnded,
    ChannelOpened,
    EngineLost,
    EngineReady,
    FrameReceived,
    LendingChanged,
    OwnerOffers,
    OwnerStops,
    PeerConnected,
    Received,
    Scored,
)
from swarmllm.core.node import Node, NodeConfig
from swarmllm.core.serving.admission import (
    ROUNDS_MAX,
    ROUNDS_PER_PEER_MAX,
    SESSIONS_PER_PEER_MAX,
    SETTLE_MS,
    UNSETTLED_MAX,
    Serving,
)
from swarmllm.core.values import EngineLoad, ModelCard, SessionKey
from swarmllm.messages import (
    NO_HALT_DIGEST,
    REFUSED_CONTEXT,
    REFUSED_ENGINE,
    REFUSED_MODEL,
    REFUSED_SESSION,
    REFUSED_UNSETTLED,
    REFUSED_VOCABULARY,
    Busy,
    Close,
    ExpertMessage,
    HaltDigest,
    Halted,
    Need,
    Open,
    PeerId,
    Refused,
    Score,
)
from swarmllm.testing.sealing import MemoSealing
from tests.core.halt.support import OWNER, SWARM, frame, fresh_boot, running

PEER = PeerId("a")
MODEL, VOCABULARY = b"m" * 32, b"v" * 32


def test_a_session_outlives_its_engine_and_not_its_model() -> None:
    found, load = Serving(), EngineLoad(0, 4, 4, 50.0)
    mine = ModelCard("m", MODEL, VOCABULARY, 512, 1, 100)
    found.handle(EngineReady(mine, load), 0.0)
    found.received(PEER, opening())
    found.handle(EngineLost("it died"), 1.0)
    found.handle(EngineReady(mine, load), 2.0)
    (run,) = found.received(PEER, score())
    assert isinstance(run, RunScore)
    found.handle(EngineLost("another model takes its place"), 3.0)
    found.handle(EngineReady(replace(mine, digest=b"o" * 32), load), 4.0)
    assert found.received(PEER, score()) == [Send(PEER, Refused(1, 0, REFUSED_MODEL))]


def serving() -> Serving:
    found = Serving()
    found.card = ModelCard("m", MODEL, VOCABULARY, 512, 1, 100)
    found.load = EngineLoad(0, 4, 4, 50.0)
    return found


def opening(session: int = 1, model: bytes = MODEL, vocabulary: bytes = VOCABULARY) -> Open:
    return Open(session, model, vocabulary, NO_HALT_DIGEST)


def score(session: int = 1, number: int = 0, base: int = 0) -> Score:
    return Score(session, number, 0, base, bytes(8), (1,), (0,), (), 256, 0, NO_HALT_DIGEST)


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


def test_a_pause_refuses_at_once_what_is_under_way_and_frees_the_engine() -> None:
    side = serving()
    side.received(PEER, opening())
    [run] = side.received(PEER, score())
    assert isinstance(run, RunScore)
    told = side.handle(LendingChanged("owner"), 1.0)
    assert told == [
        Send(PEER, Refused(1, 0, REFUSED_ENGINE)),
        CloseSession(SessionKey(PEER, 1)),
        OwnExpertChanged("offer"),
        Emit(ServingPaused("owner")),
    ]
    assert side.offer == EngineLoad(0, 0, 0, 50.0)
    late = side.scored(run.order, Busy(1, 0, 0))
    assert late == [CloseSession(SessionKey(PEER, 1))], "answered already, and the cache is freed"
    assert side.rounds_open == 0
    assert side.received(PEER, score(number=1)) == [Send(PEER, Refused(1, 1, REFUSED_ENGINE))]


def test_another_reason_for_a_pause_is_told_and_refuses_nobody_twice() -> None:
    side = serving()
    side.received(PEER, opening())
    side.received(PEER, score())
    side.handle(LendingChanged("owner"), 1.0)
    told = side.handle(LendingChanged("hours"), 2.0)
    assert told == [OwnExpertChanged("offer"), Emit(ServingPaused("hours"))]


def test_after_a_pause_sessions_are_opened_anew_and_served() -> None:
    side = serving()
    side.received(PEER, opening())
    side.handle(LendingChanged("owner"), 1.0)
    side.received(PEER, opening(session=2))
    assert side.handle(LendingChanged(""), 2.0) == [
        OwnExpertChanged("offer"),
        Emit(ServingResumed()),
    ]
    assert side.handle(LendingChanged(""), 3.0) == ()
    assert side.offer == side.load
    assert side.received(PEER, score()) == [Send(PEER, Refused(1, 0, REFUSED_SESSION))]
    side.received(PEER, opening())
    [run] = side.received(PEER, score())
    assert isinstance(run, RunScore)


def test_a_pause_does_not_offer_what_the_owner_has_withdrawn() -> None:
    side = serving()
    side.handle(OwnerOffers(False), 0.0)
    side.handle(LendingChanged("owner"), 1.0)
    side.handle(LendingChanged(""), 2.0)
    assert not side.lends


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
    assert side.scored(run.order, Need(1, 0, 0)) == [CloseSession(SessionKey(PEER, 1))], (
        "the round began a new cache"
    )
    assert side.rounds_open == 0


def test_close_frees_the_cache_once() -> None:
    side = serving()
    side.received(PEER, opening())
    assert side.received(PEER, Close(1)) == [CloseSession(SessionKey(PEER, 1))]
    assert side.received(PEER, Close(1)) == []


# --- what becomes of sessions and questions at a whole node ---------------------------------------


class Expert:
    """A node with an expert and a kill switch under its own private charter, and one connected
    peer."""

    def __init__(self) -> None:
        self.machine = running(fresh_boot(), own=OWNER)
        own = PeerId("expert")
        self.node = Node(
            NodeConfig(VOCABULARY), own, 1, random.Random(1), MemoSealing().of(own), self.machine
        )
        side = serving()
        assert side.card is not None
        assert side.load is not None
        self.node.handle(EngineReady(side.card, side.load), 10.0)
        self.node.handle(PeerConnected(PEER), 10.0)

    def greeted(self) -> None:
        """A stranger without a charter of this swarm greets: any swarm will do, as long as neither
        holds an order."""
        self.node.handle(ChannelOpened(PEER), 10.0)
        self.node.handle(FrameReceived(PEER, frame(HaltDigest(SWARM, 1, NO_HALT_DIGEST))), 10.0)

    def answers(self, message: ExpertMessage) -> list[object]:
        effects = self.node.handle(Received(PEER, message, 9), 10.0)
        return [e.message for e in effects if isinstance(e, Send)] or [
            e for e in effects if isinstance(e, RunScore)
        ]


def test_who_never_greeted_is_told_to_wait_and_then_what_is_missing_and_is_served_once_it_has() -> (
    None
):
    expert = Expert()
    expert.answers(opening())
    for number in range(UNSETTLED_MAX):
        assert expert.answers(score(number=number)) == [Busy(1, number, SETTLE_MS)]
    assert expert.answers(score(number=99)) == [Refused(1, 99, REFUSED_UNSETTLED)]
    expert.greeted()
    [run] = expert.answers(score(number=100))
    assert isinstance(run, RunScore)


def test_who_was_served_before_is_only_told_to_wait() -> None:
    expert = Expert()
    expert.greeted()
    expert.answers(opening())
    assert isinstance(expert.answers(score())[0], RunScore)
    for number in range(3 * UNSETTLED_MAX):
        assert expert.answers(replace(score(number=number), ctl_digest=b"other 8.")) == [
            Busy(1, number, SETTLE_MS)
        ]


def test_a_stopped_node_answers_every_score_with_halted() -> None:  # EXPERT-6
    expert = Expert()
    expert.greeted()
    expert.answers(opening())
    expert.node.handle(OwnerStops(), 10.0)
    for number in range(3):
        assert expert.answers(score(number=number)) == [Halted(expert.machine.digest)]


def test_the_end_of_the_asking_stream_ends_its_sessions_and_drops_what_was_not_answered_yet() -> (
    None
):
    expert = Expert()
    expert.greeted()
    expert.answers(opening())
    [run] = expert.answers(score())
    assert isinstance(run, RunScore)
    assert CloseSession(SessionKey(PEER, 1)) in expert.node.handle(AskingEnded(PEER), 10.0)
    effects = expert.node.handle(Scored(run.order, Need(1, 0, 0)), 10.0)
    assert not [e for e in effects if isinstance(e, Send)], (
        "nobody on the new stream has asked for this"
    )
    assert expert.answers(score(number=1)) == [Refused(1, 1, REFUSED_SESSION)]
    assert PEER in expert.node.view(10.0).peers
