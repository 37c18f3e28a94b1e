"""What drafts bring, at every distance: measured piece by piece, and shown as a page and a picture.

python scripts/speculation.py measure [--model smollm2] [--seconds 240] [--quick]
python scripts/speculation.py show

`measure` runs what `swarmllm bench --only speculation` runs, and keeps each place's figures in
.speculation/ (not in the repository); called again it goes on where it was, and it ends with 3
after `--seconds`, if places are left. `show` writes docs/evidence/speculation.md, and
beside it a picture of what was measured at several distances.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import trio

from swarmllm.assembly import configure
from swarmllm.cli.bench.speculation import KINDS, MODES, Place, measure_at, places

ROOT: Final = Path(__file__).resolve().parents[1]
POINTS: Final = ROOT / ".speculation"
PAGE: Final = ROOT / "docs/evidence/speculation.md"
PICTURE: Final = "speculation.png"
TINY: Final = "llama3-demo:prose"
LEFT: Final = 3  # The exit code where places are left.
COLOURS: Final = dict(
    zip(MODES, ("#000000", "#E69F00", "#56B4E9", "#CC79A7", "#0072B2"), strict=True)
)
HEAD: Final = """# What drafts bring, row by row

This page is written by `scripts/speculation.py` from what it measured. Do not edit it.
[Performance](../performance.md#several-tokens-in-one-round-trip) says what the columns mean, and
what follows. "load" is how many programs wanted to run in the minute before, on two cores.
"""
SHOWN: Final = f"\n![Tokens a second over the one-way delay, by who drafts]({PICTURE})\n"

Row = dict[str, Any]


def file_of(model: str, place: Place) -> Path:
    name = model.replace(":", "-").replace("/", "-")
    return POINTS / f"{name}-{place.kind}-k{place.k}-{place.delay_ms:g}.json"


async def measured(model: str, place: Place) -> list[Row]:
    config = configure(model=model)
    rows: list[Row] = []
    load = round(os.getloadavg()[0], 1)
    async with aclosing(measure_at(place, config, lambda _: None)) as found:
        async for measurement in found:
            rows.append({**measurement.record(), "load": load, "model": model})
    return rows


def measure(model: str, seconds: float, *, quick: bool) -> int:
    began = time.monotonic()
    POINTS.mkdir(exist_ok=True)
    for place in places(quick):
        path = file_of(model, place)
        if path.exists():
            continue
        if time.monotonic() - began > seconds:
            return LEFT
        rows = trio.run(measured, model, place)
        for row in rows:
            print(row["parameters"], row["name"], row["value"], row["details"], flush=True)
        path.write_text(json.dumps({"day": f"{datetime.now(UTC):%Y-%m-%d}", "rows": rows}))
    return 0


def kept() -> list[Row]:
    found = [json.loads(path.read_text())["rows"] for path in sorted(POINTS.glob("*.json"))]
    rows = [row for rows in found for row in rows]
    return sorted(rows, key=_order)


def _order(row: Row) -> tuple[bool, str, int, int, float, int]:
    where = row["parameters"]
    kind, mode = KINDS.index(where["prompts"]), MODES.index(mode_of(row))
    return row["model"] != TINY, row["model"], kind, -where["k"], where["one_way_ms"], mode


def mode_of(row: Row) -> str:
    return str(row["name"].rpartition(" ")[2])


def page(rows: Sequence[Row], *, is_drawn: bool) -> str:
    lines = [HEAD, SHOWN] if is_drawn else [HEAD]
    last = ("", "")
    for row in rows:
        where, seen = row["parameters"], row["details"]
        group: tuple[str, str] = (row["model"], where["prompts"])
        if group != last:
            lines += [
                f"\n## {row['model'].removesuffix(':prose')}, {where['prompts']} prompts\n",
                "| K | one way | mode | tokens/s | ceiling | times strict | tokens a round"
                " | drafted a round | accepted | bytes per expert and token | tokens | load |",
                "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            ]
            last = group
        accepted = "" if seen["accepted"] is None else f"{seen['accepted']:.2f}"
        lines.append(
            f"| {where['k']} | {where['one_way_ms']:g} ms | {mode_of(row)} | {row['value']:.1f}"
            f" | {row['ceiling']:.1f} | {seen['times_strict']:.2f}"
            f" | {seen['tokens_per_round']:.1f} | {seen['drafted_per_round']:.1f} | {accepted}"
            f" | {seen['bytes_per_expert_and_token']:,} | {seen['tokens']} | {row['load']} |"
        )
    return "\n".join(lines) + "\n"


def panels_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The models and kinds of prompts that were measured at several distances with K = 4."""
    seen: dict[tuple[str, str], set[float]] = {}
    for row in rows:
        where = row["parameters"]
        if where["k"] == 4:
            seen.setdefault((row["model"], where["prompts"]), set()).add(where["one_way_ms"])
    return [panel for panel, delays in seen.items() if len(delays) > 1]


def draw(rows: Sequence[Row], panels: Sequence[tuple[str, str]], path: Path) -> None:
    """One panel for each model and kind of prompts, K = 4, with a line for each mode."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in rows if row["parameters"]["k"] == 4]
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(3.6 * len(panels), 3.4), sharey=True, squeeze=False
    )
    for axis, panel in zip(axes[0], panels, strict=True):
        for mode in MODES:
            points = [
                (row["parameters"]["one_way_ms"], row["value"])
                for row in rows
                if (row["model"], row["parameters"]["prompts"]) == panel and mode_of(row) == mode
            ]
            style = {"color": COLOURS[mode], "marker": "o", "ms": 3, "label": mode}
            axis.plot(*zip(*points, strict=True), **style)
        axis.set(title=f"{panel[0].removesuffix(':prose')}, {panel[1]}", xlabel="one way, ms")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.title.set_fontsize(9)
    axes[0][0].set_ylabel("tokens/s, K = 4")
    axes[0][0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("measure", "show"))
    parser.add_argument("--model", default=TINY)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--quick", action="store_true", help="25 and 100 ms, K = 4")
    asked = parser.parse_args(arguments)
    if asked.what == "measure":
        return measure(asked.model, asked.seconds, quick=asked.quick)
    rows = kept()
    if not rows:
        print("nothing was measured yet: scripts/speculation.py measure", file=sys.stderr)
        return 1
    panels = panels_of(rows)
    PAGE.write_text(page(rows, is_drawn=bool(panels)))
    if panels:
        draw(rows, panels, PAGE.with_name(PICTURE))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
