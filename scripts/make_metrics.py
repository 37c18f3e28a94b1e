"""Write docs/metrics.md and docs/grafana-dashboard.json from the table of metrics, so that page and
dashboard name what a node serves.

python scripts/make_metrics.py            writes both
python scripts/make_metrics.py --check    exits 1 if one is not up to date
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarmllm.core.metrics import table as m
from swarmllm.core.metrics.observer import MODEL_CHARS_MAX, MODELS_MAX, OTHER
from swarmllm.core.metrics.table import METRICS, Metric

DOCS = Path(__file__).resolve().parents[1] / "docs"

HEAD = f"""# Metrics, traces and logs

This page is written by `scripts/make_metrics.py` from the table in
`swarmllm/core/metrics/table.py`. Do not edit it.

Every node that serves the [HTTP API](api.md) serves its figures at `/metrics`, as Prometheus and
OpenMetrics read them:

    curl http://127.0.0.1:7337/metrics

It is a route like any other: on loopback nobody needs a key unless the node has some, and beyond
loopback there is none without one. Prometheus sends it as `authorization`:

    scrape_configs:
      - job_name: swarmllm
        authorization: {{credentials: KEY}}
        static_configs: [{{targets: ["192.0.2.7:7337"]}}]

[grafana-dashboard.json](grafana-dashboard.json) is a dashboard of these names: in Grafana,
Dashboards, New, Import. Programs on this machine get the same figures without HTTP, from the
question `metrics` at the local socket.

Nothing of a prompt, an answer, an address or a peer's id is among them. Labels have few values:
only `model` is what strangers write, so it is cut to {MODEL_CHARS_MAX} characters, anything but
printable ASCII becomes `?`, and after {MODELS_MAX} names all others are `{OTHER}`. Counters begin
at 0 with each start of the node.

Names are those of OpenTelemetry's conventions for generative models where one fits; there a
"client" asks and a "server" answers, and a node that writes an answer is both.

| metric | type | unit | labels |
|---|---|---|---|
"""

TAIL = """
`process_*` are what `prometheus-client` says of the process (on Linux):
`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`,
`process_start_time_seconds`, `process_open_fds`, `process_max_fds`. The model's worker is another
process, and is not in them.

## Traces

    pip install 'swarmllm[otel]'
    swarmllm join --otlp-endpoint http://localhost:4318/v1/traces

Then each answer of the node is a span `answer`, and each of its rounds (the first 512) a span
`round` below it, sent to a collector of OpenTelemetry. Without the setting none are made. Their
attributes are counts and times: `gen_ai.usage.input_tokens`, `gen_ai.usage.output_tokens`,
`gen_ai.response.finish_reasons`, `gen_ai.request.max_tokens`; `swarmllm.rounds`, `.failovers`,
`.drafted`, `.accepted`; of a round `swarmllm.tokens`, `.experts`, `.late`, `.received_bytes`,
`.round_trip_max_s`. The span's instance is this node's peer id.

## Logs

A node's log is the file `node.log` of its data folder: one JSON object a line, two files of 1 MB at
most. With `--log-format json` (for service managers; `SWARMLLM_LOG_FORMAT=json` for any command)
the same lines go to standard error as well, and so does all that the command says there.

    swarmllm join --log-format json --log-level info 2> join.jsonl

| field | meaning |
|---|---|
| `time` | Unix seconds |
| `level` | `debug`, `info`, `warning`, `error` or `critical` |
| `event` | a logger's name, `swarmllm.life` (what befalls the node) or `swarmllm.cli` (a command) |
| `message` | a sentence; of `swarmllm.life` the name of the record |
| `record` | of `swarmllm.life` alone: the other fields of the record, as `join --json` has them |

