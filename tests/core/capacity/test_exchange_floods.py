"""What a stranger can make a node do by shuffles: no more than its budget, and no flood silences
those whom we ask ourselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.capacity.exchange import (
    ANSWERS,
    ASKS,
    CHECKS,
    CHECKS_OF_ALL,
    IGNORED_MAX,
    SHUFFLE_RECORDS,
    Taken,
)
from swarmllm.core.effects import Penalise, Send
from swarmllm.messages import SHUFFLE_RECORDS_MAX, PeerId, Shuffled
from tests.core.capacity.exchange_support import OWN, A, B, Bench, Z
from tests.core.capacity.support import record


def test_bytes_that_are_known_are_not_checked_again_and_not_news() -> None:
    bench = Bench()
    bench.meet(A)
    records = bench.strangers(3)
    assert len(bench.tell(A, records, 0.0).heard) == 3
    for now in (1.0, 2.0, 3.0):
        assert bench.tell(A, records, now).heard == []
    assert len(bench.checks) == 3


def test_our_own_record_that_comes_back_is_no_news() -> None:
    bench = Bench()
    bench.meet(A)
    assert bench.tell(A, [bench.seals.of(OWN).seal(record(9, 9))], 0.0).heard == []
    assert len(bench.table) == 0


Floods = st.lists(
    st.tuples(
        st.integers(0, 11),
        st.integers(0, SHUFFLE_RECORDS_MAX),
        st.sampled_from([0.0, 0.05, 0.3, 1.0, 4.0]),
    )
)


@given(Floods)
def test_checks_never_exceed_their_budgets(flood: list[tuple[int, int, float]]) -> None:  # CAP-10
    bench, now, invented = Bench(), 0.0, 0
    peers = [PeerId(f"a{i}") for i in range(12)]
    checked = dict.fromkeys(peers, 0)
    for peer in peers:
        bench.meet(peer)
    firsts = 0
    for who, count, pause in flood:
        now += pause
        before = len(bench.checks)
        bench.tell(peers[who], bench.strangers(count, invented), now)
        invented += count
        checked[peers[who]] += len(bench.checks) - before
        firsts += len(bench.checks) > before
        assert checked[peers[who]] <= CHECKS.burst + CHECKS.per_s * now + 1e-6
        assert len(bench.checks) - firsts <= CHECKS_OF_ALL.burst + CHECKS_OF_ALL.per_s * now + 1e-6


def test_a_flood_takes_nothing_from_our_own_questions_nor_from_a_peer_s_own_record() -> None:
    bench, invented = Bench(), 0
    flooders = [PeerId(f"a{i:02}") for i in range(60)]
    for peer in (*flooders, B, Z):
        bench.meet(peer)
    for second in range(30):
        for peer in flooders:
            bench.tell(peer, bench.strangers(SHUFFLE_RECORDS_MAX, invented), float(second))
            invented += SHUFFLE_RECORDS_MAX
    assert bench.machine.records_dropped > 0
    answer = bench.strangers(SHUFFLE_RECORDS_MAX, invented)
    assert len(bench.answer(Z, answer, 30.0).heard) == SHUFFLE_RECORDS_MAX
    own = bench.seals.of(B).seal(record(3, 3))
    assert (B, record(3, 3)) in bench.tell(
        B, (own, *bench.strangers(3, invented + 100)), 30.0
    ).heard


# CAP-9
def test_shuffles_beyond_one_a_second_are_ignored_without_a_strike_and_a_flood_is_one() -> None:
    bench = Bench()
    bench.meet(A)
    looked_at = [bool(bench.tell(A, (), 0.0).effects) for _ in range(8)]
    assert looked_at == [True] * int(ASKS.burst) + [False] * 3
    assert bench.tell(A, (), 1.0).effects != []
    faults = [effect for _ in range(2 * IGNORED_MAX) for effect in bench.tell(A, (), 1.0).effects]
    assert [type(fault) for fault in faults] == [Penalise, Penalise]


def test_beyond_what_all_may_ask_together_the_answer_is_our_own_record() -> None:
    bench = Bench()
    peers = [PeerId(f"a{i:02}") for i in range(30)]
    for peer in peers:
        bench.meet(peer)
    bench.tell(peers[0], bench.strangers(8), 0.0, 0)
    sizes = [len(one.records) for peer in peers for one in answers(bench.tell(peer, (), 0.0))]
    whole = int(ANSWERS.burst)
    # The first one knows them already.
    assert sizes == [1] + [SHUFFLE_RECORDS] * (whole - 1) + [1] * (30 - whole)


def answers(taken: Taken) -> list[Shuffled]:
    return [
        one.message
        for one in taken.effects
        if isinstance(one, Send) and isinstance(one.message, Shuffled)
    ]


def test_no_answer_is_longer_than_what_was_wanted() -> None:  # CAP-9
    bench = Bench()
    bench.meet(A)
    bench.meet(B)
    bench.tell(B, bench.strangers(8), 0.0, 0)
    for want in range(1, 5):
        (answer,) = answers(bench.tell(A, (), float(want), want))
        assert len(answer.records) == len(answer.ages) == want


# CAP-1
def test_a_bad_record_costs_its_carrier_nothing_and_the_others_of_the_message_count() -> None:
    bench = Bench()
    bench.meet(A)
    good = bench.strangers(3)
    senseless = bench.seals.of(B).seal(record(1, 1, sessions_free=9))
    unnamed = bench.seals.of(Z).seal(record(1, 1, model="\U0001fae8"))
    taken = bench.tell(A, (good[0], b"forged", senseless, unnamed, *good[1:]), 0.0)
    assert [peer for peer, _ in taken.heard] == [
        "stranger 00000",
        "stranger 00001",
        "stranger 00002",
    ]
    assert [type(effect) for effect in taken.effects] == [Send]  # The answer, and no strike.
    assert bench.machine.records_refused == 3
    assert len(bench.table) == 3


def test_what_was_refused_is_not_passed_on() -> None:  # CAP-1
    bench = Bench()
    bench.meet(A)
    bench.meet(B)
    bad = bench.seals.of(Z).seal(record(1, 1, model="[/x]"))
    bench.tell(A, (bad,), 0.0, 0)
    (answer,) = answers(bench.tell(B, (), 1.0, 8))
    assert bad not in answer.records


def test_an_author_whose_numbers_contradict_each_other_pays_for_them_itself() -> None:  # CAP-1
    bench = Bench()
    bench.meet(A)
    bad = bench.seals.of(A).seal(record(1, 1, sessions_free=9))
    (fault,) = bench.tell(A, (bad,), 0.0).effects
    assert isinstance(fault, Penalise)
    assert fault.peer == A
    assert len(bench.table) == 0


# CAP-1: older versions had another list.
def test_a_name_of_its_own_with_other_characters_costs_its_author_nothing() -> None:
    bench = Bench()
    bench.meet(A)
    taken = bench.tell(A, (bench.seals.of(A).seal(record(1, 1, model="B\u00fccher")),), 0.0, 0)
    assert taken == Taken()
    assert bench.machine.records_refused == 1


@given(Floods)
# CAP-10
def test_a_flood_of_bad_records_costs_no_more_checks_than_one_of_good_ones(
    flood: list[tuple[int, int, float]],
) -> None:
    bench, now = Bench(), 0.0
    peers = [PeerId(f"a{i}") for i in range(12)]
    for peer in peers:
        bench.meet(peer)
    for number, (who, count, pause) in enumerate(flood):
        now += pause
        bench.tell(peers[who], tuple(f"forged {number} {i}".encode() for i in range(count)), now)
    assert len(bench.checks) <= sum(CHECKS.burst + CHECKS.per_s * now for _ in peers)
    assert len(bench.checks) <= CHECKS_OF_ALL.burst + CHECKS_OF_ALL.per_s * now + len(flood)


# CAP-9
def test_an_answer_that_is_not_waited_for_is_ignored_and_a_flood_of_them_is_a_strike() -> None:
    bench = Bench()
    bench.meet(A)
    bench.meet(Z)
    assert bench.answer(A, bench.strangers(1), 0.0) == Taken()
    assert len(bench.answer(Z, bench.strangers(1), 0.0).heard) == 1
    assert bench.answer(Z, bench.strangers(1, 50), 0.0) == Taken()
    faults = [effect for _ in range(IGNORED_MAX - 1) for effect in bench.answer(A, (), 0.0).effects]
    assert [type(fault) for fault in faults] == [Penalise]


def test_who_is_not_connected_is_not_heard() -> None:
    bench = Bench()
    assert bench.tell(A, bench.strangers(1), 0.0) == Taken()
    assert bench.answer(A, bench.strangers(1), 0.0) == Taken()
    assert bench.checks == []
