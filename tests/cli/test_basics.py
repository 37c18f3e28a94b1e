"""What holds for every command: help costs nothing, mistakes get one sentence and the right
code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.text import Text

from swarmllm.cli.app import PANELS, app
from tests.cli.command import DEADLINE_S, command, environment, run

COMMANDS = ("join", "generate", "chat", "status", "experts", "models", "doctor", "demo", "bench")


def test_no_arguments_show_help_and_succeed(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.code == 0
    assert all(name in done.out for name in COMMANDS)
    assert done.complaint == ""
    assert list(tmp_path.iterdir()) == []  # No folder, hence no key, no socket, no port.


@pytest.mark.parametrize(
    "name", [*COMMANDS, "models list", "models show", "models pull", "models remove"]
)
def test_every_command_has_help(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, *name.split(), "--help")
    assert done.code == 0
    assert "Usage: swarmllm " + name in done.out


def test_no_help_text_loses_what_stands_in_brackets() -> None:
    """typer reads help as rich's markup, to which a bare `[pins]` is the name of a style."""
    texts = list(help_texts(typer.main.get_command(app)))
    assert any(r"\[pins]" in text for text in texts)
    assert [t for t in texts if Text.from_markup(t).plain != t.replace("\\[", "[")] == []


def test_switches_take_no_value_and_defaults_are_told_in_one_way(tmp_path: Path) -> None:
    for name in ("join", "chat", "charter create", "bench halt"):
        shown = run(tmp_path, *name.split(), "--help", COLUMNS="200").out
        assert "<bool>" not in shown
        assert re.search(r"\((\d+|default.*)\)", shown) is None, name
    chat = " ".join(run(tmp_path, "chat", "--help", COLUMNS="200").out.split())
    assert "[default: 3, or what the swarm has set]" in chat
    assert "[default: 128]" in chat


def test_each_command_has_one_place_among_what_people_want() -> None:
    """Where one is missing no command works at all, so what is asked is the other way round."""
    named = [name for names in PANELS.values() for name in names]
    assert sorted(named) == sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_the_list_of_commands_begins_with_what_a_new_user_wants(tmp_path: Path) -> None:
    shown = run(tmp_path, "--help", COLUMNS="300").out
    places = [shown.index(f" {panel} ─") for panel in PANELS]
    assert places == sorted(places)
    assert shown.index(" join ") < shown.index(" invite ") < shown.index(" simulate ")


def test_the_list_of_commands_breaks_no_sentence(tmp_path: Path) -> None:
    shown = run(tmp_path, "--help", COLUMNS="300").out
    assert "streaming it to standard output." in shown
    assert "swarmllm chat, alone on this machine" in shown


def help_texts(command: Any) -> Iterator[str]:
    """Those of a command, of its parameters, and of the commands below it."""
    for holder in (command, *command.params):
        yield from filter(None, (getattr(holder, name, "") for name in ("help", "epilog")))
    for below in getattr(command, "commands", {}).values():
        yield from help_texts(below)


def test_help_imports_neither_network_nor_model_library() -> None:
    program = (
        "import sys\n"
        "from swarmllm.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as e:\n"
        "    assert e.code == 0\n"
        "heavy = {'libp2p', 'llama_cpp', 'trio', 'numpy', 'tokenizers',"
        " 'cryptography'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("join", "--nonsense"),
        ("join", "--port", "many"),
        ("join", "--port", "70000"),
        ("join", "--peer", "192.0.2.1:7339"),
        ("join", "--swarm", "Not A Name"),
        ("join", "--listen", "everywhere"),
        ("join", "--context", "3"),
        ("join", "--model", "demo:no-such-expert"),
        ("generate",),
        ("generate", ""),
        ("generate", "text", "-k", "0"),
        ("generate", "text", "--temperature", "-1"),
        ("generate", "text", "--top-p", "2"),
        ("generate", "text", "--max-tokens", "0"),
        ("bench", "--only", "weather"),
        ("models", "show", "llama3-demo:no-such-expert"),
        ("models", "pull", "smollm2:no-such-specialist"),
        ("models", "pull", "hf:no-repository"),
        ("models", "pull", "auto"),
        ("models", "remove", "none"),
        ("models", "remove", "/a/file/of/mine.gguf"),
    ],
)
def test_usage_errors_have_code_2_and_no_traceback(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = run(tmp_path, *arguments)
    assert done.code == 2, done
    assert done.out == ""
    assert "Traceback" not in done.err
    assert done.err.strip()


def test_an_unknown_setting_in_the_environment_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "status", SWARMLLM_PROT="7339")
    assert done.code == 2
    assert "SWARMLLM_PROT" in done.sentence()
    assert "SWARMLLM_PORT" in done.sentence()


@pytest.mark.parametrize("name", ["status", "experts"])
def test_without_a_node_status_says_so(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, name, "--json")
    assert done.code == 1
    assert done.out == ""
    assert "swarmllm join" in done.sentence()


def test_debug_shows_the_traceback_beside_the_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "generate", "", SWARMLLM_DEBUG="1")
    assert done.code == 2
    assert "Traceback" in done.err
    assert "swarmllm: " in done.err


def test_a_reader_that_leaves_ends_the_command_quietly(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("doctor", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read() == ""


def test_version_is_that_of_the_package(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert (done.code, done.out) == (0, "swarmllm 0.1.0\n")
