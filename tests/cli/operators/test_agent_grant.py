"""What people grant an agent with `charter create`: read back as it was given, or one sentence."""

from __future__ import annotations

import pytest

from swarmllm.cli.operators.agent_grant import (
    NOTHING,
    GrantGiven,
    grant_fields,
    grant_sentence,
    granted,
)
from swarmllm.errors import UsageError
from swarmllm.wire.ext import addition, additions

OTHER = addition(9, b"later")


def test_what_was_given_is_granted_and_all_else_stays() -> None:
    ext = granted(GrantGiven(5, 20, 2, ("token=2", "bytes=0.25")), OTHER)
    assert grant_fields(ext) == {
        "interval_min": 5,
        "share_permille": 20,
        "attempts": 2,
        "weights": {"token": 2.0, "bytes": 0.25},
    }
    assert additions(ext)[9] == b"later"
    assert "every 5 minutes at most, 2 % of the experts' time" in grant_sentence(ext)
    again = granted(GrantGiven(permille=0), ext)
    assert grant_fields(again) == grant_fields(ext) | {"share_permille": 0}
    assert granted(NOTHING, ext) == ext


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (GrantGiven(0), "--agent-interval is 0; it must be 1 to 1440"),
        (GrantGiven(permille=101), "--agent-share is 101; it must be 0 to 100"),
        (GrantGiven(attempts=17), "--agent-attempts is 17"),
        (GrantGiven(weights=("token",)), "not of the form PART=NUMBER"),
        (GrantGiven(weights=("token=nan",)), "not of the form PART=NUMBER"),
        (GrantGiven(weights=("joy=1",)), "no part 'joy'"),
        (GrantGiven(weights=("token=9999",)), "must be 0 to 1000"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(given: GrantGiven, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        granted(given, b"")
