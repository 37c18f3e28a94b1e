"""`swarmllm agent` and `experts withdraw`, on a node that is a double: what is asked and shown, and
what is said where something is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmllm.cli.agent import commands
from swarmllm.cli.guard import guarded
from swarmllm.errors import UsageError
from swarmllm.runtime.config import Config
from tests.cli.socket_node import Record, SocketNode

HOSTILE = "\x1b]0;owned\x07 \u202e[bold]"
NOTE = {
    "at_ms": 1_790_000_000_000,
    "domain": "network",
    "cycle": 3,
    "step": "proposing",
    "did": "said",
    "text": f"{HOSTILE} is proposed by the model",
}
LANE = {
    "domain": "network",
    "experts": ["p1", "p2"],
    "merged_with": ["storage"],
    "runner": True,
    "cycle": 3,
    "step": "reviewing",
    "rests_s": 0.0,
    "waited_s": 9.0,
    "proposal": "ab" * 32,
    "task": 0,
}
TASK = {
    "task_id": "0123456789abcdef",
    "type": "write_test",
    "domain": "network",
    "priority": 3,
    "state": "done",
    "action_tier": 2,
    "tier_name": "sandbox-test",
    "result": f"report 07 {HOSTILE}",
    "proposal": "",
}


class Double(SocketNode):
    """Answers each question with these records, and remembers it."""

    def __init__(self, folder: Path, *records: Record) -> None:
        super().__init__(folder)
        self.records = records
        self.asked: list[Record] = []

    def lines(self, question: Record) -> Iterator[bytes]:
        self.asked.append(question)
        for record in self.records:
            yield json.dumps({"time": 0.0, **record}).encode() + b"\n"


def config(folder: Path) -> Config:
    return Config(data_dir=folder, cache_dir=folder)


@pytest.fixture(autouse=True)
def _lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The double holds no lock."""
    monkeypatch.setattr("swarmllm.runtime.local_api.client.holder_of", lambda _: 1)


STATUS: Record = {
    "event": "agent_status",
    "enabled": True,
    "why": f"the swarm is halted {HOSTILE}",
    "phase": 3,
    "halted": [],
    "budget": {"share_permille": 50, "left_s": 12.0},
    "lanes": [LANE],
    "tasks": [],
    "notes": [NOTE],
}


def test_the_status_shows_each_domain_and_what_was_said_and_nothing_of_it_acts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Double(tmp_path / "data", STATUS) as node:
        assert commands.status(config(node.folder), as_json=False) == 0
    shown = capfd.readouterr().out
    for wanted in ("phase 3", "5 %", "reviewing", "2 experts", "said:"):
        assert wanted in " ".join(shown.split())
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    assert "[bold]" in shown


def test_for_programs_it_is_the_record_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Double(tmp_path / "data", STATUS) as node:
        commands.status(config(node.folder), as_json=True)
    assert json.loads(capfd.readouterr().out) == {"time": 0.0, **STATUS}


def test_a_cycle_is_shown_step_by_step(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    last = {"event": "agent_cycle", "domain": "network", "cycle": 3, "step": "reviewing"}
    with Double(tmp_path / "data", {"event": "agent_step", **NOTE}, last) as node:
        commands.run_once(config(node.folder), "network", once=True, as_json=False)
    assert node.asked[0]["op"] == "agent_run"
    assert node.asked[0]["domain"] == "network"
    shown = capfd.readouterr().out
    assert "Cycle 3 of network: it waits for votes." in shown
    assert "\x1b" not in shown
    with pytest.raises(UsageError, match="--once"):
        commands.run_once(config(node.folder), "network", once=False, as_json=False)


def test_a_task_is_handed_over_as_it_was_typed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    order: dict[str, Any] = {"type": "write_test", "description": "x", "follow": True}
    with Double(tmp_path / "data", {"event": "agent_task", **TASK}) as node:
        commands.submit(config(node.folder), order, as_json=False)
        commands.tasks(config(node.folder), as_json=True)
    assert {name: node.asked[0][name] for name in order} == order
    assert "Task 0123456789abcdef (write_test, network) is done: report 07" in " ".join(
        capfd.readouterr().out.split()
    )


def test_tasks_are_listed_and_none_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Double(tmp_path / "data", {"event": "agent_tasks", "tasks": [TASK]}) as node:
        commands.tasks(config(node.folder), as_json=False)
    assert "write_test" in capfd.readouterr().out
    with Double(tmp_path / "more", {"event": "agent_tasks", "tasks": []}) as node:
        commands.tasks(config(node.folder), as_json=False)
    assert "No task was submitted" in capfd.readouterr().err


def test_an_expert_is_withdrawn_in_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = {"event": "expert_withdrawn", "model_name": HOSTILE, "message": "others are told"}
    with Double(tmp_path / "data", said) as node:
        commands.offer(config(node.folder), "withdraw_expert", as_json=False)
    shown = capfd.readouterr().out
    assert shown.rstrip().endswith(": others are told.")
    assert "\x1b" not in shown


def test_what_the_node_refuses_is_one_sentence_and_so_is_no_node(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = {"event": "error", "message": "the agent is off on this node", "exit_code": 1}
    order = {"type": "write_test"}
    with Double(tmp_path / "data", refusal) as node:
        code = guarded(lambda: commands.submit(config(node.folder), order, as_json=True))
    assert (code, capfd.readouterr().err) == (1, "swarmllm: the agent is off on this node\n")
    monkeypatch.undo()
    assert guarded(lambda: commands.status(config(tmp_path), as_json=True)) == 1
    assert "no node is running" in capfd.readouterr().err


def test_another_model_is_told_on_its_way_and_a_path_is_named_from_the_root_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    coming = [{"event": "progress", "what": what} for what in ("fetching m", "fetching m", HOSTILE)]
    there = {"event": "expert_registered", "model_name": "m", "message": "it is offered"}
    monkeypatch.chdir(tmp_path)
    with Double(tmp_path, *coming, there) as node:
        for given in ("own/m.gguf", "hf:o/r/m.gguf", "m"):
            commands.offer(config(node.folder), "register_expert", as_json=False, model=given)
        commands.offer(config(node.folder), "register_expert", as_json=False)
        wanted = [str(tmp_path / "own/m.gguf"), "hf:o/r/m.gguf", "m", None]
        assert [one.get("model") for one in node.asked] == wanted
    out, err = capsys.readouterr()
    assert out.count("m: it is offered.") == 4
    assert err.count("fetching m") == 4
    assert "\x1b]0" not in out + err
