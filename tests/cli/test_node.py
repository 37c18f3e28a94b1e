"""A running node as its user sees it: records in their order, text that streams, and a farewell
whatever ends it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import DEADLINE_S, RunningNode, command, environment, names_of, run

ASK = ("generate", "abc def", "--seed", "7", "--max-tokens", "12")


def ask(node: RunningNode, *arguments: str) -> list[dict[str, Any]]:
    done = run(node.home, *ASK, "--json", "--data-dir", str(node.data), *arguments)
    assert done.code == 0, done
    return done.records()


def test_the_start_ends_with_ready_and_says_how_to_reach_it(node: RunningNode) -> None:
    names = [
        n for n in names_of(node.records) if n in {"starting", "model_ready", "listening", "ready"}
    ]
    assert names == ["starting", "model_ready", "listening", "ready"]
    ready = node.wait_for("ready")
    assert ready["invite"].endswith(f"/p2p/{ready['peer']}")
    assert node.wait_for("model_ready")["n_params"] > 0
    assert all(isinstance(r["time"], float) for r in node.records)


def test_tokens_come_in_order_and_make_the_text(node: RunningNode) -> None:
    records = ask(node)
    tokens = [r for r in records if r["event"] == "token"]
    end = records[-1]
    assert [t["index"] for t in tokens] == list(range(12))
    assert end["event"] == "end"
    assert end["reason"] == "length"
    assert end["text"] == "".join(t["text"] for t in tokens)
    assert all(t["experts"][0]["model"] for t in tokens)


def test_the_same_seed_gives_the_same_text_and_plain_output_is_exactly_it(
    node: RunningNode,
) -> None:
    text = ask(node)[-1]["text"]
    assert ask(node)[-1]["text"] == text
    plain = run(node.home, *ASK, "--data-dir", str(node.data))
    assert (plain.code, plain.out) == (0, text + "\n")


def test_verbose_shows_every_round_on_standard_error(node: RunningNode) -> None:
    done = run(node.home, *ASK, "-v", "--data-dir", str(node.data))
    assert sum("(local)" in line for line in done.err.splitlines()) == 12
    assert "tokens/s" in done.err
    assert "(local)" not in done.out


def test_a_stop_text_ends_the_answer_before_it(node: RunningNode) -> None:
    text = ask(node, "--temperature", "0")[-1]["text"]
    stop = text[4:6]
    end = ask(node, "--temperature", "0", "--stop", stop)[-1]
    assert end["reason"] == "stop"
    assert end["text"] == text[: text.index(stop)]


def test_status_and_experts_are_one_object_for_machines_and_tables_for_people(
    node: RunningNode,
) -> None:
    peer = node.wait_for("ready")["peer"]
    (status,) = run(node.home, "status", "--json", "--data-dir", str(node.data)).records()
    (experts,) = run(node.home, "experts", "--json", "--data-dir", str(node.data)).records()
    assert status["peer"] == peer
    assert [e["peer"] for e in experts["experts"]] == [peer]
    shown = run(node.home, "status", "--data-dir", str(node.data))
    assert (shown.code, shown.complaint) == (0, "")
    assert peer[-6:] in shown.out
    assert "this node" in shown.out


def test_a_client_that_is_interrupted_ends_its_answer_and_leaves_the_node(
    node: RunningNode,
) -> None:
    arguments = command(
        "generate", "abc", "--max-tokens", "200", "--json", "--data-dir", str(node.data)
    )
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(node.home),
    ) as client:
        assert client.stdout is not None
        assert client.stderr is not None
        assert json.loads(client.stdout.readline())["event"] in {"weighed", "token", "notice"}
        client.send_signal(signal.SIGINT)
        client.stdout.read()
        # 0 if the answer was complete before the signal arrived.
        assert client.wait(DEADLINE_S) in {130, 0}
        assert "Traceback" not in client.stderr.read()
    (status,) = run(node.home, "status", "--json", "--data-dir", str(node.data)).records()
    assert status["answers_open"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with RunningNode(tmp_path, tmp_path / "data", "--port", "0", "--model", "none") as node:
        node.wait_for("ready")
        node.process.send_signal(number)
        assert node.ends() == 0
        assert names_of(node.records)[-1] == "stopped"
        assert names_of(node.records).count("stopped") == 1
        assert node.complaint() == ""


@pytest.mark.slow
def test_a_node_leaves_with_the_program_that_started_it(tmp_path: Path) -> None:
    with RunningNode(tmp_path, tmp_path / "data", "--port", "0", "--model", "none") as node:
        node.wait_for("ready")
        assert node.process.stdin is not None
        node.process.stdin.close()
        assert node.ends() == 0
        node.process.stdin = None


@pytest.mark.slow
def test_a_node_that_was_killed_leaves_nothing_in_the_way_of_the_next(tmp_path: Path) -> None:
    with RunningNode(tmp_path, tmp_path / "data", "--port", "0", "--model", "none") as first:
        peer = first.wait_for("ready")["peer"]
        first.process.kill()
    with RunningNode(tmp_path, tmp_path / "data", "--port", "0", "--model", "none") as second:
        assert second.wait_for("ready")["peer"] == peer
