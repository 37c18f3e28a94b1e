"""A double of a running node: a socket where commands look for it, which answers one question a
connection with whatever the subclass says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

Record = dict[str, Any]


class SocketNode:
    """In the data folder `folder`, for as long as the block lasts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder

    def lines(self, question: Record) -> Iterator[bytes]:
        """The lines that answer, each sent before the next is asked for."""
        raise NotImplementedError

    @property
    def flags(self) -> tuple[str, str]:
        return ("--data-dir", str(self.folder))

    def __enter__(self) -> Self:
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(self.folder / "control.sock"))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)
        (self.folder / "control.sock").unlink()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return  # Closed.
            with connection, connection.makefile("rb") as questions:
                for line in self.lines(json.loads(questions.readline())):
                    connection.sendall(line)
