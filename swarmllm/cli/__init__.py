"""The commands: `swarmllm ...` and `python -m swarmllm ...`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec

from swarmllm.errors import MissingExtraError

# What the extra `cli` brings; a program that embeds a node needs none of them.
PACKAGES = ("typer", "rich")
# After the last word: threads of libraries that do not end by themselves must not hold the process.
EXIT_MAX_S = 2.0
INTERRUPTED = 130  # As in `guard`, whose import may be what was interrupted.


def main(args: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    try:
        code = _code_of(args)
    except KeyboardInterrupt:  # While modules were imported; later on `guarded` has it.
        code = INTERRUPTED
    if threading.current_thread() is threading.main_thread():
        # The code is known. Ctrl-C would only make the interpreter's own end show a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    last = threading.Timer(EXIT_MAX_S, os._exit, (code,))
    last.daemon = True
    last.start()
    sys.exit(code)


def _code_of(args: Sequence[str] | None) -> int:
    from swarmllm.adapters.private import keep_private
    from swarmllm.cli.streams import prepare

    keep_private()  # Before anything is read that is nobody else's business.
    # First: from here on whatever goes wrong can be told, or at least ends in the right code.
    prepare()
    from swarmllm.cli.output import catch_strays, complain

    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        error = MissingExtraError("the command swarmllm", missing[0], "cli")
        complain(str(error))
        return error.exit_code
    from swarmllm.cli.app import app
    from swarmllm.cli.guard import exit_code_of

    catch_strays()
    try:
        app(args=args, prog_name="swarmllm")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except BaseException as raised:  # noqa: BLE001  What help and errors of usage raise, such as a full disk.
        return exit_code_of(raised)
    return 1
