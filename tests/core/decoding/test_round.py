"""Laws of one round and of the sessions at its experts, without a node around them: who is asked
for what, what an answer completes, and how long nobody is waited for.

Nothing here draws a token, so a round may ask about several positions at once."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.decoding.ensemble import Ensemble
from swarmllm.core.decoding.members import Ask, Members
from swarmllm.core.decoding.patience import ROUND_MAX_S, RoundClock
from swarmllm.core.decoding.round import Experts, Reply, Round
from swarmllm.core.decoding.standing import Standing
from swarmllm.core.decoding.text import Text
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.peers.router import PREFILL_TOKENS, Candidate
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import FIRST_WAIT
from swarmllm.core.values import ALL, GenerateRequest, Only
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    NO_HALT_DIGEST,
    TOKENS_MAX,
    CapacityRecord,
    Open,
    PeerId,
    Score,
    Scores,
)
from swarmllm.wire.sparse import SparseList
from swarmllm.wire.sparse_encoding import encode_logits
from tests.core.trust.trusting import Trusting

PROMPT = tuple(range(20))


class FlatPool(Trusting):
    """Everybody is as quick and as good as everybody else, and nobody rests."""

    def __init__(self, peers: Sequence[PeerId], now: float = 0.0) -> None:
        super().__init__()
        self.peers, self.now, self.digest = peers, now, NO_HALT_DIGEST
        self.late: list[PeerId] = []
        self.caught_up: list[int] = []

    def at(self, now: float) -> ExpertPool:
        self.now = now
        return cast(ExpertPool, self)

    def candidates(
        self, missing: Mapping[PeerId, int], tokens: int, only: Only = ALL
    ) -> list[Candidate]:
        return [
            Candidate(p, record_of(p), missing.get(p, tokens), p in missing) for p in self.peers
        ]

    def pick(self, count: int, candidates: Sequence[Candidate]) -> list[PeerId]:
        return [c.peer for c in candidates][:count]

    def suspect(self, candidates: Sequence[Candidate]) -> list[PeerId]:
        return []

    def prior(self, peer: PeerId, record: CapacityRecord, domain: str) -> float:
        return 1.0

    def patience_s(self, candidate: Candidate) -> float:
        return 1.0

    def catch_up_s(self, candidate: Candidate) -> float:
        return 0.0

    def is_local(self, peer: PeerId) -> bool:
        return False

    def hopes(self, tokens: int, only: Only = ALL) -> bool:
        return False

    def missed(self, peer: PeerId) -> None:
        self.late.append(peer)

    def replied(self, peer: PeerId, seconds: float, tokens: int) -> None:
        self.caught_up.append(tokens)


def record_of(peer: PeerId) -> CapacityRecord:
    digest = peer.encode().ljust(32, b"\0")
    return CapacityRecord(
        1, 1, peer, digest, bytes(32), 1, 131_072, 160, 0, 4, 4, (), (), NO_HALT_DIGEST
    )


def experts_for(order: GenerateRequest) -> Experts:
    settings = Settings()
    ensemble = Ensemble(order, random.Random(0), settings)
    members = Members(1, Text(order.prompt), ensemble.gate.positions, settings)
    return Experts(members, ensemble, Standing(), settings)


def scores_of(steps: Sequence[Ask]) -> dict[PeerId, Score]:
    return {step.peer: step.message for step in steps if isinstance(step.message, Score)}


def reply(count: int) -> Reply:
    certain = SparseList(np.array([1], np.int32), np.zeros(1, np.float32), 0.0)
    return Reply((certain,) * count, 10, 0.1)


@pytest.mark.parametrize("drafted", [0, 1, 7])
def test_a_round_asks_about_all_its_positions_at_once(drafted: int) -> None:
    order = GenerateRequest(PROMPT, k=2, extra=0, vocab_size=512)
    peers = [PeerId("a"), PeerId("b")]
    length = len(PROMPT) - drafted
    current = Round(1, range(length - 1, len(PROMPT)), order, experts_for(order), 0.0)
    steps = current.begin(FlatPool(peers).at(0.0))
    assert [type(s.message) for s in steps] == [Open, Score] * 2
    scores = scores_of(steps)
    assert list(scores) == peers
    for score in scores.values():
        assert score.tokens == PROMPT
        assert score.answer == tuple(range(length - 1, len(PROMPT)))


@given(st.integers(1, 3 * TOKENS_MAX), st.integers(0, 60), st.integers(0, 3 * TOKENS_MAX))
def test_whoever_lacks_much_is_sent_it_in_pieces_and_only_the_last_one_asks(
    length: int, drafted: int, have: int
) -> None:
    text = Text([1] * (length + drafted))
    members = Members(1, text, [], Settings())
    peer, positions = PeerId("a"), range(length - 1, length + drafted)
    pool, have = FlatPool([peer]).at(0.0), min(have, length - 1)
    members.ask(peer, record_of(peer), 0, range(max(have, 1) - 1, max(have, 1)), pool)
    member = dict(members)[peer]
    member.question, member.have = None, have
    for _ in range(9):
        (score,) = scores_of(members.ask(peer, record_of(peer), 0, positions, pool)).values()
        assert score.base == have
        assert 1 <= len(score.tokens) <= TOKENS_MAX
        assert score.context_hash == text.digest(have)
        have += len(score.tokens)
        members.answered(peer)
        if score.answer:
            break
    assert [have - len(score.tokens) + i for i in score.answer] == list(positions)
    assert have == length + drafted


@given(st.integers(1, 4), st.integers(0, 3), st.permutations(range(6)))
def test_a_round_is_complete_once_and_not_before_anybody_has_answered(
    k: int, extra: int, order_of_answers: list[int]
) -> None:
    order = GenerateRequest(PROMPT, k=k, extra=extra, vocab_size=512)
    peers = [PeerId(f"p{i}") for i in range(6)]
    current = Round(1, range(19, 20), order, experts_for(order), 0.0)
    pool = FlatPool(peers)
    asked = [s.peer for s in current.begin(pool.at(0.0)) if isinstance(s.message, Score)]
    assert len(asked) == min(6, k + extra)
    for count, place in enumerate(p for p in order_of_answers if peers[p] in asked):
        assert current.is_complete == (count >= min(k, len(asked)))
        current.answered(pool.at(0.1 * count), peers[place], reply(1))
    assert current.is_complete
    assert current.poll.waiting == []


def test_who_drops_out_is_replaced_and_may_be_asked_again() -> None:
    order = GenerateRequest(PROMPT, k=2, extra=0, vocab_size=512)
    a, b, c = (PeerId(name) for name in "abc")
    experts = experts_for(order)
    current, pool = Round(1, range(19, 20), order, experts, 0.0), FlatPool([a, b, c])
    assert set(scores_of(current.begin(pool.at(0.0)))) == {a, b}
    experts.members.refused(a)
    current.poll.drop_out(a)
    pool.peers = [b, c]  # It rests.
    assert set(scores_of(current.refill(pool.at(0.1)))) == {c}
    assert current.refill(pool.at(0.2)) == []
    experts.members.refused(b)
    current.poll.drop_out(b)
    pool.peers = [a, b]
    assert set(scores_of(current.refill(pool.at(0.3)))) == {a}


def test_who_is_late_is_noted_down_once_a_round() -> None:
    order = GenerateRequest(PROMPT, k=2, extra=0, vocab_size=512)
    a, b = PeerId("a"), PeerId("b")
    current, pool = Round(1, range(19, 20), order, experts_for(order), 0.0), FlatPool([a, b])
    current.begin(pool.at(0.0))
    assert not current.is_overdue(0.9)
    assert current.is_overdue(1.0)
    current.miss(pool.at(1.0))
    current.miss(pool.at(1.1))
    assert pool.late == [a, b]


def test_an_answer_with_more_or_fewer_lists_than_positions_is_a_breach() -> None:
    order = GenerateRequest(PROMPT, k=1, extra=0, vocab_size=512)
    experts, a = experts_for(order), PeerId("a")
    current = Round(1, range(17, 20), order, experts, 0.0)
    current.begin(FlatPool([a]).at(0.0))
    for count in (0, 1, 2, 4):
        reply = Scores(1, 1, 0, (b"",) * count, b"", 0, 0, NO_HALT_DIGEST)
        with pytest.raises(RemoteError, match=f"{count} lists where 3 were asked for"):
            experts.take(FlatPool([a]).at(0.0), a, reply, 512)
    assert experts.members.question_of(a) is not None


@pytest.mark.parametrize(("drafted", "said"), [(0, 20), (30, PREFILL_TOKENS - 1)])
def test_the_verification_of_a_long_draft_does_not_count_as_catching_up(
    drafted: int, said: int
) -> None:
    """A list for each token takes longer than a prompt, which would be believed to take as long."""
    order = GenerateRequest(PROMPT, k=1, extra=0, vocab_size=512)
    experts, a = experts_for(order), PeerId("a")
    experts.members.text.guess(*range(drafted))
    current = Round(1, range(19, 20 + drafted), order, experts, 0.0)
    pool = FlatPool([a])
    current.begin(pool.at(0.0))
    question = experts.members.question_of(a)
    assert question is not None
    one = encode_logits(np.arange(512, dtype=np.float32), 8, 0)
    evidence = bytes(2 * len(question.evidence))
    found = Scores(1, 1, 0, (one,) * (drafted + 1), evidence, 0, 0, NO_HALT_DIGEST)
    experts.take(pool.at(0.1), a, found, 512)
    assert pool.caught_up == [said]


# --- the clock -----------------------------------------------------------------------------------

MOVES = st.one_of(
    st.tuples(st.just("waits_for"), st.floats(0, 100)),
    st.tuples(st.just("answers_missing"), st.floats(0, 100)),
    st.tuples(st.just("enough_answered"), st.just(0.0)),
    st.tuples(st.just("evidence_awaited"), st.just(0.0)),
    st.tuples(st.just("extend"), st.just(0.0)),
)


@given(st.lists(st.tuples(st.floats(0, 30), MOVES), max_size=12))
def test_no_deadline_lies_beyond_the_end_of_a_round(
    moves: list[tuple[float, tuple[str, float]]],
) -> None:
    clock, peer = RoundClock(5.0, Settings()), PeerId("a")
    now = 5.0
    for wait_s, (what, seconds) in moves:
        now, before = now + wait_s, clock.deadline_at
        if what == "waits_for":
            clock.waits_for(peer, seconds, now)
        elif what == "extend":
            clock.extend(now)
        else:
            if what == "answers_missing":
                clock.answers_missing(seconds, now)
            elif what == "enough_answered":
                clock.enough_answered(now)
            else:
                clock.evidence_awaited([], now)
                assert clock.deadline_at <= now + FIRST_WAIT.usual
            assert clock.deadline_at <= before  # An answer never makes a round longer.
        assert clock.deadline_at <= max(before, 5.0 + ROUND_MAX_S)
