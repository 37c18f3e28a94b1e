"""Run the real command in a process of its own, with a home folder of its own and a deadline, as a
person would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Nothing may hang. Far more than anything takes: with eight programs at work for each processor,
# what takes three seconds of one has taken more than sixty.
DEADLINE_S = 240.0


def without_progress(said: str) -> str:
    """Standard error without what a command says of its progress where the machine is busy."""
    return re.sub(r"^Still (waiting|working).* \(\d+ s\).*\.\n", "", said, flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Finished:
    code: int
    out: str
    err: str

    def records(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines; anything else in it is an error."""
        return [json.loads(line) for line in self.out.split("\n") if line]

    @property
    def complaint(self) -> str:
        return without_progress(self.err)

    def sentence(self) -> str:
        """The one sentence of an error: nothing but it on standard error, and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("swarmllm: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err, self.err
        return lines[0].removeprefix("swarmllm: ")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Ours without settings, and with folders below `home`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SWARMLLM_", "XDG_"))
    }
    return {
        **kept,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "COLUMNS": "100",
        **more,
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "swarmllm", *arguments]


def run(
    home: Path, *arguments: str, stdin: bytes = b"", deadline_s: float = DEADLINE_S, **more: str
) -> Finished:
    """Bytes are decoded here: Python's own text mode would change the line breaks of what we
    compare."""
    done = subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        timeout=deadline_s,
        check=False,
        env=environment(home, **more),
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


def names_of(records: Sequence[dict[str, Any]]) -> list[str]:
    return [str(r["event"]) for r in records]


class RunningNode:
    """`swarmllm join --json` as a child whose records are read as they come. Use as a context
    manager: it never outlives the block. `before`: what starts it, which must become it."""

    def __init__(self, home: Path, data: Path, *arguments: str, before: Sequence[str] = ()) -> None:
        self.home, self.data = home, data
        self.records: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        flags = ("--data-dir", str(data), "--no-lan", "--listen", "127.0.0.1", *arguments)
        self.process = subprocess.Popen(
            [*before, *command("join", "--json", "--until-eof", *flags)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(home),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> RunningNode:
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def wait_for(self, event: str, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        with self._changed:
            found = self._changed.wait_for(
                lambda: self.found(event) or self.process.poll() is not None, deadline_s
            )
            assert found, f"no {event} within {deadline_s} s, only {names_of(self.records)}"
            record = self.found(event)
            assert record is not None, f"it ended with {self.process.returncode}: {self.error()}"
            return record

    def found(self, event: str) -> dict[str, Any] | None:
        return next((r for r in self.records if r["event"] == event), None)

    def ends(self, deadline_s: float = DEADLINE_S) -> int:
        code = self.process.wait(deadline_s)
        self._reader.join(deadline_s)
        return code

    def error(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read() if self.process.poll() is not None else ""

    def complaint(self) -> str:
        return without_progress(self.error())

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.records.append(json.loads(line))
                self._changed.notify_all()
        self.process.wait()
        with self._changed:
            self._changed.notify_all()
