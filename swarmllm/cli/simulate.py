"""`swarmllm simulate`: hands over to the studies in `sims`, which are imported only then; they know their own options."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from swarmllm.cli.output import write_stdout
from swarmllm.errors import LocalError


def simulate(arguments: Sequence[str]) -> int:
    try:
        command = importlib.import_module("sims.frame.command")
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] != "sims":
            raise
        raise LocalError("the studies (the folder sims) are not installed beside swarmllm; install swarmllm again") from None
    code = command.simulate(arguments, write_stdout)
    assert isinstance(code, int)
    return code
