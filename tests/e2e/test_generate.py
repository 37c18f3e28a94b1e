"""`generate` and `chat` where no node runs, and with a swarm that only an address leads to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.command import Finished, RunningNode, run

pytestmark = pytest.mark.slow

FLAGS = ("--no-lan", "--max-tokens", "6")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def test_without_a_node_the_bundled_expert_answers_and_nothing_stays(home: Path) -> None:
    done = run(home, "generate", "Once upon a time", *FLAGS, "--json", SWARMLLM_THREADS="1")
    records = done.records()
    assert done.code == 0, done.err
    assert [r["index"] for r in records if r["event"] == "token"] == list(range(6))
    assert records[-1]["local_only_tokens"] == 6
    assert "No node runs here" in done.err
    assert not (home / ".local").exists()  # Neither an identity nor a folder of it.


def test_an_ephemeral_node_asks_the_swarm_that_it_is_led_to(home: Path) -> None:
    with RunningNode(
        home, home / "data", "--port", "0", "--model", "demo:code", "--threads", "1"
    ) as helper:
        invite = helper.wait_for("ready")["invite"]
        done = run(
            home,
            "generate",
            "-",
            "--peer",
            invite,
            "--no-local",
            *FLAGS,
            "--json",
            stdin=b"def read(path):\n",
        )
    tokens = [r for r in done.records() if r["event"] == "token"]
    assert done.code == 0, done.err
    assert len(tokens) == 6
    assert {use["model"] for t in tokens for use in t["experts"]} == {"code"}
    assert all(use["bytes"] > 0 for t in tokens for use in t["experts"])


def test_a_conversation_keeps_its_text_and_ends_with_its_input(home: Path) -> None:
    with RunningNode(
        home, home / "data", "--port", "0", "--model", "demo:prose", "--threads", "1"
    ) as node:
        node.wait_for("ready")
        done = run(
            home,
            "chat",
            "--data-dir",
            str(home / "data"),
            "--max-tokens",
            "5",
            "--regex",
            "[a-z]+",  # No line of its own inside of an answer.
            stdin=b"The old man\n and then\n",
        )
    assert done.code == 0, done.err
    assert done.out.count("\n") == 2, "two answers, and no prompt where nobody sits at a terminal"
    assert all(line.strip() for line in done.out.splitlines())


SCHEMA = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "n": {"type": "integer", "maximum": 9, "minimum": 1}},
    "required": ["on", "n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def node(home: Path) -> Iterator[Path]:
    """The data folder of a running node with the smallest expert."""
    with RunningNode(
        home, home / "other", "--port", "0", "--model", "demo:prose-small", "--threads", "1"
    ) as running:
        running.wait_for("ready")
        yield running.data


def generated(home: Path, node: Path, *options: str) -> Finished:
    return run(home, "generate", "Go on:", "--data-dir", str(node), "--max-tokens", "60", *options)


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        (("--json-schema", json.dumps(SCHEMA)), lambda text: set(json.loads(text)) == {"on", "n"}),
        (("--regex", "(ab){2,4}c"), lambda text: re.fullmatch("(ab){2,4}c", text)),
        (("--grammar", 'start: "yes" | "no"'), lambda text: text in {"yes", "no"}),
    ],
)
def test_an_answer_is_what_its_grammar_says(
    home: Path, node: Path, options: tuple[str, str], fits: Callable[[str], object]
) -> None:
    name, value = options
    if name == "--grammar":
        (home / "grammar.lark").write_text(value)
        value = str(home / "grammar.lark")
    done = generated(home, node, name, value)
    assert done.code == 0, done.err
    assert fits(done.out.rstrip("\n")), done.out


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--json-schema", "{"), 2, "the schema is no JSON"),
        (("--json-schema", "/nowhere/schema.json"), 1, "/nowhere/schema.json"),
        (("--regex", "(a"), 2, "the regex cannot be used"),
        (("--regex", "a", "--format", "json"), 2, "--regex and --format json"),
        (("--regex", "a{1000000}"), 2, "10000"),
        (("--format", "yaml"), 2, "yaml"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused_in_a_sentence(
    home: Path, node: Path, options: tuple[str, ...], code: int, sentence: str
) -> None:
    done = generated(home, node, *options)
    assert (done.code, done.out) == (code, "")
    assert sentence in done.err
    assert done.err.count("\n") == 1, done.err
