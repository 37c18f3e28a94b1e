"""Numbers and times as people read them."""

from __future__ import annotations

from swarmllm.api.console.wording import amount, moment, ms, percent, sentence, short_peer, span


def test_numbers_have_as_many_digits_as_help() -> None:
    assert [amount(one) for one in (12, 1_500, 135e6, 8e9)] == ["12", "1.5 k", "135 M", "8.0 B"]
    assert [ms(one) for one in (None, 1.26, 126.4, 1_260, 12_600)] == [
        *("–", "1.3 ms", "126 ms", "1.3 s", "13 s"),
    ]
    assert [percent(one) for one in (None, 0.257)] == ["–", "26 %"]
    assert [span(one) for one in (3, 240, 7_200, 432_000)] == ["3 s", "4 min", "2 h", "5 d"]


def test_a_time_beyond_the_calendar_is_a_number() -> None:
    assert moment(0) == "1970-01-01 00:00:00 UTC"
    assert moment(1e15) == "1000000000000000 s"


def test_names_and_sentences() -> None:
    assert short_peer("12D3KooWabcdef") == "…abcdef"
    assert [sentence(one) for one in ("a b", "Is it?", "a.b is")] == ["A b.", "Is it?", "a.b is."]