Nothing of a prompt or an answer is in a log at any level.
"""


def page() -> str:
    """docs/metrics.md."""
    rows = [
        f"| `{one.name}` | {one.kind} | {one.unit or '0 or 1'} |"
        f" {', '.join(f'`{label}`' for label in one.labels)} |"
        for one in METRICS
    ]
    meanings = [f"- `{one.name}`: {one.about}" for one in METRICS]
    return HEAD + "\n".join(rows) + "\n\n## What each means\n\n" + "\n".join(meanings) + "\n" + TAIL


# --- the dashboard --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    """A legend and an expression each."""


def rate(metric: Metric, by: str = "") -> str:
    found = f"sum{f' by ({by})' if by else ''} (rate({metric.name}[$__rate_interval]))"
    return found


def quantile(share: float, metric: Metric, by: str = "") -> str:
    among = f"le, {by}" if by else "le"
    return (
        f"histogram_quantile({share}, sum by ({among})"
        f" (rate({metric.name}_bucket[$__rate_interval])))"
    )


def spread(title: str, metric: Metric) -> Panel:
    shares = (0.5, 0.95, 0.99)
    return Panel(title, "s", tuple((f"{100 * one:.0f} %", quantile(one, metric)) for one in shares))


PANELS: Final = (
    Panel("Tokens a second", "short", (("tokens", rate(m.TOKENS)),)),
    Panel("Answers a second, by outcome", "short", (("{{outcome}}", rate(m.REQUESTS, "outcome")),)),
    spread("Time to first token", m.FIRST_TOKEN),
    spread("Time per token after the first", m.PER_TOKEN),
    spread("Rounds", m.ROUNDS),
    spread("Event loop: lateness of timers", m.LAG),
    Panel(
        "Round trip by model, 95 %",
        "s",
        (("{{model}}", quantile(0.95, m.ROUND_TRIP, "model")),),
    ),
    Panel(
        "Bytes of a reply, by model",
        "bytes",
        (
            (
                "{{model}}",
                f"{rate(m.EXPERT_BYTES, 'model')}"
                f" / sum by (model) (rate({m.ROUND_TRIP.name}_count[$__rate_interval]))",
            ),
        ),
    ),
    Panel(
        "Late replies, share by model",
        "percentunit",
        (
            (
                "{{model}}",
                f'sum by (model) (rate({m.REPLIES.name}{{use="late"}}[$__rate_interval]))'
                f" / {rate(m.REPLIES, 'model')}",
            ),
        ),
    ),
    Panel(
        "Speculation, tokens a second",
        "short",
        (("drafted", rate(m.DRAFTED)), ("accepted", rate(m.ACCEPTED))),
    ),
    Panel(
        "Failovers and refusals a second",
        "short",
        (
            ("failovers", rate(m.FAILOVERS)),
            ("refused us: {{reason}}", rate(m.REFUSED_US, "reason")),
            ("we refused: {{reason}}", rate(m.REFUSED_OTHERS, "reason")),
        ),
    ),
    Panel("Experts", "short", (("{{state}}", f"max by (state) ({m.EXPERTS.name})"),)),
    Panel(
        "Connections",
        "short",
        (
            ("{{kind}}", f"sum by (kind) ({m.CONNECTIONS.name})"),
            ("lost a second", rate(m.PEERS_LOST)),
        ),
    ),
    Panel(
        "Open work",
        "short",
        (
            ("answers", f"sum ({m.OPEN.name})"),
            ("HTTP requests", f"sum ({m.HTTP_OPEN.name})"),
            ("rounds served", f"sum ({m.SERVED_OPEN.name})"),
            ("waiting at the engine", f"sum ({m.QUEUE.name})"),
        ),
    ),
    Panel(
        "Own expert",
        "short",
        (
            ("rounds served a second", rate(m.SERVED)),
            ("sessions {{state}}", f"sum by (state) ({m.SESSIONS.name})"),
            ("worker restarts", f"sum (increase({m.RESTARTS.name}[$__rate_interval]))"),
        ),
    ),
    Panel("Gossip", "Bps", (("{{kind}} {{direction}}", rate(m.GOSSIP, "kind, direction")),)),
    Panel("HTTP by status", "short", (("{{status}}", rate(m.HTTP, "status")),)),
    Panel(
        "Kill switch and ledger",
        "short",
        (
            ("nodes halted", f"sum ({m.HALTED.name})"),
            ("halts", f"sum (increase({m.HALTS.name}[$__rate_interval]))"),
            ("ledger entries", f"max ({m.LEDGER.name})"),
            ("ledger alarms", f"sum ({m.ALARMS.name})"),
        ),
    ),
    Panel(
        "Process",
        "short",
        (
            ("cores", "sum (rate(process_cpu_seconds_total[$__rate_interval]))"),
            ("open files", "sum (process_open_fds)"),
        ),
    ),
)

SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def panel(place: int, one: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(65 + i), "expr": expression, "legendFormat": legend, "datasource": SOURCE}
        for i, (legend, expression) in enumerate(one.queries)
    ]
    return {
        "id": place + 1,
        "type": "timeseries",
        "title": one.title,
        "datasource": SOURCE,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (place % 2), "y": 8 * (place // 2)},
        "fieldConfig": {"defaults": {"unit": one.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": targets,
    }


def dashboard() -> str:
    """docs/grafana-dashboard.json."""
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource"}
    made = {
        "title": "swarmllm",
        "uid": "swarmllm",
        "tags": ["swarmllm"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source | {"query": "prometheus"}]},
        "panels": [panel(place, one) for place, one in enumerate(PANELS)],
    }
    return json.dumps(made, indent=1) + "\n"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "metrics.md": page,
    "grafana-dashboard.json": dashboard,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    is_check, stale = parser.parse_args().check, []
    for name, made in PAGES.items():
        path = DOCS / name
        if not is_check:
            path.write_text(made(), encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != made():
            stale.append(name)
    for name in stale:
        print(f"{name} is not what the table says; run scripts/make_metrics.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
