"""`swarmllm` whose machine is in its owner's use as soon as a file is there, and looks for it fifty
times a second. What an owner really does would be drowned by the tests that run beside.

    python -m tests.e2e.owned_node join ...
"""

from __future__ import annotations

import os
from pathlib import Path

from swarmllm import assembly
from swarmllm.cli import main
from swarmllm.core.serving import lending
from swarmllm.core.serving.lending import MachineUse
from swarmllm.runtime.config import Config
from swarmllm.runtime.lending import Look

OWNER_FILE = "TEST_OWNER_FILE"  # The variable that names it.


def looking(_: Config) -> Look:
    file = Path(os.environ[OWNER_FILE])
    return lambda: MachineUse(0.85 if file.exists() else 0.0, None, None, 0)


if __name__ == "__main__":
    assembly.look_of = looking  # type: ignore[attr-defined, assignment]
    lending.LOOK_EVERY_S = 0.02  # type: ignore[misc]  # Final for everybody else.
    main()
