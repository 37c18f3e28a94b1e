"""The laws of continuous batching, on paper."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swarmllm.core.serving.answers import BUSY, NEED, REFUSED, SCORES, Answer
from swarmllm.core.serving.places import SHARE_MIN
from swarmllm.core.serving.planning import GAP_MAX
from swarmllm.messages import REFUSED_CONTEXT, REFUSED_SESSION, REFUSED_VOCABULARY
from tests.core.serving.paper_model import VOCABULARY, Desk, key, lists_after, logits_after

LONG = [(i * 7 + i // 5) % VOCABULARY for i in range(60)]


def test_an_order_without_a_cache_needs_everything_and_then_is_answered() -> None:
    desk = Desk()
    assert desk.batcher.submit(desk.order(1, LONG[:6], 4)) == []
    assert desk.run() == [(NEED, 1, 0)]
    desk.batcher.submit(desk.order(1, LONG[:6], 0, answer=[1, 5]))
    [(kind, order, lists, *_)] = desk.run()
    assert (kind, order, lists) == (SCORES, 2, lists_after(LONG[:6], 0, [1, 5]))


def test_times_are_measured_from_the_order_to_its_first_row_and_from_there_to_its_answer() -> None:
    desk = Desk()
    desk.batcher.submit(desk.order(1, LONG[:3]))
    desk.clock.now += 0.25
    [(*_, queue_us, compute_us)] = desk.run()
    assert (queue_us, compute_us) == (250_000, 3_000)


def test_a_newer_epoch_drops_queued_and_running_work_and_each_is_answered_once() -> None:
    desk = Desk(batch_max=32)
    desk.batcher.submit(desk.order(1, LONG[:50]))
    assert desk.step() == []
    desk.batcher.submit(desk.order(1, LONG[:52], 50))
    assert desk.batcher.submit(desk.order(1, LONG[:8], epoch=1)) == [(BUSY, 1, 0), (BUSY, 2, 0)]
    [(kind, order, lists, *_)] = desk.run()
    assert (kind, order, lists) == (SCORES, 3, lists_after(LONG[:8], 0, [7]))
    assert desk.batcher.submit(desk.order(1, LONG[:9], 8, epoch=0)) == [(BUSY, 4, 0)]


def test_a_prefix_of_sixteen_tokens_is_copied_and_not_computed_again() -> None:
    desk = Desk()
    desk.batcher.submit(desk.order(1, LONG[:40]))
    desk.run()
    before = desk.model.rows_computed
    desk.batcher.submit(desk.order(2, [*LONG[:30], 3, 3, 3]))
    [(_, _, lists, *_)] = desk.run()
    assert lists == lists_after([*LONG[:30], 3, 3, 3], 0, [32])
    assert desk.model.rows_computed == before + 3
    desk.batcher.submit(desk.order(3, [*LONG[: SHARE_MIN - 1], 5, 6]))
    desk.run()
    assert desk.model.rows_computed == before + 3 + SHARE_MIN + 1


def test_a_resent_text_costs_only_what_differs() -> None:
    desk = Desk()
    desk.batcher.submit(desk.order(1, LONG[:40]))
    desk.run()
    before = desk.model.rows_computed
    text = [*LONG[:35], 1, 2, 3]
    desk.batcher.submit(desk.order(1, text))
    [(_, _, lists, *_)] = desk.run()
    assert lists == lists_after(text, 0, [37])
    assert desk.model.rows_computed == before + 3


def test_wanted_rows_are_computed_even_if_their_tokens_are_held() -> None:
    desk = Desk()
    desk.batcher.submit(desk.order(1, LONG[:20]))
    desk.run()
    desk.batcher.submit(desk.order(1, LONG[:20], 0, answer=[4, 19], targets=[10]))
    [(_, _, lists, targets, *_)] = desk.run()
    assert lists == lists_after(LONG[:20], 0, [4, 19])
    row = logits_after(LONG[:11]).astype(np.float64)
    nats = np.log(np.exp(row).sum()) - row[LONG[11]]
    assert int.from_bytes(targets, "big") == pytest.approx(nats * 1024, abs=1)


def test_decoding_sessions_share_one_batch() -> None:
    desk = Desk()
    for n in range(4):
        desk.batcher.submit(desk.order(n, [n, 1, 2]))
    desk.run()
    batches = len(desk.model.batches)
    for n in range(4):
        desk.batcher.submit(desk.order(n, [n, 1, 2, 3], 3))
    assert len(desk.run()) == 4
    assert len(desk.model.batches) == batches + 1


@pytest.mark.parametrize("slots", [[0, 2], [0, 3], [1, 4, 7], [0, 7], [3], [0, 1, 5, 6]])
def test_narrow_gaps_are_bridged_and_idle_sessions_keep_what_they_hold(slots: list[int]) -> None:
    desk = Desk(sessions_max=8, outputs_max=8)
    for n in range(8):
        desk.batcher.submit(desk.order(n, [n, 5, 6]))
    desk.run()
    held = {slot: list(cells) for slot, cells in desk.model.held.items()}
    before = len(desk.model.batches)
    for slot in slots:
        desk.batcher.submit(desk.order(slot, [slot, 5, 6, 7], 3))
    assert sorted(answer[2][0] for answer in desk.run()) == sorted(
        lists_after([slot, 5, 6, 7], 3, [0])[0] for slot in slots
    )
    wide = sum(b - a > GAP_MAX + 1 for a, b in pairwise(slots))
    assert len(desk.model.batches) == before + 1 + wide
    for slot in range(8):
        assert desk.model.held[slot] == held[slot] + ([7] if slot in slots else [])


def test_a_lone_row_gets_company_where_the_model_needs_it() -> None:
    desk = Desk(rows_min=2)  # PaperModel.decode asserts it.
    desk.batcher.submit(desk.order(1, LONG[:20]))
    desk.run()
    desk.batcher.submit(desk.order(1, LONG[:21], 20))
    [(_, _, lists, *_)] = desk.run()
    assert lists == lists_after(LONG[:21], 20, [0])
    assert desk.model.held[0] == LONG[:21]


def test_the_last_cell_of_the_context_can_be_used() -> None:
    desk = Desk(rows_min=2)
    desk.batcher.submit(desk.order(1, LONG[:59]))
    desk.run()
    desk.batcher.submit(desk.order(1, LONG[:60], 59))
    [(kind, *_)] = desk.run()
    assert kind == SCORES


def test_a_long_prompt_holds_up_a_decoding_session_for_one_chunk_at_most() -> None:
    desk = Desk(context_max=4000, batch_max=512)
    desk.batcher.submit(desk.order(1, [1, 2, 3]))
    desk.run()
    desk.batcher.submit(desk.order(2, [i % VOCABULARY for i in range(3000)], answer=[2999]))
    text = [1, 2, 3]
    while any(session.orders for session in [desk.batcher.places.sessions[key(2)]]):
        text.append(4)
        desk.batcher.submit(desk.order(1, text, len(text) - 1))
        waited_from = desk.clock.now
        answers: list[Answer] = []
        while not any(answer[1] == desk.last_id for answer in answers):
            answers += desk.step()
        # A chunk of 0.1 s, estimated, and the step itself.
        assert desk.clock.now - waited_from <= 0.16


def test_prompts_take_turns() -> None:
    desk = Desk(context_max=500, batch_max=64)
    for n in range(3):
        desk.batcher.submit(desk.order(n, [(n + i) % VOCABULARY for i in range(300)], answer=[]))
    served = []
    while desk.batcher.waiting:
        desk.step()
        served.append(desk.model.batches[-1].slots[0])
    assert served[:6] in ([0, 1, 2, 0, 1, 2],)


def test_no_batch_has_more_wanted_rows_than_the_model_gives() -> None:
    desk = Desk(outputs_max=8)
    text = LONG[:50]
    desk.batcher.submit(desk.order(1, text, 0, answer=[0, 49], targets=list(range(49))))
    [(_, _, lists, targets, *_)] = desk.run()
    assert lists == lists_after(text, 0, [0, 49])
    assert len(targets) == 2 * 49


def test_the_least_recently_used_idle_session_makes_room() -> None:
    desk = Desk(sessions_max=2, idle_s=5.0)
    for n in range(2):
        desk.batcher.submit(desk.order(n, LONG[:3]))
        desk.run()
        desk.clock.now += 1
    assert desk.batcher.places.free(desk.clock.now) == 0
    [(kind, _, retry_ms)] = desk.batcher.submit(desk.order(2, LONG[:3]))
    assert kind == BUSY
    desk.clock.now += retry_ms / 1000
    assert desk.batcher.places.free(desk.clock.now) == 1
    assert desk.batcher.submit(desk.order(2, LONG[:3])) == []
    desk.run()
    assert [desk.batcher.places.holds(key(n)) for n in range(3)] == [None, 3, 3]


def test_a_session_with_work_is_never_evicted() -> None:
    desk = Desk(sessions_max=1, idle_s=0.0)
    desk.batcher.submit(desk.order(0, LONG[:3]))
    [(kind, _, _)] = desk.batcher.submit(desk.order(1, LONG[:3]))
    assert kind == BUSY


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"text": [1] * 61}, REFUSED_CONTEXT),
        ({"text": [1, VOCABULARY]}, REFUSED_VOCABULARY),
        ({"text": [1, 2], "answer": [2]}, REFUSED_SESSION),
        ({"text": [1, 2], "targets": [1]}, REFUSED_SESSION),
    ],
)
def test_senseless_orders_are_refused_and_change_nothing(change: dict[str, Any], code: int) -> None:
    desk = Desk()
    assert desk.batcher.submit(desk.order(1, **change)) == [(REFUSED, 1, code)]
    assert (desk.batcher.waiting, desk.batcher.places.holds(key(1))) == (0, None)


def test_a_stopped_batch_leaves_nothing_behind_and_is_done_later() -> None:
    desk = Desk(rows_min=2)
    desk.batcher.submit(desk.order(1, LONG[:20]))
    desk.run()
    desk.model.stopped = True
    desk.batcher.submit(desk.order(1, LONG[:22], 20))
    assert desk.step() == []
    assert desk.model.held[0] == LONG[:20]
    desk.model.stopped = False
    [(_, _, lists, *_)] = desk.run()
    assert lists == lists_after(LONG[:22], 20, [1])


def test_who_was_back_at_once_is_waited_for_and_who_was_not_is_not() -> None:
    desk = Desk()
    for near in (True, False):
        text = [1, 2, 3]
        for _ in range(3):
            desk.batcher.submit(desk.order(1, text, len(text) - 1 if len(text) > 3 else 0))
            desk.run()
            text.append(2)
            assert 0 <= desk.batcher.patience_s(desk.clock.now) <= 0.005
            desk.clock.now += 0.0001 if near else 0.3
        desk.batcher.submit(desk.order(1, text, len(text) - 1))
        desk.run()
        assert (desk.batcher.patience_s(desk.clock.now) > 0) == near
        desk.batcher.close(key(1))


def test_whoever_leaves_while_a_batch_is_computed_takes_nothing_of_others_along() -> None:
    desk = Desk()
    for n in range(3):
        desk.batcher.submit(desk.order(n, [n, 1, 2]))
    told: list[Answer] = []

    def meanwhile() -> None:
        told.extend(desk.batcher.close(key(0)))
        told.extend(desk.batcher.submit(desk.order(1, [9, 9], epoch=1)))
        # In the slot that has just become free.
        told.extend(desk.batcher.submit(desk.order(7, [7, 7])))

    desk.model.meanwhile = meanwhile
    answers = desk.run()
    assert told == [(BUSY, 1, 0), (BUSY, 2, 0)]
    assert {order: lists for _, order, lists, *_ in answers} == {
        3: lists_after([2, 1, 2], 0, [2]),
        4: lists_after([9, 9], 0, [1]),
        5: lists_after([7, 7], 0, [1]),
    }


Move = tuple[str, int, int, int, int, bool, bool]
STEP: Move = ("step", 0, 0, 1, 0, False, False)
MOVES = st.lists(
    st.tuples(
        st.sampled_from(
            ["order"] * 6 + ["step"] * 6 + ["close", "cancel", "stop", "wait", "during"]
        ),
        st.integers(0, 4),  # Session.
        st.sampled_from([0, 0, 0, 4, 20, 24, 40]),  # Base: often where another order ended.
        st.sampled_from([1, 4, 20, 40]),  # New tokens.
        st.integers(0, 3),  # Which text.
        st.booleans(),  # An honest hash?
        st.booleans(),  # A new epoch?
    ),
    max_size=60,
)


@example([("order", 0, 0, 1, 0, True, False), STEP, ("close", *STEP[1:])], 1)  # Edits are due.
@given(MOVES, st.integers(1, 2))
def test_every_order_gets_one_answer_and_every_list_is_that_of_its_own_text(
    moves: list[Move], rows_min: int
) -> None:
    desk = Desk(sessions_max=3, idle_s=0.5, rows_min=rows_min, outputs_max=4)
    texts = [[(i * (n + 3) + (i > 20) * n) % VOCABULARY for i in range(90)] for n in range(3)]
    texts.append([*texts[0][:25], *texts[1][25:]])
    orders, epochs = {}, [0] * 5
    answers: list[Answer] = []
    cancelled: set[int] = set()

    def submit(session: int, base: int, count: int, which: int, honest: bool, rises: bool) -> None:
        epochs[session] += rises
        text = texts[which][: base + count]
        digest = None if honest else bytes(7) + b"\1"
        order = desk.order(
            session, text, base, answer=sorted({0, count - 1}), epoch=epochs[session], digest=digest
        )
        orders[order.id] = (text, base, sorted({0, count - 1}))
        answers.extend(desk.batcher.submit(order))

    def happen(session: int, base: int, count: int, which: int, honest: bool, rises: bool) -> None:
        """A session ends, and the same or another one comes."""
        answers.extend(desk.batcher.close(key(which)))
        submit(session, base, count, which, honest, rises)

    for what, session, base, count, which, honest, rises in moves:
        match what:
            case "order":
                submit(session, base, count, which, honest, rises)
            case "during":
                desk.model.meanwhile = partial(happen, session, base, count, which, honest, rises)
                answers += desk.step()
                desk.model.meanwhile = None
                desk.check_cells()
            case "step":
                answers += desk.step()
                desk.check_cells()
            case "close":
                answers += desk.batcher.close(key(session))
            case "cancel":
                waiting = desk.batcher.waiting
                desk.batcher.cancel(desk.last_id)
                cancelled |= {desk.last_id} if desk.batcher.waiting < waiting else set()
            case "stop":
                desk.model.stopped = True
                answers += desk.step()
                desk.model.stopped = False
                desk.check_cells()
            case _:
                desk.clock.now += 0.3
    answers += desk.run()
    desk.check_cells()
    assert sorted(answer[1] for answer in answers) == sorted(set(orders) - cancelled)
    for kind, order_id, *rest in answers:
        text, base, wanted = orders[order_id]
        if kind == SCORES:
            assert rest[0] == lists_after(text, base, wanted)
        elif kind == NEED:
            assert rest[0] < base or rest[0] == 0
