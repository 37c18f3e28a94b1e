"""A swarm of equal peers that together serve one language model that no one owns.

    import swarmllm, trio

    async def main() -> None:
        async with swarmllm.open_node(swarmllm.configure()) as node:
            async for piece in node.generate("Once upon a time", k=3, max_tokens=64):
                print(piece.text, end="", flush=True)

    trio.run(main)

Importing this package is quick: each name is fetched from its module when it is first used. The
names are listed once, in `__init__.pyi`, which type checkers read as well.
"""

from __future__ import annotations

import os
import sys

# `python -m swarmllm` (for which argv[0] is "-m" at this point) looks for every module in the
# current folder first, so that a file called random.py there would be run in place of Python's own.
# Not so in a source tree that is run without being installed: there is nothing else in which its
# own modules are found. (`python -P -m swarmllm` is safe from the start, and so is the command
# `swarmllm`.)
_TREE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[:1] == [os.getcwd()] != [_TREE]:
    del sys.path[0]

import importlib  # noqa: E402  Only now; see above.
from typing import Any  # noqa: E402


def _homes() -> dict[str, str]:
    """Each public name's module, from lines `from MODULE import NAME as NAME`. Read plainly,
    because a parser takes longer."""
    with open(__file__ + "i", encoding="utf-8") as names:
        found = [line.split() for line in names if line.startswith("from ")]
    return {words[3]: words[1] for words in found}


_HOMES = _homes()

__all__ = sorted(_HOMES)  # noqa: PLE0605  A list of strings, from the one table.


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'swarmllm' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
