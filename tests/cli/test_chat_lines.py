"""A line that gets no answer leaves the chat as it was."""

from __future__ import annotations

import pytest

from swarmllm.cli.chat import turn
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.service.request import TextRequest

BAD = "bad"


def strict(request: TextRequest) -> str:
    """Answers any prompt but one that holds a line it does not take."""
    request.check()
    if BAD in request.prompt:
        raise LocalError("no expert takes that")
    return "!"


@pytest.mark.parametrize("line", [BAD, "half a character \ud83d", "\udcff"])
def test_a_refused_line_is_dropped_and_the_next_one_is_answered(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = turn(TextRequest(""), "Once", strict)
    assert before.prompt == "Once!"
    after = turn(before, line, strict)
    assert after == before
    assert "left out" in capsys.readouterr().err
    assert turn(after, " upon", strict).prompt == "Once! upon!"


def test_a_long_text_survives_a_line_that_is_refused_for_another_reason_than_its_length() -> None:
    before = TextRequest("long " * 1000)

    def never(request: TextRequest) -> str:
        raise UsageError("not this")

    assert turn(before, "more", never) == before


def test_a_text_that_no_longer_fits_loses_its_older_half_only() -> None:
    def small(request: TextRequest) -> str:
        if len(request.prompt) > 3000:
            raise UsageError("too long")
        return "!"

    after = turn(TextRequest("a" * 2900 + "b" * 1000), "c", small)
    assert after.prompt.endswith("bc!")
    assert 1000 < len(after.prompt) <= 3001
