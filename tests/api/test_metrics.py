"""`/metrics`: what Prometheus reads, docs/metrics.md says and the dashboard draws are one list."""

from __future__ import annotations

import json
import re

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from scripts import make_metrics
from swarmllm.api.guard import Guard
from swarmllm.api.metrics import OTHER, PATH, Counting, exposition, route_of
from swarmllm.core.metrics.table import METRICS
from swarmllm.testing.operators import Founders
from tests.api.http_client import Client, serving
from tests.api.test_guard import HASHED, KEY
from tests.clock import under_mock_clock

PROCESS = frozenset(
    f"process_{name}"
    for name in (
        *("cpu_seconds_total", "open_fds", "max_fds", "start_time_seconds"),
        *("resident_memory_bytes", "virtual_memory_bytes"),
    )
)


def figures(text: str) -> dict[str, float]:
    """Each sample by its name and labels, as the format's own parser reads it."""
    return {
        f"{one.name}{sorted(one.labels.items())}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def rows_of_all() -> list[list[object]]:
    """One of each metric."""
    return [
        [
            one.name,
            ["x"] * len(one.labels),
            1.0,
            [1] * (len(one.buckets) + 1) if one.buckets else [],
        ]
        for one in METRICS
    ]


@under_mock_clock
async def test_what_a_node_did_is_served() -> None:
    async with serving([7, 8]) as bare:
        client = Client(Counting(bare.app), swarm=bare.swarm)
        body = {"model": "swarm", "prompt": "ab", "max_tokens": 5}
        for _ in range(2):
            assert (await client.post("/v1/completions", body)).status == 200
        assert (
            await client.post("/v1/completions", {"model": "none", "prompt": "a"})
        ).status == 404
        assert (await client.get("/secret-path-of-a-user")).status == 404
        got = await client.get(PATH)
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/plain; version=")
    found = figures(got.body.decode())
    assert found["swarmllm_requests_total[('outcome', 'length')]"] == 2
    assert found["swarmllm_tokens_total[]"] == 10
    assert found["gen_ai_server_time_to_first_token_seconds_count[]"] == 2
    assert found["swarmllm_experts[('state', 'usable')]"] == 2
    assert found["swarmllm_expert_received_bytes_total[('model', 'model-8')]"] > 0
    route = "('route', '/v1/completions'), ('status', '{}')"
    assert found[f"swarmllm_http_responses_total[{route.format(200)}]"] == 2
    assert found[f"swarmllm_http_responses_total[{route.format(404)}]"] == 1
    assert found["swarmllm_http_responses_total[('route', 'other'), ('status', '404')]"] == 1
    assert found["swarmllm_http_requests_open[]"] == 1
    assert "secret-path" not in got.body.decode()


@under_mock_clock
async def test_where_the_api_asks_for_keys_so_do_the_metrics() -> None:
    async with serving([7], guard=Guard(frozenset({HASHED}))) as client:
        assert (await client.get(PATH)).status == 401
        assert (await client.get(PATH, authorization=f"Bearer {KEY}")).status == 200


@under_mock_clock
async def test_a_halt_shows() -> None:
    founders = Founders()
    async with serving([7], pin=founders.pin) as client:
        client.swarm.members[0].local.stop_here()
        found = figures((await client.get(PATH)).body.decode())
    assert found["swarmllm_halted[]"] == 1


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_every_metric_is_written_as_the_formats_own_parsers_read_it(accept: str) -> None:
    text, kind = exposition(rows_of_all(), accept)
    is_open = kind.startswith("application/openmetrics-text")
    assert is_open == bool(accept)
    parse = openmetrics_families if is_open else text_string_to_metric_families
    kinds = {family.name: family.type for family in parse(text.decode())}
    for one in METRICS:
        assert kinds[one.name.removesuffix("_total")] == one.kind, one.name


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/messages", "/v1/messages"),
        ("/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/v1/models/a/b", "/v1/models"),
        ("/api/status", "/api"),
        ("/v1/modelsx", OTHER),
        ("/", OTHER),
        ("/metrics", "/metrics"),
    ],
)
def test_what_clients_write_into_a_path_makes_no_label(path: str, route: str) -> None:
    assert route_of(path) == route


def test_page_and_dashboard_are_what_the_table_says() -> None:
    for name, made in make_metrics.PAGES.items():
        written = (make_metrics.DOCS / name).read_text(encoding="utf-8")
        assert written == made(), "run python scripts/make_metrics.py"
    page = (make_metrics.DOCS / "metrics.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(process_\w+)`", page)) == PROCESS


def test_the_dashboard_asks_only_for_what_is_served() -> None:
    text, _ = exposition(rows_of_all())
    served = {
        one.name
        for family in text_string_to_metric_families(text.decode())
        for one in family.samples
    } | PROCESS
    dashboard = json.loads((make_metrics.DOCS / "grafana-dashboard.json").read_text("utf-8"))
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\b(?:swarmllm|gen_ai|process)_\w+", target["expr"])
    }
    assert len(asked) > 20
    assert asked <= served
