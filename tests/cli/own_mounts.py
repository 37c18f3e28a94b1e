"""Tests that mount: each runs in a process with mounts of its own, where it may make disks that are
small or read-only. They vanish with it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec

import pytest

from tests import ROOT
from tests.cli.command import DEADLINE_S

# Settings begin with SWARMLLM_, and tests begin without any.
INSIDE: Final = "TESTS_HAVE_OWN_MOUNTS"
ALONE: Final = ("unshare", "--map-root-user", "--mount")

P = ParamSpec("P")


def with_own_mounts(test: Callable[P, None]) -> Callable[P, None]:
    """Run the test again, in a process of its own. Skipped where the system allows no mounts."""

    @functools.wraps(test)
    def outside_or_inside(*given: P.args, **named: P.kwargs) -> None:
        if INSIDE in os.environ:
            test(*given, **named)
            return
        tried = _run(*ALONE, "mount", "-t", "tmpfs", "none", "/mnt")
        if tried.returncode:
            pytest.skip(f"no mounts of one's own here: {tried.stderr.strip()[:200]}")
        name = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        alone = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist")
        done = _run(*ALONE, *alone, name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 passed" in done.stdout, done.stdout

    return outside_or_inside


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, INSIDE: "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def small_disk(folder: Path, size: str) -> None:
    """An empty disk of so many bytes in this folder."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))


def fill(disk: Path) -> Path:
    """To the last byte; the file that does it."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def make_read_only(folder: Path) -> None:
    _mount("--bind", str(folder), str(folder))
    _mount("-o", "remount,bind,ro", str(folder))


def _mount(*words: str) -> None:
    assert INSIDE in os.environ, "only with mounts of one's own"
    subprocess.run(["mount", *words], check=True)
