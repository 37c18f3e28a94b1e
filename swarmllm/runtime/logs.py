"""Logging: one bounded file in the data folder, and nothing on the terminal.

A log is what a user pastes into a bug report, so it must be safe to paste: it holds no prompt, no
answer, no token and no key. The code keeps to that by logging kinds and counts; `Canary` in the
tests holds it to it. What peers sent does stand in it: it is written so that a terminal which shows
the file obeys none of it. Third parties' loggers are heard from `WARNING` on only, because what
they write at lower levels is theirs (raw frames, for instance).
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from swarmllm.errors import LocalError
from swarmllm.runtime.visible import json_of, one_line

# Two files of this: some ten thousand lines, a few days of an ordinary node.
FILE_BYTES_MAX: Final = 1_000_000
MESSAGE_CHARS_MAX: Final = 2_000  # One record cannot push all others out of the file.
OURS: Final = "swarmllm"
THEIRS: Final = (
    *("libp2p", "multiaddr", "zeroconf", "trio", "async_service"),
    "opentelemetry",
)


class OneLine(logging.Formatter):
    """For a screen: one record is one line, and nothing in it acts. What peers sent stands in
    messages and in exceptions' texts."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(f"{record.levelname.lower()} {record.name}: {self.whole(record)}")

    def whole(self, record: logging.LogRecord) -> str:
        """The message and the exception, bounded. A record whose arguments do not fit its text is
        still told of."""
        try:
            message = record.getMessage()
        except Exception as fault:  # noqa: BLE001  Arguments are objects of any library, and their `__str__` can fail in any way.
            text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            message = f"{text} (its values cannot be shown: {type(fault).__name__})"
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        return message if len(message) <= MESSAGE_CHARS_MAX else message[:MESSAGE_CHARS_MAX] + "…"


class JsonLines(OneLine):
    """One JSON object a line, with `time` (Unix seconds), `level`, `event` (the logger's name) and
    `message`: exact, once parsed."""

    def format(self, record: logging.LogRecord) -> str:
        return json_of(self.fields(record))

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        return {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": record.name,
            "message": self.whole(record),
        }


class BoundedFile(logging.handlers.RotatingFileHandler):
    """A full disk loses log lines, and neither ends the node nor fills the terminal with
    tracebacks."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, maxBytes=FILE_BYTES_MAX, backupCount=1, encoding="utf-8", errors="replace"
        )
        self.lost = 0
        self.setFormatter(JsonLines())

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """What is still in its buffer is lost, too, and a node that leaves has left."""
        try:
            super().close()
        except OSError:
            self.lost += 1

    def handleError(self, record: logging.LogRecord) -> None:
        self.lost += 1


class _Silent(logging.Handler):
    """Keeps Python's last resort (standard error) from speaking for loggers nobody configured."""

    def emit(self, record: logging.LogRecord) -> None:
        return


@contextmanager
def writing(path: Path, level: str = "warning") -> Iterator[None]:
    """Send our loggers at `level` and third parties' warnings to the file for as long as this
    lasts."""
    try:
        file = BoundedFile(path)
    except OSError as error:
        raise LocalError(
            f"cannot write the log {path} ({error.strerror}); choose another folder with --data-dir"
        ) from error
    loggers = [logging.getLogger(name) for name in (OURS, *THEIRS)]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    silent = _Silent()
    for logger in loggers:
        logger.addHandler(file)
        logger.addHandler(silent)
        logger.propagate = False
        logger.setLevel(
            logging.getLevelName(level.upper()) if logger.name == OURS else logging.WARNING
        )
    try:
        yield
    finally:
        for logger, was_level, was_propagating in before:
            logger.removeHandler(file)
            logger.removeHandler(silent)
            logger.setLevel(was_level)
            logger.propagate = was_propagating
        file.close()


def tail(path: Path, lines: int = 20) -> list[str]:
    """The last lines of a log for people, oldest first; none if there is no log."""
    try:
        raw = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return []
    return [one_line(_readable(line)) for line in [line for line in raw if line][-lines:]]


def _readable(line: str) -> str:
    try:
        record = json.loads(line)
        at = time.strftime("%H:%M:%S", time.localtime(record["time"]))
        return f"{at} {record['level']} {record['event']}: {record['message']}"
    except (ValueError, KeyError, TypeError):
        return line
