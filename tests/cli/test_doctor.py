"""Doctor finds what is broken, says what to do, and fails only for what stops a node."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from swarmllm.cli import checks
from swarmllm.runtime.config import Config
from swarmllm.wire import sparse_compiled
from tests.cli.command import run

NAMES = {
    "python",
    "platform",
    "packages",
    "memory",
    "llama.cpp",
    "sparse lists",
    "vocabulary",
    "demo experts",
    "model",
    "data folder",
    "cache folder",
    "key",
}


def test_a_healthy_machine_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--json")
    records = done.records()
    found = {r["name"]: r for r in records if r["event"] == "diagnosis"}
    assert set(found) >= NAMES
    assert [name for name, r in found.items() if r["level"] == "fail"] == []
    assert records[-1] == {**records[-1], "event": "summary", "ok": True, "failed": 0}
    assert done.code == 0
    assert all(isinstance(r["time"], float) for r in records)


@pytest.mark.parametrize("is_compiled", [True, False])
def test_it_says_which_encoder_runs(
    tmp_path: Path, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_compiled, "IS_COMPILED", is_compiled)
    found = checks.sparse_lists(Config(tmp_path, tmp_path))
    assert (found.level, "numpy" in found.found) == (
        ("ok", False) if is_compiled else ("warn", True)
    )


def test_what_is_broken_is_named_with_its_remedy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    key = data / "identity.pem"
    key.write_text("not a key")
    key.chmod(0o644)
    (tmp_path / "cache").write_text("a file, where a folder should be")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ("--data-dir", str(data), "--cache-dir", str(tmp_path / "cache"))
        done = run(
            tmp_path,
            "doctor",
            "--json",
            *flags,
            SWARMLLM_PORT=port,
            SWARMLLM_LISTEN_HOST="127.0.0.1",
        )
    found = {r["name"]: r for r in done.records() if r["event"] == "diagnosis"}
    assert done.code == 1
    assert found["key"]["level"] == "fail"
    assert f"chmod 600 {key}" in found["key"]["found"]
    assert found["cache folder"]["level"] == "fail"
    assert "--cache-dir" in found["cache folder"]["remedy"]
    assert found["port"]["level"] == "warn"  # Nothing stops a node from taking the next one.
    assert port in found["port"]["found"]


def test_what_was_asked_for_is_on_standard_output(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor")
    assert (done.code, done.complaint) == (0, "")
    assert "vocabulary" in done.out


def test_the_port_of_ones_own_node_is_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        config = Config(
            data_dir=tmp_path,
            cache_dir=tmp_path,
            listen_host="127.0.0.1",
            port=own.getsockname()[1],
        )
        assert checks.port(config).level == "warn"
        monkeypatch.setattr(checks, "holder_of", lambda _: os.getpid())
        assert checks.port(config) == checks.Verdict(
            "ok", f"127.0.0.1:{config.port} is your own node's"
        )


def test_how_this_node_is_reached_is_what_it_found_out_and_else_what_its_addresses_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(data_dir=tmp_path, cache_dir=tmp_path)
    monkeypatch.setattr(checks, "lan_addresses", lambda: [("eth0", "192.168.1.10")])
    alone = checks.reachability(config)
    assert alone.level == "ok"
    assert "behind a NAT, most likely" in alone.found
    assert "forward TCP port 7339" in alone.remedy
    monkeypatch.setattr(checks, "lan_addresses", lambda: [("eth0", "11.1.0.2")])
    assert checks.reachability(config).remedy == ""

    said = {"kind": "nat", "says": "behind a NAT, reached through 2 relays"}

    async def ask(folder: Path, op: str) -> dict[str, object]:
        assert (folder, op) == (tmp_path, "status")
        return {"reach": said}

    monkeypatch.setattr(checks, "holder_of", lambda _: os.getpid())
    monkeypatch.setattr(checks, "ask", ask)
    assert checks.reachability(config) == checks.Verdict("warn", said["says"])
