"""Tests mirror the package: whoever looks for those of a folder finds them in the folder of the
same name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests import ROOT

# Folders of tests that answer for no single folder of the package.
OWN_FOLDERS: Final = frozenset({"contracts", "e2e", "interop", "packaging", "reach", "scripts"})
# Modules of tests at the top that answer for no single module of the package.
OWN_MODULES: Final = frozenset({"__init__", "clock", "conftest"})
OWN_TESTS: Final = frozenset(
    {"architecture", "architecture_checker", "clock", "documents", "layout", "words"}
)
TESTS: Final = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))


def misplaced(path: Path) -> bool:
    """Whether a module of tests lies where the package has nothing that it could answer for."""
    folder = Path(*path.parts[1:-1])
    if folder.parts:
        return folder.parts[0] not in OWN_FOLDERS and not (ROOT / "swarmllm" / folder).is_dir()
    if path.stem in OWN_MODULES:
        return False
    name = path.stem.removeprefix("test_")
    return name not in OWN_TESTS and not (ROOT / "swarmllm" / f"{name}.py").is_file()


def test_tests_mirror_the_package() -> None:
    lost = [str(path) for path in TESTS if misplaced(path)]
    assert not lost, f"no folder of swarmllm is mirrored by those of {lost}"


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("tests/core/halt/test_state.py", False),
        ("tests/sims/test_flood.py", False),
        ("tests/assembly/test_assembly.py", False),
        ("tests/e2e/test_demo.py", False),
        ("tests/network/test_streams.py", True),
        ("tests/core/network/test_streams.py", True),
        ("tests/test_streams.py", True),
    ],
)
def test_a_misplaced_module_of_tests_is_found(path: str, wrong: bool) -> None:
    assert misplaced(Path(path)) is wrong
