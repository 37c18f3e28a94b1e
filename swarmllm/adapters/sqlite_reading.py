"""Opens SQLite files to be read and never written, also while another process writes them, and also
where nobody can write: on a disk that is read-only."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path


def open_to_read(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error. SQLite reads a file that has a write-ahead log by means of a second
    file, which it makes beside it. Where it cannot, and nothing is left in a log, the file is all
    there is to read, and cannot change meanwhile."""
    log = path.with_name(f"{path.name}-wal")
    is_still = not os.access(path.parent, os.W_OK) and not log.exists()
    how = "mode=ro&immutable=1" if is_still else "mode=ro"
    return sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True)
