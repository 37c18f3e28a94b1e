"""A drill counts what really happened, and shows it without rounding anything away."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.operator_keys import verify
from swarmllm.cli.operators.drill import BARS_MAX, histogram, percentile, summary
from swarmllm.cli.operators.throwaway_keys import Ring
from swarmllm.core.halt.charter import charter_hash
from swarmllm.core.halt.state import Applied, HaltState, validate
from swarmllm.wire.signed import open_record
from tests.cli.command import run

Milliseconds = st.lists(st.floats(0, 20_000, allow_nan=False), min_size=1, max_size=200)


@given(Milliseconds)
def test_every_value_is_in_one_bar(values: list[float]) -> None:
    rows = histogram(values)
    assert 1 <= len(rows) <= BARS_MAX
    assert sum(int(row.split("ms")[1].split()[0]) for row in rows) == len(values)


@given(Milliseconds, st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_was_measured(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert summary(values)["p50"] <= summary(values)["p99"] <= summary(values)["max"] == max(values)


def test_the_throw_away_keys_halt_and_resume_under_their_charter() -> None:
    ring = Ring()
    charter = open_record(ring.charter())
    outcome = validate(HaltState(charter_hash(charter)), charter.data, verify)
    assert isinstance(outcome, Applied)
    order, data = ring.halt(outcome.state)
    halted = validate(outcome.state, data, verify)
    assert isinstance(halted, Applied)
    assert halted.state.reasons
    resumed = validate(halted.state, ring.resume(order), verify)
    assert isinstance(resumed, Applied)
    assert not resumed.state.reasons


@pytest.mark.slow
def test_a_drill_halts_every_node_every_time(tmp_path: Path) -> None:
    done = run(tmp_path, "halt", "drill", "--nodes", "3", "--halts", "4", "--json", deadline_s=300)
    assert done.code == 0, done
    records = done.records()
    halts = [record for record in records if record["event"] == "halt"]
    assert [len(halt["ms"]) for halt in halts] == [3] * 4
    assert len({halt["seq"] for halt in halts}) == 4
    assert len({halt["by"] for halt in halts}) == 3
    assert records[-1]["ok"] is True
    names = {record["name"] for record in records if record["event"] == "measurement"}
    assert {f"halt_every_node_{what}" for what in ("p50", "p99", "max")} <= names


@pytest.mark.parametrize(
    "arguments", [("--nodes", "1"), ("--nodes", "65"), ("--halts", "0"), ("--halts", "many")]
)
def test_a_drill_of_nothing_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(tmp_path, "halt", "drill", *arguments).code == 2
