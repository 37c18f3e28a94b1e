"""Finished points on disk: one line each in FOLDER/points.jsonl, written as soon as it is known, so
that an interruption loses nothing.

A folder may hold points of several studies, sweeps and versions of the code; a point is found again
by its key alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from swarmllm.errors import LocalError, UsageError
from swarmllm.sims.study import Results

FILE: Final = "points.jsonl"


class Store:
    """UsageError if `folder` holds a file of this name that is something else; LocalError if it
    cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / FILE
        self._found: dict[str, Results] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._read()
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise LocalError(f"cannot write to --out {folder}: {error.strerror or error}") from None

    def get(self, key: str) -> Results | None:
        return self._found.get(key)

    def add(self, key: str, record: Mapping[str, object]) -> None:
        try:
            self._file.write(json.dumps({**record, "key": key}, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise LocalError(f"cannot write to {self._path}: {error.strerror or error}") from None

    def close(self) -> None:
        self._file.close()

    def _read(self) -> None:
        if not self._path.exists():
            return
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), 1):
            key, results = self._parse(line, number)
            self._found[key] = results
        if whole < len(data):  # Somebody was killed while writing: that point is computed again.
            with self._path.open("r+b") as file:
                file.truncate(whole)

    def _parse(self, line: bytes, number: int) -> tuple[str, Results]:
        try:
            record: Any = json.loads(line)
        except ValueError:
            record = None
        if (
            isinstance(record, dict)
            and isinstance(record.get("key"), str)
            and isinstance(record.get("results"), dict)
        ):
            return record["key"], record["results"]
        raise UsageError(
            f"line {number} of {self._path} is no point of a simulation:"
            f" {line[:60].decode(errors='replace')!r}"
        )
