"""Measurements are told beside what is possible, with the direction in which they are better."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmllm.cli.bench import busy_sentence
from swarmllm.cli.bench.report import Measurement, figure, table
from swarmllm.cli.bench.transport import id_set_bytes
from swarmllm.testing.gguf_fixture import write_model
from tests.cli.command import run
from tests.cli.terminal import Terminal, screen_on, words_on

SCHEMA = {"event", "time", "name", "value", "unit", "ceiling", "parameters"}


def test_the_requesters_part_measures_each_k_and_a_draft(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "--only", "requester", "--quick", "--json")
    records = done.records()
    assert done.code == 0
    assert [r["parameters"]["k"] for r in records] == [1, 2, 4, 4]
    assert records[-1]["parameters"]["positions"] > 1
    assert all(set(r) >= SCHEMA and r["event"] == "measurement" for r in records)
    # Nothing costs less than the least that must be done.
    assert all(0 < r["ceiling"] < r["value"] for r in records)
    assert [r["goal"] for r in records[2:]] == [2.0, 0.3]


def test_the_part_on_constrained_output_measures_each_kind_of_grammar(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "--only", "constrained", "--quick", "--json")
    records = done.records()
    assert done.code == 0
    assert len(records) == 6
    assert {r["parameters"]["grammar"] for r in records} == {"schema", "any JSON", "date"}
    assert all(set(r) >= SCHEMA and r["value"] > 0 and r["ceiling"] > 0 for r in records)
    assert all(r["details"]["tokens"] == 50 for r in records)


def test_the_engines_part_measures_sessions_and_drafts_with_a_model_of_ones_own(
    tmp_path: Path,
) -> None:
    model = write_model(tmp_path / "own.gguf")
    done = run(tmp_path, "bench", "--only", "engine", "--quick", "--json", "--model", str(model))
    records = done.records()
    assert done.code == 0
    assert [r["parameters"] for r in records] == [
        *({"sessions": n} for n in (1, 8, 16)),
        *({"positions": n} for n in (4, 8, 14)),
    ]
    assert all(set(r) >= SCHEMA and r["value"] > 0 and r["ceiling"] > 0 for r in records)
    assert all(r["details"]["reproducible_share"] > 0 for r in records[:3])


@pytest.mark.slow
def test_the_apis_part_measures_its_own_time_the_loops_lag_and_a_halt(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "--only", "api", "--quick", "--json")
    records = done.records()
    assert done.code == 0, done.err
    assert [(r["name"].split(":")[0], r["parameters"]["streams"]) for r in records] == [
        ("API's own time per token", 1),
        ("API's own time per token", 64),
        *(("event loop's lag", 64),) * 3,
        ("longest turn of the event loop", 64),
        ("halt", 64),
    ]
    assert all(set(r) >= SCHEMA and r["ceiling"] > 0 for r in records)
    assert records[1]["details"]["tokens"] >= 64 * 10


def test_there_must_be_a_model_to_measure(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "--only", "engine", "--model", "none")
    assert done.code == 2
    assert "nothing to measure" in done.err


def test_the_worlds_speed_is_told_beside_an_event_queue_that_does_nothing(tmp_path: Path) -> None:
    done = run(
        tmp_path, "bench", "world", "--nodes", "12", "--minutes", "1", "--requests", "600", "--json"
    )
    hour, start = done.records()
    assert done.code == 0
    assert all(set(r) >= SCHEMA and 0 < r["ceiling"] < r["value"] for r in (hour, start))
    assert hour["goal"] == pytest.approx(60 * 12 / 1000 / 60, abs=1e-3)
    assert hour["details"]["answers"] > 0
    assert hour["details"]["tokens"] > 0


def test_a_world_of_an_impossible_size_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "world", "--nodes", "3")
    assert done.code == 2
    assert "--nodes is 3" in done.err


def test_the_floor_of_the_id_set_is_its_entropy() -> None:
    assert id_set_bytes(1, 256) == pytest.approx(1.0)
    assert id_set_bytes(256, 128_256) == pytest.approx(332.45, abs=0.01)
    assert id_set_bytes(256, 256) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("unit", "value", "ceiling", "ratio", "reached"),
    [
        ("tokens/s", 95.0, 100.0, 0.95, True),
        ("tokens/s", 50.0, 100.0, 0.5, False),
        ("tokens/s", 110.0, 100.0, 1.1, True),
        ("bytes", 400.0, 300.0, 0.75, False),
        ("ms", 1.0, 0.5, 0.5, True),
        ("ms", 0.4, 0.5, 1.25, True),
    ],
)
def test_ratio_and_goal_know_which_way_is_better(
    unit: str, value: float, ceiling: float, ratio: float, reached: bool
) -> None:
    found = Measurement(
        "x",
        value,
        unit,
        ceiling,
        goal=90.0 if unit == "tokens/s" else 390.0 if unit == "bytes" else 2.0,
    )
    assert found.ratio == pytest.approx(ratio)
    assert found.reached is reached


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.013591, "0.0136"), (2.0, "2"), (99.94, "99.9"), (313.4, "313"), (12_345.6, "12,346")],
)
def test_a_figure_can_be_read(value: float, shown: str) -> None:
    assert figure(value) == shown


@pytest.mark.parametrize(("value", "is_doubted"), [(80.0, False), (104.0, False), (313.0, True)])
def test_a_share_of_more_than_is_possible_is_said_to_be_in_doubt(
    value: float, is_doubted: bool
) -> None:
    terminal = Terminal()
    found = Measurement("x", value, "tokens/s", 100.0, goal=95.0)
    screen_on(terminal).print(table([found]))
    words = words_on(terminal.getvalue())
    assert words_on(f"{value:.0f} tokens/s") in words
    assert words_on(f"≥ 95 tokens/s, {'missed' if value < 95 else 'reached'}") in words
    assert (words_on("Measure again") in words) is is_doubted


def test_a_busy_machine_is_said_to_be_so() -> None:
    assert "6.2 programs" in busy_sentence(6.2, 2)
    assert busy_sentence(0.3, 2) == ""
