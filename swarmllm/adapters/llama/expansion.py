"""The bundled experts as GGUF files in the user's cache: made on first use, checked on every later
one. The specialists of a base model are made by the same code (lora_expansion.py).

A GGUF file of a tiny model over 128,256 words is 70 MB of which 8 carry meaning, so it is neither
shipped nor downloaded. The file appears whole or not at all; a sidecar with its size and digest
shows later damage, and then it is made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from swarmllm.adapters.llama.cache_file import alone, replacing
from swarmllm.adapters.llama.demo import content_key, folder_of, load_compact
from swarmllm.adapters.llama.demo_gguf import DemoGguf
from swarmllm.adapters.llama.vocabulary import load_tables
from swarmllm.errors import LocalError

EXPANSION_FORMAT = 1  # Raise it when the same compact form gives other bytes.
SPARE_BYTES = 16 * 1024 * 1024  # Disk that we leave to others.

Progress = Callable[[int, int], None]
"""(bytes written, bytes in all)."""


def expand(name: str, cache_dir: Path, progress: Progress | None = None) -> Path:
    """The GGUF file of the bundled expert `name`. Makes it if it is not there whole: seconds, and
    it blocks, so call it in a thread.

    UsageError for an unknown name; LocalError, naming the folder and what is missing, if it cannot
    be written.
    """
    return expand_folder(folder_of(name), cache_dir, progress)


def forget(name: str, cache_dir: Path) -> int:
    """Take the expanded file away, if there is one; returns the bytes that became free. UsageError
    for an unknown name."""
    return unmake(_place(folder_of(name), cache_dir))


def unmake(path: Path) -> int:
    """Take away what `made` made, if it is there; returns the bytes that became free."""
    freed = path.stat().st_size if path.exists() else 0
    for file in (path, sidecar(path)):
        file.unlink(missing_ok=True)
    return freed


def expand_folder(folder: Path, cache_dir: Path, progress: Progress | None = None) -> Path:
    """The same for any compact model, such as one that was just trained."""
    return made(
        _place(folder, cache_dir),
        lambda: DemoGguf(load_compact(folder), load_tables(cache_dir)),
        "demo expert",
        progress,
    )


class Content(Protocol):
    """A file's bytes before they are written."""

    @property
    def size_bytes(self) -> int: ...

    def stream(self) -> Iterator[bytes]: ...


def made(
    path: Path,
    content: Callable[[], Content],
    what: str,
    progress: Progress | None = None,
    sha256: str = "",
) -> Path:
    """`path`, with the content that it needs if it is not there whole. `what` names it to people.

    LocalError if it cannot be written, or if what was made has another digest than `sha256` (empty:
    whatever it is).
    """
    if intact(path):
        return path
    found = content()
    try:
        with alone(path):
            if not intact(path):  # Another process may have made it while we waited.
                _write(found, path, what, progress, sha256)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(path, what, found.size_bytes) from e
        raise LocalError(
            f"cannot write the {what} to {path}: {e.strerror or e}; "
            "choose another cache folder with --cache-dir"
        ) from e
    return path


def _place(folder: Path, cache_dir: Path) -> Path:
    key = hashlib.sha256(f"{content_key(folder)} {EXPANSION_FORMAT}".encode()).hexdigest()
    return cache_dir / f"{folder.name}-{key[:16]}.gguf"


def sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def intact(path: Path) -> bool:
    """Whether the file is what was once written there: size first, then digest (0.1 s)."""
    try:
        expected = json.loads(sidecar(path).read_text())
        if path.stat().st_size != expected["size"]:
            return False
        with path.open("rb") as file:
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == expected["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _no_room(path: Path, what: str, needed: int) -> LocalError:
    free = shutil.disk_usage(path.parent).free
    return LocalError(
        f"the {what} {path.name} needs {needed:,} bytes in {path.parent}, "
        f"where {free:,} are free: "
        "make room there or choose another cache folder with --cache-dir"
    )


def _write(content: Content, path: Path, what: str, progress: Progress | None, sha256: str) -> None:
    if shutil.disk_usage(path.parent).free < content.size_bytes + SPARE_BYTES:
        raise _no_room(path, what, content.size_bytes + SPARE_BYTES)
    digest, done = hashlib.sha256(), 0
    with replacing(path) as file:
        for data in content.stream():
            file.write(data)
            digest.update(data)
            done += len(data)
            if progress:
                progress(done, content.size_bytes)
        if sha256 and digest.hexdigest() != sha256:
            raise LocalError(
                f"the {what} {path.name} came out with SHA-256 {digest.hexdigest()[:12]}…, not "
                f"{sha256[:12]}…, so it would be another model than everyone else's: reinstall "
                "swarmllm and numpy"
            )
    with replacing(sidecar(path)) as file:
        file.write(json.dumps({"size": done, "sha256": digest.hexdigest()}).encode())
