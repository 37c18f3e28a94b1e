"""What `swarmllm demo --agent` counts and draws; the whole of it takes minutes, run by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from swarmllm.cli.app import demo
from swarmllm.cli.demo_agent import FAULT, late_share, told
from swarmllm.cli.demo_chart import Load, check_picture, draw, lines_of
from swarmllm.errors import LocalError, MissingExtraError


def test_late_is_what_took_three_times_the_median() -> None:
    assert late_share([]) == late_share([1.0]) == 0.0
    assert late_share([0.0, 1.0, 2.0, 3.0, 4.0]) == 0.0
    assert late_share([0.0, 1.0, 2.0, 6.0, 7.0, 8.0]) == pytest.approx(1 / 5)


def test_what_somebody_who_waits_notices_is_told() -> None:
    steady = [0.1 * place for place in range(21)]
    assert told(Load("x", 4.0, [*steady, 3.5])) == (
        "22 tokens in 4 s, 5.5 a second: half of them came within 100 ms, one of twenty took"
        " 1500 ms or longer"
    )
    assert told(Load("x", 4.0, [1.0])) == "1 tokens in 4 s"


def test_a_bar_for_each_second_on_the_scale_of_all() -> None:
    quick, slow = Load("x", 2.0, [0.1, 0.2, 0.3, 0.4, 1.5]), Load("y", 2.0, [1.1, 1.2])
    assert lines_of([quick, slow]) == ["█▂", " ▄"]
    assert lines_of([Load("z", 2.0, [])]) == ["  "]


def test_its_charter_may_start_with_the_settings_that_make_answers_slow() -> None:
    for setting, value in FAULT.items():
        assert setting.limits.low <= value <= setting.limits.high
        assert value != setting.default


def test_the_tokens_of_each_second_are_counted() -> None:
    load = Load("x", 3.0, [0.1, 0.9, 2.5, 2.6, 2.7, 3.05])
    assert load.counts() == [2, 0, 3]
    assert load.rate == 2.0


def test_a_picture_is_drawn_or_it_is_said_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a" / "b.png"
    check_picture(file)
    draw([Load("before", 2.0, [0.5]), Load("after", 2.0, [0.5, 1.5])], file)
    assert file.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(LocalError, match="is a folder"):
        check_picture(tmp_path)
    monkeypatch.setattr("swarmllm.cli.demo_chart.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="matplotlib"):
        check_picture(file)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"agent": True, "governance": True}, "give one of them"),
        ({"out": Path("x.png")}, "--out is the picture of --agent"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(
    given: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as left:
        demo(**given)
    assert left.value.exit_code == 2
    assert says in capsys.readouterr().err
