"""What is said when fewer experts make a token than were asked for, and why."""

from __future__ import annotations

import pytest

from swarmllm.core.decoding.notices import Level


@pytest.mark.parametrize(
    ("used", "is_local", "known", "said"),
    [
        (3, False, 3, ""),
        (2, False, 3, "2 of 3 experts answered; continuing with 2"),
        (2, False, 2, "only 2 experts are known; continuing with 2 (asked for 3)"),
        (
            1,
            True,
            3,
            "no answer of 2 other experts in time; continuing with the local expert alone"
            " (asked for 3)",
        ),
        (
            1,
            True,
            1,
            "no other expert is known; continuing with the local expert alone (asked for 3)",
        ),
    ],
)
def test_a_lower_level_is_told_once_with_its_reason_and_so_is_its_end(
    used: int, is_local: bool, known: int, said: str
) -> None:
    level = Level(3)
    assert level.change(used, 3, is_local, lambda: known) == said
    assert level.change(used, 3, is_local, lambda: known) == ""
    assert level.change(3, 3, False, lambda: known) == ("3 experts again" if said else "")
