"""Track records come back from the disk as they count by then, and nothing else does."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.trust.keeping import pack, unpack
from swarmllm.core.trust.reputation import DAY_S
from swarmllm.core.trust.track_record import TrackRecord, TrackRecords
from swarmllm.messages import PeerId
from tests.core.trust.test_reputation import values

PEER, DIGEST, START_S = PeerId("one"), bytes(range(32)), 1_800_000_000.0
numbers = st.floats(-8, 8, allow_subnormal=False)
records = st.builds(TrackRecord, numbers, numbers, numbers, numbers, st.booleans(), numbers)


@given(st.lists(records, max_size=6))
def test_what_was_kept_is_read_as_it_was(found: list[TrackRecord]) -> None:
    kept = [((PeerId(f"peer {i}"), DIGEST), one) for i, one in enumerate(found)]
    assert list(unpack(pack(TrackRecords(kept), START_S), START_S)) == kept


def test_after_a_week_it_counts_half_and_a_clock_that_ran_backwards_adds_nothing() -> None:
    saved = pack(TrackRecords([((PEER, DIGEST), TrackRecord(8.0, 4.0, 1.0, 0.5))]), START_S)
    ((_, later),) = unpack(saved, START_S + 7 * DAY_S)
    assert (later.hidden, later.audits, later.merit) == pytest.approx((4.0, 2.0, 0.5))
    ((_, before),) = unpack(saved, START_S - DAY_S)
    assert before == TrackRecord(8.0, 4.0, 1.0, 0.5)


def test_what_a_node_kept_before_it_counted_what_was_confirmed_is_read() -> None:
    row = [PEER, DIGEST, 8.0, 4.0, 1.0, 0.5, False]
    ((_, found),) = unpack(msgpack.packb([1, START_S, [row]]), START_S)
    assert found == TrackRecord(8.0, 4.0, 1.0, 0.5)


@given(
    st.one_of(
        st.binary(max_size=200),
        values.map(lambda one: bytes(msgpack.packb([1, START_S, one]))),
        values.map(lambda one: bytes(msgpack.packb([1, START_S, [["peer", DIGEST, one]]]))),
    )
)
def test_what_is_damaged_is_forgotten(saved: bytes) -> None:
    for (peer, digest), record in unpack(saved, START_S):
        assert isinstance(peer, str)
        assert len(digest) == 32
        assert isinstance(record.is_refuted, bool)
