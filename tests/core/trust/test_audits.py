"""The machine of audits, step by step: when it asks, whom, and what it does where nothing comes
back."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from swarmllm.core.effects import AppendToLedger, RunScore, Save, Send
from swarmllm.core.facts import (
    AnswerEnded,
    ExpertReplied,
    ExpertTold,
    Fact,
    PeerGone,
    TokensForbidden,
)
from swarmllm.core.inputs import (
    Asked,
    ContradictionProved,
    Input,
    ReceiptOffered,
    Received,
    Scored,
    TimerFired,
)
from swarmllm.core.trust.audits import FIRST_SESSION, REPLY_S, Audits, Surroundings
from swarmllm.core.trust.case import Verdict
from swarmllm.core.trust.findings import ACCOUNTS, SAVE_EVERY_S
from swarmllm.core.trust.keeping import RECORDS
from swarmllm.core.trust.purse import FIRST, LISTS_FIRST, LISTS_SHARE
from swarmllm.core.trust.receipt import Signed
from swarmllm.core.trust.reputation import DAY_S
from swarmllm.core.trust.sessions import SIGN_S
from swarmllm.core.trust.track_record import NOTHING, TrackRecord, TrackRecords
from swarmllm.core.trust.transcript import Chain, Replay, Said, begin
from swarmllm.core.trust.waiting import REST_S, WAIT_S
from swarmllm.core.values import GenerateRequest
from swarmllm.messages import (
    Busy,
    CapacityRecord,
    Close,
    Open,
    PeerId,
    Score,
    Scores,
    SessionRecord,
    SessionSigned,
    SignSession,
)
from swarmllm.testing.sealing import MemoSessions
from swarmllm.wire.ext import SIGNS_SESSIONS, addition
from swarmllm.wire.sparse import SparseList, decode_list
from tests.core.trust.test_transcript import DIGEST, WORDS, listed

OWN, EXPERT, SECOND, THIRD = map(PeerId, ("own", "expert", "second", "third"))
VOCAB = bytes(32)


def record_of(ext: bytes) -> CapacityRecord:
    return CapacityRecord(
        *(1, 1, "m", DIGEST, VOCAB, 1, 4096, 16, 0, 4, 4, (), (), bytes(8)),
        ext,
    )


SIGNS = record_of(addition(SIGNS_SESSIONS, b""))


@dataclass
class Bench:
    """One requester's audits; `model` is what an expert's lists are of."""

    holders: dict[PeerId, CapacityRecord] = field(
        default_factory=lambda: dict.fromkeys((EXPERT, SECOND, THIRD), SIGNS)
    )
    now: float = 100.0
    seed: int = 1
    sessions: MemoSessions = field(default_factory=MemoSessions)
    chains: dict[int, Chain] = field(default_factory=dict)

    def __post_init__(self) -> None:
        around = Surroundings(
            OWN, lambda _: sorted(self.holders.items()), lambda: bytes(8), lambda _, __: True
        )
        trust = self.sessions.trust(OWN, random.Random(self.seed), 1e9)
        self.reputation = trust.reputation
        self.records = TrackRecords()
        self.part = Audits(trust, around, self.records)

    def hears(self, event: Input | Fact) -> list[Any]:
        return [one for one in self.part.handle(event, self.now) if not isinstance(one, Save)]

    def tick(self, seconds: float) -> list[Any]:
        self.now += seconds
        return self.hears(TimerFired())

    def opens(self, session: int = 7) -> None:
        opened = Open(session, DIGEST, VOCAB, bytes(8))
        assert self.hears(ExpertTold(EXPERT, opened)) == []
        self.chains[session] = Chain(DIGEST, begin(session, DIGEST))

    def round(self, base: int, model: int = 1, session: int = 7) -> None:
        score = Score(session, base, 0, base, bytes(8), (base,), (0,), (), WORDS, 0, bytes(8))
        lists = (listed(1000 * model + base + 1),)
        scores = Scores(session, base, 0, lists, b"", 5, 6, bytes(8))
        assert self.hears(ExpertTold(EXPERT, score)) == []
        assert self.hears(ExpertReplied(EXPERT, scores)) == []
        self.chains[session].add(score, scores)

    def answers(self, model: int = 1, rounds: int = 12) -> list[Any]:
        """A whole session; what the machine does at its end."""
        self.opens()
        for base in range(rounds):
            self.round(base, model)
        return self.hears(ExpertTold(EXPERT, Close(7)))

    def signs(self) -> list[Any]:
        chain = self.chains[7]
        record = SessionRecord(7, DIGEST, chain.rounds, chain.link)
        sealed = self.sessions.seal(EXPERT, record)
        return self.hears(Received(EXPERT, SessionSigned(7, sealed), 200))

    def asked(self, told: list[Any]) -> tuple[PeerId, Score]:
        """Who is asked to look, and what."""
        match told:
            case [*_, Send(peer=peer, message=Open()), Send(message=Score() as score)]:
                return peer, score
            case [*_, RunScore(request=score)]:
                return OWN, score
            case _:
                raise AssertionError(told)

    def looks(self, by: PeerId, score: Score, model: int = 1) -> list[Any]:
        lists = tuple(listed(1000 * model + index + 1) for index in score.answer)
        scores = Scores(score.session, score.round, 0, lists, b"", 1, 1, bytes(8))
        return self.hears(ExpertReplied(by, scores))

    def confirm(self) -> None:
        """What the expert has said in an answer was looked at."""
        self.records.put(EXPERT, DIGEST, NOTHING.after_confirmed())

    @property
    def verdicts(self) -> list[Verdict]:
        return [one.verdict for one in self.part.view(self.now).audits]


def test_nothing_is_drawn_before_the_expert_has_signed() -> None:  # EXPERT-19
    bench = Bench()
    assert bench.answers() == [Send(EXPERT, SignSession(7))]
    by, score = bench.asked(bench.signs())
    assert by in {SECOND, THIRD}
    assert len(score.answer) == 10
    assert score.tokens == tuple(range(score.answer[-1] + 1))
    assert score.session >= FIRST_SESSION
    assert bench.looks(by, score) == [Send(by, Close(score.session))]
    assert bench.verdicts == [Verdict.AGREED]
    assert bench.part.view(bench.now).audits[0].is_signed


def test_an_expert_that_never_signs_is_audited_after_a_while() -> None:
    bench = Bench()
    bench.answers()
    assert bench.tick(SIGN_S - 0.1) == []
    by, score = bench.asked(bench.tick(0.2))
    bench.looks(by, score)
    assert bench.verdicts == [Verdict.AGREED]
    assert bench.reputation.of(EXPERT, DIGEST, 1e9 + bench.now).unsigned > 0.9


@pytest.mark.parametrize("when", ["in the middle", "asked to sign"])
def test_who_hangs_up_is_audited_all_the_same(when: str) -> None:
    """Only what is drawn is to be signed; who could leave then would never be looked at."""
    bench = Bench()
    if when == "asked to sign":
        assert bench.answers(model=2) == [Send(EXPERT, SignSession(7))]
    else:
        bench.opens()
        for base in range(12):
            bench.round(base, model=2)
    del bench.holders[EXPERT]
    by, score = bench.asked(bench.hears(PeerGone(EXPERT, "gone")))
    other, again = bench.asked(bench.looks(by, score))
    bench.looks(other, again)
    assert bench.verdicts == [Verdict.DIFFERED]
    assert bench.part.trust(EXPERT, DIGEST, bench.now) == 0
    unsigned = bench.reputation.of(EXPERT, DIGEST, 1e9 + bench.now).unsigned
    assert (unsigned > 0) == (when == "asked to sign")


def test_who_hangs_up_before_it_has_said_anything_is_looked_at_in_nothing() -> None:
    bench = Bench()
    bench.opens()
    assert bench.hears(PeerGone(EXPERT, "gone")) == []
    assert bench.part.next_deadline() > bench.now + 1


def test_one_whose_record_does_not_say_that_it_signs_is_not_asked_to() -> None:  # EXPERT-17
    bench = Bench()
    bench.holders[EXPERT] = record_of(b"")
    by, score = bench.asked(bench.answers())
    bench.looks(by, score)
    assert bench.verdicts == [Verdict.AGREED]


def test_a_third_is_asked_where_two_differ_and_its_word_excludes() -> None:
    bench = Bench()
    bench.answers(model=2)
    by, score = bench.asked(bench.signs())
    other, again = bench.asked(bench.looks(by, score))
    assert {by, other} == {SECOND, THIRD}
    assert again.tokens == score.tokens
    assert again.answer == score.answer
    told = bench.looks(other, again)
    assert any(isinstance(one, AppendToLedger) for one in told)
    assert bench.verdicts == [Verdict.DIFFERED]
    assert bench.part.trust(EXPERT, DIGEST, bench.now) == 0
    assert bench.part.trust(by, DIGEST, bench.now) > 0


def test_two_newcomers_that_take_the_model_of_a_known_expert_do_not_exclude_it() -> None:
    """The identities cost nothing, and run no model."""
    bench = Bench()
    bench.now += 2 * DAY_S
    bench.reputation.met(EXPERT, DIGEST, 1e9 + 100)
    bench.answers(model=1)
    told = bench.signs()
    for _ in range(2):
        by, score = bench.asked(told)
        assert by in {SECOND, THIRD}
        told = bench.looks(by, score, model=2)
    assert bench.asked(told)[0] == EXPERT
    bench.looks(EXPERT, bench.asked(told)[1], model=1)
    assert bench.verdicts == [Verdict.DISPUTED]
    assert bench.part.trust(EXPERT, DIGEST, bench.now) > 0


def test_those_are_asked_first_whose_word_counts() -> None:
    for seed in range(5):
        bench = Bench(seed=seed)
        bench.now += 2 * DAY_S
        bench.reputation.met(EXPERT, DIGEST, 1e9 + 100)
        bench.reputation.met(THIRD, DIGEST, 1e9 + 100)
        bench.answers()
        assert bench.asked(bench.signs())[0] == THIRD


def test_without_a_third_both_are_in_dispute() -> None:
    bench = Bench()
    del bench.holders[THIRD]
    bench.answers(model=2)
    by, score = bench.asked(bench.signs())
    again, score = bench.asked(bench.looks(by, score))
    assert (by, again) == (SECOND, EXPERT)
    bench.looks(EXPERT, score, model=2)
    assert bench.verdicts == [Verdict.DISPUTED]
    for peer in (EXPERT, SECOND):
        assert bench.part.standing(peer, DIGEST, bench.now).word == "in dispute"
        assert bench.part.trust(peer, DIGEST, bench.now) > 0


def test_who_alone_has_its_model_is_asked_again_and_excluded_if_it_says_something_else() -> None:
    bench = Bench(holders={EXPERT: SIGNS})
    bench.answers(model=2)
    by, score = bench.asked(bench.signs())
    assert by == EXPERT
    assert any(isinstance(one, AppendToLedger) for one in bench.looks(by, score, model=1))
    assert bench.verdicts == [Verdict.DIFFERED]
    assert bench.part.trust(EXPERT, DIGEST, bench.now) == 0
    assert "asked again" in bench.part.standing(EXPERT, DIGEST, bench.now).why


@pytest.mark.parametrize(
    ("record", "counts"),
    [
        (TrackRecord(), 0),  # Nothing is known of it, ...
        (TrackRecord(hidden=8, merit=-7.0, overclaim=7.0), 0),  # ... it makes up what it says, ...
        (TrackRecord(hidden=8, merit=0.5), 1),
    ],
)
def test_only_who_was_tried_itself_makes_another_known(record: TrackRecord, counts: int) -> None:
    """Identities that share an invented model agree with each other whatever they say."""
    bench = Bench(holders=dict.fromkeys((EXPERT, SECOND), SIGNS))
    bench.records.put(SECOND, DIGEST, record)
    bench.answers()
    by, score = bench.asked(bench.signs())
    bench.looks(by, score)
    assert (by, bench.verdicts) == (SECOND, [Verdict.AGREED])
    assert bench.records.of(EXPERT, DIGEST).results == counts


def test_to_say_the_same_again_is_no_valid_audit_and_makes_the_next_one_less_likely() -> None:
    bench = Bench(holders={EXPERT: SIGNS})
    for number in range(3):
        bench.reputation.disputed(EXPERT, DIGEST, 1e9)  # So the session is audited.
        bench.answers()
        by, score = bench.asked(bench.signs())
        bench.looks(by, score)
        assert bench.verdicts == [Verdict.REPEATED] * (number + 1)
        assert bench.records.of(EXPERT, DIGEST).is_confirmed
    account = bench.reputation.of(EXPERT, DIGEST, 1e9 + bench.now)
    assert (account.valid, account.row) == (0, 1)
    assert bench.records.of(EXPERT, DIGEST).results == 0


def test_an_expert_is_not_asked_again_about_a_prompt_alone() -> None:
    """For prompts it may be honest, and is tried by hidden tokens."""
    bench = Bench(holders={EXPERT: SIGNS})
    for _ in range(100):
        if bench.answers(rounds=1):
            assert bench.signs() == []
    assert bench.verdicts == []


def test_of_those_that_were_asked_about_a_prompt_alone_few_are_audited() -> None:
    bench = Bench()
    audits = 0
    for _ in range(400):
        if bench.answers(rounds=1):
            by, score = bench.asked(bench.signs())
            bench.looks(by, score)
            audits += 1
    assert 5 <= audits <= 50
    assert bench.verdicts == [Verdict.AGREED] * audits
    account = bench.reputation.of(EXPERT, DIGEST, 1e9 + bench.now)
    assert account.row == 0, "the next answer that it has a part in is audited"
    assert not bench.records.of(EXPERT, DIGEST).is_confirmed


def test_what_is_looked_at_is_in_the_answer_and_of_the_prompt_only_where_there_is_no_more() -> None:
    bench = Bench()
    bench.answers(rounds=30)
    _, score = bench.asked(bench.signs())
    assert 0 not in score.answer, "the end of the prompt"
    short = Bench()
    short.answers(rounds=4)
    _, score = short.asked(short.signs())
    assert score.answer == (0, 1, 2, 3)


def test_of_whom_nothing_was_looked_at_yet_an_audit_begins_at_once() -> None:
    bench = Bench()
    bench.hears(Asked(3, GenerateRequest((1,))))
    bench.answers()
    by, score = bench.asked(bench.signs())
    bench.looks(by, score)
    bench.answers()
    assert bench.signs() == [], "now it waits until no answer is written"


def test_our_own_engine_comes_first_and_is_believed_alone() -> None:
    bench = Bench()
    bench.holders[OWN] = SIGNS
    bench.answers(model=2)
    (run,) = bench.signs()
    assert isinstance(run, RunScore)
    lists = tuple(listed(1000 + index + 1) for index in run.request.answer)
    scores = Scores(run.request.session, 0, 0, lists, b"", 1, 1, bytes(8))
    bench.hears(Scored(run.order, scores))
    assert bench.verdicts == [Verdict.DIFFERED]
    assert bench.part.trust(EXPERT, DIGEST, bench.now) == 0


@pytest.mark.parametrize("how", ["busy", "silent", "gone"])
def test_a_holder_that_does_not_answer_is_replaced_and_a_case_ends(how: str) -> None:
    bench = Bench()
    bench.answers()
    told = bench.signs()
    seen: list[PeerId] = []
    for _ in range(3):
        by, score = bench.asked(told)
        seen.append(by)
        match how:
            case "busy":
                told = bench.hears(ExpertReplied(by, Busy(score.session, 0, 50)))
            case "silent":
                told = bench.tick(REPLY_S + 0.1)
            case _:
                told = bench.hears(PeerGone(by, "gone"))
    assert seen[2] == EXPERT, "who said it is asked when nobody else is left"
    assert set(seen) == {EXPERT, SECOND, THIRD}
    assert bench.verdicts == []
    assert bench.part.next_deadline() > bench.now


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_a_holder_that_stalls_audits_is_not_asked_again_for_an_hour(how: str) -> None:
    bench = Bench()

    def asked(session: int) -> PeerId:
        bench.opens(session)
        for base in range(12):
            bench.round(base, session=session)
        bench.hears(ExpertTold(EXPERT, Close(session)))
        return bench.asked(bench.tick(SIGN_S + 0.1))[0]

    stalling = asked(7)
    told = bench.tick(REPLY_S + 0.1) if how == "silent" else bench.hears(PeerGone(stalling, "gone"))
    other, score = bench.asked(told)
    assert {stalling, other} == {SECOND, THIRD}
    bench.looks(other, score)
    del bench.holders[other]
    bench.now += REST_S / 2
    assert asked(8) == EXPERT
    bench.tick(REPLY_S + 0.1)
    bench.now += REST_S
    assert asked(9) == stalling


def test_no_audit_begins_while_an_answer_is_written_unless_it_waits_for_too_long() -> None:
    bench = Bench()
    bench.confirm()
    bench.hears(Asked(3, GenerateRequest((1,))))
    bench.answers()
    assert bench.signs() == []
    assert bench.part.next_deadline() <= bench.now + WAIT_S
    bench.asked(bench.hears(AnswerEnded(True, 1, 0, 3)))
    busy = Bench()
    busy.confirm()
    busy.hears(Asked(3, GenerateRequest((1,))))
    busy.answers()
    assert busy.signs() == []
    busy.asked(busy.tick(WAIT_S + 0.1))


def test_audits_cost_no_more_than_their_share() -> None:
    bench, lists = Bench(), 0
    for number in range(2000):
        bench.reputation.disputed(EXPERT, DIGEST, 1e9)  # So all sessions are audited.
        lists += 12
        bench.answers()
        told = bench.signs()
        if told:
            by, score = bench.asked(told)
            bench.looks(by, score)
        view = bench.part.view(bench.now)
        assert view.spent <= FIRST + 0.1 * view.earned, number
        looked_at = sum(one.positions for one in view.audits)
        assert looked_at <= LISTS_FIRST + LISTS_SHARE * lists, number
    assert looked_at > LISTS_FIRST


def test_nobody_signs_for_an_audit_that_cannot_be_paid() -> None:
    bench, signed = Bench(), 0
    while True:
        bench.reputation.disputed(EXPERT, DIGEST, 1e9)  # So all sessions are audited.
        if not bench.answers():
            break
        bench.looks(*bench.asked(bench.signs()))
        signed += 1
    assert signed >= 10
    assert len(bench.verdicts) == signed


def test_a_halt_ends_everything() -> None:
    bench = Bench()
    bench.answers()
    by, score = bench.asked(bench.signs())
    bench.hears(TokensForbidden(("stop",), by_order=True))
    assert bench.looks(by, score) == []
    assert bench.verdicts == []


def test_a_reply_to_another_question_is_no_part_of_the_session() -> None:
    bench = Bench()
    bench.opens()
    bench.round(0)
    bench.round(1)
    stray = Scores(7, 99, 0, (listed(5),), b"", 1, 1, bytes(8))
    bench.hears(ExpertReplied(EXPERT, stray))
    bench.hears(ExpertReplied(EXPERT, replace(stray, session=8)))
    bench.hears(ExpertTold(EXPERT, Close(7)))
    by, score = bench.asked(bench.signs())
    bench.looks(by, score)
    assert bench.part.view(bench.now).audits[0].is_signed


def test_what_was_found_is_saved_once_a_minute_at_most() -> None:
    bench = Bench()
    saved = []
    for _ in range(30):
        for event in (ExpertTold(EXPERT, Open(7, DIGEST, VOCAB, bytes(8))), TimerFired()):
            told = bench.part.handle(event, bench.now)
            saved += [one.key for one in told if isinstance(one, Save)]
        bench.hears(ExpertTold(EXPERT, Close(7)))
        bench.now += 10.0
    assert saved.count(ACCOUNTS) == saved.count(RECORDS)
    assert 4 <= saved.count(ACCOUNTS) <= 300 / SAVE_EVERY_S + 1


def brought(bench: Bench, model: int) -> Signed:
    """A session of a receipt, as somebody else has had it."""
    lists = tuple(Said(n, _list(model, n), WORDS, None) for n in range(1, 13))
    return Signed(EXPERT, SessionRecord(3, DIGEST, 12, bytes(32)), Replay(tuple(range(12)), lists))


def _list(model: int, length: int) -> SparseList:
    return decode_list(listed(1000 * model + length), WORDS, WORDS)


@pytest.mark.parametrize(("model", "verdict"), [(1, Verdict.AGREED), (2, Verdict.DIFFERED)])
def test_a_receipt_is_looked_at_by_others_and_changes_no_reputation(
    model: int, verdict: Verdict
) -> None:
    bench = Bench()
    by, score = bench.asked(bench.hears(ReceiptOffered(5, brought(bench, model))))
    told = bench.looks(by, score)
    if verdict is Verdict.DIFFERED:
        told = bench.looks(*bench.asked(told))
    view = bench.part.view(bench.now)
    found = view.opinions.of(5)
    assert found is not None
    assert found.verdict is verdict
    assert bench.verdicts == []
    assert view.spent == 0
    assert bench.part.trust(EXPERT, DIGEST, bench.now) > 0


def test_a_receipt_of_a_model_that_nobody_has_is_said_to_be_one() -> None:
    bench = Bench(holders={})
    assert bench.hears(ReceiptOffered(5, brought(bench, 1))) == []
    found = bench.part.view(bench.now).opinions.of(5)
    assert found is not None
    assert found.verdict is Verdict.NOBODY


def test_a_contradiction_excludes_once_and_goes_to_the_ledger() -> None:
    bench = Bench()
    event = ContradictionProved(EXPERT, DIGEST, "it contradicts itself")
    (told,) = bench.hears(event)
    assert isinstance(told, AppendToLedger)
    assert bench.part.trust(EXPERT, DIGEST, bench.now) == 0
    assert bench.part.standing(EXPERT, DIGEST, bench.now).word == "excluded"
    assert bench.hears(event) == []
    assert bench.part.trust(EXPERT, bytes(32), bench.now) > 0
