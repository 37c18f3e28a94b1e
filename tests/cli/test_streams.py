"""Whatever its caller did to its standard streams, its paths and its environment: a command says
what is wrong, with the right code."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.cli.command import DEADLINE_S, Finished, command, environment, run

FAULT = "fault of its own"
NOT_UTF8 = b"a\xffb"


def through_shell(
    home: Path, line: str, *arguments: str | bytes, more: Mapping[str, str] = MappingProxyType({})
) -> Finished:
    """`line` is a shell's, in which "$@" is the command."""
    words = [*command(), *arguments]
    done = subprocess.run(
        ["bash", "-c", line, "bash", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        env=environment(home, **more),
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


SHOWING = [
    ("--version",),
    ("--help",),
    ("join", "--help"),
    ("models", "list"),
    ("models", "list", "--json"),
    ("doctor", "--json"),
]


@pytest.mark.parametrize("arguments", SHOWING, ids=" ".join)
@pytest.mark.parametrize(
    ("redirection", "word"), [(">&-", "closed"), ("> /dev/full", "No space left")]
)
def test_output_that_cannot_be_written_is_an_error_in_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], redirection: str, word: str
) -> None:
    done = through_shell(tmp_path, f'exec "$@" {redirection}', *arguments)
    assert done.code == 1
    assert word in done.sentence()
    assert "standard output" in done.sentence()


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("models", "list"), 0), (("doctor",), 0), (("status",), 1), (("nonsense",), 2)],
    ids=str,
)
def test_nobody_to_tell_changes_no_exit_code(
    tmp_path: Path, redirection: str, arguments: tuple[str, ...], code: int
) -> None:
    done = through_shell(tmp_path, f'exec "$@" {redirection}', *arguments)
    assert done.code == code
    assert bool(done.out) == (code == 0)
    assert FAULT not in done.err


def test_with_all_streams_closed_the_code_still_tells(tmp_path: Path) -> None:
    for arguments, code in ((("status",), 1), (("nonsense",), 2), (("models", "list"), 1)):
        assert through_shell(tmp_path, 'exec "$@" <&- >&- 2>&-', *arguments).code == code


def test_a_closed_stream_is_no_file_of_ours(tmp_path: Path) -> None:
    """Its number would go to the next file that is opened: here the key or the lock, with records
    written into it."""
    data = tmp_path / "data"
    flags = (
        "--no-lan",
        "--listen",
        "127.0.0.1",
        "--port",
        "0",
        "--model",
        "none",
        "--data-dir",
        str(data),
    )
    done = through_shell(tmp_path, 'exec timeout -s INT 20 "$@" >&-', "join", "--json", *flags)
    assert (done.code, "standard output is closed" in done.sentence()) == (1, True)
    assert all(b'"event"' not in file.read_bytes() for file in data.iterdir() if file.is_file())


