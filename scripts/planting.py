"""Mutation testing: plants known bugs in copies of the code, one at a time, and tells which check
noticed each. `plant_halt_bugs.py` and `plant_world_bugs.py` list the bugs and say what must notice.

A bug is a replacement in one or more files. It must find its place exactly once, however the lines
are laid out: a bug that no longer fits is a failure too.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
TIMEOUT_S: Final = 900.0  # A loaded machine is no verdict.
WORD: Final = re.compile(r"\w")
WORDS: Final = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Change:
    """`old`, which stands once in the file, becomes `new` at the same column; no `new` is
    `pass`."""

    path: str
    old: str
    new: str


Bug = tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`caught_by` is the test or law that noticed first; empty if none did. `effort` is what it
    took beside time, for people."""

    caught_by: str
    seconds: float
    effort: str = ""


def plant(bug: Bug, folder: Path, copied: tuple[str, ...]) -> None:
    """Copy these files and folders and put the bug in. SystemExit if it does not fit.

    Times are copied, too, so that what is compiled of the unchanged files need not be compiled
    again.
    """
    for name in copied:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            # What is just being compiled beside us has such a name until it is whole.
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            shutil.copy2(source, target)
    for change in bug:
        path = folder / change.path
        path.write_text(changed(path.read_text(encoding="utf-8"), change), encoding="utf-8")


def changed(text: str, change: Change) -> str:
    """The text with the one place that reads `old`, in whatever lines, replaced. SystemExit if
    there is none, or several."""
    found = list(_pattern(change.old).finditer(text))
    if len(found) != 1:
        sys.exit(
            f"{change.path} has {len(found)} places that read {change.old!r}; one is needed: "
            "mend the bug"
        )
    new = change.new.strip() or "pass"
    return text[: found[0].start()] + new + text[found[0].end() :]


def _pattern(code: str) -> re.Pattern[str]:
    """The code with any white space between its words, and the comma that a formatter puts behind
    the last one of a list in lines of its own."""
    words = WORDS.findall(code)
    parts = [re.escape(words[0])]
    for before, word in pairwise(words):
        gap = r"\s+" if WORD.match(before) and WORD.match(word) else r"\s*"
        parts.append((",?" if word in ")]}" and before != "," else "") + gap + re.escape(word))
    begin, end = (r"\b" if WORD.match(words[at]) else "" for at in (0, -1))
    return re.compile(begin + "".join(parts) + end)


def run_in(
    folder: Path, command: Sequence[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command in a planted copy, with what it prints; compiled files are left nowhere."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def verdict_of_tests(
    bug: Bug, copied: tuple[str, ...], tests: Sequence[str], quick: Bug = ()
) -> Verdict:
    """Run these tests, until the first fails, on a copy with the bug in it. An empty bug must pass.
    `quick` are changes to the tests themselves that save time in every run."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="swarmllm-bug-") as name:
        plant((*bug, *quick), Path(name), copied)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        words = ["--no-header", "--tb=no", "-rfE", "-m", "not slow"]
        done = run_in(Path(name), [*command, *words, *tests], CI="1", PYTHONPATH=name)
    seconds = time.monotonic() - begun
    if done.returncode == 0:
        return Verdict("", seconds)
    failed = re.search(r"^FAILED \S+?::(\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or failed is None:
        sys.exit(f"the tests did not run:\n{done.stdout}{done.stderr}")
    return Verdict(failed[1], seconds)


def tell(
    bugs: Mapping[str, Bug], only: str | None, verdict_on: Callable[[Bug], Verdict], width: int
) -> int:
    """Judge the code without a bug, then every bug (or the one named `only`), one line each as it
    is done. Exit code 0 if the first passes and all others are noticed."""
    missed = 0
    if only is None:
        clean = verdict_on(())
        missed += bool(clean.caught_by)
        _line("no bug", clean.caught_by or "passes", clean, width)
    for name, bug in bugs.items():
        if only in (None, name):
            verdict = verdict_on(bug)
            missed += not verdict.caught_by
            _line(name, verdict.caught_by or "NOT NOTICED", verdict, width)
    return 1 if missed else 0


def _line(name: str, outcome: str, verdict: Verdict, width: int) -> None:
    print(
        f"{name:<52} {outcome[:width]:<{width}} {verdict.effort} {verdict.seconds:5.1f} s",
        flush=True,
    )


def options(parser: argparse.ArgumentParser, bugs: Mapping[str, Bug]) -> argparse.Namespace:
    """The command line, with the option that all such scripts have."""
    parser.add_argument("--only", choices=sorted(bugs), help="plant only this one")
    return parser.parse_args()
