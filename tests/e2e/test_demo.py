"""`swarmllm demo --json` shows what it claims to show, in the records that it promises, and leaves
nothing behind."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from swarmllm.adapters.datadir import default_folders
from swarmllm.adapters.models.library import place_of
from swarmllm.runtime.model_reference import SmolLM2
from tests.cli.command import Finished, command, environment, run

pytestmark = pytest.mark.slow

DEADLINE_S = 280.0
CHECKS = {
    "four_processes",
    "everybody_sees_everybody",
    "everybody_knows_four_experts",
    "capacity_is_gossiped",
    "dht_names_the_experts",
    "first_answer_is_whole",
    "three_experts_for_each_token",
    "time_and_bytes_of_each_round",
    "few_bytes",
    "it_answers_over_http",
    "an_expert_was_killed",
    "killed_in_the_middle",
    "second_answer_is_whole",
    "the_others_noticed",
    "the_killed_node_is_back",
    "forged_halt_does_nothing",
    "halt_stops_every_node",
    "no_token_after_the_halt",
    "one_resume_signature_is_refused",
    "two_resume",
    "replayed_halt_does_nothing",
    "an_answer_afterwards",
    "clean_farewell",
    "nothing_left_running",
}
TOKEN = {"event", "time", "index", "id", "text", "round", "k", "round_ms", "experts", "agreement"}
USE = {"peer", "model", "weight", "bytes", "rtt_ms", "used"}
END = {
    "event",
    "time",
    "reason",
    "tokens",
    "text",
    "seconds",
    "tokens_per_s",
    "bytes_per_expert_per_token",
    "failovers",
    "local_only_tokens",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def shown(home: Path) -> Finished:
    return run(home, "demo", "--tiny", "--json", deadline_s=DEADLINE_S)


def of(records: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [r for r in records if r["event"] == event]


def test_the_demo_succeeds_and_every_check_holds(shown: Finished) -> None:
    records = shown.records()
    assert {c["name"]: c["ok"] for c in of(records, "check")} == dict.fromkeys(CHECKS, True), (
        shown.err
    )
    assert records[-1]["event"] == "summary"
    assert records[-1]["ok"] is True
    assert shown.code == 0


def test_its_records_keep_to_the_schema(shown: Finished) -> None:
    records = shown.records()
    assert all(isinstance(r["event"], str) and isinstance(r["time"], float) for r in records)
    tokens, ends = of(records, "token"), of(records, "end")
    assert len(ends) >= 2
    assert len(tokens) == sum(end["tokens"] for end in ends)
    assert all(set(token) >= TOKEN for token in tokens)
    assert all(set(use) >= USE for token in tokens for use in token["experts"])
    assert all(set(end) >= END for end in ends)
    assert all(abs(sum(use["weight"] for use in token["experts"]) - 1) < 0.01 for token in tokens)


def test_the_killed_expert_has_no_part_in_what_came_after(shown: Finished) -> None:
    records = shown.records()
    (killed,) = of(records, "killed")
    at = records.index(killed)
    before = [
        t
        for t in of(records[:at], "token")
        if any(u["peer"] == killed["peer"] for u in t["experts"])
    ]
    # Several nodes write later, when it is back.
    last = [t for t in of(records[at:], "token") if "node" not in t][-5:]
    assert before
    assert last
    assert not any(u["peer"] == killed["peer"] for t in last for u in t["experts"])


def test_every_running_answer_ends_with_the_halt_and_nothing_comes_a_second_later(
    shown: Finished,
) -> None:
    records = shown.records()
    (published,) = of(records, "published")
    ends = [end for end in of(records, "end") if end["reason"] == "halted"]
    assert sorted(end["node"] for end in ends) == [f"node {i}" for i in range(1, 5)]
    assert all("halted by key" in end["error"] for end in ends)
    assert sum(end["tokens"] == 0 for end in ends) <= 1, (
        "in mid-stream, but one may end by itself while the order is on its way"
    )
    halted = [
        t
        for t in of(records, "token")
        if "node" in t and t["time"] <= max(end["time"] for end in ends)
    ]
    assert {t["node"] for t in halted} == {end["node"] for end in ends}
    assert published["seq"] > 0
    afterwards = of(records, "end")[-1]
    assert afterwards["reason"] in {"length", "eos"}
    assert afterwards["node"] == "node 1"


def test_with_the_real_model_the_demo_answers_in_english(home: Path) -> None:
    cache = default_folders().cache_dir
    if place_of(SmolLM2(), cache) is None:
        pytest.skip(f"SmolLM2 is not in {cache}: swarmllm models pull smollm2 brings it")
    shown = run(home, "demo", "--json", "--cache-dir", str(cache), deadline_s=DEADLINE_S)
    records = shown.records()
    assert {c["name"]: c["ok"] for c in of(records, "check")} == dict.fromkeys(CHECKS, True), (
        shown.err
    )
    answer = of(records, "end")[0]["text"].lower()
    assert "gravity" in answer
    assert any(word in answer for word in ("force", "mass", "objects", "attract", "pull")), answer


def test_an_interrupted_demo_leaves_no_process_behind(home: Path) -> None:
    with subprocess.Popen(
        command("demo", "--tiny", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home),
    ) as demo:
        below: list[psutil.Process] = []
        deadline = time.monotonic() + DEADLINE_S
        while len(below) < 4 and time.monotonic() < deadline and demo.poll() is None:
            below = psutil.Process(demo.pid).children(recursive=True)
            psutil.wait_procs(below, timeout=0.05)
        assert len(below) >= 4
        demo.send_signal(signal.SIGINT)
        assert demo.wait(DEADLINE_S) == 130
        _, left = psutil.wait_procs(below, timeout=DEADLINE_S)
        assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]
        assert demo.stderr is not None
        assert "Traceback" not in demo.stderr.read()
