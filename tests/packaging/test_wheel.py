"""What is installed: one package and its description, with everything that it needs to run outside
a clone."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest

from tests import ROOT
from tests.packaging.test_public_names import SNIPPET

PROJECT: Final[dict[str, Any]] = tomllib.loads(
    (ROOT / "pyproject.toml").read_text(encoding="utf-8")
)
PINS: Final = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
TIMEOUT_S: Final = 120


def _run(command: list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Without PYTHONPATH, or this checkout would be imported."""
    kept = {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "MYPYPATH"}
    }
    return subprocess.run(
        command,
        cwd=folder,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git holds, so that neither an earlier build nor a file of one's own
    gets into it."""
    source, out = tmp_path_factory.mktemp("source") / "clone", tmp_path_factory.mktemp("wheel")
    source.mkdir()
    for name in ("swarmllm", "sims"):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    program = f"import setuptools.build_meta as build; print(build.build_wheel({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel in it, that sees the libraries of this one but
    no checkout."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    here = _run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder
    ).stdout.strip()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(here)
    libraries = [
        path
        for path in [*site.getsitepackages(), site.getusersitepackages()]
        if Path(path).is_dir()
    ]
    Path(here, "libraries.pth").write_text(
        "\n".join(libraries) + "\n", encoding="utf-8"
    )  # Plain paths: their .pth files are not read.
    return python


def test_nothing_but_the_package_lands_beside_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    version = PROJECT["project"]["version"]
    assert {name.split("/")[0] for name in names} == {"swarmllm", f"swarmllm-{version}.dist-info"}
    sources = {
        f"swarmllm/{path.relative_to(ROOT / 'swarmllm')}"
        for path in (ROOT / "swarmllm").rglob("*.py*")
        if path.suffix != ".pyc"
    }
    studies = {f"swarmllm/{path.relative_to(ROOT)}" for path in (ROOT / "sims").rglob("*.py")}
    assert {name for name in names if name.endswith((".py", ".pyi"))} == sources | studies
    assert {"swarmllm/py.typed", "swarmllm/__init__.pyi"} <= set(names)
    console = [
        f"swarmllm/{path.relative_to(ROOT / 'swarmllm')}"
        for folder in ("templates", "static")
        for path in (ROOT / "swarmllm/api/console" / folder).iterdir()
    ]
    assert set(console) <= set(names)
    assert sum(name.startswith("swarmllm/experts/") for name in names) >= sum(
        path.is_file() for path in (ROOT / "swarmllm/experts").rglob("*") if path.suffix != ".pyc"
    )


def test_its_description_says_what_it_is_and_what_is_optional(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(
            next(name for name in archive.namelist() if name.endswith("/METADATA"))
        ).decode()
    lines = text.partition("\n\n")[0].splitlines()
    for wanted in (
        "License-Expression: MIT",
        "License-File: LICENSE",
        "Classifier: Typing :: Typed",
        "Requires-Python: >=3.11",
    ):
        assert wanted in lines
    assert {line.split()[1] for line in lines if line.startswith("Provides-Extra: ")} == {
        "cli",
        "plots",
        "cluster",
        "grpc",
        "otel",
        "gpu",
    }
    always = {
        re.split(r"[^\w-]", line.split()[1])[0]
        for line in lines
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    }
    assert not always & {"typer", "rich", "matplotlib", "distributed", "pytest", "torch"}


def test_the_encoder_of_sparse_lists_is_compiled_for_every_python(
    wheel: Path, installed: Path, tmp_path: Path
) -> None:
    assert "-cp311-abi3-" in wheel.name
    program = "from swarmllm.wire import sparse_compiled; print(sparse_compiled.IS_COMPILED)"
    done = _run([str(installed), "-c", program], tmp_path)
    assert done.stdout.strip() == "True", done.stderr


def test_a_simulation_runs_from_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    done = _run([str(installed), "-c", "import swarmllm.sims as s; print(s.__file__)"], tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(installed.parents[1]), done.stderr
    assert _run([str(installed), "-c", "import sims"], tmp_path).returncode != 0
    words = [
        "simulate",
        "halt",
        "--nodes",
        "20",
        "--runs",
        "2",
        "--jobs",
        "2",
        "--json",
        "--out",
        str(tmp_path / "out"),
    ]
    done = _run([str(installed), "-m", "swarmllm", *words], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"event": "point"') + done.stdout.count('"event":"point"') == 2
    assert (tmp_path / "out/halt.csv").exists()


def test_types_of_a_users_program_are_checked_against_the_installed_package(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "good.py").write_text(SNIPPET, encoding="utf-8")
    (tmp_path / "bad.py").write_text(
        "import swarmllm\n\nswarmllm.TextRequest(prompt=3)\nswarmllm.nothing\n", encoding="utf-8"
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        str(installed),
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    done = _run([*command, "good.py", "bad.py"], tmp_path)
    wrong = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.split(":")[:2] for line in wrong] == [["bad.py", "3"], ["bad.py", "4"]], (
        done.stdout + done.stderr
    )


# --- the versions that CI installs ----------------------------------------------------------------


def test_every_requirement_has_a_pin_within_its_range() -> None:
    from packaging.requirements import Requirement

    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
        *groups["dev"],
    ]
    pins = {name.lower().replace("_", "-"): version for name, version in PINS.items()}
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[requirement.name.lower()]), requirement


def test_pins_name_packages_and_versions_only() -> None:
    assert len(PINS) > 50
    for name, version in PINS.items():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name), name
        assert re.fullmatch(r"[0-9][A-Za-z0-9.!+_-]*", version), version
    assert not {"swarmllm", "pip"} & PINS.keys()
