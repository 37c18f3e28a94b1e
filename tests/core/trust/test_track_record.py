"""Laws of track records: what counts, what one failed audit does, and what is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.trust.track_record import (
    NATS_MAX,
    NOTHING,
    RECORDS_MAX,
    TrackRecord,
    TrackRecords,
)
from swarmllm.messages import PeerId

NATS = st.floats(-1e3, 1e3)


@given(st.lists(st.tuples(NATS, st.none() | NATS), max_size=60))
def test_means_stay_within_what_one_result_may_say(
    results: list[tuple[float, float | None]],
) -> None:
    record = NOTHING
    for merit, overclaim in results:
        record = record.after_hidden(merit, overclaim)
    assert record.hidden == record.results == len(results)
    assert abs(record.merit) <= NATS_MAX
    assert abs(record.overclaim) <= NATS_MAX


def test_the_first_results_are_averaged_and_later_ones_are_followed() -> None:
    record = NOTHING
    for merit in (1.0, 3.0):
        record = record.after_hidden(merit, None)
    assert (record.merit, record.overclaim) == (2.0, 0.0)
    for _ in range(200):
        record = record.after_hidden(-1.0, 0.5)
    assert record.merit == pytest.approx(-1.0, abs=0.01)
    assert record.overclaim == pytest.approx(0.5, abs=0.01)


def test_an_audit_that_was_not_passed_leaves_nothing_of_what_was_before() -> None:
    good = NOTHING.after_hidden(2.0, 0.0).after_audit(is_passed=True)
    assert (good.results, good.audits) == (2, 1)
    refuted = good.after_audit(is_passed=False)
    assert refuted == TrackRecord(is_refuted=True)
    assert refuted.after_hidden(1.0, 0.0).results == 0
    again = refuted.after_audit(is_passed=True)
    assert (again.results, again.is_refuted) == (1, False)


def test_typical_is_the_middle_of_the_language_models_that_were_tried() -> None:
    """However many liars there are, and whoever was only audited: nothing was seen of its merit."""
    records, digest = TrackRecords(), bytes(32)
    for number, merit in enumerate((-0.5, -1.5)):
        records.put(PeerId(f"p{number}"), digest, TrackRecord(hidden=2, merit=merit))
    assert records.typical == 0.0
    records.put(PeerId("p2"), digest, TrackRecord(hidden=9, merit=-1.0))
    assert records.typical == -1.0
    records.put(PeerId("audited"), digest, TrackRecord(audits=5))
    for number in range(9):
        records.put(PeerId(f"liar{number}"), digest, TrackRecord(hidden=8, merit=-NATS_MAX))
    records.put(PeerId("caught"), digest, TrackRecord(is_refuted=True))
    assert records.typical == -1.0
    records.put(PeerId("p3"), digest, TrackRecord(hidden=1, merit=-2.0))
    assert records.typical == -1.25


def test_what_is_old_counts_for_less() -> None:
    half = TrackRecord(hidden=8, audits=4, merit=1.0, overclaim=0.5).decayed(0.5)
    assert half == TrackRecord(hidden=4, audits=2, merit=0.5, overclaim=0.25)


def test_another_model_or_another_peer_begins_with_nothing() -> None:
    records = TrackRecords()
    records.put(PeerId("a"), b"x", TrackRecord(hidden=8))
    assert records.of(PeerId("a"), b"y") == records.of(PeerId("b"), b"x") == NOTHING
    assert records.of(PeerId("a"), b"x").results == 8


def test_they_are_bounded_and_tell_what_has_changed() -> None:
    kept = [((PeerId(f"p{i}"), b""), TrackRecord(hidden=1)) for i in range(RECORDS_MAX)]
    records = TrackRecords(kept)
    assert not records.changed()
    records.put(PeerId("new"), b"", TrackRecord(hidden=2))
    assert len(list(records)) == RECORDS_MAX
    assert records.of(PeerId("p0"), b"") == NOTHING
    assert records.changed() == [((PeerId("new"), b""), TrackRecord(hidden=2))]
    assert not records.changed()
