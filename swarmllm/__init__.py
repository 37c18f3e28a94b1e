"""A swarm of equal peers that together serve one language model that no one owns.

    import swarmllm, trio

    async def main() -> None:
        async with swarmllm.open_node(swarmllm.configure()) as node:
            async for piece in node.generate("Once upon a time", k=3, max_tokens=64):
                print(piece.text, end="", flush=True)

    trio.run(main)

Importing this package is quick: each name is fetched from its module when it is first used.
"""

from __future__ import annotations

import os
import sys

# `python -m swarmllm` (for which argv[0] is "-m" at this point) looks for every module in the current folder first, so that a file called
# random.py there would be run in place of Python's own. Not so in a source tree that is run without being installed: there is nothing
# else in which its own modules are found. (`python -P -m swarmllm` is safe from the start, and so is the command `swarmllm`.)
_TREE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[:1] == [os.getcwd()] != [_TREE]:
    del sys.path[0]

import importlib  # noqa: E402  Only now; see above.
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from swarmllm.assembly import configure as configure
    from swarmllm.assembly import open_node as open_node
    from swarmllm.errors import HaltedError as HaltedError
    from swarmllm.errors import LocalError as LocalError
    from swarmllm.errors import RemoteError as RemoteError
    from swarmllm.errors import SwarmError as SwarmError
    from swarmllm.errors import UsageError as UsageError
    from swarmllm.runtime.config import Config as Config
    from swarmllm.runtime.generation import Answer as Answer
    from swarmllm.runtime.generation import Notice as Notice
    from swarmllm.runtime.generation import Piece as Piece
    from swarmllm.runtime.local_node import LocalNode as LocalNode
    from swarmllm.runtime.result import Result as Result

_HOMES = {
    "Answer": "swarmllm.runtime.generation",
    "Config": "swarmllm.runtime.config",
    "HaltedError": "swarmllm.errors",
    "LocalError": "swarmllm.errors",
    "LocalNode": "swarmllm.runtime.local_node",
    "Notice": "swarmllm.runtime.generation",
    "Piece": "swarmllm.runtime.generation",
    "RemoteError": "swarmllm.errors",
    "Result": "swarmllm.runtime.result",
    "SwarmError": "swarmllm.errors",
    "UsageError": "swarmllm.errors",
    "configure": "swarmllm.assembly",
    "open_node": "swarmllm.assembly",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605  A list of strings, from the one table.


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'swarmllm' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
