"""Audits come back from the disk as they were, the last ones of them, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.trust.case import Verdict
from swarmllm.core.trust.comparison import Difference
from swarmllm.core.trust.history import HISTORY_MAX, Audit, History
from swarmllm.messages import PeerId
from tests.core.trust.test_reputation import values

ONE = Audit(
    *(1.5e9, PeerId("expert"), "m", bytes(32), Verdict.DIFFERED, 10, Difference(0.5, 2.0, 3)),
    *((PeerId("own"), PeerId("third")), PeerId("expert"), True, True, 72),
)


def test_what_was_kept_is_read_as_it_was() -> None:
    history = History()
    for verdict in Verdict:
        history.append(replace(ONE, verdict=verdict))
    history.append(replace(ONE, mean=None, against=None, by=()))
    assert list(History(history.packed())) == list(history)


def test_the_last_ones_are_kept() -> None:
    history = History()
    for number in range(HISTORY_MAX + 9):
        history.append(replace(ONE, tokens=number))
    again = History(history.packed())
    assert [one.tokens for one in again] == list(range(9, HISTORY_MAX + 9))
    assert again.maxlen == HISTORY_MAX


@given(
    st.one_of(
        st.binary(max_size=200),
        values.map(lambda one: bytes(msgpack.packb([1, one]))),
        values.map(lambda one: bytes(msgpack.packb([1, [[1.0, "a", "m", bytes(32), one]]]))),
    )
)
def test_what_is_damaged_is_forgotten(saved: bytes) -> None:
    assert list(History(saved)) == []


def test_a_row_with_a_value_of_another_type_is_left_out() -> None:
    (row,) = msgpack.unpackb(_packed())[1]
    for place in range(len(row)):
        spoilt = [*row[:place], {"what": 1}, *row[place + 1 :]]
        assert list(History(msgpack.packb([1, [spoilt, row]]))) == [ONE]
    strange = [*row[:4], "guilty", *row[5:]]
    assert list(History(msgpack.packb([1, [strange]]))) == []


def _packed() -> bytes:
    history = History()
    history.append(ONE)
    return history.packed()
