"""The token of the gRPC service: who can read the file `grpc.token` of the data folder may change
what the node does.

Made anew at each start and removed at the end, so that one that got about is worth nothing after a
restart. Loopback is open to every user of the machine; the file is its owner's alone (0600).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmllm.adapters.atomic_file import replace_whole

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
    replace_whole(path, f"{token.value}\n".encode(), "the token", 0o600)
    try:
        yield token
    finally:
        path.unlink(missing_ok=True)
