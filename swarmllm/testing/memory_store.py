"""A Store that forgets when the process ends, with the same bounds as the real one; it can be made
to fail like a full disk."""

from __future__ import annotations

from swarmllm.errors import LocalError
from swarmllm.runtime.ports import KEY_BYTES_MAX, VALUE_BYTES_MAX


class MemoryStore:
    """`runtime.ports.Store`. `saved` holds the order of saves, for tests of "remember before you
    tell"; `is_full` makes `save` fail."""

    def __init__(self) -> None:
        self.saved: list[str] = []
        self.is_full = False
        self._values: dict[str, bytes] = {}

    def load(self, key: str) -> bytes | None:
        _check_key(key)
        return self._values.get(key)

    def save(self, key: str, value: bytes) -> None:
        _check_key(key)
        if len(value) > VALUE_BYTES_MAX:
            raise LocalError(
                f"the value for {key!r} has {len(value)} bytes,"
                f" more than the {VALUE_BYTES_MAX} that the store takes; split it"
            )
        if self.is_full:
            raise LocalError(
                "cannot write the store in memory: it was told to be full;"
                " free some space and try again"
            )
        self._values[key] = bytes(value)
        self.saved.append(key)


def _check_key(key: str) -> None:
    if not key or len(key.encode()) > KEY_BYTES_MAX:
        raise LocalError(
            f"the store's keys have 1 to {KEY_BYTES_MAX} bytes, not {len(key.encode())}:"
            f" {key[:40]!r}; use a shorter one"
        )
