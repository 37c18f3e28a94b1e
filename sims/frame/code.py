"""Which code a study's results come from, as a short digest: of the study's module and of all it
imports of ours.

So a changed model never passes off old points as its own, while a change of options, tables and
pictures costs no point anew.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

OURS: Final = frozenset({"swarmllm", "sims"})
FRAME: Final = ("swarmllm.sims.frame", "swarmllm.sims.study")


@lru_cache(maxsize=8)
def version_of(module: str) -> str:
    """Sixteen hex digits over the sources of `module` and of what it imports, and over numpy's
    version, whose generator it draws from."""
    sources = dict(_sources(module))
    digest = hashlib.sha256(f"numpy {np.__version__}\n".encode())
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])}\n".encode())
        digest.update(sources[name])
    return digest.hexdigest()[:16]


def _sources(module: str) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name.split(".")[0] not in OURS or name.startswith(FRAME):
            continue
        seen.add(name)
        path = _path_of(name)
        if path is None:
            continue  # Something inside a module, not a module.
        source = path.read_bytes()
        yield name, source
        waiting += _imports(source, name if path.name == "__init__.py" else name.rpartition(".")[0])


def _path_of(name: str) -> Path | None:
    """None too for compiled code: its bytes differ from machine to machine, and what it computes is
    what its reference in Python does."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # Its parent is no package.
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _imports(source: bytes, package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(target, names, level):
                parts = package.split(".")
                base = (
                    ".".join([*parts[: len(parts) - level + 1], *([target] if target else [])])
                    if level
                    else str(target)
                )
                yield base
                yield from (f"{base}.{alias.name}" for alias in names)
            case _:
                pass
