"""Runs the rows of evidence one by one and writes what was observed: docs/evidence/README.md for
people, docs/evidence/evidence.json for programs.

    scripts/evidence                     # what is not finished yet
    scripts/evidence --only lan          # one row (repeatable); --again: also what is finished
    scripts/evidence --list

A row is finished when its command has ended, whatever its result; with another command, verdict or
expectation it is run anew. A result that failed is kept and shown as such.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from scripts.evidence_rows import ROWS, Judged, Output, Row

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "docs" / "evidence"
LIMIT_S: Final = 1200.0
TIMED_OUT: Final = 124
MARKS: Final = {"pass": "holds", "fail": "**does not hold**", "needs": "not shown here"}

Run = Callable[[Row], Output]


@dataclass(frozen=True, slots=True)
class Observed:
    """`digest` is of the row as it was then."""

    name: str
    digest: str
    command: str
    state: str
    observed: str
    date: str
    seconds: float
    machine: str
    load: float


def digest_of(row: Row) -> str:
    said = (row.command, row.inputs, row.expected)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def shown_command(row: Row) -> str:
    """As a person types it, in a clone with its environment activated."""
    if not row.command:
        return ""
    module, *words = row.command
    if module == "pytest":
        kept = [word for word in words if word.startswith("tests/")]
        return " ".join(["python -m pytest", *kept])
    start = "swarmllm" if module == "swarmllm" else f"python -m {module}"
    return " ".join([start, *words])


def machine() -> str:
    """No names and no paths."""
    memory = psutil.virtual_memory().total / 2**30
    cores = os.cpu_count() or 1
    return (
        f"{cores} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    )


def run_row(row: Row) -> Output:
    if not row.command:
        return Output(0, "", "")
    command = [sys.executable, "-m", *row.command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=LIMIT_S,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Output(TIMED_OUT, "", f"it took more than {LIMIT_S:.0f} s")
    return Output(done.returncode, done.stdout, done.stderr)


def observe(row: Row, run: Run = run_row) -> Observed:
    began_at = time.monotonic()
    output = run(row)
    try:
        judged = row.verdict(output)
    except (KeyError, ValueError, TypeError) as error:
        judged = Judged(
            "fail", f"its output was not what was expected: {type(error).__name__} {error}"
        )
    return Observed(
        name=row.name,
        digest=digest_of(row),
        command=shown_command(row),
        state=judged.state,
        observed=judged.observed,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        seconds=round(time.monotonic() - began_at, 1),
        machine=machine(),
        load=round(os.getloadavg()[0], 1),
    )


def read(path: Path) -> dict[str, Observed]:
    if not path.exists():
        return {}
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {one["name"]: Observed(**one) for one in rows}


def write(folder: Path, found: dict[str, Observed], rows: Sequence[Row] = ROWS) -> None:
    """Both files, each whole or as it was."""
    kept = [asdict(found[row.name]) for row in rows if row.name in found]
    texts = {
        "evidence.json": json.dumps({"rows": kept}, indent=1, ensure_ascii=False) + "\n",
        "README.md": page(found, rows),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        partial = folder / f".{name}.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, folder / name)


def page(found: dict[str, Observed], rows: Sequence[Row]) -> str:
    current = [one for row in rows if (one := found.get(row.name)) and one.digest == digest_of(row)]
    counts = {state: sum(one.state == state for one in current) for state in MARKS}
    lines = [
        "# What was asked for, and what was observed",
        "",
        "Written by `scripts/evidence`, which runs the command of each row and looks at what it"
        " prints; do not edit. A row that does not hold, or that one small machine cannot show,"
        " says so. Inputs say whether parts are real (processes, models, sockets) or simulated.",
        "",
        f"{counts['pass']} of {len(rows)} rows hold, {counts['fail']} do not,"
        f" {counts['needs']} were not shown here, {len(rows) - len(current)} were not run.",
        "",
        "| row | asked for | inputs | expected | observed | result | would need more | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        one = found.get(row.name)
        is_current = one is not None and one.digest == digest_of(row)
        told = (
            (one.observed, f"{MARKS[one.state]} ({one.seconds:.0f} s, load {one.load})", one.date)
            if one is not None and is_current
            else ("", "not run", "")
        )
        cells = (row.name, row.asked, row.inputs, row.expected, *told[:2], row.beyond, told[2])
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    machines = sorted({one.machine for one in current})
    lines += ["", f"Machine: {'; '.join(machines) or 'none yet'}.", "", "## Commands", ""]
    lines += [f"    {shown_command(row)}    # {row.name}" for row in rows if row.command]
    return "\n".join([*lines, ""])


def main(
    words: Sequence[str], rows: Sequence[Row] = ROWS, folder: Path = FOLDER, run: Run = run_row
) -> int:
    parser = argparse.ArgumentParser(prog="scripts/evidence", description=__doc__)
    names = [row.name for row in rows]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", default=[])
    parser.add_argument("--again", action="store_true", help="also what is finished")
    parser.add_argument("--list", action="store_true", help="name the rows, and run nothing")
    given = parser.parse_args(words)
    if given.list:
        print(*(f"{row.name:12} {row.asked}" for row in rows), sep="\n")
        return 0
    found = read(folder / "evidence.json")
    todo = [
        row
        for row in rows
        if (not given.only or row.name in given.only)
        and (given.again or row.name not in found or found[row.name].digest != digest_of(row))
    ]
    for number, row in enumerate(todo, 1):
        print(
            f"[{number}/{len(todo)}] {row.name}: {shown_command(row)}", file=sys.stderr, flush=True
        )
        one = found[row.name] = observe(row, run)
        print(f"    {one.state}: {one.observed} ({one.seconds:.0f} s)", file=sys.stderr, flush=True)
        write(folder, found, rows)
    write(folder, found, rows)
    wanted = [found[row.name] for row in rows if not given.only or row.name in given.only]
    return 1 if any(one.state == "fail" for one in wanted) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
