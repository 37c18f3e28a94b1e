"""The glossary's banned words: no name in the code uses one (docs/glossary.md has the table).

A word counts as a part of a name: `is_kin`, `KinTable` and `KIN_MAX` all use `kin`. Only names that
the code defines are looked at; those of other libraries are theirs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests import ROOT
from tests.test_architecture import FILES

GLOSSARY: Final = ROOT / "docs" / "glossary.md"
HEADING: Final = "## Words that names do not use"
PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
STILL: Final = frozenset({"NO_HALT_DIGEST", "_control", "_control_at", "_shuffling", "control"})
"""Names of before the table: they may only become fewer."""


@dataclass(frozen=True, slots=True)
class Banned:
    """What to say instead of each word, and the names that may have one all the same."""

    instead: dict[str, str] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()

    def wrong_with(self, name: str) -> Iterator[str]:
        if name in self.allowed or name.startswith("test_"):
            return
        for part in PART.findall(name):
            if (word := part.lower()) in self.instead:
                yield f"{name} says {word}; say {self.instead[word]} (docs/glossary.md)"


def banned(glossary: str) -> Banned:
    """The table under `HEADING`."""
    _, _, section = glossary.partition(HEADING)
    instead: dict[str, str] = {}
    allowed: set[str] = set()
    for row in re.findall(r"^\|([^|]*)\|([^|]*)\|([^|]*)\|$", section.split("\n## ")[0], re.M)[2:]:
        words, say, but = (cell.strip() for cell in row)
        instead |= dict.fromkeys(re.split(r",\s*", words), say)
        allowed |= set(re.findall(r"`(\w+)`", but))
    return Banned(instead, frozenset(allowed))


def names(tree: ast.AST) -> Iterator[str]:
    """All that the module defines, with the names that it gives to what it imports."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                yield name
            case ast.arg(name) | ast.Name(name, ast.Store()) | ast.Attribute(_, name, ast.Store()):
                yield name
            case ast.alias(_, str(name)) | ast.ExceptHandler(_, str(name)):
                yield name
            case ast.MatchAs(_, str(name)) | ast.MatchStar(str(name)):
                yield name
            case _:
                pass


def wrong(words: Banned, path: Path, source: str) -> list[str]:
    found = {path.stem.removeprefix("test_"), *names(ast.parse(source))}
    return sorted(one for name in found for one in words.wrong_with(name))


WORDS: Final = banned(GLOSSARY.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_names_use_the_words_of_the_glossary(path: Path) -> None:
    found = wrong(WORDS, path, (ROOT / path).read_text(encoding="utf-8"))
    assert found == []


def test_the_table_of_the_glossary_is_read() -> None:
    assert WORDS.instead["kin"] == "same-swarm peer"
    assert WORDS.instead["rumour"] == WORDS.instead["rumours"] == "gossip"
    assert "CONTROL" in WORDS.allowed
    assert set(WORDS.allowed).isdisjoint(WORDS.instead)


@pytest.mark.parametrize(
    "source",
    [
        "class KinTable: ...",
        "def is_kin(): ...",
        "async def kin(): ...",
        "def f(*, kin): ...",
        "def f(*kin): ...",
        "f = lambda kin: 0",
        "KIN_MAX = 1",
        "kin: int",
        "x.kin = 1",
        "for kin in y: ...",
        "with f() as kin: ...",
        "import x as kin",
        "from x import y as kin",
        "try: ...\nexcept E as kin: ...",
        "match x:\n    case [kin, *_]: ...",
        "match x:\n    case E(y=kin): ...",
        "if (kin := 1): ...",
    ],
)
def test_a_banned_word_is_found_wherever_a_name_is_defined(source: str) -> None:
    (found,) = wrong(WORDS, Path("x.py"), source)
    assert "same-swarm peer" in found


@pytest.mark.parametrize("path", ["core/kin.py", "tests/test_kin.py"])
def test_a_banned_word_is_found_in_the_name_of_a_file(path: str) -> None:
    assert wrong(WORDS, Path(path), "") == ["kin says kin; say same-swarm peer (docs/glossary.md)"]


@pytest.mark.parametrize(
    "source",
    [
        "kind = kinds = skin = Kinder = 1",
        "x = rpc.control",
        "from libp2p import ControlMessage",
        "f(kin=1)",
        "CONTROL = 3",
        "def test_kin_is_a_word_like_any_other(): ...",
        '"""kin"""  # kin',
    ],
)
def test_other_names_are_left_in_peace(source: str) -> None:
    assert wrong(WORDS, Path("x.py"), source) == []
