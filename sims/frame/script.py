"""`python sims/NAME.py`: the same as `swarmllm simulate NAME`, without the package's command
line."""

from __future__ import annotations

import os
import sys

from swarmllm.errors import SwarmError
from swarmllm.sims.frame.command import INTERRUPTED, OK, fail, simulate


def run_script(name: str) -> int:
    """The exit code: 0 done, 1 failed, 2 used wrongly, 130 interrupted."""
    try:
        return simulate([name, *sys.argv[1:]], _write)
    except SwarmError as error:
        fail(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # The reader has what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
