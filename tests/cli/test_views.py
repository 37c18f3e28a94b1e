"""Whatever strangers write, in whichever view: nothing acts on the terminal, nothing is lost,
nothing fails."""

from __future__ import annotations

import io

import pytest
from rich.console import Group

from swarmllm.cli import output
from swarmllm.cli.inspect import status_view
from swarmllm.cli.screen import Line, Screen
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.visible import flowing, one_line
from tests.cli.hostile_views import VIEWS, status
from tests.cli.terminal import (
    ACTING,
    MARKUP,
    PRINTABLE,
    SEQUENCES,
    Terminal,
    acting_in,
    screen_on,
    words_on,
)


def wrong_with(name: str, text: str) -> str:
    """Empty if the view showed the text as it is and let nothing act."""
    raw = VIEWS[name](text)
    if acting := acting_in(raw):
        return f"{text!r}: {sorted(acting)!r} came out"
    if "\x1b]" in raw:
        return f"{text!r}: a link or a title came out"
    words = words_on(raw)
    return (
        ""
        if any(words_on(way(text)) in words for way in (one_line, flowing, in_json))
        else f"{text!r}: not to be read in {raw!r}"
    )


def in_json(text: str) -> str:
    return output.line({"x": text, "time": 0}).removeprefix('{"x":"').removesuffix('","time":0}\n')


@pytest.mark.parametrize("name", VIEWS)
def test_every_printable_character_is_shown_as_it_is(name: str) -> None:
    wrong = [found for char in PRINTABLE if (found := wrong_with(name, f"ab{char}cd"))]
    assert wrong == []


@pytest.mark.parametrize("name", VIEWS)
def test_markup_is_text(name: str) -> None:
    wrong = [found for text in MARKUP if (found := wrong_with(name, text))]
    assert wrong == []


@pytest.mark.parametrize("name", VIEWS)
def test_every_control_character_is_made_visible(name: str) -> None:
    wrong = [found for char in ACTING if (found := wrong_with(name, f"ab{char}cd"))]
    assert wrong == []


@pytest.mark.parametrize("name", VIEWS)
def test_sequences_that_a_terminal_obeys_are_made_visible(name: str) -> None:
    wrong = [found for text in SEQUENCES if (found := wrong_with(name, text))]
    assert wrong == []


def test_a_node_whose_engine_is_down_is_no_node_without_a_model() -> None:
    terminal = Terminal()
    down = {**status("x"), "model": None, "troubles": ["no way in from outside"]}
    screen_on(terminal).print(status_view(down))
    shown = words_on(terminal.getvalue())
    assert words_on("its engine is down, and is being started again") in shown
    assert words_on("no way in from outside") in shown
    screen_on(terminal).print(status_view({**down, "load": None}))
    assert words_on("this node asks others") in words_on(terminal.getvalue())


@pytest.mark.parametrize(
    ("membership", "said"),
    [
        (
            {"members": 1, "ends_ms": 1_795_000_000_000, "may_invite": True},
            "1 other member known; this node's membership is good until 2026-11-18 11:06 UTC,"
            " and it may let others in",
        ),
        (
            {"members": 0, "ends_ms": 0, "may_invite": False},
            "0 other members known; this node's membership is not there yet",
        ),
    ],
)
def test_the_status_says_that_the_swarm_is_closed(membership: Record, said: str) -> None:
    terminal = Terminal()
    screen_on(terminal).print(status_view({**status("x"), "membership": membership}))
    assert words_on(said) in words_on(terminal.getvalue())


def test_the_status_of_a_halted_node_says_what_shows_the_way_out() -> None:
    terminal = Terminal()
    screen_on(terminal).print(status_view({**status("x"), "halted": ["stopped by the owner"]}))
    assert words_on("swarmllm halt status shows what ends it") in words_on(terminal.getvalue())


def test_the_status_says_in_one_line_how_the_node_is_reached() -> None:
    terminal = Terminal()
    said = "behind a NAT, reached through 2 relays; forward TCP port 7339 to this machine"
    screen_on(terminal).print(status_view({**status("x"), "reach": {"says": said}}))
    assert words_on(said) in words_on(terminal.getvalue())


def test_in_a_pipe_nothing_is_cut_and_no_line_ends_in_blanks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name, addr = "SmolLM2-1.7B-Instruct-" + "Q4" * 60, "/ip4/192.0.2.7/tcp/7339/p2p/" + "a" * 90
    pipe = io.StringIO()
    record = status(name)
    Screen(file=pipe).print(status_view(record | {"addrs": [addr]}))
    sentence = "A sentence about " + "nothing " * 30
    Screen(file=pipe).print(Line(sentence))
    Screen(file=pipe).print(Group(Line(sentence), "", Line("another")))
    lines = pipe.getvalue().split("\n")
    assert name in pipe.getvalue()
    assert lines.count(sentence.rstrip()) == 2
    assert len(lines) > 5
    assert [line for line in lines if line != line.rstrip()] == []
