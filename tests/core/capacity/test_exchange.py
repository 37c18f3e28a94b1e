"""Laws of the shuffles: who begins and with whom, at what pace, what is news, and that ages only
grow."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmllm.core.capacity.exchange import (
    ANSWERS,
    ASKS,
    BYTES_PER_S,
    GREETINGS,
    PUT_OFF_MAX,
    RESEAL_S,
    SHUFFLE_RECORDS,
    TELL_GAP_S,
    TELL_PEERS,
    TELLS,
    Taken,
)
from swarmllm.core.capacity.table import RECORD_TTL_S
from swarmllm.core.effects import Send
from swarmllm.core.settings.table import SHUFFLE_INTERVAL
from swarmllm.messages import PeerId, Shuffle, Shuffled
from swarmllm.testing.sealing import MemoSealing
from tests.core.capacity.exchange_support import OWN, SWARM, A, B, Bench, Z
from tests.core.capacity.support import record

# --- who begins, and with whom --------------------------------------------------------------------


def test_the_side_with_the_smaller_id_greets_at_once_and_the_other_waits() -> None:  # CAP-6
    bench = Bench()
    (greeting,) = bench.meet(Z)
    assert greeting.peer == Z
    assert isinstance(greeting.message, Shuffle)
    assert greeting.message.want == SHUFFLE_RECORDS
    assert bench.meet(A) == []
    assert bench.meet(Z) == []  # Once for each connection.


def test_after_one_round_trip_both_know_each_other_and_who_the_other_knew() -> None:
    seals = MemoSealing()
    small, large = Bench(A, seals), Bench(Z, seals)
    large.table.hear(B, record(), seals.of(B).seal(record()), 0.0, B, 0.0)
    assert large.meet(A) == []
    (greeting,) = small.meet(Z)
    assert isinstance(greeting.message, Shuffle)
    taken = large.machine.asked(A, greeting.message, 0.0)
    assert taken.heard == [(A, record(1, 1))]
    (answer,) = taken.effects
    assert isinstance(answer, Send)
    assert isinstance(answer.message, Shuffled)
    assert [peer for peer, _ in small.machine.answered(Z, answer.message, 0.1).heard] == [Z, B]


def test_who_offers_nothing_asks_all_the_same() -> None:
    bench = Bench(offers=False)
    (greeting,) = bench.meet(Z)
    assert greeting.message == Shuffle(SWARM, (), (), SHUFFLE_RECORDS)


def test_beyond_the_first_greetings_only_own_records_are_exchanged() -> None:
    bench = Bench()
    greetings = [bench.meet(PeerId(f"z{i}"))[0].message for i in range(20)]
    assert [m.want for m in greetings if isinstance(m, Shuffle)] == [SHUFFLE_RECORDS] * int(
        GREETINGS.burst
    ) + [1] * 8


def test_everybody_has_its_turn_and_who_came_by_itself_the_last() -> None:  # CAP-6
    bench = Bench()
    for peer in (A, B, Z):
        bench.meet(peer)
    bench.tell(A, (), 1.0)
    assert [send.peer for _, send in bench.run(60.0)][:4] == [B, Z, A, B]


def test_nobody_connected_nothing_to_do() -> None:
    bench = Bench()
    assert bench.machine.next_deadline() == float("inf")
    bench.meet(Z)
    bench.machine.lost(Z)
    assert bench.run(100.0) == []
    assert bench.machine.next_deadline() == float("inf")


def test_peers_of_another_swarm_are_told_so_once_and_exchange_nothing() -> None:  # CAP-13
    bench = Bench()
    for peer in (A, Z):
        bench.meet(peer)
    taken = bench.machine.asked(A, Shuffle(b"another.", (0,), bench.strangers(1), 4), 1.0)
    assert taken.heard == []
    assert taken.effects == [Send(A, Shuffle(SWARM, (), (), 0))]
    assert bench.machine.asked(A, Shuffle(b"another.", (0,), bench.strangers(1), 4), 2.0) == Taken()
    assert bench.machine.answered(A, Shuffled((0,), bench.strangers(1)), 2.0) == Taken()
    assert {send.peer for _, send in bench.run(100.0)} == {Z}
    assert bench.checks == []
    bench.machine.lost(A)
    bench.meet(A)
    assert bench.tell(A, bench.strangers(1), 100.0).heard != []


# --- pace -----------------------------------------------------------------------------------------


def test_an_exchange_begun_by_another_puts_off_our_own_but_not_for_ever() -> None:  # CAP-6
    quiet, asked = Bench(), Bench()
    for bench in (quiet, asked):
        bench.meet(Z)
    began = [at for at, send in quiet.run(300.0) if isinstance(send.message, Shuffle)]
    for second in range(1, 300, 2):
        asked.run(float(second))
        asked.tell(Z, (), float(second))
    pushed = [at for at, _ in asked.run(300.0)]
    assert 90 <= len(began) <= 130  # With nobody who asks, half the time: as many bytes.
    assert len(pushed) < len(began) / 4
    starts = quiet_gaps(asked, 600.0)
    assert max(starts) <= PUT_OFF_MAX * SHUFFLE_INTERVAL.usual


def quiet_gaps(bench: Bench, span_s: float) -> list[float]:
    """Times between two exchanges of our own while Z asks every second."""
    now, starts = 300.0, []
    while now < 300.0 + span_s:
        bench.tell(Z, (), now)
        starts += (
            [now for _ in bench.machine.timer(now)] if bench.machine.next_deadline() <= now else []
        )
        now += 1.0
    return [b - a - 1.0 for a, b in pairwise(starts)]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 30)), max_size=60), st.integers(0, 12))
@settings(deadline=None)
def test_what_exchanges_cost_in_the_long_run_is_bounded_whoever_asks_and_however_often(
    asks: list[tuple[int, float]], connected: int
) -> None:
    bench, now, sent = Bench(), 0.0, 0
    for i in range(connected):
        sent += sum(size(send) for send in bench.meet(PeerId(f"z{i}")))
    for i in range(3000):
        bench.table.hear(
            PeerId(f"p{i}"), record(), f"p{i}".encode().ljust(290), 0.0, PeerId(f"z{i % 12}"), 0.0
        )
    allowed = (ANSWERS.burst + GREETINGS.burst + 40) * 2000.0
    for who, pause in asks:
        for at, send in bench.run(now + pause, now):
            assert at <= now + pause
            sent += size(send)
        now += pause
        taken = bench.tell(PeerId(f"z{who}"), (), now)
        sent += sum(size(effect) for effect in taken.effects if isinstance(effect, Send))
        assert sent <= allowed + BYTES_PER_S * now + 4 * ASKS.per_s * 300 * now


def size(send: Send) -> int:
    message = send.message
    assert isinstance(message, Shuffle | Shuffled)
    return sum(map(len, message.records))


def test_our_own_record_is_sealed_anew_only_after_a_while_or_for_news() -> None:
    bench = Bench()
    bench.meet(A)
    for now in (0.0, 1.0, RESEAL_S - 0.1):
        bench.tell(A, (), now)
    assert bench.seq == 1
    bench.tell(A, (), RESEAL_S)
    assert bench.seq == 2
    bench.machine.changed(RESEAL_S)
    bench.tell(A, (), RESEAL_S + 0.5)
    assert bench.seq == 3


# --- news -----------------------------------------------------------------------------------------


def test_news_goes_to_a_few_at_once_and_wants_nothing_back() -> None:  # CAP-8
    bench = Bench()
    for i in range(20):
        bench.meet(PeerId(f"b{i:02}"))
    bench.machine.changed(1.0)
    told = bench.run(1.2)
    assert len({send.peer for _, send in told}) == len(told) == TELL_PEERS
    for _, send in told:
        assert isinstance(send.message, Shuffle)
        assert (len(send.message.records), send.message.want) == (1, 0)
    taken = bench.machine.asked(PeerId("b00"), Shuffle(SWARM, (), (), 0), 2.0)
    assert taken.effects == []


@given(st.lists(st.floats(0, 3), min_size=1, max_size=80))
# A round that came when one was due but for rounding was not counted.
@example([1.0, *[3.0] * 4, 2.0, 1.5, *[3.0] * 8, 1.0])
def test_however_often_something_changes_news_keeps_its_pace(pauses: list[float]) -> None:  # CAP-8
    bench, now, told = Bench(), 0.0, []
    bench.meet(A)
    for pause in pauses:
        bench.machine.changed(now)
        told += [
            at
            for at, send in bench.run(now + pause, now)
            if isinstance(send.message, Shuffle) and not send.message.want
        ]
        now += pause
    assert all(b - a >= TELL_GAP_S - 1e-6 for a, b in pairwise(told))
    assert len(told) <= TELLS.burst + TELLS.per_s * now + 1


def test_the_last_change_is_told_in_the_end() -> None:
    bench = Bench()
    bench.meet(A)
    for i in range(100):
        bench.machine.changed(i / 10)
        bench.run(i / 10, i / 10)
    (news,) = [
        send.message
        for _, send in bench.run(40.0, 10.0)
        if isinstance(send.message, Shuffle) and not send.message.want
    ]
    assert bench.seals.of(OWN).unseal(news.records[0])[1].seq <= bench.seq


# --- ages -----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 0.5)), min_size=1, max_size=8))
def test_an_age_only_grows_on_its_way_and_never_beyond_the_truth_by_more_than_a_tenth_each(
    hops: list[tuple[float, float]],
) -> None:  # CAP-4
    seals = MemoSealing()
    sealed = seals.of(A).seal(record())
    now, under_way, age = 0.0, 0.0, 0
    for held_s, travel_s in hops:
        bench = Bench(OWN, seals, offers=False)
        bench.meet(B)
        bench.meet(Z)
        bench.machine.answered(Z, Shuffled((age,), (sealed,)), now)
        now += held_s
        taken = bench.machine.asked(B, Shuffle(SWARM, (), (), 4), now)
        given_on = [
            e.message
            for e in taken.effects
            if isinstance(e, Send) and isinstance(e.message, Shuffled) and e.message.records
        ]
        if not given_on:
            assert now >= RECORD_TTL_S - 1.0
            return
        (next_age,) = given_on[0].ages
        assert next_age >= age
        age = next_age
        assert now - under_way - 1e-6 <= age / 10 <= now - under_way + 0.1 * len(hops) + 1e-6
        now, under_way = now + travel_s, under_way + travel_s


def test_what_is_said_to_be_beyond_its_time_is_not_even_checked() -> None:
    bench = Bench()
    bench.meet(A)
    (stranger,) = bench.strangers(1)
    assert (
        bench.machine.asked(A, Shuffle(SWARM, (int(10 * RECORD_TTL_S),), (stranger,), 0), 0.0).heard
        == []
    )
    assert bench.checks == []
    assert (
        len(
            bench.machine.asked(
                A, Shuffle(SWARM, (int(10 * RECORD_TTL_S) - 1,), (stranger,), 0), 0.0
            ).heard
        )
        == 1
    )
