"""`--log-format json`: every line on standard error is one JSON object with the documented fields,
from the first word to the last, whatever goes wrong."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from swarmllm.cli.log_stream import LIFE, life_line, streaming
from swarmllm.cli.output import CLI
from swarmllm.runtime import logs
from tests.cli.command import RunningNode, run

FIELDS = {"time", "level", "event", "message"}
JSON = ("--log-format", "json")


def lines_of(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.split("\n") if line]
    for one in found:
        assert set(one) == FIELDS | ({"record"} if one["event"] == LIFE else set()), one
        assert isinstance(one["time"], float)
        assert one["level"] in {"debug", "info", "warning", "error", "critical"}
    return found


def test_a_node_tells_its_life_and_its_log_and_leaves_standard_output_alone(
    tmp_path: Path, model: Path
) -> None:
    flags = ("--model", str(model), "--port", "0", "--no-api", "--log-level", "debug")
    with RunningNode(tmp_path, tmp_path / "data", *flags, *JSON) as node:
        node.wait_for("ready")  # --json has the records, as ever.
        assert run(tmp_path, "stop", "--data-dir", str(node.data)).code == 0
        assert node.process.stdin is not None
        node.process.stdin.close()
        assert node.ends() == 0
        told = lines_of(node.error())
    assert "stopping" in {record["event"] for record in node.records}
    life = [one for one in told if one["event"] == LIFE]
    messages = [one["message"] for one in life]
    assert messages[0] == "starting"
    assert {"ready", "halted", "stopping"} <= set(messages)
    assert next(one for one in life if one["message"] == "halted")["level"] == "warning"
    assert any(one["event"].startswith("swarmllm.halt") for one in told)


def test_what_goes_wrong_is_a_line_too(tmp_path: Path) -> None:
    done = run(tmp_path, "join", "--model", "absent.gguf", "--no-lan", *JSON)
    assert done.code != 0
    assert done.out == ""
    [*_, last] = lines_of(done.err)
    assert (last["level"], last["event"]) == ("error", CLI)
    assert "absent.gguf" in last["message"]


def test_other_commands_take_it_from_the_environment(tmp_path: Path) -> None:
    done = run(tmp_path, "status", SWARMLLM_LOG_FORMAT="json")
    [line] = lines_of(done.err)
    assert (done.code, line["level"], line["event"]) == (1, "error", CLI)
    assert done.out == ""


@pytest.mark.parametrize("elsewhere", [False, True])
def test_lines_of_any_thread_come_through_the_event_loop(tmp_path: Path, elsewhere: bool) -> None:
    got: list[Any] = []

    def put(line: Any) -> None:
        got.append((line["message"], threading.get_ident()))

    async def body() -> None:
        with streaming(put), logs.writing(tmp_path / "node.log", "info"):
            log = logging.getLogger("swarmllm.x")
            say = (log.info, "said %s", "a\nb\x1b[2J")
            await trio.to_thread.run_sync(*say) if elsewhere else say[0](*say[1:])
            await trio.testing.wait_all_tasks_blocked()
        log.warning("after")

    trio.run(body)
    assert got == [("said a\nb\x1b[2J", threading.get_ident())]


def test_a_record_of_life_keeps_all_its_fields() -> None:
    record = {"event": "halted", "time": 1.5, "by": "ab", "seq": 3}
    assert life_line(record) == {
        "time": 1.5,
        "level": "warning",
        "event": LIFE,
        "message": "halted",
        "record": {"by": "ab", "seq": 3},
    }