@pytest.mark.parametrize(
    "arguments",
    [("generate", "-"), ("chat",), ("join", "--until-eof", "--model", "none")],
    ids=" ".join,
)
def test_closed_input_is_named_where_it_is_needed(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = through_shell(tmp_path, 'exec "$@" <&-', *arguments)
    assert done.code == 2
    assert "closed" in done.sentence()


@pytest.mark.parametrize(
    "arguments", [("--help",), ("models", "list"), ("models", "list", "--json")], ids=" ".join
)
def test_a_reader_that_leaves_has_what_it_wanted(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = through_shell(tmp_path, '"$@" | true; exit "${PIPESTATUS[0]}"', *arguments)
    assert (done.code, done.complaint) == (0, "")


def test_a_full_pipe_that_does_not_block_is_waited_for(tmp_path: Path) -> None:
    """Another program that shares the pipe may have set it so; `os.write` then fails where it would
    have waited."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    os.write(writing, b"\n" * 4096)
    found: list[bytes] = []

    def read() -> None:
        time.sleep(
            1
            # Until the program is likely to stand before the full pipe; if it does not yet, it
            # passes for another reason.
        )
        while data := os.read(reading, 65_536):
            found.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    with subprocess.Popen(
        command("models", "list", "--json"), stdout=writing, env=environment(tmp_path)
    ) as process:
        os.close(writing)
        assert process.wait(DEADLINE_S) == 0
    reader.join(60)
    os.close(reading)
    records = [json.loads(line) for line in b"".join(found).split(b"\n") if line]
    assert [r["event"] for r in records] == ["model"] * len(records)
    assert len(records) >= 4


# --- bytes that are no text -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", NOT_UTF8),
        ("generate", "a", "--stop", NOT_UTF8),
        ("generate", "a", "--domain", NOT_UTF8),
    ],
    ids=["prompt", "stop", "domain"],
)
def test_bytes_that_are_no_text_are_named_before_anything_is_started(
    tmp_path: Path, arguments: tuple[str | bytes, ...]
) -> None:
    done = through_shell(tmp_path, 'exec "$@"', *arguments)
    assert done.code == 2
    assert "0xff" in done.sentence()
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--swarm", "--peer", "--listen", "--announce", "--log-level"])
def test_bytes_in_an_option_are_a_usage_error(tmp_path: Path, option: str) -> None:
    done = through_shell(tmp_path, 'exec "$@"', "join", option, NOT_UTF8)
    assert done.code == 2
    assert option in done.sentence()


def test_a_node_runs_on_a_path_that_is_no_text_and_is_found_there(tmp_path: Path) -> None:
    data = os.fsencode(tmp_path) + b"/d\xe9p\xf4t"
    flags = ("--no-lan", "--listen", "127.0.0.1", "--port", "0", "--model", "none")
    done = through_shell(
        tmp_path, 'exec "$@"', "join", "--json", "--until-eof", *flags, "--data-dir", data
    )
    assert done.code == 0, done.err
    ready = next(r for r in done.records() if r["event"] == "ready")
    # Exact, also in JSON.
    assert os.fsencode(ready["api"].removeprefix("unix:")) == data + b"/control.sock"


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("doctor", "--json"), ("models", "list"), ("halt", "status")],
    ids=" ".join,
)
def test_a_home_folder_whose_name_is_no_text_does(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    home = os.fsencode(tmp_path) + b"/h\xe9"
    os.mkdir(home)
    done = through_shell(
        tmp_path, 'HOME="$HOME"/$(printf "h\\351") XDG_CACHE_HOME= exec "$@"', *arguments
    )
    assert FAULT not in done.err
    assert "Traceback" not in done.err
    assert done.code == (1 if "status" in arguments else 0)


@pytest.mark.parametrize("name", [b"m\xe9.gguf", "m\ud83d.gguf".encode("utf-8", "surrogatepass")])
def test_a_model_at_a_path_that_is_no_text_is_read(
    tmp_path: Path, model: Path, name: bytes
) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb") as file:
        file.write(model.read_bytes())
    shown = through_shell(tmp_path, 'exec "$@"', "models", "show", path, "--json")
    assert shown.code == 0, shown.err
    flags = (
        "--no-lan",
        "--listen",
        "127.0.0.1",
        "--port",
        "0",
        "--swarm",
        "cli-test",
        "--model",
        path,
    )
    started = through_shell(
        tmp_path,
        'exec "$@"',
        "join",
        "--json",
        "--until-eof",
        *flags,
        "--data-dir",
        str(tmp_path / "data"),
    )
    assert started.code == 0, started.err
    assert "model_ready" in [r["event"] for r in started.records()]


# --- the environment ------------------------------------------------------------------------------

LOCALES = {
    "C": {"LC_ALL": "C"},
    "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "dumb": {"TERM": "dumb", "COLUMNS": "1"},
    "no width": {"COLUMNS": "0"},
}


@pytest.mark.parametrize("name", LOCALES)
@pytest.mark.parametrize("arguments", [("join", "--help"), ("models", "list")], ids=" ".join)
def test_no_locale_and_no_terminal_keeps_a_command_from_showing_what_it_has(
    tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    done = through_shell(
        tmp_path,
        'exec "$@" | iconv -c -f latin1 -t ascii; exit "${PIPESTATUS[0]}"',
        *arguments,
        more=LOCALES[name],
    )
    assert done.code == 0, done.err
    assert len(done.out.split()) > 20
    assert "Traceback" not in done.err


def test_text_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    """Without an expert the answer fails, but not because of its text."""
    flags = ("--no-local", "--no-lan", "--stop", "è", "--domain", "ö" * 200)
    done = through_shell(tmp_path, 'exec "$@"', "generate", "é", *flags, more=LOCALES["POSIX"])
    assert done.code == 2
    assert "domain" in done.sentence()


GONE = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("status",), 1),
        (("models", "list"), 0),
        (("models", "show", "x.gguf"), 1),
        (("join", "--data-dir", "rel"), 2),
    ],
    ids=str,
)
def test_a_folder_that_was_removed_under_us_is_named(
    tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    done = through_shell(tmp_path, f"cd {tmp_path} && {GONE}", *arguments)
    assert done.code == code
    assert FAULT not in done.err
    assert "removed" in done.err or code != 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("models", "show", "~nobody-here/x"),
        ("keys", "show", "~nobody-here/x"),
        ("generate", "--file", "~nobody-here/x"),
    ],
)
def test_a_home_that_cannot_be_found_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments)
    assert done.code == 2
    assert "~nobody-here" in done.sentence()


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    done = run(tmp_path, "generate", "x", "--no-lan", "--cache-dir", str(tmp_path / "cache"))
    assert done.code == 1
    assert str(tmp_path / "cache") in done.sentence()
    assert FAULT not in done.err
