"""The folder that a user stands in, and other programs of the same user, have no say in what our
processes run or give away."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from swarmllm.adapters.private import ALLOW
from tests import ROOT
from tests.adapters.llama.models import model

START = """
import sys, trio
from pathlib import Path
from swarmllm.adapters.llama.engine import LlamaEngine
async def main():
    async with LlamaEngine(Path(sys.argv[1])) as engine:
        print("ready")
trio.run(main)
"""


def trap(folder: Path) -> Path:
    """A folder in which names of Python's own and of our dependencies are taken."""
    for name in (
        "random.py",
        "numpy/__init__.py",
        "typing.py",
        "llama_cpp.py",
        "msgpack.py",
        "trio.py",
        "json.py",
        "typer.py",
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("import os\nos.write(2, b'TAKEN IN ' + __name__.encode())\nos._exit(66)\n")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_worker_runs_nothing_of_the_current_folder(tmp_path: Path) -> None:
    done = run(trap(tmp_path), "-P", "-c", START, str(model()))
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


def test_the_command_runs_nothing_of_the_current_folder_even_as_a_module(tmp_path: Path) -> None:
    done = run(trap(tmp_path), "-m", "swarmllm", "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("swarmllm ")


def test_every_python_that_the_product_starts_leaves_the_current_folder_alone() -> None:
    found = 0
    for path in (ROOT / "swarmllm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.List)
                and node.elts
                and ast.unparse(node.elts[0]) == "sys.executable"
            ):
                found += 1
                assert ast.unparse(node.elts[1]) == "'-P'", (
                    f"{path}, line {node.lineno}: without -P"
                )
    assert found >= 5


PRIVATE = """
import ctypes, resource
from swarmllm.adapters.private import keep_private
keep_private()
print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a process flag against dumps")
def test_processes_leave_no_core_dump_and_let_nobody_look_in_unless_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ALLOW, raising=False)
    assert run(tmp_path, "-P", "-c", PRIVATE).stdout.split() == ["0", "0"]
    monkeypatch.setenv(ALLOW, "1")
    assert run(tmp_path, "-P", "-c", PRIVATE).stdout.split() == [
        str(resource.getrlimit(resource.RLIMIT_CORE)[0]),
        "1",
    ]


def test_the_command_and_the_worker_both_keep_private() -> None:
    for path in ("swarmllm/cli/__init__.py", "swarmllm/adapters/llama/worker.py"):
        calls = [
            n for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, ast.Call)
        ]
        assert any(ast.unparse(call) == "keep_private()" for call in calls)
