"""What the documents say exists: links, headings, files, functions, commands, options, imports."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest
import typer.main

import swarmllm
from swarmllm.cli.app import app
from swarmllm.cli.demo_cast import real_cast
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.sims.study import find, questions
from tests import ROOT

HIDDEN: Final = re.compile(r"(^|/)\.|node_modules|/build/")
README_LINES_MAX: Final = 140  # Two screens: what a visitor reads.
LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE: Final = re.compile(r"`([^`\n]+)`")
PATH: Final = re.compile(
    r"\b(?:swarmllm|sims|scripts|tests|docs|protocols|core|runtime|adapters|wire|messages|cli|testing)/[\w./-]*\w\.(?:py|md|svg|json)\b"
)
SCRIPT: Final = re.compile(r"(?<![\w/.])scripts/[a-z_]+\b(?![./])")
GONE: Final = (
    "design notes",
    "reference design claims",
    "reference design's",
    "the design's model",
    "ux.md",
)
"""References to documents that are not in the repository."""
TEXTS: Final = (".md", ".py", ".sh", ".toml")


def found(*suffixes: str) -> list[Path]:
    paths = (path for suffix in suffixes for path in ROOT.rglob("*" + suffix))
    return sorted(path for path in paths if not HIDDEN.search(str(path.relative_to(ROOT))))


DOCUMENTS: Final = found(".md")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """Without what is shown as code."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


@lru_cache(maxsize=64)
def anchors(path: Path) -> frozenset[str]:
    """The names by which a document's headings are linked, as forges make them."""
    lines = prose(path.read_text(encoding="utf-8")).splitlines()
    titles = [line.lstrip("#").strip() for line in lines if re.match(r"#{1,6} ", line)]
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


def broken_links(path: Path, text: str) -> list[str]:
    wrong = []
    for link in LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


