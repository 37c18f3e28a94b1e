"""`swarmllm` offers what its node takes and returns, and importing it loads nothing that a caller
did not ask for."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import swarmllm
from tests import ROOT

# Doors to the inside: whoever brings an engine or a network of his own, or asks the kill switch,
# imports their modules.
# `Signed` is read from a receipt and handed on; what is in it is the receipt's business.
NOT_FOLLOWED: Final = frozenset({"Parts", "HaltDesk", "Signed"})

SNIPPET: Final = """
from pathlib import Path

import swarmllm


def show(event: swarmllm.Life) -> None:
    if isinstance(event, swarmllm.Ready):
        print(event.peer)


async def main() -> None:
    config: swarmllm.Config = swarmllm.configure(data_dir=Path("/nonexistent"), offline=True)
    async with swarmllm.open_node(config, tell=show) as node:
        request = swarmllm.TextRequest(prompt="Once", k=3, max_tokens=8)
        answer: swarmllm.Answer = node.answer(request)
        async for piece in answer:
            text: str = piece.text
            print(text)
        status: swarmllm.Status = node.status()
        experts: tuple[swarmllm.ExpertView, ...] = status.view.experts
        peer: swarmllm.PeerId = node.peer
        print(experts, peer)
        with node.events() as events:
            async for event in events:
                life: swarmllm.LifeEvent = event
                print(life)
"""


def _classes(hint: Any) -> Iterator[type]:
    if inspect.isclass(hint) and not typing.get_args(hint):
        yield hint
    for part in typing.get_args(hint):
        for one in part if isinstance(part, (list, tuple)) else [part]:
            yield from _classes(one)


def _hints(thing: Any) -> Iterator[tuple[str, Any]]:
    """Everything that a public class or function takes, returns or holds."""
    if inspect.isfunction(thing):
        yield from typing.get_type_hints(thing).items()
    if dataclasses.is_dataclass(thing):
        yield from (
            (name, hint)
            for name, hint in typing.get_type_hints(thing).items()
            if not name.startswith("_")
        )
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            function = member.fget if isinstance(member, property) else member
            if not name.startswith("_") and inspect.isfunction(function):
                yield from (
                    (f"{name}: {which}", hint)
                    for which, hint in typing.get_type_hints(function).items()
                )


@pytest.mark.parametrize("name", [name for name in swarmllm.__all__ if name not in NOT_FOLLOWED])
def test_what_a_public_name_takes_and_returns_is_public(name: str) -> None:
    public = {getattr(swarmllm, one) for one in swarmllm.__all__}
    for where, hint in _hints(getattr(swarmllm, name)):
        for found in _classes(hint):
            if found.__module__.startswith("swarmllm."):
                assert found in public, (
                    f"swarmllm.{name}, {where}: {found.__module__}.{found.__name__} is not in"
                    " swarmllm/__init__.pyi"
                )


def test_each_public_name_is_listed_once_and_is_there() -> None:
    lines = [
        line
        for line in (ROOT / "swarmllm/__init__.pyi").read_text(encoding="utf-8").splitlines()
        if line.startswith("from ")
    ]
    names = [line.split()[3] for line in lines]
    assert [
        line for line in lines if line.split()[3:] != [name := line.split()[-1], "as", name]
    ] == []
    assert sorted(set(names)) == sorted(names) == swarmllm.__all__
    assert set(names) <= set(dir(swarmllm))
    for name in names:
        assert getattr(swarmllm, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        swarmllm.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_importing_swarmllm_and_its_errors_loads_no_library() -> None:
    heavy = "trio libp2p llama_cpp numpy tokenizers typer rich psutil matplotlib"
    program = (
        "import sys, swarmllm; swarmllm.UsageError;"
        f" print(*[name for name in {heavy.split()} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []


def test_opening_a_node_needs_none_of_the_extras() -> None:
    """As an embedder has it: the packages of `cli`, `plots`, `cluster` and `gpu` cannot be
    imported."""
    program = (
        "import sys\n"
        "for name in ('typer', 'rich', 'matplotlib', 'distributed', 'pynvml'):"
        " sys.modules[name] = None\n"
        "import swarmllm, importlib\n"
        "for name in swarmllm.__all__: getattr(swarmllm, name)\n"
        "importlib.import_module('swarmllm.adapters.libp2p.network');"
        " importlib.import_module('swarmllm.adapters.llama.worker')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_the_command_without_the_extra_cli_says_what_to_install(package: str) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None; from swarmllm.cli import main;"
        " main(['--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"swarmllm: the command swarmllm needs the package {package}; run:"
        " pip install 'swarmllm[cli]' (in a clone: '.[cli]')\n"
    )


@pytest.mark.parametrize(
    "words",
    [["simulate", "halt", "--nodes", "20", "--runs", "1"], ["eval", "--quick"]],
    ids=lambda words: words[0],
)
def test_pictures_without_the_extra_plots_are_refused_before_anything_is_computed(
    words: list[str], tmp_path: Path
) -> None:
    arguments = [*words, "--out", str(tmp_path / "out")]
    program = (
        "import sys; sys.modules['matplotlib'] = None; from swarmllm.cli import main;"
        f" main({arguments!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "swarmllm: --out needs the package matplotlib; run:"
        " pip install 'swarmllm[plots]' (in a clone: '.[plots]')\n"
    )
    assert not (tmp_path / "out").exists()
