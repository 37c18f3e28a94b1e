"""Everything that a node needs, looked at one by one: what bug reports paste, and what to do about
what is missing.

A check looks and changes nothing. It raises for nothing that it examines: whatever goes wrong
inside one is that check's finding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from rich.table import Table

from swarmllm.cli import checks
from swarmllm.cli.bundle import refuse, write_bundle
from swarmllm.cli.output import answer, print_record
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import still_waiting
from swarmllm.errors import SwarmError
from swarmllm.runtime.config import Config

STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` is a fact, `remedy` what to do about it (empty if nothing)."""

    name: str
    level: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""


Check = Callable[[Config], checks.Verdict]

CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("python", checks.python),
    ("platform", checks.platform_),
    ("packages", checks.packages),
    ("memory", checks.memory),
    ("llama.cpp", checks.llama_cpp),
    ("sparse lists", checks.sparse_lists),
    ("vocabulary", checks.vocabulary),
    ("demo experts", checks.demo_experts),
    ("model", checks.model),
    ("data folder", checks.data_folder),
    ("cache folder", checks.cache_folder),
    ("key", checks.key),
    ("running node", checks.running_node),
    ("lending", checks.lending),
    ("port", checks.port),
    ("reachability", checks.reachability),
    ("interfaces", checks.interfaces),
    ("LAN discovery", checks.lan_discovery),
)


def _look(name: str, check: Check, config: Config) -> Finding:
    try:
        with still_waiting(f"the check of {name}"):
            verdict = check(config)
    except SwarmError as fault:
        return Finding(name, "fail", str(fault))
    except Exception as fault:  # noqa: BLE001  Doctor is run when things are broken: a check that breaks has found something.
        return Finding(
            name,
            "fail",
            f"{type(fault).__name__}: {fault}",
            "reinstall swarmllm; if that does not help, please report this line",
        )
    return Finding(name, verdict.level, verdict.found, verdict.remedy)


def examine(config: Config, *, as_json: bool, bundle: Path | None = None) -> int:
    """Exit code 1 if anything failed; warnings are fine. `bundle`: a file to be made of it all."""
    if bundle is not None:
        refuse(bundle)
    findings = _examine(config, as_json=as_json)
    if bundle is not None:
        write_bundle(bundle, config, list(map(asdict, findings)), as_json=as_json)
    return 1 if any(one.level == "fail" for one in findings) else 0


def _examine(config: Config, *, as_json: bool) -> list[Finding]:
    console = answer()
    failed = warned = 0
    findings = []
    for name, check in CHECKS:
        finding = _look(name, check, config)
        findings.append(finding)
        failed += finding.level == "fail"
        warned += finding.level == "warn"
        if as_json:
            print_record(
                {
                    "event": "diagnosis",
                    "name": name,
                    "level": finding.level,
                    "found": finding.found,
                    "remedy": finding.remedy,
                }
            )
            continue
        row = Table.grid(padding=(0, 2))
        row.add_column(width=4)
        row.add_column(width=13, style="bold")
        row.add_row(Line(finding.level, STYLES[finding.level]), name, Line(finding.found))
        if finding.remedy:
            row.add_row("", "", Line(f"→ {finding.remedy}", style="cyan"))
        console.print(row)
    if as_json:
        print_record({"event": "summary", "ok": failed == 0, "failed": failed, "warned": warned})
    elif failed:
        console.line()
        console.print(Line(f"{failed} of {len(CHECKS)} checks failed.", "red"))
    else:
        console.line()
        console.print(
            Line(f"A node can run here{f' (warnings: {warned})' if warned else ''}.", "green")
        )
    return findings
