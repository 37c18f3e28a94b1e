"""Paths as people type them: `~` is expanded, bytes that are no text are kept, and what can be no
path is told at once."""

from __future__ import annotations

from pathlib import Path

from swarmllm.errors import UsageError


def user_path(word: str) -> Path:
    """UsageError for a word that cannot be a path, or whose home folder nobody can find. Whether
    anything is there is not looked at."""
    if not word or "\0" in word:
        raise UsageError(f"{word[:100]!r} cannot be the path of a file; give one")
    try:
        return Path(word).expanduser()
    except RuntimeError as error:
        user = word.split("/", 1)[0]
        raise UsageError(
            f"the home folder of {user!r} cannot be found; give the path {word[:100]!r} in full"
        ) from error
