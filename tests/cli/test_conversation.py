"""Laws of a conversation on the terminal: roles alternate, a line that gets no answer changes
nothing, and no command loses what was said but the one that is asked to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.cli.chat import commanded, turn
from swarmllm.cli.conversation import COMMANDS, Command, Conversation, command_in
from swarmllm.cli.prompt import as_question
from swarmllm.core.chat import ASSISTANT, SYSTEM, USER, check_messages
from swarmllm.errors import ContextError, LocalError, UsageError
from swarmllm.runtime.service.request import TextRequest

OPTIONS = TextRequest(k=2, stop=("x",))
WORDS = st.text("abc /", min_size=1, max_size=5)


def echo(request: TextRequest) -> str:
    request.check()
    return f"said {request.messages[-1].content}"


def nothing() -> None:
    raise AssertionError("nobody asked for experts")


@given(st.lists(WORDS, max_size=5), st.text("de", max_size=3))
def test_roles_alternate_and_options_are_kept(lines: list[str], instructions: str) -> None:
    asked: list[TextRequest] = []

    def answer(request: TextRequest) -> str:
        asked.append(request)
        return echo(request)

    talk = Conversation(instructions)
    for line in lines:
        talk = turn(talk, line, OPTIONS, answer)
    for count, request in enumerate(asked, 1):
        check_messages(request.messages)
        roles = [m.role for m in request.messages]
        system = [SYSTEM] if instructions else []
        assert roles == [*system, *[USER, ASSISTANT] * (count - 1), USER]
        assert (request.k, request.stop, request.prompt) == (2, ("x",), "")
    assert [m.content for m in talk.said if m.role == USER] == lines


@pytest.mark.parametrize("fault", [LocalError("no"), UsageError("refused"), ContextError("long")])
def test_a_line_without_an_answer_leaves_the_conversation_as_it_was(
    fault: LocalError, capsys: pytest.CaptureFixture[str]
) -> None:
    before = turn(Conversation(), "Once", OPTIONS, echo)

    def failing(request: TextRequest) -> str:
        raise fault

    assert turn(before, "more", OPTIONS, failing) == before
    assert str(fault) in capsys.readouterr().err
    assert turn(before, "more", OPTIONS, lambda _: "") == before


def test_where_it_no_longer_fits_the_oldest_turns_are_left_out() -> None:
    def small(request: TextRequest) -> str:
        if len(request.messages) > 4:
            raise ContextError("too long")
        return "!"

    talk = Conversation("be short")
    for line in ("one", "two", "three"):
        talk = turn(talk, line, OPTIONS, small)
    assert [m.content for m in talk.messages] == ["be short", "two", "!", "three", "!"]


def held(most: int) -> Callable[[TextRequest], str]:
    """An expert whose tokens are letters."""

    def answer(request: TextRequest) -> str:
        size = sum(len(m.content) for m in request.messages)
        if size > most:
            raise ContextError(f"{size} of {most}", size - most)
        return "!"

    return answer


def test_turns_are_left_out_by_what_is_too_much_and_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    talk = Conversation()
    for n in range(100):
        talk = turn(talk, f"{n:03}" + "x" * 96, OPTIONS, held(10_000))
    assert len(talk.said) == 200
    capsys.readouterr()
    after = turn(talk, "y" * 5_000, OPTIONS, held(10_000))
    told = capsys.readouterr().err
    kept = [m.content for m in after.said if m.role == USER]
    assert kept == [*(m.content for m in talk.said if m.role == USER), "y" * 5_000][-len(kept) :]
    assert len(kept) == 51  # As many as there is room for.
    assert 1 <= told.count("left out from here") <= 10


@pytest.mark.parametrize("instructions", ["", "z" * 11_000])
def test_a_line_that_no_shortening_lets_in_costs_one_question_and_no_turn(
    instructions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = turn(Conversation(), "short", OPTIONS, held(10_000)).instructed(instructions)
    asked = list[TextRequest]()

    def counted(request: TextRequest) -> str:
        asked.append(request)
        return held(10_000)(request)

    assert turn(talk, "y" * (1 if instructions else 1 << 20), OPTIONS, counted) == talk
    told = capsys.readouterr().err
    assert len(asked) == 1
    assert "left out from here" not in told
    assert ("instructions count as well" in told) is bool(instructions)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/reset", Command("/reset", "")),
        ("  /save a b.md ", Command("/save", "a b.md")),
        ("/unknown", Command("/unknown", "")),
        ("/usr/bin is a folder", None),
        ("1/2", None),
        ("/", None),
        ("/2 cups", None),
        ("what is /reset?", None),
    ],
)
def test_a_command_is_a_slash_and_a_word(line: str, command: Command | None) -> None:
    assert command_in(line) == command


def test_commands_change_what_they_say(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    talk = turn(Conversation("old"), "Hello", OPTIONS, echo)
    assert commanded(talk, Command("/reset", ""), nothing) == Conversation("old")
    assert commanded(talk, Command("/system", "new"), nothing) == talk.instructed("new")
    assert commanded(talk, Command("/system", ""), nothing).messages == talk.said
    for name in ("/help", "/unknown"):
        assert commanded(talk, Command(name, ""), nothing) == talk
    said = capsys.readouterr().err
    assert all(name in said for name in COMMANDS)
    assert "'/unknown'" in said
    file = tmp_path / "talk.md"
    for _ in range(2):  # The second time it is there already.
        assert commanded(talk, Command("/save", str(file)), nothing) == talk
    assert (
        file.read_text()
        == "## Instructions\n\nold\n\n## You\n\nHello\n\n## Swarm\n\nsaid Hello\n\n"
    )
    refused = capsys.readouterr().err
    assert "is there already" in refused
    assert "--out" not in refused  # Which is an option of other commands.
    commanded(talk, Command("/save", str(tmp_path / "none" / "talk.md")), nothing)
    refused = capsys.readouterr().err
    assert "No such file or directory" in refused
    assert "free some space" not in refused
    commanded(Conversation(), Command("/save", str(tmp_path / "new.md")), nothing)
    commanded(talk, Command("/save", ""), nothing)
    commanded(talk, Command("/save", "\0"), nothing)
    assert [p.name for p in tmp_path.iterdir()] == ["talk.md"]


def test_a_command_that_fails_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise LocalError("the node is gone")

    talk = Conversation("x")
    assert commanded(talk, Command("/experts", ""), broken) == talk
    assert "the node is gone" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_a_question_without_a_word_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="question is empty"):
        as_question(TextRequest(prompt=text), "", is_raw=False)
