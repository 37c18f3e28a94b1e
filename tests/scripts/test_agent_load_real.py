"""What `scripts.agent_load --real` counts; the run itself takes minutes, by hand."""

from __future__ import annotations

import pytest

from scripts.agent_load_real import Times, at_share


def test_only_waits_within_one_answer_and_one_window_count() -> None:
    times = Times([[0.0, 0.5, 1.0], [2.0, 2.25, 3.5], []])
    assert times.gaps_ms([(0.0, 10.0)]) == [250.0, 500.0, 500.0, 1250.0]
    assert times.gaps_ms([(0.5, 1.0), (2.0, 3.0)]) == [250.0, 500.0]
    assert times.gaps_ms([]) == []


@pytest.mark.parametrize(("share", "found"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_share_of_the_values_lies_below(share: float, found: int) -> None:
    assert at_share(range(1, 101), share) == found
