"""The token of the gRPC service: who can read the file `grpc.token` of the data folder may change
what the node does.

Made anew at each start and removed at the end, so that one that got about is worth nothing after a
restart. Loopback is open to every user of the machine; the file is its owner's alone (0600).
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmllm.errors import LocalError

TOKEN_FILE: Final = "grpc.token"
TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    value: str

    def is_in(self, authorization: str) -> bool:
        """Whether this is `Bearer` and the token, in a time that does not tell how much of it is
        right."""
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("utf-8", "replace"), self.value.encode()
        )


@contextmanager
def token_in(folder: Path) -> Iterator[Token]:
    """A new token, in its file for as long as this lasts. The folder is held by us
    (`datadir.locked`). LocalError if it cannot be written."""
    path, token = folder / TOKEN_FILE, Token(secrets.token_hex(TOKEN_BYTES))
    partial = folder / f".{TOKEN_FILE}.partial"
    try:
        partial.unlink(missing_ok=True)
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            os.fchmod(fd, 0o600)  # Whatever the umask.
            file.write(token.value + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise LocalError(
            f"cannot write the token {path} ({error.strerror}); check the disk, or choose another"
            " folder with --data-dir"
        ) from error
    try:
        yield token
    finally:
        path.unlink(missing_ok=True)
