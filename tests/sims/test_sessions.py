"""Sessions: the laws of equilibrium, and traces that are read as they were written or refused by
line."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.errors import UsageError
from swarmllm.sims.sessions import (
    ABSENCES,
    SESSIONS,
    Churn,
    Weibull,
    read_trace,
    repeat,
    sessions_of_rate,
)

DRAWS = 200_000


def test_the_published_figures_come_out() -> None:
    lengths = SESSIONS.draws(np.random.default_rng(1), DRAWS) / 3600
    assert abs((lengths < 2).mean() - 0.5) < 0.01
    assert abs((lengths < 8).mean() - 0.8) < 0.01


@pytest.mark.parametrize("model", [SESSIONS, ABSENCES, Weibull(100, 1), Weibull(5, 2.5)])
def test_both_generators_draw_the_same_distributions(model: Weibull) -> None:
    rng, own = np.random.default_rng(1), random.Random(1)
    for many, one in ((model.draws, model.draw), (model.rests, model.draw_rest)):
        expected = np.quantile(many(rng, DRAWS), [0.1, 0.5, 0.9])
        found = np.quantile([one(own) for _ in range(DRAWS)], [0.1, 0.5, 0.9])
        np.testing.assert_allclose(found, expected, rtol=0.04)


def test_memoryless_sessions_have_rests_like_themselves() -> None:
    model, rng = Weibull(100, 1), np.random.default_rng(1)
    grid = [0.1, 0.25, 0.5, 0.75, 0.9]
    np.testing.assert_allclose(
        np.quantile(model.rests(rng, DRAWS), grid),
        np.quantile(model.draws(rng, DRAWS), grid),
        rtol=0.05,
    )


def test_the_rest_of_a_session_has_the_mean_that_renewal_theory_gives() -> None:
    """E[rest] = E[T^2] / (2 E[T])."""
    model = Weibull(10, 0.8)
    second = 100 * math.gamma(1 + 2 / 0.8)
    assert model.rests(np.random.default_rng(1), DRAWS).mean() == pytest.approx(
        second / (2 * model.mean_s), rel=0.02
    )


@given(st.floats(0.01, 100), st.floats(0.3, 3))
def test_a_rate_is_the_inverse_of_the_mean(rate: float, shape: float) -> None:
    assert sessions_of_rate(rate, shape).mean_s == pytest.approx(3600 / rate)


@given(st.integers(0, 2**32), st.floats(1, 1e6))
def test_spells_are_in_order_and_within_the_time(seed: int, until_s: float) -> None:
    spells = Churn().spells(random.Random(seed), until_s)
    edges = [edge for spell in spells for edge in spell]
    assert edges == sorted(edges)
    assert all(0 <= start < end <= until_s for start, end in spells)


def test_the_share_online_is_the_same_at_any_time() -> None:
    churn, rng = Churn(), random.Random(1)
    nodes = [churn.spells(rng, 20_000.0) for _ in range(20_000)]
    for when in (0.0, 100.0, 5_000.0, 19_000.0):
        share = sum(any(start <= when < end for start, end in spells) for spells in nodes) / len(
            nodes
        )
        assert share == pytest.approx(churn.share_online, abs=0.015)


def test_the_rate_of_departures_is_the_same_at_any_time() -> None:
    churn, rng = Churn(sessions_of_rate(0.6), None), random.Random(1)
    ends = [end for _ in range(20_000) for _, end in churn.spells(rng, 4_000.0) if end < 4_000.0]
    for begin in (0, 1_000, 3_000):
        assert sum(begin <= end < begin + 600 for end in ends) / 20_000 == pytest.approx(
            0.1, abs=0.01
        )


def test_without_churn_everybody_stays() -> None:
    assert Churn(None).spells(random.Random(1), 5.0) == [(0.0, 5.0)]


# --- traces ---------------------------------------------------------------------------------------

lengths = st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**6)), min_size=1, max_size=6)


@given(st.dictionaries(st.text("abcxyz-", min_size=1, max_size=4), lengths, min_size=1, max_size=4))
def test_both_forms_of_a_trace_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, nodes: dict[str, list[tuple[int, int]]]
) -> None:
    folder = tmp_path_factory.mktemp("traces")
    durations, intervals = ["node,online_s,offline_s"], ["node,start_s,end_s"]
    for node, spells in nodes.items():
        now = 0
        for online, offline in spells:
            durations.append(f"{node},{online},{offline}")
            intervals.append(f"{node},{now},{now + online}")
            now += online + offline
    found = []
    for name, lines in (("a.csv", durations), ("b.csv", intervals)):
        (folder / name).write_text("\n".join(lines) + "\n")
        found.append(read_trace(folder / name))
    assert found[0] == found[1]
    assert {node: len(spells) for node, spells in found[0].items()} == {
        node: len(spells) for node, spells in nodes.items()
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1"),
        ("a,b,c\n", "line 1"),
        ("node,start_s,end_s\n", "no rows"),
        ("node,start_s,end_s\nx,1\n", "line 2"),
        ("node,start_s,end_s\nx,1,2,3\n", "line 2"),
        ("node,start_s,end_s\nx,1,2\n,1,2\n", "line 3"),
        ("node,start_s,end_s\nx,1,two\n", "'two'"),
        ("node,start_s,end_s\nx,1,nan\n", "'nan'"),
        ("node,start_s,end_s\nx,1,inf\n", "'inf'"),
        ("node,start_s,end_s\nx,-1,2\n", "'-1'"),
        ("node,start_s,end_s\nx,2,2\n", "not after"),
        ("node,start_s,end_s\nx,0,5\nx,4,6\n", "online twice"),
        ('node,start_s,end_s\n"x,1,2\n', "line 2"),
        ("node,online_s,offline_s\nx,1e400,1\n", "'1e400'"),
    ],
)
def test_a_malformed_trace_is_refused_by_name_and_line(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"trace.csv.*{says}|{says}.*trace.csv"):
        read_trace(path)


@given(st.binary(max_size=80))
def test_anything_else_is_a_trace_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("traces") / "t.csv"
    path.write_bytes(b"node,online_s,offline_s\n" + data)
    try:
        trace = read_trace(path)
    except UsageError:
        return
    assert trace


def test_a_trace_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.csv"):
        read_trace(tmp_path / "absent.csv")


def test_a_trace_serves_any_number_of_nodes_evenly() -> None:
    trace = {name: ((0.0, float(n)),) for n, name in enumerate("abc", 1)}
    found = repeat(trace, 8, random.Random(1))
    counts = sorted(found.count(spells) for spells in trace.values())
    assert (len(found), counts) == (8, [2, 3, 3])