def absent_paths(text: str) -> list[str]:
    places = (ROOT, ROOT / "swarmllm", ROOT / "sims")
    return [
        path
        for path in PATH.findall(text) + SCRIPT.findall(text)
        if not any((place / path).exists() for place in places)
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    assert broken_links(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_file_that_a_document_names_exists(path: Path) -> None:
    assert absent_paths(path.read_text(encoding="utf-8")) == []


def test_what_is_broken_is_found() -> None:
    text = (
        "[a](docs/nowhere.md), [b](LICENSE), [c](#nothing), [d](https://example.org);"
        " `core/nowhere.py` and `core/node.py`; scripts/non"
    )
    assert broken_links(ROOT / "README.md", text) == ["docs/nowhere.md", "#nothing"]
    assert absent_paths(text) == ["docs/nowhere.md", "core/nowhere.py", "scripts/non"]


# --- the walks ------------------------------------------------------------------------------------


def defined(path: Path) -> set[str]:
    """Functions, classes and methods of a module, the latter as Class.method."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{one.name}"
                for one in node.body
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return names


def steps() -> Iterator[tuple[str, str]]:
    """File and name of each step of the walks."""
    for line in (ROOT / "docs/architecture.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[1].startswith("`swarmllm/"):
            for name in CODE.findall(cells[2]):
                yield cells[1].strip("`"), name


@pytest.mark.parametrize(("file", "name"), list(steps()))
def test_every_step_of_the_walks_is_there(file: str, name: str) -> None:
    assert name in defined(ROOT / file)


def test_the_walks_are_walks() -> None:
    assert len(list(steps())) > 50


@pytest.mark.parametrize(
    "path", [ROOT / "docs/architecture.md", ROOT / "CONTRIBUTING.md"], ids=named
)
def test_every_function_named_beside_its_file_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\n", " ")
    for name, file in re.findall(r"`([A-Za-z_][\w.]*)` in `(swarmllm/[\w/]+\.py)`", text):
        module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        values = {ast.unparse(one.target) for one in module.body if isinstance(one, ast.AnnAssign)}
        assert name in defined(ROOT / file) | values, f"{name} in {file}"


# --- commands -------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[str]:
    """Every command line of swarmllm that a document shows, without its comment."""
    text = re.sub(r"\\\n\s*", " ", text)
    for line in text.splitlines():
        shown = re.match(r"(?:    |\$ |    \$ )(?:echo [^|]*\| )?(swarmllm .*)", line)
        if shown:
            yield re.sub(r"\s+#.*", "", shown[1])
    yield from (code for code in CODE.findall(prose(text)) if re.match(r"swarmllm [a-z]", code))


def wrong_with(line: str) -> str:
    words = shlex.split(line.replace("...", ""))[1:]
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    if hasattr(command, "commands") and words and not words[0].startswith("-"):
        return f"there is no command {words[0]!r}"
    known = {
        option
        for parameter in command.params
        for option in parameter.opts + parameter.secondary_opts
    }
    if command.name == "simulate":
        return wrong_with_study(words)
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return next(
        (f"{command.name} has no option {option}" for option in options if option not in known), ""
    )


def wrong_with_study(words: list[str]) -> str:
    if not words or words[0] in {"NAME", "swarm"}:
        return ""
    if words[0] not in questions():
        return f"there is no study {words[0]!r}"
    general = {"--sweep", "--runs", "--jobs", "--json", "--out", "--dask", "--seed"}
    known = general | {parameter.option for parameter in find(words[0]).parameters}
    return next(
        (
            f"the study has no {word}"
            for word in words[1:]
            if word.startswith("--") and word not in known
        ),
        "",
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_command_that_a_document_shows_exists_with_its_options(path: Path) -> None:
    wrong = {line: wrong_with(line) for line in commands(path.read_text(encoding="utf-8"))}
    assert {line: why for line, why in wrong.items() if why} == {}


@pytest.mark.parametrize(
    "line",
    ["swarmllm serve", "swarmllm halt now", "swarmllm join --modle x", "swarmllm simulate weather"],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    assert wrong_with(line)


# --- the rest -------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES_MAX


def blocks(path: Path) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.S | re.M
    )


def test_the_example_of_the_readme_uses_what_there_is() -> None:
    (example,) = blocks(ROOT / "README.md")
    assert len([line for line in example.splitlines() if line]) <= 12
    for node in ast.walk(ast.parse(example)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "swarmllm":
            assert node.attr in swarmllm.__all__
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "swarmllm.configure":
            # It runs beside the node of the section before, and asks it.
            assert {"data_dir", "peers"} <= {word.arg for word in node.keywords}
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "node.generate":
            assert {word.arg for word in node.keywords} <= {
                *inspect.signature(LocalNode.generate).parameters
            }


@pytest.mark.parametrize("name", ["README.md", "docs/demo.md"])
def test_a_transcript_of_the_demo_has_the_experts_that_the_demo_has(name: str) -> None:
    heads = re.findall(r"^ +token  .*agree$", (ROOT / name).read_text(encoding="utf-8"), re.M)
    cast = [f"{at} {expert}" for at, expert in enumerate(real_cast().names, 1)]
    assert heads
    assert [head.split("  round")[0].split() for head in heads] == [
        ["token", *" ".join(cast).split()]
    ] * len(heads)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_what_examples_import_can_be_imported(path: Path) -> None:
    for block in blocks(path):
        if "import" not in block:
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                if re.search("_pb2(_grpc)?$", node.module):
                    continue  # The reader has just generated it; the tests of gRPC do as well.
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("path", found(".svg"), ids=named)
def test_a_picture_is_well_formed_and_says_what_it_shows(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == space + "svg"
    assert root.findtext(space + "title")
    assert root.findtext(space + "desc")


def test_every_fault_of_libp2p_that_is_named_is_described() -> None:
    described = anchors(ROOT / "docs/libp2p-faults.md")
    for path in found(".py"):
        for number in re.findall(r"\b[Ff]ault ([0-9]+)\b", path.read_text(encoding="utf-8")):
            assert f"fault-{number}" in described, f"{named(path)} names fault {number}"


def test_nothing_refers_to_documents_that_are_not_here() -> None:
    for path in found(*TEXTS):
        if path != Path(__file__):
            text = path.read_text(encoding="utf-8")
            assert [phrase for phrase in GONE if phrase in text] == [], named(path)
