"""What happened, step by step, as text: a digest to compare runs by, and the transcript to read
one.

A line is the time, the host, what came in and what was decided. Values are frozen dataclasses of
numbers, text and bytes, so their text is the same on every machine; sets are written sorted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from swarmllm.testing.world.host import Host

BYTES_SHOWN: Final = 6
ITEMS_SHOWN: Final = 8


class Recorder:
    """`tell` is called with each line, without its newline; None: only the digest is kept."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell
        self._hash = hashlib.sha256()
        self.lines = 0

    @property
    def digest(self) -> str:
        """SHA-256 of all lines so far, in hexadecimal."""
        return self._hash.hexdigest()

    def step(self, now: float, host: Host, event: object, effects: Sequence[object]) -> None:
        self.note(now, f"{host.peer} {show(event)} -> {', '.join(map(show, effects)) or 'nothing'}")

    def note(self, now: float, text: str) -> None:
        """Something that no host decided: a fault, a checker's remark."""
        line = f"{now:.6f} {text}"
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        self.lines += 1
        if self._tell is not None:
            self._tell(line)


def show(value: Any) -> str:
    """A value as text: short for people, and still different for whatever matters (long bytes by
    their hash)."""
    if isinstance(value, bytes):
        if len(value) <= BYTES_SHOWN:
            return value.hex() or "-"
        return f"{hashlib.blake2s(value).hexdigest()[: 2 * BYTES_SHOWN]}/{len(value)}"
    if isinstance(value, float):
        return repr(round(value, 9))
    if isinstance(value, (set, frozenset)):
        return "{" + " ".join(sorted(map(show, value))) + "}"
    if isinstance(value, (tuple, list)):
        shown = " ".join(map(show, value[:ITEMS_SHOWN]))
        return (
            f"({shown})"
            if len(value) <= ITEMS_SHOWN
            else f"({shown} ... {_hash_of(value)}/{len(value)})"
        )
    if is_dataclass(value):
        inside = " ".join(show(getattr(value, one.name)) for one in fields(value) if one.init)
        return f"{type(value).__name__}({inside})"
    return str(value)


def _hash_of(values: Sequence[Any]) -> str:
    return hashlib.blake2s(" ".join(map(show, values)).encode()).hexdigest()[: 2 * BYTES_SHOWN]
