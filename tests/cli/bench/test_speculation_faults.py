"""Laws of the count of answers through faults: a token that is lost or doubled is seen, and so is
another text."""

from __future__ import annotations

from typing import Any

import pytest

from swarmllm.cli.bench.speculation_faults import DRAWN, GREEDY, TOKENS, Toll, count

END: dict[str, Any] = {
    "event": "end",
    "reason": "length",
    "tokens": TOKENS,
    "text": "a text",
    "drafted": 9,
    "accepted": 7,
    "failovers": 1,
}


def answer(indices: list[int], **end: Any) -> list[dict[str, Any]]:
    return [*({"event": "token", "index": index} for index in indices), {**END, **end}]


WHOLE = list(range(TOKENS))


def test_whole_answers_are_counted_with_what_was_drafted() -> None:
    toll = Toll()
    for heat in (GREEDY, DRAWN):
        count(toll, answer(WHOLE), heat, answer(WHOLE))
    assert (toll.answers, toll.whole, toll.same, toll.faults) == (2, 2, {GREEDY: 1, DRAWN: 1}, [])
    assert (toll.drafted, toll.accepted, toll.failovers) == (18, 14, 2)


@pytest.mark.parametrize(
    "broken",
    [
        answer(WHOLE[:-1]),
        answer([*WHOLE[:7], *WHOLE[6:-1]]),
        answer([*WHOLE[:7], *WHOLE[8:], TOKENS]),
        answer(WHOLE, tokens=TOKENS - 1),
        answer(WHOLE[:9], reason="error", tokens=9, error="nobody is left"),
    ],
    ids=["lost at the end", "doubled", "left out", "not counted", "ended early"],
)
def test_an_answer_that_is_not_whole_is_told(broken: list[dict[str, Any]]) -> None:
    toll = Toll()
    count(toll, broken, GREEDY, answer(WHOLE))
    assert (toll.answers, toll.whole) == (1, 0)
    assert len(toll.faults) == 1


def test_another_text_is_seen() -> None:
    toll = Toll()
    count(toll, answer(WHOLE, text="another"), GREEDY, answer(WHOLE))
    assert (toll.whole, toll.same[GREEDY], toll.asked[GREEDY]) == (1, 0, 1)
