"""Process privacy: no core dumps and no reading by other programs, for prompts and keys are in
memory."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from typing import Final

ALLOW: Final = "SWARMLLM_ALLOW_DUMPS"
"""Set to 1, everything stays as the system has it: debuggers and profilers may look in, crashes may
leave a core file."""

PR_SET_DUMPABLE: Final = 4


def keep_private() -> None:
    """No core file; and on Linux no debugger of the same user's, and no dump to a crash reporter,
    which the size limit does not stop.

    As far as the system lets us: none of this is worth not starting for. Each process must do it
    for itself, since exec undoes the second.
    """
    if os.environ.get(ALLOW) == "1":
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
