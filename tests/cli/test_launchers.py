"""`swarmllm run`: each tool gets the addresses of the node that runs here, and the user's words."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmllm.cli.launchers import KEY_VARIABLE, TOOLS, launch
from swarmllm.cli.settings import config_of
from swarmllm.errors import LocalError, UsageError
from tests.cli.socket_node import SocketNode

URL = "http://127.0.0.1:7399"


class Node(SocketNode):
    http = URL

    def lines(self, question: dict[str, Any]) -> Iterator[bytes]:
        experts = [{"context_max": 512}, {"context_max": 256}]
        record = {"event": "status", "time": time.time(), "state": "running", "experts": experts}
        yield json.dumps(record | {"http": self.http}).encode() + b"\n"


class Became(Exception):
    """In the place of another program."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The command and the variables of what was started."""
    found: list[tuple[list[str], dict[str, str]]] = []

    def become(path: str, command: list[str], variables: dict[str, str]) -> None:
        assert path == f"/bin/{command[0]}"
        found.append((command, variables))
        raise Became

    monkeypatch.setattr(os, "execve", become)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setenv(KEY_VARIABLE, "a-key")
    return found


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_is_told_the_address_the_key_and_the_model_and_keeps_its_own_words(
    tool: str, tmp_path: Path, started: list[tuple[list[str], dict[str, str]]]
) -> None:
    words = ["-p", "a 'word'", "--model"]
    with Node(tmp_path / "data") as node, pytest.raises(Became):
        launch(config_of(data_dir=str(node.folder)), tool, words, model="local", show=False)
    [(command, variables)] = started
    assert command[0] == tool
    assert command[-3:] == words
    told = " ".join([*command, *(v for k, v in variables.items() if os.environ.get(k) != v)])
    assert URL in told
    assert "local" in told
    assert "a-key" in variables.values() or "a-key" in told


def test_opencode_is_told_the_least_context_of_the_experts(
    tmp_path: Path, started: list[tuple[list[str], dict[str, str]]]
) -> None:
    with Node(tmp_path / "data") as node, pytest.raises(Became):
        launch(config_of(data_dir=str(node.folder)), "opencode", [], model="swarm", show=False)
    settings = json.loads(started[0][1]["OPENCODE_CONFIG_CONTENT"])
    model = settings["provider"]["swarmllm"]["models"]["swarm"]
    assert model["limit"] == {"context": 256, "output": 128}


def test_codex_offers_no_tools_that_openai_alone_could_run(
    tmp_path: Path, started: list[tuple[list[str], dict[str, str]]]
) -> None:
    with Node(tmp_path / "data") as node, pytest.raises(Became):
        launch(config_of(data_dir=str(node.folder)), "codex", ["exec"], model="swarm", show=False)
    options = started[0][0]
    assert options[options.index('web_search="disabled"') - 1] == "-c"
    assert options[options.index("features.multi_agent=false") - 1] == "-c"


def test_what_cannot_be_started_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with Node(tmp_path / "data") as node:
        config = config_of(data_dir=str(node.folder))
        with pytest.raises(UsageError, match="'emacs'"):
            launch(config, "emacs", [], model="swarm", show=False)
        with pytest.raises(LocalError, match="the program aider is not on"):
            launch(config, "aider", [], model="swarm", show=False)
        node.http = ""
        with pytest.raises(LocalError, match="--no-api"):
            launch(config, "aider", [], model="swarm", show=False)


def test_what_is_no_program_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """npm leaves a text in the place of opencode where its install scripts may not run."""
    broken = tmp_path / "opencode"
    broken.write_text("run the postinstall script")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with Node(tmp_path / "data") as node, pytest.raises(LocalError, match="install it anew"):
        launch(config_of(data_dir=str(node.folder)), "opencode", [], model="swarm", show=False)
