"""Errors, typed by whose fault they are: everything that swarmllm raises on purpose.

Ours: an assertion. The caller's: `LocalError` (and `UsageError`). A peer's: `RemoteError`: penalise
the peer and go on. The world's (a full queue, a lost peer, a slow expert) is an ordinary result and
never an exception.
"""

from __future__ import annotations


class SwarmError(Exception):
    """Base class. The message is one clear sentence that names the thing and its value."""

    exit_code = 1
    code = ""
    """What a program tells this error by, where the exit code says too little."""


class LocalError(SwarmError):
    """The caller or the machine it runs on: a missing file, a full disk, a taken port. Exit code
    1."""


class UsageError(LocalError):
    """What was asked for makes no sense: an empty prompt, an unknown option value. Exit code 2."""

    exit_code = 2


class FetchError(LocalError):
    """A file that is needed could not be brought here: no network, no such file, a wrong one. Exit
    code 1."""


class ContextError(UsageError):
    """The text is longer than any expert that can be reached holds: by `excess` tokens, 1 where
    nobody said."""

    code = "context_length_exceeded"

    def __init__(self, message: str, excess: int = 1) -> None:
        super().__init__(message)
        self.excess = max(1, excess)


class MissingExtraError(UsageError):
    """What was asked for needs a package that only an optional extra of swarmllm brings."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package}; run: pip install 'swarmllm[{extra}]' (in a clone:"
            f" '.[{extra}]')"
        )


class HaltedError(LocalError):
    """The swarm, or this node, is halted. Exit code 3."""

    exit_code = 3


class RemoteError(SwarmError):
    """A peer sent something that breaks the protocol. The connection's owner penalises it and goes
    on."""
