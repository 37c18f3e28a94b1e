"""Incidents are those of the last quarter of an hour."""

from __future__ import annotations

import pytest

from swarmllm.core.agent.incidents import LOOKS_MAX, WINDOW_S, Counts, Incidents


def test_what_happened_counts_for_a_quarter_of_an_hour() -> None:
    seen = Incidents()
    assert seen.metrics(Counts(), 5000.0) == {}
    found = seen.metrics(Counts(strikes=2, refused=10, replied=30), 5060.0)
    assert found == {"strikes": 2, "refused_share": pytest.approx(0.25)}
    later = Counts(strikes=2, refused=10, replied=90)
    assert seen.metrics(later, 5120.0)["strikes"] == 2
    assert seen.metrics(later, 5120.0 + WINDOW_S) == {}
    more = Counts(strikes=3, refused=11, replied=91)
    found = seen.metrics(more, 5180.0 + WINDOW_S)
    assert found == {"strikes": 1, "refused_share": pytest.approx(0.5)}


def test_many_looks_are_bounded_and_tell_of_less_time() -> None:
    seen = Incidents()
    for number in range(10 * LOOKS_MAX):
        found = seen.metrics(Counts(strikes=number), 0.1 * number)
    assert found == {"strikes": LOOKS_MAX}
