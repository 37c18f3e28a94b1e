"""An imposter is a real node whose expert says that it has another model than it runs: an attacker
with the program's own source code.

    python -m tests.e2e.imposter CLAIMED.gguf join --model OTHER.gguf ...
"""

from __future__ import annotations

import sys
from hashlib import file_digest
from pathlib import Path
from typing import Any

from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.cli import main


def claim(model: Path) -> None:
    """From now on every engine of this process says that it runs this file."""
    with model.open("rb") as file:
        digest = file_digest(file, "sha256").digest()
    ready = LlamaEngine._ready

    def _ready(self: LlamaEngine, fields: dict[str, Any]) -> None:
        card = fields["card"] | {"digest": digest, "name": model.stem}
        ready(self, fields | {"card": card})

    LlamaEngine._ready = _ready  # type: ignore[method-assign]


if __name__ == "__main__":
    claim(Path(sys.argv.pop(1)))
    main()
